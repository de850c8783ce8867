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
//! | the key: URL and host, without the scheme; `querystring.sort` and its like | the same; [`Fastly::key`] |
//! | `Surrogate-Key` | the tags of a response, of which what exceeds the limits does not count; [`Fastly::tag_fields`], [`Fastly::excess_tags`] |
//! | `Surrogate-Control` and `Surrogate-Key` reach the next cache (`Fastly-FF`), and no client | the same, where the next cache is a [`TrustedPeer`](super::TrustedPeer): [`Fastly::peer_token`], [`Fastly::peers`] |
//! | `Fastly-Debug` | the same, with a secret: [`Fastly::debug_token`] |
//! | `X-Timer` | the same, by choice: [`Fastly::timer`] |
//!
//! A [`CacheHint`](crate::CacheHint) of the handler outweighs `Surrogate-Control` and targeted fields as well as
//! `Cache-Control`, as far as it says something.
//!
//! Fields for caches never reach a client, whatever is answered: hits, misses, passes, errors, 304s. Where it matters what a
//! status, a path or a content type is, change the terms by [`CachePolicyExt::map_terms`](crate::CachePolicyExt::map_terms),
//! or give paths their own policy by [`Policies`](crate::policy::Policies).
//!
//! # Where it is more careful
//!
//! - What belongs to one person is not shared (RFC 9111 3.5): an answer to a request with `Authorization` or `Cookie` is kept
//!   only if it says `public` or `s-maxage`, and for cookies `Surrogate-Control: max-age` is enough. Fastly looks at
//!   neither; so does [`Fastly::share_credentials`].
//! - `no-store` (or `private`) in `Surrogate-Control` keeps a response from being stored. What Fastly does is not documented.
//! - `private="set-cookie"` passes, as in the boilerplate, whose pattern matches any `private`.
//! - A malformed `Cache-Control` keeps a response from being stored, since nobody can say what it forbids.
//! - A targeted field (RFC 9213), by default `CDN-Cache-Control`, counts after `Surrogate-Control` and before `Cache-Control`;
//!   Fastly does not document it. [`Fastly::targets`] with no names lets none count.
//! - A client says nothing in Fastly's name: `Fastly-FF`, `Fastly-Client-IP` and whatever else begins with `Fastly-` is removed
//!   from requests that no peer has sent.
//! - A redirect of a URI to itself under another scheme is not stored as long as `http` and `https` share a key.
//! - Content whose type does not fit the extension of its path is not stored: [`Fastly::deception_guard`].
//! - An error never replaces a good response that is stored (F15), and `no-store` of a request is obeyed.

mod caller;
mod debug;
mod surrogate;
mod tags;
mod terms;
mod timer;

use std::time::Duration;

use http::header::HeaderName;
use http::request;

use self::caller::Recognised;
use self::debug::{FASTLY_DEBUG, KeyDigest};
use self::surrogate::SURROGATE_CONTROL;
pub use self::tags::ExcessTags;
use self::tags::SURROGATE_KEY;
use self::timer::Timer;
use super::peer::Caller;
use super::{
    CachePolicy, Delivery, ForwardReason, KeyRules, PolicyData, PolicyExchange, RequestAction, StatusRange,
    TagField, Terms,
};
use crate::semantics::Rules;
use crate::semantics::accept::Codings;
use crate::semantics::token::TokenField;
use crate::store::PurgeTarget;

/// What a Fastly service does; see the [module](self) for the terms, and for where it is more careful.
#[derive(Clone, Debug)]
pub struct Fastly {
    cacheable: Vec<StatusRange>,
    default_ttl: Duration,
    errors: Option<ShortErrors>,
    excess_tags: ExcessTags,
    key: KeyRules,
    must_revalidate_counts: bool,
    no_store_counts: bool,
    /// `None` for the lifetime, within Fastly's bounds.
    pass_for: Option<Duration>,
    recognised: Recognised,
    rules: Rules,
    shares_credentials: bool,
    tag_fields: Vec<TagField>,
    tells_time: bool,
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
            key: KeyRules::new().any_scheme(),
            must_revalidate_counts: true,
            no_store_counts: true,
            pass_for: None,
            recognised: Recognised::default(),
            rules,
            shares_credentials: false,
            tag_fields: vec![TagField::spaced(SURROGATE_KEY)],
            tells_time: false,
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
    /// use larder::policy::Fastly;
    /// let policy = Fastly::new().cacheable(403).cacheable(500..=503);
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn cacheable(mut self, statuses: impl Into<StatusRange>) -> Self {
        self.cacheable.push(statuses.into());
        self
    }

    /// Keeps 303, 307 and 308, too.
    #[must_use]
    pub fn cacheable_redirects(self) -> Self {
        self.cacheable(303).cacheable(307..=308)
    }

    /// Keeps every 2xx, too, except for 206.
    #[must_use]
    pub fn cacheable_success(self) -> Self {
        self.cacheable(200..=299)
    }

