//! An origin of large media, which makes its content up as it is asked for it, and a cache that asks it for slices.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Empty;
use larder::{Clock, ClockHand, JoinedBody, SliceLayer, SliceService};
use tower::{Layer, Service};

use crate::support::bench::read;
use crate::support::{CacheBuilder, CacheHandle, CacheService, Refused, Seen, cache_builder};

/// Bytes in a slice of most scenarios.
pub const SLICE: u64 = 1024;
/// As much as an origin sends at a time.
const FRAME: u64 = 64 * 1024;
const CHECKSUM: HeaderName = HeaderName::from_static("x-checksum");

/// A representation.
#[derive(Clone, Debug)]
pub struct File {
    pub fields: Vec<(&'static str, String)>,
    pub length: u64,
    /// Tells its content from that of others.
    pub version: u8,
}

impl File {
    /// With a strong tag, and fresh for a minute.
    pub fn new(length: u64) -> Self {
        let fields = vec![("cache-control", "max-age=60".into()), ("etag", "\"a\"".into())];
        Self { fields, length, version: 0 }
    }

    /// Another representation of the same length.
    pub fn changed(self) -> Self {
        Self { version: self.version + 1, ..self.field("etag", "\"b\"") }
    }

    pub fn field(mut self, name: &'static str, value: &str) -> Self {
        self.fields.retain(|(own, _)| *own != name);
        self.fields.push((name, value.into()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(own, _)| *own != name);
        self
    }

    fn byte(&self, at: u64) -> u8 {
        b'a' + ((at / 7 + at % 13 + u64::from(self.version)) % 26) as u8
    }

    /// Its bytes from the first to the last one.
    pub fn bytes(&self, first: u64, last: u64) -> String {
        (first..=last).map(|at| char::from(self.byte(at))).collect()
    }

    pub fn all(&self) -> String {
        (0..self.length).map(|at| char::from(self.byte(at))).collect()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
    }
}

/// What the origin does with a request that is not as usual.
#[derive(Clone, Debug)]
pub enum Odd {
    /// As usual, but with so much content, whatever its `Content-Range` says.
    Content { bytes: u64, has_length: bool },
    /// A 206 with this `Content-Range`.
    ContentRange(&'static str),
    /// The body breaks after so many bytes.
    Breaks(u64),
    /// A 206 with several parts, none of them in its head.
    Multipart,
    /// The call fails.
    Refuses,
    /// This status, without content.
    Status(u16),
    /// The body has a trailer.
    Trailer,
}

struct State {
    file: File,
    has_ranges: bool,
    /// Others go first, before each answer and each frame.
    is_slow: bool,
    /// By the `Range` that it is about, in turn.
    odd: VecDeque<(String, Odd)>,
    requests: Vec<request::Parts>,
    sent: u64,
}

/// Answers with a file, or with ranges of it.
#[derive(Clone)]
pub struct Media {
    state: Arc<Mutex<State>>,
}

impl Media {
    fn new(file: File) -> Self {
        let state = State {
            file,
            has_ranges: true,
            is_slow: false,
            odd: VecDeque::new(),
            requests: Vec::new(),
            sent: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// What it was asked for since the latest question: the range, or the method, and whether only for what has changed.
    pub fn asked(&self) -> Vec<String> {
        let requests = std::mem::take(&mut self.state.lock().unwrap().requests);
        let told = requests.iter().map(|request| {
            let field = |name| request.headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap());
            let asked = match field("range").map(|range| range.trim_start_matches("bytes=")) {
                Some(range) => range.to_owned(),
                None => request.method.to_string(),
            };
            let condition = field("if-none-match").or(field("if-modified-since"));
            condition.map_or(asked.clone(), |condition| format!("{asked} unless {condition}"))
        });
        told.collect()
    }

    /// Bytes of content that it has sent.
    pub fn sent(&self) -> u64 {
        self.state.lock().unwrap().sent
    }

    pub fn becomes(&self, file: File) {
        self.state.lock().unwrap().file = file;
    }

    /// Answers every request with the whole from now on.
    pub fn has_no_ranges(&self) {
        self.state.lock().unwrap().has_ranges = false;
    }

    pub fn has_ranges(&self) {
        self.state.lock().unwrap().has_ranges = true;
    }

    /// Lets others go first from now on, before each answer and each frame.
    pub fn takes_its_time(&self) {
        self.state.lock().unwrap().is_slow = true;
    }

    /// Does something else with the next request for this range.
    pub fn once(&self, range: &str, odd: Odd) {
        self.state.lock().unwrap().odd.push_back((range.into(), odd));
    }

    fn answer(&self, request: request::Parts) -> Result<Response<MediaBody>, Refused> {
        let mut state = self.state.lock().unwrap();
        let field =
            |name| request.headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
        let (range, condition, since) = (field("range"), field("if-none-match"), field("if-modified-since"));
        let (if_range, method) = (field("if-range"), request.method.clone());
        state.requests.push(request);
        let range = range.map(|range| range.trim_start_matches("bytes=").to_owned());
        let odd =
            state.odd.front().filter(|(about, _)| Some(about) == range.as_ref()).map(|(_, odd)| odd.clone());
        if odd.is_some() {
            state.odd.pop_front();
        }
        let file = state.file.clone();
        let mut response = Response::new(self.body(&file, 0, file.length));
        for (name, value) in &file.fields {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        let is_same = condition.is_some_and(|tags| file.get("etag").is_some_and(|own| tags.contains(own)))
            || since.is_some_and(|since| file.get("last-modified") == Some(&since));
        let holds = if_range
            .is_none_or(|own| file.get("etag") == Some(&own) || file.get("last-modified") == Some(&own));
        let mut breaks_after = None;
        let has_trailer = matches!(odd, Some(Odd::Trailer));
        let mut content = None;
        match odd {
            Some(Odd::Refuses) => return Err(Refused),
            Some(Odd::Status(status)) => {
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                *response.body_mut() = self.body(&file, 0, 0);
                return Ok(response);
            }
            Some(Odd::ContentRange(told)) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                response.headers_mut().insert("content-range", HeaderValue::from_static(told));
                *response.body_mut() = self.body(&file, 0, 10);
                return Ok(response);
            }
            Some(Odd::Multipart) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let told = HeaderValue::from_static("multipart/byteranges; boundary=b");
                response.headers_mut().insert("content-type", told);
                *response.body_mut() = self.body(&file, 0, 1024);
                return Ok(response);
            }
            Some(Odd::Breaks(after)) => breaks_after = Some(after),
            Some(Odd::Content { bytes, has_length }) => content = Some((bytes, has_length)),
            Some(Odd::Trailer) | None => {}
        }
        if is_same {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = self.body(&file, 0, 0);
            return Ok(response);
        }
        let range = range.filter(|_| state.has_ranges && holds && method == Method::GET);
        match range.as_deref().map(|range| parse(range, file.length)) {
            None => {}
            Some(None) => {
                *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                let told = format!("bytes */{}", file.length);
                response.headers_mut().insert("content-range", told.parse().unwrap());
                *response.body_mut() = self.body(&file, 0, 0);
            }
            Some(Some((first, last))) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let told = format!("bytes {first}-{last}/{}", file.length);
                response.headers_mut().insert("content-range", told.parse().unwrap());
                *response.body_mut() = self.body(&file, first, last + 1);
            }
        }
        if let Some((bytes, has_length)) = content {
            let body = response.body_mut();
            (body.end, body.has_length) = (body.at + bytes, has_length);
        }
        response.body_mut().breaks_after = breaks_after;
        response.body_mut().has_trailer = has_trailer;
        Ok(response)
    }

