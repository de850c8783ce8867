//! What a handler says of its own response, apart from the fields.

mod written;

use std::time::Duration;

use http::{Extensions, StatusCode};

use crate::semantics::freshness::{self, LifetimeSource};
use crate::semantics::groups;
use crate::semantics::rules::Rules;
use crate::semantics::storing::NotStored;
use crate::semantics::terms::{ResponseView, StandardTerms};

/// What a handler tells the cache about its own response: an extension of the response, which no client sees.
///
/// It outweighs the fields of the response, as far as it says something; what it does not say is left to them. The nearest
/// cache takes it out of the extensions, whatever becomes of the response. A policy comes after it: the hook
/// [`CachePolicy::response`](crate::CachePolicy::response) sees the terms with the hint, and has the last word.
///
/// ```
/// use std::time::Duration;
/// use http::Response;
/// use larder::CacheHint;
///
/// // Browsers ask each time, and this cache keeps the page for an hour, until `product:42` is purged.
/// let hint = CacheHint::new().lifetime(Duration::from_secs(3600)).tag("product:42");
/// let response = Response::builder().header("cache-control", "no-cache").extension(hint).body("a page").unwrap();
/// # let _ = response;
/// ```
///
/// With the feature `axum` it is a part of a response: `(CacheHint::new().tag("product:42"), "a page")`.
///
/// A hint with a [`lifetime`](CacheHint::lifetime) replaces the directives of `Cache-Control` (or of a targeted field) that
/// say whether and how long the response is kept here: `no-store`, `no-cache`, `must-revalidate`, `proxy-revalidate`,
/// `max-age` and `s-maxage`, and `Expires`. `private` and the rules for credentials stay, unless the hint is
/// [`public`](CacheHint::public). So do the rules for errors: [`Rules::drawn_errors`] and [`Rules::max_error_lifetime`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheHint {
    pub(crate) browser_lifetime: Option<Duration>,
    pub(crate) is_public: bool,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) no_store: bool,
    pub(crate) stale_if_error: Option<Duration>,
    pub(crate) stale_while_revalidate: Option<Duration>,
    pub(crate) tags: Vec<Box<str>>,
}

impl CacheHint {
    /// A hint that says nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long clients may keep the response, counted from each answer: see
    /// [`Terms::browser_lifetime`](crate::Terms::browser_lifetime).
    #[must_use]
    pub fn browser_lifetime(mut self, lifetime: Duration) -> Self {
        self.browser_lifetime = Some(lifetime);
        self
    }

    /// How long the response is fresh, counted from now on. Zero: it is stored only if it can be validated or served stale.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// The response is not stored, whatever else is said.
    #[must_use]
    pub fn no_store(mut self) -> Self {
        self.no_store = true;
        self
    }

    /// The response is the same for everybody, also in answer to a request with a cookie or with `Authorization`: what
    /// `public` says in `Cache-Control`. It outweighs `private`.
    #[must_use]
    pub fn public(mut self) -> Self {
        self.is_public = true;
        self
    }

    /// How long past its lifetime the response stands in for an error (RFC 5861 4).
    #[must_use]
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.stale_if_error = Some(window);
        self
    }

    /// How long past its lifetime the response is served while it is validated in the background (RFC 5861 3).
    #[must_use]
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.stale_while_revalidate = Some(window);
        self
    }

    /// A tag by which the response can be purged, whatever its origin: by
    /// [`PurgeTarget::Tag`](crate::store::PurgeTarget::Tag). A response with a tag that has a control character, or looks like
    /// the group of an origin ([`groups::scoped`]), is not stored, nor is one with more tags than
    /// [`Terms::MAX_GROUPS`](crate::Terms::MAX_GROUPS). An empty tag does not count.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<Box<str>>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Several tags: see [`CacheHint::tag`].
    #[must_use]
    pub fn tags<T: Into<Box<str>>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// What both say: what `other` says comes first, and the tags of both count.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.tags.extend(other.tags);
        Self {
            browser_lifetime: other.browser_lifetime.or(self.browser_lifetime),
            is_public: self.is_public || other.is_public,
            lifetime: other.lifetime.or(self.lifetime),
            no_store: self.no_store || other.no_store,
            stale_if_error: other.stale_if_error.or(self.stale_if_error),
            stale_while_revalidate: other.stale_while_revalidate.or(self.stale_while_revalidate),
            tags: self.tags,
        }
    }

    /// Puts the hint into the extensions of a response, together with what a hint there says already ([`CacheHint::and`]).
    pub fn add_to(self, extensions: &mut Extensions) {
        let hint = match extensions.remove::<Self>() {
            Some(earlier) => earlier.and(self),
            None => self,
        };
        extensions.insert(hint);
    }

    /// The hint of a stored response after a 304: as with fields (RFC 9111 3.2), what the 304 does not say stays.
    #[must_use]
    pub(crate) fn freshened(&self, not_modified: Option<&Self>) -> Self {
        let Some(told) = not_modified else {
            return self.clone();
        };
        let tags = if told.tags.is_empty() { &self.tags } else { &told.tags };
        Self { tags: tags.clone(), ..self.clone().and(told.clone()) }
    }

    /// Bytes of heap memory held.
    pub(crate) fn weight(&self) -> usize {
        self.tags.iter().map(|tag| size_of::<Box<str>>() + tag.len()).sum()
    }

    /// Reads a response as the hint has it. `age` is that of its arrival.
    pub(crate) fn outweigh(&self, view: &mut ResponseView, status: StatusCode, age: Duration, rules: &Rules) {
        let directives = &mut view.directives;
        if self.is_public {
            (directives.private, directives.public) = (false, true);
        }
        if let Some(lifetime) = self.lifetime {
            // What `s-maxage` says of sharing stays.
            directives.public |= directives.s_maxage.take().is_some();
            directives.malformed &= !self.is_public;
            directives.must_revalidate = false;
            directives.must_understand = false;
            directives.no_cache = false;
            directives.no_store = false;
            directives.proxy_revalidate = false;
            view.lifetime =
                age.saturating_add(freshness::bounded(lifetime, status, rules.max_error_lifetime));
            view.source = LifetimeSource::Hint;
        }
    }

    /// Adds what it says to the terms of a response that was read [so](Self::outweigh).
    pub(crate) fn add_to_terms(&self, terms: &mut StandardTerms) {
        terms.stale_if_error = self.stale_if_error.or(terms.stale_if_error);
        terms.stale_while_revalidate = self.stale_while_revalidate.or(terms.stale_while_revalidate);
        if self.no_store {
            terms.store = Err(NotStored::Hint);
        }
        let has_bad_tag = self.tags.iter().any(|tag| !tag.is_empty() && !groups::is_tag(tag));
        terms.add_tags(self.tags.iter().cloned(), has_bad_tag);
    }
}

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl axum::response::IntoResponseParts for CacheHint {
    type Error = std::convert::Infallible;

    fn into_response_parts(
        self,
        mut response: axum::response::ResponseParts,
    ) -> Result<axum::response::ResponseParts, Self::Error> {
        self.add_to(response.extensions_mut());
        Ok(response)
    }
}
