//! A cache with a scripted origin behind it and a clock that is moved by hand.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use larder::{Clock, ClockHand};
use tower::{Layer, Service};

use super::origin::{Origin, Refused, Reply};
use super::stores::at_rest;
use super::{CacheBuilder, CacheHandle, CacheService, cache_builder};

pub struct Bench {
    pub origin: Origin,
    pub clock: ClockHand,
    pub cache: CacheService<Origin>,
    pub handle: CacheHandle,
}

/// What a client got.
#[derive(Debug)]
pub struct Seen {
    pub status: StatusCode,
    pub fields: HeaderMap,
    pub body: String,
    pub trailers: Option<HeaderMap>,
    /// The body did not come to its end.
    pub broken: bool,
}

impl Seen {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn cache_status(&self) -> &str {
        self.field("cache-status").expect("every response has a Cache-Status")
    }

    pub fn age(&self) -> Option<u64> {
        self.field("age").map(|age| age.parse().unwrap())
    }

    pub fn is_hit(&self) -> bool {
        self.cache_status().contains("; hit")
    }

    #[track_caller]
    pub fn told(self, expected: &str) -> Self {
        assert_eq!(self.cache_status(), expected, "{self:?}");
        self
    }

    #[track_caller]
    pub fn has_body(self, expected: &str) -> Self {
        assert_eq!(self.body, expected, "{self:?}");
        self
    }
}

impl Bench {
    pub fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::with(cache_builder(), replies)
    }

    pub fn rfc9111(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::with(cache_builder().policy(larder::StandardPolicy::rfc9111()), replies)
    }

    /// Clients may ask for something fresher than what is stored.
    pub fn heeding(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::with(heeding(), replies)
    }

    pub fn with(builder: CacheBuilder, replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::by(Clock::manual(), builder, replies)
    }

    /// With a clock that something else has, too.
    pub fn by(
        (clock, hand): (Clock, ClockHand),
        builder: CacheBuilder,
        replies: impl IntoIterator<Item = Reply>,
    ) -> Self {
        let origin = Origin::new(replies);
        let layer = builder.clock(clock).build();
        Self { cache: layer.layer(origin.clone()), handle: layer.handle(), clock: hand, origin }
    }

    pub fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// An HTTP date so many seconds from now, negative for the past.
    pub fn date(&self, seconds: i64) -> String {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let now = self.clock.now();
        httpdate::fmt_http_date(if seconds < 0 { now - distance } else { now + distance })
    }

    pub async fn get(&self, path: &str) -> Seen {
        self.send(Method::GET, path, &[]).await
    }

    pub async fn get_with(&self, path: &str, fields: &[(&str, &str)]) -> Seen {
        self.send(Method::GET, path, fields).await
    }

    pub async fn send(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Seen {
        self.try_send(method, path, fields).await.expect("the origin answers")
    }

    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Result<Seen, Refused> {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        if !fields.iter().any(|(name, _)| *name == "host") {
            request.headers_mut().insert("host", HeaderValue::from_static("example.com"));
        }
        for (name, value) in fields {
            request.headers_mut().append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        let response = self.cache.clone().call(request).await?;
        Ok(read(response).await)
    }
}

/// The careful policy, but clients may ask for something fresher than what is stored.
pub fn heeding() -> CacheBuilder {
    cache_builder().policy(larder::StandardPolicy::default().client_directives(true))
}

/// Reads a response to its end, clean or not, and waits until what comes of it is stored: what a scenario asks next finds
/// it, be the store slow or not.
pub async fn read<B>(response: http::Response<B>) -> Seen
where
    B: http_body::Body<Data = Bytes> + Send,
{
    let (parts, body) = response.into_parts();
    let mut body = std::pin::pin!(body);
    let mut seen = Seen {
        status: parts.status,
        fields: parts.headers,
        body: String::new(),
        trailers: None,
        broken: false,
    };
    while let Some(frame) = body.frame().await {
        match frame {
            Err(_) => seen.broken = true,
            Ok(frame) => match frame.into_data() {
                Ok(data) => seen.body.push_str(std::str::from_utf8(&data).unwrap()),
                Err(frame) => seen.trailers = frame.into_trailers().ok(),
            },
        }
    }
    at_rest().await;
    check_reason(&seen.fields);
    seen
}

/// Whatever a scenario is about: a response that was forwarded and is not stored says why.
#[track_caller]
fn check_reason(fields: &HeaderMap) {
    let lines = fields.get_all("cache-status").into_iter();
    let own = lines.filter_map(|line| line.to_str().ok()?.rsplit(", ").next()).next_back();
    let Some(own) = own.filter(|own| own.starts_with("larder; fwd=")) else {
        return;
    };
    let has_reason = own.contains("; detail=") || own.contains("fwd=method");
    assert!(has_reason || own.contains("; stored"), "there is no reason why this is not stored: {own}");
}