    fn body(&self, file: &File, first: u64, end: u64) -> MediaBody {
        let (file, state) = (file.clone(), Arc::clone(&self.state));
        let has_length = true;
        MediaBody {
            at: first,
            breaks_after: None,
            end,
            file,
            has_length,
            has_trailer: false,
            state,
            turns: 0,
        }
    }
}

/// The first and the last byte; `None` for what does not exist. Of several ranges, the first one.
fn parse(range: &str, length: u64) -> Option<(u64, u64)> {
    let (first, last) = range.split(',').next()?.split_once('-')?;
    if first.is_empty() {
        let suffix = last.parse::<u64>().ok()?.min(length);
        return (suffix > 0).then(|| (length - suffix, length - 1));
    }
    let first = first.parse().ok()?;
    let last = last.parse().unwrap_or(u64::MAX).min(length.checked_sub(1)?);
    (first < length).then_some((first, last))
}

pub struct MediaBody {
    at: u64,
    breaks_after: Option<u64>,
    end: u64,
    file: File,
    has_length: bool,
    has_trailer: bool,
    state: Arc<Mutex<State>>,
    /// How often others have gone first.
    turns: usize,
}

/// How often others go first, where it takes its time.
const TURNS: usize = 50;

impl Body for MediaBody {
    type Data = Bytes;
    type Error = Refused;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refused>>> {
        let is_slow = self.state.lock().unwrap().is_slow;
        if is_slow && self.turns < TURNS {
            self.turns += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.turns = 0;
        let mut end = self.end.min(self.at.saturating_add(FRAME));
        if let Some(left) = self.breaks_after {
            if left == 0 {
                return Poll::Ready(Some(Err(Refused)));
            }
            end = end.min(self.at.saturating_add(left));
            self.breaks_after = Some(left - (end - self.at));
        }
        if self.at == end {
            let has_trailer = std::mem::take(&mut self.has_trailer);
            let trailers = || HeaderMap::from_iter([(CHECKSUM, HeaderValue::from_static("of the slice"))]);
            return Poll::Ready(has_trailer.then(|| Ok(Frame::trailers(trailers()))));
        }
        let frame = self.file.bytes(self.at, end - 1);
        self.state.lock().unwrap().sent += end - self.at;
        self.at = end;
        Poll::Ready(Some(Ok(Frame::data(frame.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        // With trailers, a message has no length.
        match self.has_length && !self.has_trailer {
            true => SizeHint::with_exact(self.end - self.at),
            false => SizeHint::new(),
        }
    }
}

impl<Q> Service<Request<Q>> for Media {
    type Response = Response<MediaBody>;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Refused>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let answer = self.answer(request.into_parts().0);
        let turns = if self.state.lock().unwrap().is_slow { TURNS } else { 0 };
        Box::pin(async move {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            answer
        })
    }
}

pub type Sliced = SliceService<CacheService<Media>>;
pub type SlicedBody = JoinedBody<larder::CacheBody>;

/// A cache that asks for slices, and an origin of one file.
pub struct Theatre {
    pub clock: ClockHand,
    pub handle: CacheHandle,
    pub media: Media,
    pub service: Sliced,
}

impl Theatre {
    /// Slices of 1 KiB.
    pub fn new(file: File) -> Self {
        Self::with(cache_builder(), file)
    }

    pub fn with(builder: CacheBuilder, file: File) -> Self {
        Self::by(SliceLayer::new().size(SLICE), builder, file)
    }

    pub fn by(layer: SliceLayer, builder: CacheBuilder, file: File) -> Self {
        let (clock, hand) = Clock::manual();
        let media = Media::new(file);
        let cache = builder.clock(clock).build();
        let service = layer.layer(cache.layer(media.clone()));
        Self { clock: hand, handle: cache.handle(), media, service }
    }

    pub fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub async fn get(&self) -> Seen {
        self.send(Method::GET, &[]).await
    }

    pub async fn range(&self, range: &str) -> Seen {
        self.send(Method::GET, &[("range", range)]).await
    }

    pub async fn send(&self, method: Method, fields: &[(&str, &str)]) -> Seen {
        read(self.begin(method, fields).await.unwrap()).await
    }

    /// A response whose body is not read yet.
    pub async fn begin(
        &self,
        method: Method,
        fields: &[(&str, &str)],
    ) -> Result<Response<SlicedBody>, Refused> {
        self.service.clone().call(request(method, fields)).await
    }
}

pub fn request(method: Method, fields: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = method;
    *request.uri_mut() = "http://example.com/film".parse().unwrap();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
    }
    request
}
