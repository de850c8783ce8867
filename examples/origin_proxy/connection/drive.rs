//! Drives a connection until it has ended or has to end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use hyper_util::server::graceful::GracefulConnection;
use tokio::time::{Instant, sleep_until};

use super::activity::{Action, Activity, Shutdown, Timeouts};

pub async fn drive(connection: impl GracefulConnection, activity: Arc<Activity>, timeouts: Timeouts) {
    let mut connection = std::pin::pin!(connection);
    let mut shutdown_since = None;
    loop {
        match activity.shutdown() {
            Some(Shutdown::Now) => break,
            Some(Shutdown::Graceful) if shutdown_since.is_none() => {
                shutdown_since = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
            }
            _ => {}
        }
        let due = match activity.action(&timeouts, shutdown_since) {
            Action::Wait(due) => due,
            Action::ShutDown => {
                activity.shut_down(Shutdown::Graceful);
                continue;
            }
            Action::Abort | Action::Probe => {
                let has_ended = probe(connection.as_mut(), &activity).await;
                if has_ended || activity.action(&timeouts, shutdown_since) == Action::Abort {
                    break;
                }
                continue;
            }
        };
        tokio::select! {
            biased;
            _ = connection.as_mut() => break,
            () = activity.shutdown_requested() => {}
            () = sleep_until(due) => {}
        }
    }
    activity.detach();
}

/// Fills the system's buffer to the brim; whether the connection has ended. The system reports room only when a third of
/// the buffer is free, for which a slow client may need minutes; but a buffer that was full and takes something again
/// shows that the client has taken something.
async fn probe(mut connection: Pin<&mut impl GracefulConnection>, activity: &Activity) -> bool {
    activity.set_probing(true);
    let polled = std::future::poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx))).await;
    activity.set_probing(false);
    polled.is_ready()
}
