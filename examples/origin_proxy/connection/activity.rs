//! What is known of one connection, and what is to be done with it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use http::Version;
use tokio::time::Instant;

/// How long an idle HTTP/1 connection that was asked to end may take to do so. Half a head does not keep it open.
const GRACE_HTTP1: Duration = Duration::from_millis(250);

/// The same in HTTP/2, counted from the last frame that was written: the end of a response may wait until the client
/// makes room for it, and the client has to acknowledge GOAWAY.
const GRACE_HTTP2: Duration = Duration::from_secs(2);

/// HTTP/2 writes that have at most this many bytes may be control frames, such as those that keep a connection alive:
/// they are no progress of a request.
const CONTROL: usize = 64;

/// How long a connection may be in a state.
#[derive(Clone, Copy)]
pub struct Timeouts {
    pub head: Duration,
    pub idle: Duration,
    pub stall: Duration,
}

impl Timeouts {
    /// How often a connection is looked at. No timeout is shorter, so one that begins in between is not missed.
    pub(super) fn interval(&self) -> Duration {
        self.head.min(self.idle).min(self.stall) / 4
    }
}

/// What is known of one connection.
pub struct Activity {
    state: Mutex<State>,
}

struct State {
    accepted_at: Instant,
    /// Since when nothing could be written, though there was something to write.
    blocked_since: Option<Instant>,
    /// Wakes the task that drives the connection.
    driver: Option<Waker>,
    /// Since when a request head is coming in; HTTP/1 only.
    head_since: Option<Instant>,
    has_had_request: bool,
    is_http2: bool,
    /// Whether the system's buffer is filled although the system does not report room.
    is_probing: bool,
    /// The last progress of a request.
    last_progress: Instant,
    /// Requests whose responses are not complete.
    open_requests: usize,
    shutdown: Option<Shutdown>,
    /// Whether something is written and not yet flushed.
    unflushed: bool,
    /// Those of the open requests that wait for the origin.
    waiting_requests: usize,
    /// Whether the system's buffer was filled to the brim since the connection is blocked.
    was_probed: bool,
}

/// How a connection is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// When its open requests are answered.
    Graceful,
    /// At once: another connection needs its slot.
    Now,
}

/// What is to be done with a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Abort,
    /// Find out whether the client has taken anything.
    Probe,
    ShutDown,
    /// Nothing before this time.
    Wait(Instant),
}

impl Activity {
    pub fn new() -> Self {
        let now = Instant::now();
        let state = State {
            accepted_at: now,
            blocked_since: None,
            driver: None,
            head_since: None,
            has_had_request: false,
            is_http2: false,
            is_probing: false,
            last_progress: now,
            open_requests: 0,
            shutdown: None,
            unflushed: false,
            waiting_requests: 0,
            was_probed: false,
        };
        Self { state: Mutex::new(state) }
    }

    /// A request begins; it is open until the value is dropped.
    pub fn open_request(self: &Arc<Self>, version: Version) -> OpenRequest {
        let mut state = self.state();
        state.head_since = None;
        state.has_had_request = true;
        state.is_http2 |= version == Version::HTTP_2;
        state.open_requests += 1;
        state.waiting_requests += 1;
        OpenRequest { activity: Arc::clone(self), is_waiting: true }
    }

