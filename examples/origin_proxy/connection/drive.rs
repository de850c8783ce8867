//! Drives a connection until it has ended or has to end.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, Waker};

use hyper_util::server::graceful::GracefulConnection;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};

use super::activity::{Action, Shutdown, Timeouts};
use super::io::Socket;

pub async fn drive(connection: impl GracefulConnection, socket: Arc<Socket>, timeouts: Timeouts) {
    let activity = socket.activity();
    let mut connection = pin!(connection);
    let mut shutdown_since = None;
    loop {
        let shutdown = activity.shutdown();
        match shutdown {
            Some(Shutdown::Now) => break,
            Some(Shutdown::Graceful) if shutdown_since.is_none() => {
                if let Some(due) = activity.silent_at() {
                    if has_ended_before(due, connection.as_mut(), &socket, shutdown).await {
                        break;
                    }
                    continue;
                }
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
                let has_ended = probe(connection.as_mut(), &socket).await;
                if has_ended || activity.action(&timeouts, shutdown_since) == Action::Abort {
                    break;
                }
                continue;
            }
        };
        if has_ended_before(due, connection.as_mut(), &socket, shutdown).await {
            break;
        }
    }
    activity.detach();
}

/// Drives a connection until the given time, or until it is asked to end in another way than `shutdown`; whether it has
/// ended.
///
/// A busy connection is polled for each request, which has to cost little: so the timer is polled once, to wake this
/// task, and is only looked at from then on.
async fn has_ended_before(
    due: Instant,
    mut connection: Pin<&mut impl GracefulConnection>,
    socket: &Socket,
    shutdown: Option<Shutdown>,
) -> bool {
    let activity = socket.activity();
    let mut timer = pin!(sleep_until(due));
    let mut woken: Option<Waker> = None;
    let mut has_yielded = false;
    std::future::poll_fn(|cx| {
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        // Each response wakes this task. Those that are as good as ready go out with it.
        has_yielded = !has_yielded && activity.is_waiting() && socket.has_collected();
        if has_yielded {
            cx.waker().wake_by_ref();
        } else if socket.has_failed_to_flush(cx) {
            return Poll::Ready(true);
        }
        activity.rests();
        if !woken.as_ref().is_some_and(|woken| woken.will_wake(cx.waker())) {
            woken = Some(cx.waker().clone());
            activity.wakes(cx.waker());
            // Also if the connection has used up the task's budget.
            let _ = pin!(unconstrained(timer.as_mut())).poll(cx);
        }
        let is_due = timer.is_elapsed() || activity.shutdown() != shutdown;
        if is_due { Poll::Ready(false) } else { Poll::Pending }
    })
    .await
}

/// Fills the system's buffer to the brim; whether the connection has ended. The system reports room only when a third of
/// the buffer is free, for which a slow client may need minutes; but a buffer that was full and takes something again
/// shows that the client has taken something.
async fn probe(mut connection: Pin<&mut impl GracefulConnection>, socket: &Socket) -> bool {
    socket.activity().set_probing(true);
    let has_ended = std::future::poll_fn(|cx| {
        Poll::Ready(connection.as_mut().poll(cx).is_ready() || socket.has_failed_to_flush(cx))
    });
    let has_ended = has_ended.await;
    socket.activity().set_probing(false);
    has_ended
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use http::Response;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpStream;

    use super::super::activity::SILENCE;
    use super::super::{Activity, ObservedIo};
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        head: Duration::from_secs(20),
        idle: Duration::from_secs(60),
        stall: Duration::from_secs(30),
    };

    #[tokio::test(start_paused = true)]
    async fn f18_a_connection_shuts_down_without_waiting_for_its_timer() {
        // A request may be on its way.
        for (how, time) in [(Shutdown::Graceful, SILENCE), (Shutdown::Now, Duration::ZERO)] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            let activity = Arc::new(Activity::new());
            let socket = Socket::new(TcpStream::from_std(stream).unwrap(), Arc::clone(&activity), None);
            let service = service_fn(|_| async { Ok::<_, Infallible>(Response::new(String::new())) });
            let io = TokioIo::new(ObservedIo::new(&socket));
            let connection = http1::Builder::new().serve_connection(io, service);
            let driven = tokio::spawn(drive(connection, socket, TIMEOUTS));
            tokio::task::yield_now().await; // it is driven, and has nothing to do
            let asked = Instant::now();
            activity.shut_down(how);
            driven.await.unwrap();
            // Without a task that is ready, the clock moves on to the next timer.
            assert!(asked.elapsed() <= time + Duration::from_millis(1), "{how:?} {:?}", asked.elapsed());
        }
    }
}
