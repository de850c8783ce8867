//! RFC 9111 with switches.

mod keys;
mod lifetimes;

use std::time::Duration;

use http::header::HeaderName;
use http::{Method, request};

use super::{
    CachePolicy, ContentLimits, ForwardReason, KeyRules, Lifetimes, PolicyData, PolicyExchange,
    RequestAction, Terms, VaryRules,
};
use crate::entry::Levels;
use crate::entry::key::CacheKey;
use crate::semantics::accept::{Codings, Languages};
use crate::semantics::freshness::Heuristic;
use crate::semantics::storing::NotStored;
use crate::semantics::{Credentials, Rules};
use crate::store::PurgeTarget;

/// RFC 9111, each choice that it leaves being a switch.
///
/// [`StandardPolicy::default`] takes the careful side: nothing is shared between people with cookies or
/// credentials unless the response says so, no client can have what is fresh replaced, and no error that a request can draw
/// is stored. [`StandardPolicy::rfc9111`] reuses whatever the RFC permits.
///
/// ```
/// use larder::{CacheBuilder, StandardPolicy};
/// use std::time::Duration;
/// let policy = StandardPolicy::default().stale_if_error(Duration::from_secs(300));
/// let layer = CacheBuilder::default().policy(policy).build();
/// # let _ = layer;
/// ```
#[derive(Clone, Debug, Default)]
pub struct StandardPolicy {
    content_limits: ContentLimits,
    key: Option<KeyRules>,
    key_fields: Vec<HeaderName>,
    levels: Levels,
    lifetimes: Lifetimes,
    rules: Rules,
    vary: VaryRules,
}

impl StandardPolicy {
    /// Everything that RFC 9111 permits a shared cache: cookies do not matter, `Authorization` is treated as
    /// section 3.5 says, clients may ask for something fresher than what is stored, every error with explicit freshness is
    /// stored and errors may be given heuristic freshness, codings and languages are negotiated, a POST may
    /// leave a response for later GETs, partial content is stored and completed, and while the origin can't be
    /// reached or answers with a server error, stale responses stand in for as long as they are kept.
    pub fn rfc9111() -> Self {
        let mut policy = Self::default();
        policy.rules.client_directives = true;
        policy.rules.codings = Codings::Negotiated;
        policy.rules.credentials = Credentials::Rfc9111;
        policy.rules.deception_guard = false;
        policy.rules.drawn_errors = true;
        policy.rules.heuristic = Some(Heuristic::default().with_errors());
        policy.rules.languages = Languages::Negotiated;
        policy.rules.max_error_lifetime = None;
        policy.rules.partial = true;
        policy.rules.post = true;
        policy.rules.stale_if_error = Duration::MAX;
        policy
    }

    /// Whether a client may ask for something fresher than what is stored, by `no-cache`, `max-age`, `min-fresh` or
    /// `Pragma`; default false. On, one client can have the stored response replaced for everybody by one that was made
    /// with its own fields, and can have the service called for each of its requests. `no-store`, `only-if-cached`,
    /// `max-stale` and `stale-if-error` count either way.
    #[must_use]
    pub fn client_directives(mut self, on: bool) -> Self {
        self.rules.client_directives = on;
        self
    }

    /// How `Accept-Encoding` selects among stored responses; default [`Codings::AsSent`]. With
    /// [`Codings::known`], every request that is forwarded, to be cached or not, asks for the known codings
    /// that its client accepts, and for no others.
    #[must_use]
    pub fn codings(mut self, codings: Codings) -> Self {
        self.rules.codings = codings;
        self
    }

