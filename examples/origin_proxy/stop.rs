//! Requests to stop the process: by Ctrl-C, or by the system.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for requests to stop. The first one asks for a drain, the second one for an end at once.
pub struct Stop {
    draining: Draining,
    signals: Option<Signals>,
}

/// Whether the process was asked to stop.
#[derive(Clone, Default)]
pub struct Draining(Arc<AtomicBool>);

impl Draining {
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

#[cfg(not(unix))]
struct Signals;

impl Stop {
    /// From now on, a signal does not end the process by itself.
    pub fn by_signal() -> Result<Self, String> {
        let signals = Signals::new().map_err(|error| format!("can't listen for signals: {error}"))?;
        Ok(Self { draining: Draining::default(), signals: Some(signals) })
    }

    pub fn never() -> Self {
        Self { draining: Draining::default(), signals: None }
    }

    pub fn draining(&self) -> Draining {
        self.draining.clone()
    }

    /// Ready at the next request to stop.
    pub async fn asked(&mut self) {
        match &mut self.signals {
            Some(signals) => signals.next().await,
            None => std::future::pending().await,
        }
        self.draining.0.store(true, Ordering::Relaxed);
    }
}

/// From now on, SIGHUP does nothing, where there is nothing to read again. Once it has been listened for, it never ends the process.
pub fn ignore_hang_up() -> Result<(), String> {
    #[cfg(unix)]
    drop(signal(SignalKind::hangup()).map_err(|error| format!("can't listen for signals: {error}"))?);
    Ok(())
}

impl Signals {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
