//! Further parts of a key, by a layer that is wrapped around the cache.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::header::{self, HeaderMap};
use http::request::Parts;

use super::CacheKey;
use crate::entry::slice::{SliceRequest, Sliced};

/// Further parts of a request's key, by a layer that is wrapped around the cache: among the extensions of the request.
///
/// They come after what the policy has made of the request. Names and values compare byte for byte, and a part that one
/// request has and another has not makes their keys differ.
///
/// ```
/// use http::Request;
/// use larder::KeyParts;
///
/// // What an experiment shows to this client is stored separately.
/// let request = Request::get("http://example.com/")
///     .extension(KeyParts::new().with("experiment", "b"))
///     .body(())
///     .unwrap();
/// # let _ = request;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyParts {
    content: Option<Bytes>,
    /// The request is a POST that is a query: it reads, like a QUERY.
    is_post: bool,
    identities: Vec<(Cow<'static, str>, Bytes)>,
    parts: Vec<(Cow<'static, str>, Bytes)>,
    /// Here and not in an extension of its own, for which each request would be looked through.
    slice: Option<Arc<SliceRequest>>,
}

impl KeyParts {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Bytes>) -> Self {
        self.parts.push((name.into(), value.into()));
        self
    }

    /// Adds who asks, as an authentication layer has found out; see [`CacheKey::with_identity`].
    #[must_use]
    pub fn identity(mut self, name: impl Into<Cow<'static, str>>, identity: impl Into<Bytes>) -> Self {
        self.identities.push((name.into(), identity.into()));
        self
    }

    /// Says that this is the complete content of the request, which the inner service still gets. The key holds it,
    /// with the fields that say how to read it. So the answer to a QUERY can be stored (RFC 10008), as
    /// [`QueryLayer`](crate::QueryLayer) does it.
    #[must_use]
    pub fn content(mut self, content: impl Into<Bytes>) -> Self {
        self.content = Some(content.into());
        self
    }

    /// [`KeyParts::content`] of a POST that is a query.
    pub(crate) fn content_of_post(self, content: Bytes) -> Self {
        Self { is_post: true, ..self.content(content) }
    }

    /// Asks for a slice.
    pub(crate) fn slice(self, slice: SliceRequest) -> Self {
        Self { slice: Some(Arc::new(slice)), ..self }
    }

    /// The slice that is asked for. It is none of the parts: whether the key has it is found out later.
    pub(crate) fn asked_slice(&self) -> Option<&Arc<SliceRequest>> {
        self.slice.as_ref()
    }

    pub(crate) fn has_content(&self) -> bool {
        self.content.is_some()
    }

    /// The key with these parts, without the content.
    pub(crate) fn key_without_content(&self, key: CacheKey) -> CacheKey {
        let key = self.parts.iter().fold(key, |key, (name, value)| key.with(name, value));
        self.identities.iter().fold(key, |key, (name, identity)| key.with_identity(name, identity))
    }

    /// The key with these parts. Content is in it as it is, not as a digest: keys compare exactly.
    pub(crate) fn key(&self, key: CacheKey, headers: &HeaderMap) -> CacheKey {
        let key = self.key_without_content(key);
        let Some(content) = &self.content else {
            return key;
        };
        [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE]
            .iter()
            .fold(key.with(if self.is_post { "POST" } else { "QUERY" }, content), |key, name| {
                key.with_field(name, headers)
            })
    }
}

/// Whether a request is a POST that is a query.
pub(crate) fn is_query_by_post(request: &Parts) -> bool {
    request.extensions.get().is_some_and(|parts: &KeyParts| parts.is_post)
}

/// Makes a QUERY of a POST that is a query, so that it is treated like one.
#[inline]
pub(crate) fn as_query(request: &mut Parts) {
    if request.method == Method::POST && is_query_by_post(request) {
        request.method = Method::QUERY;
    }
}

/// Makes it the POST that the client has sent, and lets no cache further inside take it for a request for a slice.
pub(super) fn leave(request: &mut Parts) {
    if request.method == Method::QUERY && is_query_by_post(request) {
        request.method = Method::POST;
    }
    if let Some(own) = request.extensions.get_mut::<KeyParts>()
        && own.slice.take().is_some()
    {
        request.extensions.remove::<Sliced>();
    }
}