    /// What must be said before a response is shared between people; default [`Credentials::Explicit`].
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.rules.credentials = credentials;
        self
    }

    /// Whether a response is refused that web cache deception may be behind; default true. Refused is content whose type
    /// does not fit the extension of its path, such as HTML under `/account/x.css` (`type-mismatch`), and content under a
    /// path with an encoded dot segment or control character, such as `/static/..%2faccount` (`deceptive-path`). It
    /// only forbids, whatever `Cache-Control` says. A page under a name such as `/package/chart.js` is refused as well: give
    /// such paths a policy with the guard off.
    ///
    /// ```
    /// use larder::StandardPolicy;
    /// use larder::policy::Policies;
    /// let standard = StandardPolicy::default();
    /// let policy = Policies::new(standard.clone()).path("/package/*", standard.deception_guard(false));
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn deception_guard(mut self, on: bool) -> Self {
        self.rules.deception_guard = on;
        self
    }

    /// Whether an error is stored, where it has explicit freshness, that one request can draw by its fields and that says
    /// nothing about what others get: every 4xx but 404, 410, 414 and 451, and of the 5xx 501, 505 and 510; default
    /// false. A policy can lift it for some: where `terms.store` is `Err(NotStored::DrawnError)`, nothing else forbids
    /// storing.
    #[must_use]
    pub fn drawn_errors(mut self, on: bool) -> Self {
        self.rules.drawn_errors = on;
        self
    }

    /// Keeps a request field that [`StandardPolicy::strip_unkeyed`] would take away: one that a proxy in front of this
    /// service sets itself, whatever its client has sent, or one that a policy of your own has put into the key. What is
    /// keyed by [`StandardPolicy::key_field`] is kept without this.
    #[must_use]
    pub fn forward_field(mut self, name: HeaderName) -> Self {
        self.rules.unkeyed.keep(name);
        self
    }

    /// Whether a HEAD for which nothing is stored is sent as a GET, so that the answer can be stored; default true.
    #[must_use]
    pub fn head_as_get(mut self, on: bool) -> Self {
        self.rules.head_as_get = on;
        self
    }

    /// Whether `immutable` blocks a client's reload; default true.
    #[must_use]
    pub fn immutable(mut self, on: bool) -> Self {
        self.rules.immutable = on;
        self
    }

    /// How `Accept-Language` selects among stored responses; default [`Languages::AsSent`].
    #[must_use]
    pub fn languages(mut self, languages: Languages) -> Self {
        self.rules.languages = languages;
        self
    }

    /// Which levels of a [`TieredStore`](crate::store::TieredStore) keep responses; default both. Another policy sets
    /// [`Terms::levels`] for that, with [`CachePolicyExt::map_terms`](crate::CachePolicyExt::map_terms).
    ///
    /// ```
    /// use larder::StandardPolicy;
    /// use larder::policy::Policies;
    /// use larder::store::Levels;
    /// let standard = StandardPolicy::default();
    /// let policy = Policies::new(standard.clone()).path("/live/*", standard.levels(Levels::Near));
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn levels(mut self, levels: Levels) -> Self {
        self.levels = levels;
        self
    }

    /// Whether a response whose `No-Vary-Search` says so answers for queries that differ in what does not matter;
    /// default true.
    #[must_use]
    pub fn no_vary_search(mut self, on: bool) -> Self {
        self.rules.no_vary_search = on;
        self
    }

    /// Whether partial content (206) is stored, combined under one strong validator, and completed by asking
    /// for what is missing; default false.
    #[must_use]
    pub fn partial(mut self, on: bool) -> Self {
        self.rules.partial = on;
        self
    }

    /// How long requests for a key do not wait for each other, once an answer has said that it cannot be shared: a
    /// hit-for-pass memory. Default 30 s; zero for not at all.
    #[must_use]
    pub fn pass_for(mut self, time: Duration) -> Self {
        self.rules.pass_for = time;
        self
    }

    /// Whether the answer to a POST is stored for later GETs where it has explicit freshness and names the
    /// target URI in `Content-Location`; default false.
    #[must_use]
    pub fn post(mut self, on: bool) -> Self {
        self.rules.post = on;
        self
    }

    /// Whether a `private` response is stored when the key holds every credential of the request, and so
    /// is reused for the same person only; default false. Deviates from RFC 9111 5.2.2.7 in letter.
    #[must_use]
    pub fn private_by_key(mut self, on: bool) -> Self {
        self.rules.private_by_key = on;
        self
    }

    /// The targeted fields (RFC 9213) that count, the first that is valid before all others and before
    /// `Cache-Control`; default `CDN-Cache-Control` alone.
    #[must_use]
    pub fn targets(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.rules.targets = names.into_iter().collect();
        self
    }

    /// Whether a GET, HEAD or QUERY is forwarded without the fields that frameworks believe and nobody keys, such as
    /// `X-Forwarded-Host`, `X-Original-URL` and `X-HTTP-Method-Override`: the list is
    /// [`unkeyed::BELIEVED`](crate::semantics::unkeyed::BELIEVED) or that of [`StandardPolicy::unkeyed_fields`], and
    /// every name with `_` counts as listed, since many a service takes it for the same name with `-`. What is stripped
    /// selects nothing, whatever `Vary` says. Default false: behind a proxy that sets such fields itself the service may
    /// need them; at the edge, switch it on.
    ///
    /// ```
    /// use http::HeaderName;
    /// use larder::{CacheBuilder, StandardPolicy};
    /// // The proxy in front says by which scheme it was asked. All else is the client's word.
    /// let proto = HeaderName::from_static("x-forwarded-proto");
    /// let policy = StandardPolicy::default().strip_unkeyed(true).forward_field(proto);
    /// # let _ = CacheBuilder::default().policy(policy).build();
    /// ```
    #[must_use]
    pub fn strip_unkeyed(mut self, on: bool) -> Self {
        self.rules.unkeyed.strip(on);
        self
    }

    /// The request fields that [`StandardPolicy::strip_unkeyed`] takes away, in place of
    /// [`unkeyed::BELIEVED`](crate::semantics::unkeyed::BELIEVED).
    #[must_use]
    pub fn unkeyed_fields(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.rules.unkeyed.list(names);
        self
    }
}