    /// Recognises who looks for a fault, by this secret in `Fastly-Debug`; default nobody. At Fastly, anybody who sends the
    /// field gets to know what is told here:
    ///
    /// | field | form |
    /// |---|---|
    /// | `Fastly-Debug-Path` | `(D larder 1790000060) (F larder 1790000000)`: delivered and fetched, with the cache's name and the time |
    /// | `Fastly-Debug-TTL` | `(H larder 299.000 - 12)`: a hit, the lifetime left in seconds, `-` for the time left to stand in for an error, the age; `(M larder - - -)` where it is none |
    /// | `Fastly-Debug-Digest` | BLAKE3 of the key in hexadecimal digits (feature `blake3`) |
    /// | `Surrogate-Control`, `Surrogate-Key` | as the origin has sent them |
    #[must_use]
    pub fn debug_token(mut self, secret: &str) -> Self {
        self.recognised.debug = Some(TokenField::new(FASTLY_DEBUG, secret));
        self
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

    /// What the key is made of; default the URI without its scheme, so that `http` and `https` share what is stored. With the
    /// default, a redirect of a URI to itself under another scheme is not stored (`scheme-redirect`), since it would be sent to
    /// those who have followed it.
    ///
    /// ```
    /// use larder::policy::{Fastly, KeyRules, QueryRules};
    /// // `querystring.sort`, `querystring.clean`, `querystring.regfilter("^(utm_|fbclid)")`, with the scheme.
    /// let query = QueryRules::all().sorted().cleaned().ignore(["utm_*", "fbclid"]);
    /// let policy = Fastly::new().key(KeyRules::new().query(query));
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn key(mut self, rules: KeyRules) -> Self {
        self.key = rules;
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

    /// Recognises other caches of the same owner by a secret in a request field; default none. A request with a
    /// [`TrustedPeer`](super::TrustedPeer) among its extensions is one of theirs as well. Peers get `Surrogate-Control` and the fields with tags,
    /// and what they say in `Fastly-FF`, `Fastly-Client-IP` and their like reaches the inner service; from anybody else it does
    /// not. The secret itself never does.
    ///
    /// ```
    /// use http::HeaderName;
    /// use larder::policy::Fastly;
    /// # let secret = "from the configuration";
    /// let policy = Fastly::new().peer_token(HeaderName::from_static("x-peer"), secret);
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn peer_token(mut self, field: HeaderName, secret: &str) -> Self {
        self.recognised.peers = self.recognised.peers.token(field, secret);
        self
    }

    /// Recognises other caches of the same owner by what a closure finds in a request, such as an address that a proxy
    /// protocol has left; see [`Fastly::peer_token`]. What a client can send must not be enough.
    #[must_use]
    pub fn peers<F>(mut self, is_peer: F) -> Self
    where
        F: Fn(&request::Parts) -> bool + Send + Sync + 'static,
    {
        self.recognised.peers = self.recognised.peers.by(is_peer);
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
    pub fn share_credentials(mut self, on: bool) -> Self {
        self.shares_credentials = on;
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

    /// The response fields with tags, which clients do not get unless they are [shown](TagField::shown); default `Surrogate-Key`. Of all of them together, 16,384 bytes count, and no tag of
    /// more than 1,024 bytes.
    ///
    /// ```
    /// use http::HeaderName;
    /// use larder::policy::{Fastly, TagField};
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

    /// Whether each answer has an `X-Timer` as at Fastly; default false. `S1522968843.555952,VS0,VE14`: the time at which the request
    /// came, in seconds since 1970, and the milliseconds until its answer was there. Of several caches, the nearest to the client counts, whose
    /// time has that of the others in it. [`CacheBuilder::server_timing`](crate::CacheBuilder::server_timing) says more, in the standard's form.
    #[must_use]
    pub fn timer(mut self, on: bool) -> Self {
        self.tells_time = on;
        self
    }

    /// Whether a response field is for caches only.
    fn caches_only(&self) -> impl Iterator<Item = &HeaderName> {
        static CONTROL: HeaderName = SURROGATE_CONTROL;
        std::iter::once(&CONTROL)
            .chain(self.tag_fields.iter().filter(|field| !field.is_shown()).map(TagField::name))
    }
}

impl CachePolicy for Fastly {
    fn request(&self, request: &mut request::Parts, data: &mut PolicyData) -> RequestAction {
        let caller = self.recognised.recognise(request);
        if self.tells_time {
            data.insert(Timer::begin());
        }
        let action = self.key.key(request);
        if caller != Caller::default() {
            data.insert(caller);
            if let (RequestAction::Cache(key), true) = (&action, caller.is_debugging) {
                data.insert(KeyDigest::of(key));
            }
        }
        action
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
        match delivery.data::<Caller>() {
            None => {
                for name in self.caches_only() {
                    delivery.headers.remove(name);
                }
            }
            Some(caller) if caller.is_debugging => debug::add(delivery, delivery.data()),
            Some(_) => {}
        }
        if let Some(timer) = delivery.data::<Timer>() {
            timer.add(delivery);
        }
    }

    fn spellings(&self, target: &PurgeTarget) -> Vec<PurgeTarget> {
        self.key.spellings(target)
    }
}
