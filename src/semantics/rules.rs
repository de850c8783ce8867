//! The choices that RFC 9111 leaves.

use std::time::Duration;

use http::Method;
use http::header::HeaderName;

use super::credentials::Credentials;
use super::methods::is_retrieval;
use super::rest::FailureRest;
use super::{accept, freshness, targeted, unkeyed};

/// The points at which RFC 9111 leaves a choice, or a careful cache takes a stricter reading.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rules {
    /// Whether a client may ask for a fresher response than the stored one, by `no-cache`, `max-age`, `min-fresh` or
    /// `Pragma` (RFC 9111 5.2.1, 5.4). If it is off, a client can force neither a validation nor a new response for
    /// everybody. `no-store`, `only-if-cached`, `max-stale` and `stale-if-error` count either way.
    pub client_directives: bool,
    /// How `Accept-Encoding` matches. With [`accept::Codings::Known`], forwarded requests have to be normalised as
    /// well, which `StandardPolicy` does.
    pub codings: accept::Codings,
    /// What must be said before a response is shared between people.
    pub credentials: Credentials,
    /// Whether a response is refused whose path looks like that of a static file and whose content is of another type, or
    /// whose path has the marks of web cache deception. Whatever else it says: no policy lifts it.
    pub deception_guard: bool,
    /// Whether an error is stored that one request can draw by its fields (every 4xx but 404, 410, 414 and 451; 501, 505 and 510).
    pub drawn_errors: bool,
    /// Whether a HEAD for which nothing is stored is sent as a GET, so that the answer can be stored.
    pub head_as_get: bool,
    /// Freshness if the origin states none; `None` for never.
    pub heuristic: Option<freshness::Heuristic>,
    /// Whether `immutable` (RFC 8246) outweighs a client's reload while the response is fresh.
    pub immutable: bool,
    /// How long a client waits for a validation if the stale response may stand in for an error; then the stale
    /// response is served, and the validation continues in the background. `None` for as long as it takes.
    pub latency_budget: Option<Duration>,
    /// How `Accept-Language` matches.
    pub languages: accept::Languages,
    /// The longest freshness lifetime of a 4xx or 5xx, whatever the response says; `None` for no bound.
    pub max_error_lifetime: Option<Duration>,
    /// Whether `No-Vary-Search` lets a response answer for queries other than the one it was stored for.
    pub no_vary_search: bool,
    /// Whether answers to OPTIONS are stored, each under a key of its own. By RFC 9110 9.3.7 they are not cacheable, so
    /// nobody but the policy can say that they are.
    pub options: bool,
    /// Whether partial content (206) is stored, combined, and completed by asking for what is missing
    /// (RFC 9111 3.3, 3.4).
    pub partial: bool,
    /// How long it is remembered that answers for a key cannot be shared, so that requests for it do not wait for each
    /// other. Zero for not at all.
    pub pass_for: Duration,
    /// Whether the answer to a POST that has explicit freshness and names the target URI in
    /// `Content-Location` is stored for later GETs (RFC 9110 9.3.3).
    pub post: bool,
    /// Whether a `private` response may be stored if the key holds every credential of the request: then only the same
    /// person gets it. A deviation from RFC 9111 5.2.2.7; off by default.
    pub private_by_key: bool,
    /// How long before it becomes stale, at most half its lifetime, a response that is asked for is validated in the
    /// background. `None` for not at all.
    pub refresh_ahead: Option<Duration>,
    /// How long the inner service is left alone after it has failed while a stored response stands in. Default not at all.
    pub rest_after_failure: FailureRest,
    /// How long past its lifetime a response stands in for an error, if neither it nor the request says (RFC 5861 4,
    /// RFC 9111 4.2.4).
    pub stale_if_error: Duration,
    /// How long past its lifetime a response is served while it is validated in the background, if it does not say (RFC
    /// 5861 3). Not for one that has no lifetime at all: it was not made to be served without validation.
    pub stale_while_revalidate: Duration,
    /// Targeted fields (RFC 9213) in the order in which they count, before `Cache-Control`.
    pub targets: Vec<HeaderName>,
    /// Request fields that the inner service does not see, and that therefore select nothing. They have to be stripped
    /// from forwarded requests, which `StandardPolicy` does.
    pub unkeyed: unkeyed::UnkeyedFields,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            client_directives: false,
            codings: accept::Codings::default(),
            credentials: Credentials::Explicit,
            deception_guard: true,
            drawn_errors: false,
            head_as_get: true,
            heuristic: Some(freshness::Heuristic::default()),
            immutable: true,
            languages: accept::Languages::default(),
            latency_budget: None,
            max_error_lifetime: Some(Duration::from_secs(300)),
            no_vary_search: true,
            options: false,
            partial: false,
            pass_for: Duration::from_secs(30),
            post: false,
            private_by_key: false,
            refresh_ahead: None,
            rest_after_failure: FailureRest::default(),
            stale_if_error: Duration::ZERO,
            stale_while_revalidate: Duration::ZERO,
            targets: targeted::DEFAULT_TARGETS.to_vec(),
            unkeyed: unkeyed::UnkeyedFields::default(),
        }
    }
}

impl Rules {
    /// Whether answers to a method are stored for later requests with it.
    pub(crate) fn store_answers_to(&self, method: &Method) -> bool {
        is_retrieval(method) || (self.options && *method == Method::OPTIONS)
    }
}
