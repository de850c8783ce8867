//! The admin service.

mod access;
mod looking;
mod operating;
mod page;
mod purging;
mod watching;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use larder::admin::{Admin, AdminService, Watch};
use larder::{BoxStore, Clock, ClockHand};
use serde_json::Value;
use tower::{Layer, Service};

use crate::support::{Bench, CacheBuilder, Origin, Reply, cache_builder};

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const BEARER: (&str, &str) = ("authorization", "Bearer 0123456789abcdef0123456789abcdef");

/// A cache, and the service that operates it.
pub struct Desk {
    pub admin: AdminService<BoxStore>,
    pub bench: Bench,
    pub watch: Watch,
}

/// What the service answered.
#[derive(Debug)]
pub struct Told {
    pub fields: HeaderMap,
    pub status: StatusCode,
    pub text: String,
}

impl Told {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.json()
    }

    /// An error that says what to do.
    #[track_caller]
    pub fn refused(&self, status: u16, word: &str) -> Value {
        let json = self.json();
        assert_eq!((self.status.as_u16(), json["error"].as_str()), (status, Some(word)), "{self:?}");
        assert!(json["message"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        assert!(json["help"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        json
    }
}

impl Desk {
    pub fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::with(cache_builder(), replies, |admin| admin)
    }

    pub fn with(
        builder: CacheBuilder,
        replies: impl IntoIterator<Item = Reply>,
        set_up: impl FnOnce(Admin<BoxStore>) -> Admin<BoxStore>,
    ) -> Self {
        let (clock, hand): (Clock, ClockHand) = Clock::manual();
        let watch = Watch::with_clock(clock.clone());
        let layer = builder.clock(clock).observer(watch.clone()).build();
        let origin = Origin::new(replies);
        let admin = Admin::new(layer.handle(), TOKEN).unwrap().watch(watch.clone());
        let cache = layer.layer(origin.clone());
        let bench = Bench { cache, handle: layer.handle(), clock: hand, origin };
        Self { admin: set_up(admin).build(), bench, watch }
    }

    /// With the token, and with content if there is any.
    pub async fn ask(&self, method: &str, target: &str, content: &str) -> Told {
        self.ask_with(method, target, &[BEARER], content).await
    }

    pub async fn ask_with(&self, method: &str, target: &str, fields: &[(&str, &str)], content: &str) -> Told {
        let body = Full::new(Bytes::copy_from_slice(content.as_bytes()));
        let mut request = Request::builder().method(method).uri(target).body(body).unwrap();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let response = self.admin.clone().call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap();
        Told { fields: parts.headers, status: parts.status, text }
    }

    /// Which of these paths are stored.
    pub async fn stored(&self, paths: &[&str]) -> Vec<bool> {
        let mut stored = Vec::new();
        for path in paths {
            let fields = [("cache-control", "only-if-cached")];
            stored.push(self.bench.get_with(path, &fields).await.is_hit());
        }
        stored
    }
}