impl CachePolicy for StandardPolicy {
    fn request(&self, request: &mut request::Parts, _: &mut PolicyData) -> RequestAction {
        self.vary.normalise(request);
        let action = match &self.key {
            // At once, so that the key of most requests is not moved once more.
            None if self.key_fields.is_empty() => return RequestAction::of(request),
            None => RequestAction::of(request),
            Some(rules) => rules.key(request),
        };
        match action {
            RequestAction::Cache(key) => {
                let add = |key: CacheKey, name| key.with_field(name, &request.headers);
                RequestAction::Cache(self.key_fields.iter().fold(key, add))
            }
            bypass => bypass,
        }
    }

    fn rules(&self, _: &request::Parts, _: &PolicyData) -> &Rules {
        &self.rules
    }

    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        let request = exchange.request;
        // An unsafe request keeps what is not in its key, and what that has shaped is not for later GETs.
        let leaves_out = || self.key.as_ref().is_some_and(|rules| rules.leaves_out(request));
        if request.method == Method::POST && (self.rules.unkeyed.is_in(&request.headers) || leaves_out()) {
            terms.store = terms.store.and(Err(NotStored::Policy));
        }
        self.vary.apply(exchange, terms);
        self.lifetimes.apply(exchange, terms);
        self.content_limits.apply(exchange, terms);
        terms.levels = self.levels;
    }

    fn forward(&self, request: &mut request::Parts, _: &ForwardReason<'_>) {
        self.rules.codings.normalise(&mut request.headers);
        self.rules.unkeyed.remove(&request.method, &mut request.headers);
    }

    fn is_for_storing_only(&self) -> bool {
        !self.lifetimes.edits_fields() && !self.vary.edits_requests()
    }

    fn spellings(&self, target: &PurgeTarget) -> Vec<PurgeTarget> {
        self.key.as_ref().map(|rules| rules.spellings(target)).unwrap_or_default()
    }
}
