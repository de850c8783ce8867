//! A scripted origin: it answers with what it was told and remembers what it saw.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, request};
use http_body::{Body, Frame, SizeHint};
use tower::Service;

/// One answer of the origin. Content has a known length unless told otherwise.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub extensions: Extensions,
    pub frames: Vec<Bytes>,
    pub trailers: Option<HeaderMap>,
    pub known_length: bool,
    pub fails_after_frames: bool,
    pub refuses: bool,
    /// Of tokio's time, which tests stop.
    pub after: Duration,
}

impl Reply {
    pub fn new(body: &str) -> Self {
        Self {
            status: 200,
            fields: Vec::new(),
            extensions: Extensions::new(),
            frames: vec![Bytes::copy_from_slice(body.as_bytes())],
            trailers: None,
            known_length: true,
            fails_after_frames: false,
            refuses: false,
            after: Duration::ZERO,
        }
    }

    /// A response with this `Cache-Control`.
    pub fn cc(body: &str, cache_control: &str) -> Self {
        Self::new(body).field("cache-control", cache_control)
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What the service attaches to the response.
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, extension: T) -> Self {
        self.extensions.insert(extension);
        self
    }

    /// Content in several frames whose total length nobody knows.
    pub fn frames(mut self, frames: &[&str]) -> Self {
        self.frames = frames.iter().map(|frame| Bytes::copy_from_slice(frame.as_bytes())).collect();
        self.known_length = false;
        self
    }

    pub fn trailer(mut self, name: &'static str, value: &'static str) -> Self {
        let trailers = self.trailers.get_or_insert_default();
        trailers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// The body ends in an error.
    pub fn failing(mut self) -> Self {
        self.fails_after_frames = true;
        self
    }

    /// The answer takes its time.
    pub fn after(mut self, delay: Duration) -> Self {
        self.after = delay;
        self
    }

    /// The call itself fails.
    pub fn refused() -> Self {
        let mut reply = Self::new("");
        reply.refuses = true;
        reply
    }

    fn response(&self) -> Response<ScriptedBody> {
        let known_length = self.known_length.then(|| self.frames.iter().map(|f| f.len() as u64).sum());
        let mut response = Response::new(ScriptedBody {
            frames: self.frames.clone().into(),
            trailers: self.trailers.clone(),
            fails: self.fails_after_frames,
            known_length,
        });
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap();
        *response.extensions_mut() = self.extensions.clone();
        for (name, value) in &self.fields {
            response.headers_mut().append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        response
    }
}

/// `Send`, not `Sync`, as axum's body is.
pub struct ScriptedBody {
    frames: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    fails: bool,
    known_length: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
#[error("the scripted body broke")]
pub struct Broke;

#[derive(Debug, thiserror::Error)]
#[error("the scripted origin refused")]
pub struct Refused;

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = Broke;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broke>>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if self.fails {
            self.fails = false;
            return Poll::Ready(Some(Err(Broke)));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn size_hint(&self) -> SizeHint {
        self.known_length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Answers with the scripted replies in turn; the last one goes on for ever.
#[derive(Clone)]
pub struct Origin {
    script: Arc<Mutex<Script>>,
}

struct Script {
    replies: VecDeque<Reply>,
    calls: usize,
    /// Answers conditional requests in place of the script.
    not_modified: Option<Reply>,
    last: Option<request::Parts>,
}

impl Origin {
    pub fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        let script =
            Script { replies: replies.into_iter().collect(), calls: 0, not_modified: None, last: None };
        Self { script: Arc::new(Mutex::new(script)) }
    }

    /// Replaces what is left of the script.
    pub fn then(&self, reply: Reply) {
        let mut script = self.script.lock().unwrap();
        script.replies.clear();
        script.replies.push_back(reply);
    }

    /// What a request with `If-None-Match` gets from now on, with the first tag of its list; `None` for what the
    /// script says.
    pub fn not_modified(&self, reply: Option<Reply>) {
        self.script.lock().unwrap().not_modified = reply;
    }

    pub fn calls(&self) -> usize {
        self.script.lock().unwrap().calls
    }

    /// The latest request.
    pub fn last(&self) -> request::Parts {
        self.script.lock().unwrap().last.clone().expect("the origin was asked")
    }

    fn next(&self, request: request::Parts) -> Reply {
        let mut script = self.script.lock().unwrap();
        script.calls += 1;
        let tag =
            request.headers.get("if-none-match").and_then(|list| list.to_str().ok()?.split(", ").next());
        let conditional = script.not_modified.clone().zip(tag.map(str::to_owned));
        script.last = Some(request);
        if let Some((reply, tag)) = conditional {
            reply.field("etag", &tag)
        } else if script.replies.len() > 1 {
            script.replies.pop_front().unwrap()
        } else {
            script.replies.front().cloned().expect("the script has a reply")
        }
    }
}

impl<Q> Service<Request<Q>> for Origin {
    type Response = Response<ScriptedBody>;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Refused>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let (parts, _) = request.into_parts();
        let reply = self.next(parts);
        Box::pin(async move {
            if !reply.after.is_zero() {
                tokio::time::sleep(reply.after).await;
            }
            if reply.refuses { Err(Refused) } else { Ok(reply.response()) }
        })
    }
}

/// An origin that counts: for tests that need no script.
pub fn always(reply: Reply) -> Origin {
    Origin::new([reply])
}
