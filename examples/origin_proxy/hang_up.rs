//! SIGHUP: files are read again while the proxy runs.

use tokio::signal::unix::{SignalKind, signal};

use crate::say::{say, tell};

/// From now on, each SIGHUP reads something again, and a line says what came of it. `reload` may block. It returns what is so now,
/// or why nothing has changed, which the line has after `unchanged`.
pub fn on_hang_up<R>(unchanged: &'static str, reload: R) -> Result<(), String>
where
    R: Fn() -> Result<String, String> + Clone + Send + 'static,
{
    let mut hang_up =
        signal(SignalKind::hangup()).map_err(|error| format!("can't listen for signals: {error}"))?;
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            let reloaded = tokio::task::spawn_blocking(reload.clone()).await;
            match reloaded.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(now) => tell(format_args!("{now} now")),
                Err(error) => say(format_args!("{unchanged}{error}")),
            }
        }
    });
    Ok(())
}
