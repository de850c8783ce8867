//! An origin that does nothing by itself: a test releases each step of each call. And a cache before it, whose
//! clients are tasks of their own.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, request};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty};
use larder::{CacheBody, Clock, ClockHand};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tower::{Layer, Service};

use super::bench::read;
use super::origin::{Broke, Refused};
use super::{CacheBuilder, CacheHandle, CacheService, Seen, cache_builder};

/// Lets everything run until all of it waits. In a runtime whose time is paused, time moves only then. In another one, a busy machine
/// may take the whole time away, so all tasks get their turns first.
pub async fn settle() {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// What a call of the origin does next.
#[derive(Clone, Debug)]
pub enum Step {
    Head(u16, Vec<(String, String)>),
    Frame(Bytes),
    /// This frame again and again, as often as it is asked for.
    Endless(Bytes),
    Trailers(HeaderMap),
    End,
    /// The body breaks.
    Fail,
    Panic,
    /// The call fails.
    Refuse,
}

impl Step {
    pub fn head(status: u16, fields: &[(&str, &str)]) -> Self {
        Self::Head(status, fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    pub fn frame(content: impl Into<String>) -> Self {
        Self::Frame(content.into().into())
    }
}

/// One call of the origin, in the test's hand.
#[derive(Clone)]
pub struct Call {
    pub request: Arc<request::Parts>,
    steps: mpsc::UnboundedSender<Step>,
    taken: Arc<AtomicUsize>,
}

impl Call {
    /// What is already dropped takes no step.
    pub fn step(&self, step: Step) -> &Self {
        let _ = self.steps.send(step);
        self
    }

    pub fn steps(&self, steps: &[Step]) -> &Self {
        steps.iter().cloned().fold(self, Self::step)
    }

    /// The head of a 200.
    pub fn head(&self, fields: &[(&str, &str)]) -> &Self {
        self.step(Step::head(200, fields))
    }

    pub fn frame(&self, content: impl Into<String>) -> &Self {
        self.step(Step::frame(content))
    }

    pub fn end(&self) -> &Self {
        self.step(Step::End)
    }

    /// Whether somebody still holds the call or its body.
    pub fn is_open(&self) -> bool {
        !self.steps.is_closed()
    }

    /// How many bytes of content were taken from it.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.request.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

#[derive(Clone, Default)]
pub struct Stepped {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    /// What further calls do at once.
    script: Vec<Step>,
    readiness: Readiness,
    unready: Vec<Waker>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Readiness {
    Held,
    PanicsOnce,
    #[default]
    Ready,
}

impl Stepped {
    /// Further calls take these steps at once.
    pub fn script(&self, steps: &[Step]) {
        self.state.lock().unwrap().script = steps.to_vec();
    }

    pub fn calls(&self) -> usize {
        self.state.lock().unwrap().calls.len()
    }

    /// How many calls and bodies somebody still holds.
    pub fn open(&self) -> usize {
        self.state.lock().unwrap().calls.iter().filter(|call| call.is_open()).count()
    }

    #[track_caller]
    pub fn call(&self, number: usize) -> Call {
        let state = self.state.lock().unwrap();
        state.calls.get(number).cloned().unwrap_or_else(|| panic!("{} calls only", state.calls.len()))
    }

    /// The only call for this path.
    #[track_caller]
    pub fn call_for(&self, path: &str) -> Call {
        let mut calls = self.calls_from(0).into_iter().filter(|call| call.request.uri.path() == path);
        let call = calls.next().unwrap_or_else(|| panic!("no call for {path}"));
        assert!(calls.next().is_none(), "two calls for {path}");
        call
    }

    /// All calls from one on.
    pub fn calls_from(&self, number: usize) -> Vec<Call> {
        self.state.lock().unwrap().calls[number..].to_vec()
    }

    /// From now on it is not ready.
    pub fn hold_readiness(&self) {
        self.state.lock().unwrap().readiness = Readiness::Held;
    }

    /// Whoever asks next for its readiness gets a panic; then it is ready.
    pub fn panic_in_readiness(&self) {
        let mut state = self.state.lock().unwrap();
        state.readiness = Readiness::PanicsOnce;
        let unready = std::mem::take(&mut state.unready);
        drop(state);
        unready.into_iter().for_each(Waker::wake);
    }
}

impl<Q> Service<Request<Q>> for Stepped {
    type Response = Response<SteppedBody>;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Refused>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        let mut state = self.state.lock().unwrap();
        match state.readiness {
            Readiness::Held => {
                state.unready.push(cx.waker().clone());
                Poll::Pending
            }
            Readiness::PanicsOnce => {
                state.readiness = Readiness::Ready;
                drop(state);
                panic!("the scripted origin panics in poll_ready")
            }
            Readiness::Ready => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (sender, mut steps) = mpsc::unbounded_channel();
        let taken = Arc::default();
        let request = Arc::new(request.into_parts().0);
        let call = Call { request, steps: sender, taken: Arc::clone(&taken) };
        let mut state = self.state.lock().unwrap();
        call.steps(&state.script);
        state.calls.push(call);
        drop(state);
        Box::pin(async move {
            match steps.recv().await {
                Some(Step::Head(status, fields)) => {
                    let mut response = Response::new(SteppedBody { endless: None, steps, taken });
                    *response.status_mut() = StatusCode::from_u16(status).unwrap();
                    add(response.headers_mut(), fields.iter().map(|(name, value)| (&**name, &**value)));
                    Ok(response)
                }
                Some(Step::Refuse) | None => Err(Refused),
                Some(step) => panic!("the scripted origin's call ends in {step:?}"),
            }
        })
    }
}

fn add<'a>(headers: &mut HeaderMap, fields: impl Iterator<Item = (&'a str, &'a str)>) {
    for (name, value) in fields {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
}

pub struct SteppedBody {
    endless: Option<Bytes>,
    steps: mpsc::UnboundedReceiver<Step>,
    taken: Arc<AtomicUsize>,
}

impl Body for SteppedBody {
    type Data = Bytes;
    type Error = Broke;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broke>>> {
        let data = match &self.endless {
            Some(frame) => frame.clone(),
            None => match ready!(self.steps.poll_recv(cx)) {
                Some(Step::Endless(frame)) => self.endless.insert(frame).clone(),
                Some(Step::Fail) => return Poll::Ready(Some(Err(Broke))),
                Some(Step::Frame(frame)) => frame,
                Some(Step::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Some(Step::End) | None => {
                    self.steps.close();
                    return Poll::Ready(None);
                }
                Some(step) => panic!("the scripted origin's body ends in {step:?}"),
            },
        };
        self.taken.fetch_add(data.len(), Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

/// A cache before such an origin, and its clients.
pub struct Stage {
    pub origin: Stepped,
    pub clock: ClockHand,
    pub cache: CacheService<Stepped>,
    pub handle: CacheHandle,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(cache_builder())
    }

    /// Clients may ask for something fresher than what is stored.
    pub fn heeding() -> Self {
        Self::with(super::bench::heeding())
    }

    pub fn with(builder: CacheBuilder) -> Self {
        let (clock, hand) = Clock::manual();
        let origin = Stepped::default();
        let layer = builder.clock(clock).build();
        Self { cache: layer.layer(origin.clone()), handle: layer.handle(), clock: hand, origin }
    }

    pub fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub fn get(&self, path: &str) -> Client {
        self.send(Method::GET, path, &[])
    }

    pub fn get_with(&self, path: &str, fields: &[(&str, &str)]) -> Client {
        self.send(Method::GET, path, fields)
    }

    pub fn herd(&self, size: usize, fields: &[(&str, &str)]) -> Vec<Client> {
        (0..size).map(|_| self.get_with("/", fields)).collect()
    }

    pub fn send(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Client {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        request.headers_mut().insert("host", HeaderValue::from_static("example.com"));
        add(request.headers_mut(), fields.iter().copied());
        Client { task: tokio::spawn(self.cache.clone().call(request)) }
    }

    /// Has the origin answer one request with `steps`, to its end.
    pub async fn fill(&self, path: &str, steps: &[Step]) -> Seen {
        self.origin.script(steps);
        let seen = self.get(path).seen().await;
        self.origin.script(&[]);
        seen
    }
}

/// A client that waits for its answer.
pub struct Client {
    task: JoinHandle<Result<Response<CacheBody>, Refused>>,
}

pub enum Answer {
    Panicked,
    Refused,
    Response(Response<CacheBody>),
}

/// Long enough for everybody to have gone on without whom they wait for.
const FOR_EVER: Duration = Duration::from_secs(600);

impl Client {
    pub fn is_waiting(&self) -> bool {
        !self.task.is_finished()
    }

    pub fn leave(self) {
        self.task.abort();
    }

    pub async fn answer(self) -> Answer {
        match tokio::time::timeout(FOR_EVER, self.task).await.expect("nobody waits for ever") {
            Ok(Ok(response)) => Answer::Response(response),
            Ok(Err(Refused)) => Answer::Refused,
            Err(_) => Answer::Panicked,
        }
    }

    pub async fn response(self) -> Response<CacheBody> {
        match self.answer().await {
            Answer::Response(response) => response,
            Answer::Panicked => panic!("a panic, and no response"),
            Answer::Refused => panic!("an error, and no response"),
        }
    }

    pub async fn seen(self) -> Seen {
        let reading = read(self.response().await);
        tokio::time::timeout(FOR_EVER, reading).await.expect("every body ends")
    }

    /// Reads on its own.
    pub fn reading(self) -> JoinHandle<Seen> {
        tokio::spawn(self.seen())
    }

    pub async fn body(self) -> Reading {
        Reading(Box::pin(self.response().await.into_body()))
    }
}

/// A client that reads a body frame by frame.
pub struct Reading(Pin<Box<CacheBody>>);

impl Reading {
    pub fn of(response: Response<CacheBody>) -> Self {
        Self(Box::pin(response.into_body()))
    }

    /// The next frame's content; `None` where there is none yet. The ends are `"<end>"` and `"<error>"`.
    pub async fn next(&mut self) -> Option<String> {
        settle().await;
        // An error comes a turn later than what was before it.
        self.next_now().or_else(|| self.next_now())
    }

    /// [`Reading::next`] of what is there already.
    pub fn next_now(&mut self) -> Option<String> {
        let frame = self.0.frame().now_or_never()?;
        Some(match frame {
            None => "<end>".to_owned(),
            Some(Err(_)) => "<error>".to_owned(),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => String::from_utf8(data.into()).unwrap(),
                Err(frame) => format!("{:?}", frame.into_trailers().unwrap()),
            },
        })
    }

    /// Reads all that is there already; how many bytes that is.
    pub fn take(&mut self) -> usize {
        let mut length = 0;
        while let Some(Some(Ok(frame))) = self.0.frame().now_or_never() {
            length += frame.data_ref().map_or(0, Bytes::len);
        }
        length
    }
}
