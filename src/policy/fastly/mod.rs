//! What Fastly does, as a policy.
//!
//! ```
//! use std::time::Duration;
//! use larder::CacheBuilder;
//! use larder::policy::Fastly;
//!
//! let policy = Fastly::new().serve_stale(Duration::from_secs(43_200)).cacheable_redirects();
//! let layer = CacheBuilder::default().policy(policy).build();
//! # let _ = layer;
//! ```
//!
//! A Fastly service runs VCL, and most of what people know as Fastly's defaults is in the VCL that it generates, the
//! *boilerplate*, rather than in the platform. [`Fastly::new`] is today's boilerplate, [`Fastly::classic`] the one of 2022
//! and before, which most texts describe, and [`Fastly::platform`] has the platform's default lifetime.
//!
//! | Fastly | here |
//! |---|---|
//! | `beresp.ttl`: `Surrogate-Control: max-age`, else `s-maxage`, `max-age`, `Expires`, else 3,600 s (platform: 120 s) | the same; [`Fastly::default_ttl`] |
//! | `beresp.cacheable`: 200, 203, 300, 301, 302, 404, 410 | the same; [`Fastly::cacheable`], [`Fastly::cacheable_success`], [`Fastly::cacheable_redirects`] |
//! | `private` and `no-store` in `Cache-Control` pass, whatever `Surrogate-Control` says | the same; [`Fastly::no_store_counts`] for the older rule |
//! | `no-cache`, `must-revalidate`, `public`, `immutable` are for browsers | the same, except that `must-revalidate` and `proxy-revalidate` still forbid stale answers: [`Fastly::must_revalidate_counts`] |
//! | `Set-Cookie` passes | the same |
//! | `stale_while_revalidate`, `stale_if_error`: from `Surrogate-Control`, else from `Cache-Control` | the same |
//! | "serve stale" of the console, 43,200 s | [`Fastly::serve_stale`] |
//! | hit-for-pass for the TTL, from 2 minutes to an hour | the same; [`Fastly::pass_for`] |
//! | `beresp.ttl = 1s; beresp.grace = 5s` for a 503 | [`Fastly::short_errors`] |
//! | `Accept-Encoding` is normalised to one coding or none | the same; [`Fastly::brotli`], [`Fastly::codings`] |
//! | `Surrogate-Key` | the tags of a response, of which what exceeds the limits does not count; [`Fastly::tag_fields`], [`Fastly::excess_tags`] |
//!
//! # Where it is more careful
//!
//! - What belongs to one person is not shared (RFC 9111 3.5): an answer to a request with `Authorization` or `Cookie` is kept
//!   only if it says `public` or `s-maxage`, and for cookies `Surrogate-Control: max-age` is enough. Fastly looks at
//!   neither; so does [`Fastly::share_with_credentials`].
//! - `no-store` (or `private`) in `Surrogate-Control` keeps a response from being stored. What Fastly does is not documented.
//! - `private="set-cookie"` passes, as in the boilerplate, whose pattern matches any `private`.
//! - A malformed `Cache-Control` keeps a response from being stored, since nobody can say what it forbids.
//! - A targeted field (RFC 9213), by default `CDN-Cache-Control`, counts after `Surrogate-Control` and before `Cache-Control`;
//!   Fastly does not document it. [`Fastly::targets`] with no names lets none count.
//! - An error never replaces a good response that is stored (F15), and `no-store` of a request is obeyed.

mod surrogate;
mod tags;
mod terms;

use std::ops::RangeInclusive;
use std::time::Duration;

use http::header::HeaderName;
use http::{StatusCode, request};

use self::surrogate::SURROGATE_CONTROL;
use self::tags::SURROGATE_KEY;
pub use self::tags::{ExcessTags, TagField};
use super::{CachePolicy, Delivery, ForwardReason, PolicyData, PolicyExchange, RequestAction, Terms};
use crate::semantics::Rules;
use crate::semantics::accept::Codings;

/// What a Fastly service does; see the [module](self) for the terms, and for where it is more careful.
#[derive(Clone, Debug)]
pub struct Fastly {
    cacheable: Vec<RangeInclusive<u16>>,
    default_ttl: Duration,
    errors: Option<ShortErrors>,
    excess_tags: ExcessTags,
    must_revalidate_counts: bool,
    no_store_counts: bool,
    /// `None` for the lifetime, within Fastly's bounds.
    pass_for: Option<Duration>,
    rules: Rules,
    shares_with_credentials: bool,
    tag_fields: Vec<TagField>,
}

