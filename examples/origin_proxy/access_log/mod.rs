//! The access log: a line for each request, when its content has ended or its client has left.

mod entry;
mod writer;

use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use larder::Outcome;
use pin_project_lite::pin_project;

use self::entry::{Asked, Ending, Entry};
use self::writer::Writer;
use crate::client::Client;
use crate::edge::{Edge, EdgeFuture};
use crate::local_reply::{Reported, ResponseBody};
use crate::node_name::NodeName;
use crate::serve::BoxError;

/// Where the log is written, and how.
#[derive(Clone, Default)]
pub struct Options {
    pub file: Option<PathBuf>,
    pub format: Option<Format>,
}

/// What a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The common log format, and what the cache did.
    #[default]
    Common,
    /// An object.
    Json,
}

impl Options {
    /// Finds out whether the log could be written, and leaves no file behind.
    ///
    /// # Errors
    ///
    /// One sentence: it could not.
    pub fn check(&self) -> Result<(), String> {
        self.file.as_deref().map_or(Ok(()), writer::check)
    }
}

impl Format {
    pub const ALL: [Self; 2] = [Self::Common, Self::Json];

    pub fn name(self) -> &'static str {
        match self {
            Self::Common => "common",
            Self::Json => "json",
        }
    }
}

/// The log. It is cheap to clone.
#[derive(Clone)]
pub struct AccessLog {
    format: Format,
    /// What the cache is called.
    name: NodeName,
    writer: Arc<Writer>,
}

impl AccessLog {
    /// # Errors
    ///
    /// One sentence: the file can't be written to.
    pub fn open(options: &Options, name: NodeName) -> Result<Option<Self>, String> {
        let Some(file) = &options.file else {
            return Ok(None);
        };
        let writer = Arc::new(Writer::open(file.clone())?);
        Ok(Some(Self { format: options.format.unwrap_or_default(), name, writer }))
    }

    /// Opens the file again: it was moved. Returns its name.
    ///
    /// # Errors
    ///
    /// One sentence. Then lines are written to where they were.
    pub fn reopen(&self) -> Result<String, String> {
        self.writer.reopen()
    }

    /// Returns when everything is written that was logged.
    pub fn flush(&self) {
        self.writer.flush();
    }

    fn write(&self, entry: &Entry, ending: &Ending) {
        self.writer.write(match self.format {
            Format::Common => entry.common(ending),
            Format::Json => entry.json(ending),
        });
    }
}

/// The first step of a request, with a log of what became of it.
#[derive(Clone)]
pub struct Logged {
    edge: Edge,
    log: AccessLog,
}

impl Logged {
    pub fn new(edge: Edge, log: AccessLog) -> Self {
        Self { edge, log }
    }
}

impl Service<Request<Incoming>> for Logged {
    type Response = Response<LoggedBody>;
    type Error = Infallible;
    type Future = LoggedFuture;

    fn call(&self, request: Request<Incoming>) -> LoggedFuture {
        let client = request.extensions().get().map(|client: &Client| client.address().ip());
        let entry = Entry::new(Asked::of(&request), client, SystemTime::now());
        let line = Line { begun: Instant::now(), bytes: 0, declared: None, entry, log: self.log.clone() };
        LoggedFuture { future: self.edge.call(request), line: Some(Box::new(line)) }
    }
}

/// A line that is not written yet. Dropped, it is.
struct Line {
    begun: Instant,
    bytes: u64,
    /// How much content there is, where that is known when it begins.
    declared: Option<u64>,
    entry: Entry,
    log: AccessLog,
}

impl Line {
    fn answered(&mut self, response: &Response<ResponseBody>) {
        self.declared = response.body().size_hint().exact();
        self.entry.status = Some(response.status());
        match response.extensions().get::<Outcome>() {
            Some(outcome) => {
                self.entry.outcome = outcome.kind().as_str();
                let told = outcome.render(self.log.name.as_str(), None);
                self.entry.cache_status = Some(told.to_str().unwrap_or_default().into());
            }
            // An answer of the proxy's own.
            None => {
                let own = response.extensions().get().map(|Reported(told)| told.clone());
                self.entry.outcome = if response.status().is_success() { "bypass" } else { "error" };
                self.entry.cache_status = own;
            }
        }
        if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            self.entry.outcome = "bypass";
        }
        self.entry.content_type = response.headers().get(header::CONTENT_TYPE).cloned();
    }

    fn end(&self, is_whole: bool) {
        let ending = Ending { bytes: self.bytes, is_whole, seconds: self.begun.elapsed().as_secs_f64() };
        self.log.write(&self.entry, &ending);
    }
}

pin_project! {
    pub struct LoggedFuture {
        #[pin]
        future: EdgeFuture,
        line: Option<Box<Line>>,
    }

    impl PinnedDrop for LoggedFuture {
        fn drop(this: Pin<&mut Self>) {
            // Its client has left.
            if let Some(line) = this.project().line.take() {
                line.end(false);
            }
        }
    }
}

impl Future for LoggedFuture {
    type Output = Result<Response<LoggedBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        let mut line = this.line.take();
        if let Some(line) = &mut line {
            line.answered(&response);
        }
        Poll::Ready(Ok(response.map(|body| LoggedBody { body, line })))
    }
}

pin_project! {
    /// Content that is counted.
    pub struct LoggedBody {
        #[pin]
        body: ResponseBody,
        line: Option<Box<Line>>,
    }

    impl PinnedDrop for LoggedBody {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(line) = this.line.take() {
                // Where the end is known, nobody may have asked for it.
                line.end(this.body.is_end_stream() || line.declared == Some(line.bytes));
            }
        }
    }
}

impl Body for LoggedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        match (&frame, &mut *this.line) {
            (Some(Ok(frame)), Some(line)) => {
                line.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            (None | Some(Err(_)), line) => {
                if let Some(line) = line.take() {
                    line.end(frame.is_none());
                }
            }
            (Some(Ok(_)), None) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
