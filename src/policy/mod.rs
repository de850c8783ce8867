//! What is cached, under which key, for how long: the decisions that are yours.

mod standard;

use std::sync::LazyLock;

use http::{request, response};

pub use standard::StandardPolicy;

pub use crate::semantics::terms::Terms;

use crate::entry::key::CacheKey;
use crate::semantics::Rules;

/// Decides what the cache does with requests and responses. Every method has a default, which together are
/// [`StandardPolicy::default`]: RFC 9111 with a careful reading where credentials are concerned.
///
/// ```
/// use http::{HeaderName, request, response};
/// use larder::{CacheKey, CachePolicy, Terms, RequestAction};
/// use std::time::Duration;
///
/// /// Keeps pictures for a day at least, and never caches the admin pages.
/// struct Pictures;
///
/// impl CachePolicy for Pictures {
///     fn request(&self, request: &request::Parts) -> RequestAction {
///         if request.uri.path().starts_with("/admin") {
///             return RequestAction::Bypass("admin");
///         }
///         RequestAction::of(request)
///     }
///
///     fn response(&self, request: &request::Parts, _: &response::Parts, terms: &mut Terms) {
///         if request.uri.path().ends_with(".png") {
///             terms.lifetime = terms.lifetime.max(Duration::from_secs(86_400));
///         }
///     }
/// }
/// ```
pub trait CachePolicy: Send + Sync + 'static {
    /// The readings of RFC 9111 that apply.
    fn rules(&self) -> &Rules {
        static RULES: LazyLock<Rules> = LazyLock::new(Rules::default);
        &RULES
    }

    /// Whether a request is the cache's business, and under which key.
    ///
    /// Asked for every method. The service forwards by itself what is neither GET nor HEAD (nor QUERY behind a
    /// [`QueryLayer`](crate::QueryLayer)), what has content otherwise, and what asks for an upgrade; the key of an unsafe request says which URI it invalidates.
    fn request(&self, request: &request::Parts) -> RequestAction {
        RequestAction::of(request)
    }

    /// Edits the terms under which a response is stored and reused. They come filled in by the rules.
    fn response(&self, request: &request::Parts, response: &response::Parts, terms: &mut Terms) {
        let _ = (request, response, terms);
    }

    /// Edits what the inner service gets to see of a request that is forwarded.
    fn forward(&self, request: &mut request::Parts) {
        let _ = request;
    }
}

impl<P: CachePolicy + ?Sized> CachePolicy for std::sync::Arc<P> {
    fn rules(&self) -> &Rules {
        (**self).rules()
    }

    fn request(&self, request: &request::Parts) -> RequestAction {
        (**self).request(request)
    }

    fn response(&self, request: &request::Parts, response: &response::Parts, terms: &mut Terms) {
        (**self).response(request, response, terms);
    }

    fn forward(&self, request: &mut request::Parts) {
        (**self).forward(request);
    }
}

/// What the cache does with a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RequestAction {
    /// Forwards it and stores nothing. The reason, a short word in lower case, is told in `Cache-Status`.
    Bypass(&'static str),
    /// Answers it from what is stored under the key, or stores the answer there.
    Cache(CacheKey),
}

impl RequestAction {
    /// The key of the request's URI, or a bypass where it has none.
    pub fn of(request: &request::Parts) -> Self {
        match CacheKey::of(request) {
            Ok(key) => Self::Cache(key),
            Err(error) => Self::Bypass(error.as_str()),
        }
    }
}