    /// Since when the connection has been idle; `None` if it is not, or is about to end.
    pub fn idle_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.is_idle() && state.shutdown.is_none()).then_some(state.last_progress)
    }

    pub fn shut_down(&self, how: Shutdown) {
        let mut state = self.state();
        if state.shutdown != Some(Shutdown::Now) {
            state.shutdown = Some(how);
            if let Some(driver) = &state.driver {
                driver.wake_by_ref();
            }
        }
    }

    pub(super) fn shutdown(&self) -> Option<Shutdown> {
        self.state().shutdown
    }

    /// Names the task that is woken when the connection is asked to end.
    pub(super) fn wakes(&self, driver: &Waker) {
        self.state().driver = Some(driver.clone());
    }

    pub(super) fn is_http2(&self) -> bool {
        self.state().is_http2
    }

    /// The connection is no longer driven: it has ended, or is a tunnel. Neither counts as idle.
    pub(super) fn detach(&self) {
        self.state().open_requests += 1;
    }

    /// Whether there is a request whose response has not begun, or does not go on.
    pub(super) fn is_waiting(&self) -> bool {
        self.state().waiting_requests > 0
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.state().blocked_since.is_some()
    }

    pub(super) fn is_probing(&self) -> bool {
        self.state().is_probing
    }

    pub(super) fn set_probing(&self, is_probing: bool) {
        let mut state = self.state();
        state.is_probing = is_probing;
        state.was_probed = true;
    }

    /// Bytes were read.
    pub(super) fn read(&self) {
        let mut state = self.state();
        if state.open_requests == 0 && !state.is_http2 && state.head_since.is_none() {
            state.head_since = Some(Instant::now());
        }
    }

    /// Something was to be written, and this is what became of it.
    pub(super) fn wrote(&self, written: &Poll<io::Result<usize>>) {
        let mut state = self.state();
        state.unflushed = true;
        match written {
            Poll::Ready(Ok(length)) => {
                state.blocked_since = None;
                state.was_probed &= state.is_probing;
                // Of HTTP/1, the flush is what counts.
                if state.is_http2 && *length > CONTROL {
                    state.last_progress = Instant::now();
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                state.blocked_since.get_or_insert_with(Instant::now);
            }
        }
    }

    pub(super) fn flushed(&self) {
        let mut state = self.state();
        if state.unflushed {
            state.blocked_since = None;
            state.unflushed = false;
            // The end of a response. In HTTP/2 it may be a control frame.
            if !state.is_http2 {
                state.last_progress = Instant::now();
            }
        }
    }

    /// `shutdown_since` is when the connection was asked to end gracefully.
    pub(super) fn action(&self, timeouts: &Timeouts, shutdown_since: Option<Instant>) -> Action {
        let (state, now) = (self.state(), Instant::now());
        let or_wait = |due: Instant, action| {
            if due <= now { action } else { Action::Wait(due.min(now + timeouts.interval())) }
        };
        if let Some(blocked) = state.blocked_since {
            return match state.was_probed {
                true => or_wait(blocked + timeouts.stall, Action::Abort),
                false => or_wait(blocked + timeouts.interval(), Action::Probe),
            };
        }
        if state.is_http2 && state.open_requests > 0 && state.waiting_requests == 0 {
            return or_wait(state.last_progress + timeouts.stall, Action::Abort);
        }
        if !state.is_idle() {
            return Action::Wait(now + timeouts.interval());
        }
        match shutdown_since {
            Some(since) => {
                let grace = if state.is_http2 { GRACE_HTTP2 } else { GRACE_HTTP1 };
                or_wait(state.last_progress.max(since) + grace, Action::Abort)
            }
            None if !state.has_had_request => or_wait(state.accepted_at + timeouts.head, Action::Abort),
            None => {
                let idle = state.last_progress + timeouts.idle;
                let head = state.head_since.map_or(idle, |head| head + timeouts.head);
                or_wait(idle.min(head), Action::ShutDown)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.open_requests == 0 && !self.unflushed
    }
}

/// A request whose response is not complete.
pub struct OpenRequest {
    activity: Arc<Activity>,
    /// Whether the client has nothing that it could take.
    is_waiting: bool,
}

impl OpenRequest {
    /// Says whether the client has to wait for what comes next.
    pub fn set_waiting(&mut self, is_waiting: bool) {
        if self.is_waiting == is_waiting {
            return; // that what is there is taken is seen by what is written
        }
        self.is_waiting = is_waiting;
        let mut state = self.activity.state();
        if is_waiting {
            state.waiting_requests += 1;
        } else {
            state.waiting_requests -= 1;
        }
        state.last_progress = Instant::now();
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.open_requests -= 1;
        state.waiting_requests -= usize::from(self.is_waiting);
        // An HTTP/1 connection is idle when all is flushed, which has its own time.
        if state.is_http2 || self.is_waiting {
            state.last_progress = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TIMEOUTS: Timeouts = Timeouts {
        head: Duration::from_secs(20),
        idle: Duration::from_secs(60),
        stall: Duration::from_secs(30),
    };

    /// Moves the time until something is to be done; how many seconds that takes.
    async fn until_due(activity: &Activity, shutdown_since: Option<Instant>) -> (u64, Action) {
        let begun = Instant::now();
        loop {
            match activity.action(&TIMEOUTS, shutdown_since) {
                Action::Wait(due) if begun.elapsed() > Duration::from_secs(1000) => {
                    return (1000, Action::Wait(due));
                }
                Action::Wait(due) => advance(due - Instant::now()).await,
                action => return (begun.elapsed().as_secs(), action),
            }
        }
    }

    fn wrote(activity: &Activity, length: usize) {
        activity.wrote(&Poll::Ready(Ok(length)));
        activity.flushed();
    }

    #[tokio::test(start_paused = true)]
    async fn f18_a_connection_has_so_long_for_its_first_head_whatever_else_it_does() {
        let activity = Arc::new(Activity::new());
        advance(5 * SECOND).await;
        activity.read();
        wrote(&activity, 100);
        assert_eq!(until_due(&activity, None).await, (15, Action::Abort));
    }

    #[tokio::test(start_paused = true)]
    async fn f18_a_connection_is_idle_when_its_answers_are_written() {
        let activity = Arc::new(Activity::new());
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let request = activity.open_request(version);
            assert_eq!(
                until_due(&activity, None).await.0,
                1000,
                "an open request may take as long as it takes"
            );
            activity.wrote(&Poll::Ready(Ok(100)));
            drop(request);
            assert_eq!(until_due(&activity, None).await.0, 1000, "not all is written");
            activity.flushed();
            let request = activity.open_request(version);
            drop(request);
            assert!(activity.idle_since().is_some());
            assert_eq!(until_due(&activity, None).await, (60, Action::ShutDown));
        }
        // Frames that keep a connection alive are nothing that is done for a request, others are.
        drop(activity.open_request(Version::HTTP_2));
        for length in [17, 1000] {
            advance(50 * SECOND).await;
            wrote(&activity, length);
        }
        assert_eq!(activity.action(&TIMEOUTS, None), Action::Wait(Instant::now() + TIMEOUTS.interval()));
        assert_eq!(until_due(&activity, None).await, (60, Action::ShutDown));
    }

    #[tokio::test(start_paused = true)]
    async fn f18_a_later_head_has_its_time_from_its_first_byte() {
        let activity = Arc::new(Activity::new());
        drop(activity.open_request(Version::HTTP_11));
        advance(10 * SECOND).await;
        activity.read();
        advance(5 * SECOND).await;
        activity.read();
        assert_eq!(until_due(&activity, None).await, (15, Action::ShutDown));
        // What an HTTP/2 client sends need not be a head.
        drop(activity.open_request(Version::HTTP_2));
        activity.read();
        assert_eq!(until_due(&activity, None).await, (60, Action::ShutDown));
    }

    #[tokio::test(start_paused = true)]
    async fn f18_a_client_that_takes_nothing_is_cut_off_and_one_that_takes_little_is_not() {
        let activity = Arc::new(Activity::new());
        let _request = activity.open_request(Version::HTTP_11);
        for _ in 0..100 {
            activity.wrote(&Poll::Ready(Ok(1)));
            activity.wrote(&Poll::Pending);
            advance(29 * SECOND).await;
            assert_ne!(activity.action(&TIMEOUTS, None), Action::Abort);
        }
        activity.wrote(&Poll::Ready(Ok(1)));
        activity.wrote(&Poll::Pending);
        let (first, action) = until_due(&activity, None).await;
        assert_eq!(action, Action::Probe);
        activity.set_probing(true);
        activity.wrote(&Poll::Pending);
        activity.set_probing(false);
        let (second, action) = until_due(&activity, None).await;
        assert_eq!((first + second, action), (30, Action::Abort));
        // There is room, although the system has not said so.
        activity.set_probing(true);
        activity.wrote(&Poll::Ready(Ok(1)));
        activity.wrote(&Poll::Pending);
        activity.set_probing(false);
        assert_eq!(until_due(&activity, None).await, (30, Action::Abort));
    }

    #[tokio::test(start_paused = true)]
    async fn f18_answers_that_nobody_takes_hold_no_connection() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let activity = Arc::new(Activity::new());
            let mut requests = [activity.open_request(version), activity.open_request(version)];
            requests[0].set_waiting(false);
            let waiting = activity.action(&TIMEOUTS, None);
            assert!(matches!(waiting, Action::Wait(_)), "the other one waits for the origin");
            tokio::time::advance(TIMEOUTS.stall * 4).await;
            assert!(matches!(activity.action(&TIMEOUTS, None), Action::Wait(_)));
            requests[1].set_waiting(false);
            tokio::time::advance(TIMEOUTS.stall).await;
            // HTTP/1 writes into its socket, which says whether that is taken.
            assert_eq!(activity.action(&TIMEOUTS, None) == Action::Abort, version == Version::HTTP_2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f18_what_has_no_open_request_holds_no_drain() {
        let activity = Arc::new(Activity::new());
        let request = activity.open_request(Version::HTTP_11);
        activity.shut_down(Shutdown::Graceful);
        let shutdown_since = Some(Instant::now());
        assert_eq!(until_due(&activity, shutdown_since).await.0, 1000);
        drop(request);
        activity.read();
        assert_eq!(until_due(&activity, shutdown_since).await, (0, Action::Abort));
        // An HTTP/2 client has time to take the rest of an answer.
        drop(activity.open_request(Version::HTTP_2));
        for _ in 0..10 {
            assert_eq!(
                activity.action(&TIMEOUTS, shutdown_since),
                Action::Wait(Instant::now() + GRACE_HTTP2)
            );
            advance(SECOND).await;
            wrote(&activity, 1000);
        }
        assert_eq!(until_due(&activity, shutdown_since).await, (2, Action::Abort));
        assert_eq!((activity.idle_since(), activity.shutdown()), (None, Some(Shutdown::Graceful)));
        activity.shut_down(Shutdown::Now);
        activity.shut_down(Shutdown::Graceful);
        assert_eq!(activity.shutdown(), Some(Shutdown::Now));
    }
}
