//! An origin that does what a script says, one step at a time.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::Empty;
use shuttle::future::yield_now;
use tower::Service;

use super::{below, one_of};

/// What the origin refuses or breaks off with.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("scripted")]
pub(super) struct Refused;

/// The payload of a scripted panic.
pub(super) struct Scripted;

#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Error,
    /// Nothing more ever comes.
    Hang,
    Panic,
}

/// How many frames an answer has. Each says the version, the call and the language.
pub(super) const FRAMES: usize = 3;

/// How the origin answers.
#[derive(Clone, Copy)]
pub(super) struct Script {
    pub(super) cache_control: &'static str,
    /// Which call fails, after how many steps and with what.
    pub(super) fault: Option<(u64, usize, Fault)>,
    /// With `Content-Length`: what is there of small content is taken in before anybody is answered.
    pub(super) has_length: bool,
    /// Answers differ by language.
    pub(super) varies: bool,
}

impl Script {
    /// How many steps an answer takes: three for its head, one for each frame and one for the end.
    const STEPS: usize = 3 + FRAMES + 1;

    pub(super) fn new(cache_control: &'static str) -> Self {
        Self { cache_control, fault: None, has_length: one_of(&[false, true]), varies: false }
    }

    pub(super) fn fresh() -> Self {
        Self::new("max-age=60")
    }

    /// One call fails somewhere on its way.
    pub(super) fn failing(self, call: u64, fault: Fault) -> Self {
        Self { fault: Some((call, below(Self::STEPS), fault)), ..self }
    }

    pub(super) fn streaming(self) -> Self {
        Self { has_length: false, ..self }
    }

    pub(super) fn varying(self) -> Self {
        Self { varies: true, ..self }
    }
}

/// Every call is counted, and every answer says which call it is of.
#[derive(Clone)]
pub(super) struct Origin {
    calls: Arc<AtomicU64>,
    script: Script,
    version: Arc<AtomicU64>,
}

impl Origin {
    pub(super) fn new(script: Script) -> Self {
        Self { calls: Arc::default(), script, version: Arc::default() }
    }

    /// How many GETs there were.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    /// Its content becomes another.
    pub(super) fn change(&self) -> u64 {
        self.version.fetch_add(1, Ordering::SeqCst) + 1
    }

    async fn answer(self, request: Request<Empty<Bytes>>) -> Result<Response<Steps>, Refused> {
        if request.method() == Method::POST {
            pause().await;
            self.change();
            pause().await;
            return Ok(respond(StatusCode::NO_CONTENT, &[], Steps::default()));
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let version = self.version.load(Ordering::SeqCst);
        let fault = self.script.fault.filter(|(failing, ..)| *failing == call);
        let mut fault = fault.map(|(_, steps, fault)| (steps, fault));
        for _ in 0..2 {
            poll_fn(|_| strike(&mut fault)).await?;
            pause().await;
        }
        poll_fn(|_| strike(&mut fault)).await?;
        let language = language(request.headers()).filter(|_| self.script.varies).unwrap_or("any");
        let tag = format!("\"{version}{language}\"");
        let mut fields =
            vec![(header::CACHE_CONTROL, self.script.cache_control.to_owned()), (header::ETAG, tag.clone())];
        if self.script.varies {
            fields.push((header::VARY, "accept-language".to_owned()));
        }
        let asked = request.headers().get(header::IF_NONE_MATCH);
        if asked.is_some_and(|asked| asked.as_bytes() == tag.as_bytes()) {
            return Ok(respond(StatusCode::NOT_MODIFIED, &fields, Steps::default()));
        }
        let frame = Bytes::from(format!("{version}.{call}.{language};"));
        if self.script.has_length {
            fields.push((header::CONTENT_LENGTH, (FRAMES * frame.len()).to_string()));
        }
        let frames = vec![frame; FRAMES];
        Ok(respond(StatusCode::OK, &fields, Steps { fault, frames, has_paused: false }))
    }
}

pub(super) fn language(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ACCEPT_LANGUAGE)?.to_str().ok()
}

fn respond(status: StatusCode, fields: &[(header::HeaderName, String)], body: Steps) -> Response<Steps> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(name, value);
    }
    response.body(body).expect("a response")
}

/// What an origin does may be there at once or not.
pub(super) async fn pause() {
    if one_of(&[false, true]) {
        yield_now().await;
    }
}

/// One step nearer to the fault.
fn strike(fault: &mut Option<(usize, Fault)>) -> Poll<Result<(), Refused>> {
    match fault {
        Some((0, Fault::Error)) => Poll::Ready(Err(Refused)),
        Some((0, Fault::Hang)) => Poll::Pending,
        // A panic as any, but the hook, which tells the schedule, is not called.
        Some((0, Fault::Panic)) => std::panic::resume_unwind(Box::new(Scripted)),
        Some((steps, _)) => {
            *steps -= 1;
            Poll::Ready(Ok(()))
        }
        None => Poll::Ready(Ok(())),
    }
}

impl Service<Request<Empty<Bytes>>> for Origin {
    type Response = Response<Steps>;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Steps>, Refused>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

/// Content that comes frame by frame.
#[derive(Default)]
pub(super) struct Steps {
    fault: Option<(usize, Fault)>,
    frames: Vec<Bytes>,
    has_paused: bool,
}

impl Body for Steps {
    type Data = Bytes;
    type Error = Refused;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refused>>> {
        if !self.has_paused && one_of(&[false, true]) {
            self.has_paused = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_paused = false;
        match strike(&mut self.fault) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(refused)) => Poll::Ready(Some(Err(refused))),
            Poll::Ready(Ok(())) => Poll::Ready(self.frames.pop().map(|data| Ok(Frame::data(data)))),
        }
    }
}
