//! What is known of one connection, and what is to be done with it.

use std::io;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize};
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

/// How long an HTTP/1 connection has to be silent before it ends because it was asked to: its client may have sent a request that is
/// on its way, and would get an end in place of an answer.
pub(super) const SILENCE: Duration = Duration::from_millis(250);

/// HTTP/2 writes that have at most this many bytes may be control frames, such as those that keep a connection alive:
/// they are no progress of a request.
const CONTROL: usize = 64;

/// No byte of a request head has come.
const NONE: u8 = 0;
/// Bytes have come.
const BEGUN: u8 = 1;
/// Bytes have come, and [`Times`] has since when.
const TIMED: u8 = 2;

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
///
/// Each request passes here several times, so what happens to all of them only changes flags and counts. They need not
/// agree with each other at every moment: they are judged when the connection's task rests.
pub struct Activity {
    has_had_request: AtomicBool,
    is_http2: AtomicBool,
    /// Whether the system's buffer is filled although the system does not report room.
    is_probing: AtomicBool,
    /// How far a request head has come, of which the whole is not there: [`NONE`], [`BEGUN`] or [`TIMED`]; HTTP/1 only.
    head: AtomicU8,
    /// Requests whose responses are not complete.
    open_requests: AtomicUsize,
    /// A [`Shutdown`], or 0.
    shutdown: AtomicU8,
    times: Mutex<Times>,
    /// Whether something is written and not yet flushed.
    unflushed: AtomicBool,
    /// Those of the open requests that wait for the origin; HTTP/2 only.
    waiting_requests: AtomicUsize,
    /// Whether a write that succeeds changes [`Times`]: nothing could be written before, or was only by probing.
    was_blocked: AtomicBool,
}

struct Times {
    accepted_at: Instant,
    /// Since when nothing could be written, though there was something to write.
    blocked_since: Option<Instant>,
    /// Wakes the task that drives the connection.
    driver: Option<Waker>,
    /// Since when a request head is coming in, if its state is [`TIMED`].
    head_since: Instant,
    /// The last progress of a request.
    last_progress: Instant,
    /// Whether the system's buffer was filled to the brim since the connection is blocked.
    was_probed: bool,
}