/// How long a server error is kept that would not be otherwise.
#[derive(Clone, Copy, Debug)]
struct ShortErrors {
    lifetime: Duration,
    stale: Duration,
}

impl Default for Fastly {
    fn default() -> Self {
        let rules = Rules {
            codings: Codings::fastly(["gzip", "deflate"]),
            drawn_errors: true, // the status decides
            heuristic: None,
            max_error_lifetime: None,
            ..Rules::default()
        };
        Self {
            cacheable: Vec::new(),
            default_ttl: Duration::from_secs(3_600),
            errors: None,
            excess_tags: ExcessTags::default(),
            must_revalidate_counts: true,
            no_store_counts: true,
            pass_for: None,
            rules,
            shares_with_credentials: false,
            tag_fields: vec![TagField::spaced(SURROGATE_KEY)],
        }
    }
}

impl Fastly {
    /// Today's boilerplate: 3,600 s where nothing says how long, `private` and `no-store` pass.
    pub fn new() -> Self {
        Self::default()
    }

    /// The boilerplate of 2022 and before, and what most texts describe: `no-store` in `Cache-Control` does not count, only
    /// `private` passes.
    pub fn classic() -> Self {
        Self::new().no_store_counts(false)
    }

    /// [`Fastly::new`] with the default lifetime of the platform, 120 s, which counts where no VCL says otherwise.
    pub fn platform() -> Self {
        Self::new().default_ttl(Duration::from_secs(120))
    }

    /// Whether Brotli is among the codings that a request can be forwarded with; default false. Requests are told apart, and
    /// forwarded, by one coding or none: `br` if that is on, else `gzip`, else `deflate`
    /// ([`Codings::fastly`]).
    #[must_use]
    pub fn brotli(self, on: bool) -> Self {
        self.codings(if on {
            Codings::fastly(["br", "gzip", "deflate"])
        } else {
            Codings::fastly(["gzip", "deflate"])
        })
    }

    /// How `Accept-Encoding` selects among stored responses, and what requests are forwarded with; see
    /// [`Fastly::brotli`] for the default.
    #[must_use]
    pub fn codings(mut self, codings: Codings) -> Self {
        self.rules.codings = codings;
        self
    }

    /// Keeps responses with these statuses, too: `set beresp.cacheable = true`. The default, which stays: 200, 203, 300, 301,
    /// 302, 404, 410.
    ///
    /// ```
    /// use http::StatusCode;
    /// use larder::policy::Fastly;
    /// let policy = Fastly::new().cacheable([StatusCode::FORBIDDEN, StatusCode::GONE]);
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn cacheable(mut self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.cacheable.extend(statuses.into_iter().map(|status| status.as_u16()..=status.as_u16()));
        self
    }

    /// Keeps every 2xx, too; a 206 is not.
    #[must_use]
    pub fn cacheable_success(mut self) -> Self {
        self.cacheable.push(200..=299);
        self
    }

    /// Keeps 303, 307 and 308, too.
    #[must_use]
    pub fn cacheable_redirects(self) -> Self {
        self.cacheable([
            StatusCode::SEE_OTHER,
            StatusCode::TEMPORARY_REDIRECT,
            StatusCode::PERMANENT_REDIRECT,
        ])
    }

    /// Whether a response is refused that web cache deception may be behind; default true, which Fastly does not do.
    /// See [`StandardPolicy::deception_guard`](crate::StandardPolicy::deception_guard).
    #[must_use]
    pub fn deception_guard(mut self, on: bool) -> Self {
        self.rules.deception_guard = on;
        self
    }

    /// How long a response is fresh where nothing says so; default 3,600 s. The age that it comes with is subtracted, as from
    /// any lifetime.
    #[must_use]
    pub fn default_ttl(mut self, lifetime: Duration) -> Self {
        self.default_ttl = lifetime;
        self
    }

    /// What is done with a response that has more tags than count; default [`ExcessTags::Ignore`].
    #[must_use]
    pub fn excess_tags(mut self, excess: ExcessTags) -> Self {
        self.excess_tags = excess;
        self
    }

    /// Whether `must-revalidate` and `proxy-revalidate` in `Cache-Control` forbid stale answers (RFC 9111 5.2.2.2), except
    /// within windows that `Surrogate-Control` states; default true. At Fastly they do not count.
    #[must_use]
    pub fn must_revalidate_counts(mut self, on: bool) -> Self {
        self.must_revalidate_counts = on;
        self
    }

    /// Whether `no-store` in `Cache-Control` keeps a response from being stored; default true, and false in
    /// [`Fastly::classic`].
    #[must_use]
    pub fn no_store_counts(mut self, on: bool) -> Self {
        self.no_store_counts = on;
        self
    }

    /// How long requests for a key do not wait for each other, once an answer has said that it cannot be shared
    /// (hit-for-pass). Default: the response's lifetime, at least 120 s and at most 3,600 s.
    #[must_use]
    pub fn pass_for(mut self, time: Duration) -> Self {
        self.pass_for = Some(time);
        self
    }

    /// How long past its lifetime a response stands in for a server error, or for an origin that can't be reached, where the
    /// response does not say; default zero. The console's "serve stale" is 43,200 s.
    #[must_use]
    pub fn serve_stale(mut self, window: Duration) -> Self {
        self.rules.stale_if_error = window;
        self
    }

    /// Whether answers to requests with `Authorization` or `Cookie` are shared as any others, as Fastly does; default false.
    ///
    /// Then a page that one user has asked for is everybody's, unless it says `private`, or has `Set-Cookie`, or its key or
    /// `Vary` tells users apart.
    #[must_use]
    pub fn share_with_credentials(mut self, on: bool) -> Self {
        self.shares_with_credentials = on;
        self
    }

    /// Keeps a server error for so long, and so much longer in the background or while the origin fails, unless its status is
    /// [`cacheable`](Fastly::cacheable) anyway; default not at all. A second and five more let a herd see one error, and
    /// an origin in trouble one request.
    #[must_use]
    pub fn short_errors(mut self, lifetime: Duration, stale: Duration) -> Self {
        self.errors = Some(ShortErrors { lifetime, stale });
        self
    }

    /// The response fields with tags; default `Surrogate-Key`. Of all of them together, 16,384 bytes count, and no tag of
    /// more than 1,024 bytes.
    ///
    /// ```
    /// use http::HeaderName;
    /// use larder::policy::Fastly;
    /// use larder::policy::fastly::TagField;
    /// // Tags of objects that lie in S3, and of a service that was behind Cloudflare.
    /// let policy = Fastly::new().tag_fields([
    ///     TagField::spaced(HeaderName::from_static("surrogate-key")),
    ///     TagField::spaced(HeaderName::from_static("x-amz-meta-surrogate-key")),
    ///     TagField::listed(HeaderName::from_static("cache-tag")),
    /// ]);
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn tag_fields(mut self, fields: impl IntoIterator<Item = TagField>) -> Self {
        self.tag_fields = fields.into_iter().collect();
        self
    }

    /// The targeted fields (RFC 9213) that count after `Surrogate-Control` and before `Cache-Control`; default
    /// `CDN-Cache-Control` alone.
    #[must_use]
    pub fn targets(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.rules.targets = names.into_iter().collect();
        self
    }

    /// Whether a response field is for caches only.
    fn caches_only(&self) -> impl Iterator<Item = &HeaderName> {
        static CONTROL: HeaderName = SURROGATE_CONTROL;
        std::iter::once(&CONTROL).chain(self.tag_fields.iter().map(TagField::name))
    }
}

impl CachePolicy for Fastly {
    fn request(&self, request: &mut request::Parts, _: &mut PolicyData) -> RequestAction {
        RequestAction::of(request)
    }

    fn rules(&self, _: &request::Parts, _: &PolicyData) -> &Rules {
        &self.rules
    }

    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        self.set_terms(exchange, terms);
    }

    fn forward(&self, request: &mut request::Parts, _: &ForwardReason<'_>) {
        self.rules.codings.normalise(&mut request.headers);
    }

    fn deliver(&self, delivery: &mut Delivery<'_>) {
        for name in self.caches_only() {
            delivery.headers.remove(name);
        }
    }
}