/// How a connection is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// When its open requests are answered.
    Graceful = 1,
    /// At once: another connection needs its slot.
    Now = 2,
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
        let times = Times {
            accepted_at: now,
            blocked_since: None,
            driver: None,
            head_since: now,
            last_progress: now,
            was_probed: false,
        };
        Self {
            has_had_request: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
            is_probing: AtomicBool::new(false),
            head: AtomicU8::new(NONE),
            open_requests: AtomicUsize::new(0),
            shutdown: AtomicU8::new(0),
            times: Mutex::new(times),
            unflushed: AtomicBool::new(false),
            waiting_requests: AtomicUsize::new(0),
            was_blocked: AtomicBool::new(false),
        }
    }

    /// A request begins; it is open until the value is dropped.
    pub fn open_request(self: &Arc<Self>, version: Version) -> OpenRequest {
        let is_http2 = version == Version::HTTP_2;
        if is_http2 {
            self.is_http2.store(true, Release);
            self.waiting_requests.fetch_add(1, AcqRel);
        }
        self.head.store(NONE, Release);
        self.open_requests.fetch_add(1, AcqRel);
        self.has_had_request.store(true, Release);
        OpenRequest { activity: Arc::clone(self), is_http2, is_waiting: true }
    }

    /// Since when the connection has been idle; `None` if it is not, or is about to end.
    pub fn idle_since(&self) -> Option<Instant> {
        (self.is_idle() && self.shutdown().is_none()).then(|| self.times().last_progress)
    }

    pub fn shut_down(&self, how: Shutdown) {
        let times = self.times();
        if self.shutdown() != Some(Shutdown::Now) {
            self.shutdown.store(how as u8, Release);
            if let Some(driver) = &times.driver {
                driver.wake_by_ref();
            }
        }
    }

    pub(super) fn shutdown(&self) -> Option<Shutdown> {
        [Shutdown::Graceful, Shutdown::Now].into_iter().find(|&how| how as u8 == self.shutdown.load(Acquire))
    }

    /// Until when a connection that was asked to end may get a request; `None` if it is time to end it, or if hyper does that with the
    /// answer of an open request.
    pub(super) fn silent_at(&self) -> Option<Instant> {
        if self.is_http2() || self.open_requests.load(Acquire) > 0 {
            return None;
        }
        let times = self.times();
        let is_begun = self.head.load(Acquire) == TIMED;
        let head = if is_begun { times.head_since } else { times.accepted_at };
        let due = times.last_progress.max(times.accepted_at).max(head) + SILENCE;
        (due > Instant::now()).then_some(due)
    }

    /// Names the task that is woken when the connection is asked to end.
    pub(super) fn wakes(&self, driver: &Waker) {
        self.times().driver = Some(driver.clone());
    }

    pub fn is_http2(&self) -> bool {
        self.is_http2.load(Acquire)
    }

    /// The connection is no longer driven: it has ended, or is a tunnel. Neither counts as idle.
    pub(super) fn detach(&self) {
        self.open_requests.fetch_add(1, AcqRel);
    }

    /// Whether there is an HTTP/2 request whose response has not begun, or does not go on.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting_requests.load(Acquire) > 0
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.times().blocked_since.is_some()
    }

    pub(super) fn is_probing(&self) -> bool {
        self.is_probing.load(Acquire)
    }

    pub(super) fn set_probing(&self, is_probing: bool) {
        self.is_probing.store(is_probing, Release);
        self.was_blocked.store(true, Release);
        self.times().was_probed = true;
    }

    /// Bytes were read.
    pub(super) fn read(&self) {
        let is_head = self.open_requests.load(Acquire) == 0 && !self.is_http2();
        if is_head && self.head.load(Acquire) == NONE {
            self.head.store(BEGUN, Release);
        }
    }

    /// The task that drives the connection rests. A head that is still coming in has its time from now on; most heads come
    /// whole, and need none.
    pub(super) fn rests(&self) {
        if self.head.load(Acquire) == BEGUN {
            self.times().head_since = Instant::now();
            self.head.store(TIMED, Release);
        }
    }

    /// Something was to be written, and this is what became of it.
    pub(super) fn wrote(&self, written: &Poll<io::Result<usize>>) {
        self.unflushed.store(true, Release);
        match written {
            Poll::Ready(Ok(length)) => {
                if self.was_blocked.load(Acquire) {
                    let mut times = self.times();
                    times.blocked_since = None;
                    times.was_probed &= self.is_probing();
                    self.was_blocked.store(times.was_probed, Release);
                }
                // In HTTP/1, the flush is the progress.
                if *length > CONTROL && self.is_http2() {
                    self.times().last_progress = Instant::now();
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                self.was_blocked.store(true, Release);
                self.times().blocked_since.get_or_insert_with(Instant::now);
            }
        }
    }

    /// Something is taken that will be written later.
    pub(super) fn collected(&self) {
        self.unflushed.store(true, Release);
    }

    pub(super) fn flushed(&self) {
        if !self.unflushed.load(Acquire) {
            return;
        }
        let mut times = self.times();
        times.blocked_since = None;
        // The end of a response. In HTTP/2 it may be a control frame.
        if !self.is_http2() {
            times.last_progress = Instant::now();
        }
        self.unflushed.store(false, Release);
    }

    /// `shutdown_since` is when the connection was asked to end gracefully.
    pub(super) fn action(&self, timeouts: &Timeouts, shutdown_since: Option<Instant>) -> Action {
        let (times, now) = (self.times(), Instant::now());
        let or_wait = |due: Instant, action| {
            if due <= now { action } else { Action::Wait(due.min(now + timeouts.interval())) }
        };
        if let Some(blocked) = times.blocked_since {
            return match times.was_probed {
                true => or_wait(blocked + timeouts.stall, Action::Abort),
                false => or_wait(blocked + timeouts.interval(), Action::Probe),
            };
        }
        let is_taken = || self.open_requests.load(Acquire) > 0 && !self.is_waiting();
        if self.is_http2() && is_taken() {
            return or_wait(times.last_progress + timeouts.stall, Action::Abort);
        }
        if !self.is_idle() {
            return Action::Wait(now + timeouts.interval());
        }
        match shutdown_since {
            Some(since) => {
                let grace = if self.is_http2() { GRACE_HTTP2 } else { GRACE_HTTP1 };
                or_wait(times.last_progress.max(since) + grace, Action::Abort)
            }
            None if !self.has_had_request.load(Acquire) => {
                or_wait(times.accepted_at + timeouts.head, Action::Abort)
            }
            None => {
                let idle = times.last_progress + timeouts.idle;
                let is_timed = self.head.load(Acquire) == TIMED;
                let head = if is_timed { times.head_since + timeouts.head } else { idle };
                or_wait(idle.min(head), Action::ShutDown)
            }
        }
    }

    /// Whether nothing is to be answered or written.
    fn is_idle(&self) -> bool {
        self.open_requests.load(Acquire) == 0 && !self.unflushed.load(Acquire)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request whose response is not complete.
pub struct OpenRequest {
    activity: Arc<Activity>,
    is_http2: bool,
    /// Whether the client has nothing that it could take.
    is_waiting: bool,
}

impl OpenRequest {
    pub fn is_http2(&self) -> bool {
        self.is_http2
    }

    /// Says whether the client has to wait for what comes next. HTTP/1 writes what there is into its socket, which says
    /// whether the client takes it.
    pub fn set_waiting(&mut self, is_waiting: bool) {
        if self.is_waiting == is_waiting || !self.is_http2 {
            return;
        }
        self.is_waiting = is_waiting;
        if is_waiting {
            self.activity.waiting_requests.fetch_add(1, AcqRel);
        } else {
            self.activity.waiting_requests.fetch_sub(1, AcqRel);
        }
        self.activity.times().last_progress = Instant::now();
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.set_waiting(false);
        // In HTTP/1, the flush that follows is the progress.
        if self.is_http2 {
            self.activity.times().last_progress = Instant::now();
        }
        self.activity.open_requests.fetch_sub(1, AcqRel);
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

    fn receive(activity: &Activity) {
        activity.read();
        activity.rests();
    }

    fn wrote(activity: &Activity, length: usize) {
        activity.wrote(&Poll::Ready(Ok(length)));
        activity.flushed();
    }

    #[tokio::test(start_paused = true)]
    async fn f18_the_time_limit_of_the_first_request_head_is_not_extended_by_other_traffic() {
        let activity = Arc::new(Activity::new());
        advance(5 * SECOND).await;
        receive(&activity);
        wrote(&activity, 100);
        assert_eq!(until_due(&activity, None).await, (15, Action::Abort));
    }

    #[tokio::test(start_paused = true)]
    async fn f18_a_connection_becomes_idle_when_its_responses_are_written() {
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
    async fn f18_the_time_limit_of_a_later_request_head_starts_at_its_first_byte() {
        let activity = Arc::new(Activity::new());
        drop(activity.open_request(Version::HTTP_11));
        advance(10 * SECOND).await;
        receive(&activity);
        advance(5 * SECOND).await;
        receive(&activity);
        assert_eq!(until_due(&activity, None).await, (15, Action::ShutDown));
        // Content of an open request is no head.
        let request = activity.open_request(Version::HTTP_11);
        receive(&activity);
        wrote(&activity, 100);
        drop(request);
        assert_eq!(until_due(&activity, None).await, (60, Action::ShutDown));
        // What an HTTP/2 client sends need not be a head.
        drop(activity.open_request(Version::HTTP_2));
        receive(&activity);
        assert_eq!(until_due(&activity, None).await, (60, Action::ShutDown));
    }

    #[tokio::test(start_paused = true)]
    async fn f18_a_client_that_reads_nothing_is_cut_off_and_a_slow_one_is_not() {
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
    async fn f18_an_http2_connection_is_cut_off_if_none_of_its_responses_is_read() {
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
    async fn f18_a_connection_without_an_open_request_does_not_delay_a_drain() {
        let activity = Arc::new(Activity::new());
        let request = activity.open_request(Version::HTTP_11);
        activity.shut_down(Shutdown::Graceful);
        let shutdown_since = Some(Instant::now());
        assert_eq!(until_due(&activity, shutdown_since).await.0, 1000);
        drop(request);
        receive(&activity);
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
