//! What a cache policy and an origin request policy say, in CloudFront's words.

use std::time::Duration;

use http::header::{self, HeaderName};

use crate::policy::{Pattern, Selection};

/// A cache policy: what is in the key, and how long responses are kept (CloudFront's `CachePolicyConfig`).
///
/// Not to be confused with [`CachePolicy`](crate::CachePolicy), which decides about everything: that is a
/// [`Distribution`](super::Distribution) made with one of these.
///
/// ```
/// use std::time::Duration;
/// use larder::policy::cloudfront::{CacheHeaderBehavior, CachePolicyConfig, CacheQueryStringBehavior};
///
/// let private_dynamic_content = CachePolicyConfig::new()
///     .min_ttl(Duration::ZERO)
///     .default_ttl(Duration::ZERO)
///     .max_ttl(Duration::from_secs(86_400))
///     .header_behavior(CacheHeaderBehavior::allow_list([http::header::AUTHORIZATION]))
///     .query_string_behavior(CacheQueryStringBehavior::all());
/// # let _ = private_dynamic_content;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CachePolicyConfig {
    pub(super) name: Box<str>,
    pub(super) comment: Box<str>,
    pub(super) min_ttl: Duration,
    pub(super) default_ttl: Option<Duration>,
    pub(super) max_ttl: Option<Duration>,
    pub(super) headers: CacheHeaderBehavior,
    pub(super) cookies: CacheCookieBehavior,
    pub(super) query_strings: CacheQueryStringBehavior,
    pub(super) gzip: bool,
    pub(super) brotli: bool,
}

impl CachePolicyConfig {
    /// A policy with a minimum of zero and the other lifetimes of CloudFront, nothing but the path in the key, and
    /// `Accept-Encoding` as an ordinary field.
    pub fn new() -> Self {
        Self::default()
    }

    /// A name, for people. CloudFront wants a unique one.
    #[must_use]
    pub fn name(mut self, name: impl Into<Box<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// A comment, for people.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<Box<str>>) -> Self {
        self.comment = comment.into();
        self
    }

    /// The shortest time that a response is kept, counted from its reception (`MinTTL`, `minTtl`); default zero. Above zero it
    /// outweighs `no-store`, `no-cache` and `private`, too.
    #[must_use]
    pub fn min_ttl(mut self, ttl: Duration) -> Self {
        self.min_ttl = ttl;
        self
    }

    /// How long a response is kept that says nothing of it (`DefaultTTL`, `defaultTtl`); default a day, or the minimum, where
    /// that is longer.
    #[must_use]
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// The longest time that counts of what a response says (`MaxTTL`, `maxTtl`); default a year, or the default lifetime,
    /// where that or the minimum is longer. It is never shorter than the minimum.
    #[must_use]
    pub fn max_ttl(mut self, ttl: Duration) -> Self {
        self.max_ttl = Some(ttl);
        self
    }

    /// Which request fields are in the key; default none.
    #[must_use]
    pub fn header_behavior(mut self, headers: CacheHeaderBehavior) -> Self {
        self.headers = headers;
        self
    }

    /// Which cookies are in the key; default none.
    #[must_use]
    pub fn cookie_behavior(mut self, cookies: CacheCookieBehavior) -> Self {
        self.cookies = cookies;
        self
    }

    /// Which parameters of the query are in the key; default none.
    #[must_use]
    pub fn query_string_behavior(mut self, query_strings: CacheQueryStringBehavior) -> Self {
        self.query_strings = query_strings;
        self
    }

    /// Whether gzip counts in `Accept-Encoding` (`EnableAcceptEncodingGzip`); default false. With this or Brotli, the field is
    /// in the key and goes to the origin in a normal form: `br,gzip`, `br`, `gzip`, or `identity`, which is not in the key.
    #[must_use]
    pub fn enable_accept_encoding_gzip(mut self, on: bool) -> Self {
        self.gzip = on;
        self
    }

    /// Whether Brotli counts in `Accept-Encoding` (`EnableAcceptEncodingBrotli`); default false.
    #[must_use]
    pub fn enable_accept_encoding_brotli(mut self, on: bool) -> Self {
        self.brotli = on;
        self
    }

    /// Adds a request field to those in the key. [Some](is_keyable) cannot be in one, and are left out.
    #[must_use]
    pub fn key_header(mut self, name: HeaderName) -> Self {
        if is_keyable(&name) && !self.headers.0.contains(&name) {
            self.headers.0.push(name);
        }
        self
    }

    /// The name that it was given.
    pub fn own_name(&self) -> &str {
        &self.name
    }

    /// The three lifetimes, with the defaults that CloudFront derives.
    pub(super) fn lifetimes(&self) -> Lifetimes {
        let min = self.min_ttl;
        let default = self.default_ttl.unwrap_or(DEFAULT_TTL.max(min));
        let max = self.max_ttl.unwrap_or(if min.max(default) > MAX_TTL { default } else { MAX_TTL });
        Lifetimes { min, default, max: max.max(min) }
    }
}

const DEFAULT_TTL: Duration = Duration::from_secs(86_400);
const MAX_TTL: Duration = Duration::from_secs(31_536_000);

/// The lifetimes of a cache policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetimes {
    pub(super) min: Duration,
    pub(super) default: Duration,
    pub(super) max: Duration,
}

impl Lifetimes {
    /// Whether nothing is kept, by this alone.
    pub(super) fn are_zero(self) -> bool {
        [self.min, self.default, self.max].iter().all(Duration::is_zero)
    }
}

/// What goes to the origin beside what is in the key (CloudFront's `OriginRequestPolicyConfig`).
///
/// What is in the key always goes to the origin. What goes there and is not in the key is input that the stored response may
/// depend on without anybody knowing: an answer that one client has shaped so goes to all others. Forward no more than the
/// origin needs, and see [`Distribution::warnings`](super::Distribution::warnings).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginRequestPolicyConfig {
    pub(super) name: Box<str>,
    pub(super) comment: Box<str>,
    pub(super) headers: OriginRequestHeaderBehavior,
    pub(super) cookies: OriginRequestCookieBehavior,
    pub(super) query_strings: OriginRequestQueryStringBehavior,
}

impl OriginRequestPolicyConfig {
    /// Nothing beside what is in the key.
    pub fn new() -> Self {
        Self::default()
    }

    /// A name, for people.
    #[must_use]
    pub fn name(mut self, name: impl Into<Box<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// A comment, for people.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<Box<str>>) -> Self {
        self.comment = comment.into();
        self
    }

    /// Which request fields are forwarded; default none.
    #[must_use]
    pub fn header_behavior(mut self, headers: OriginRequestHeaderBehavior) -> Self {
        self.headers = headers;
        self
    }

    /// Which cookies are forwarded; default none.
    #[must_use]
    pub fn cookie_behavior(mut self, cookies: OriginRequestCookieBehavior) -> Self {
        self.cookies = cookies;
        self
    }

    /// Which parameters of the query are forwarded; default none.
    #[must_use]
    pub fn query_string_behavior(mut self, query_strings: OriginRequestQueryStringBehavior) -> Self {
        self.query_strings = query_strings;
        self
    }

    /// The name that it was given.
    pub fn own_name(&self) -> &str {
        &self.name
    }
}

/// Which request fields are in the key. There is no "all" and no "all except": a key with every field would find nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheHeaderBehavior(pub(super) Vec<HeaderName>);

impl CacheHeaderBehavior {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// These. [Some](is_keyable) cannot be in a key, and are left out.
    pub fn allow_list(names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self(names.into_iter().filter(is_keyable).collect())
    }
}

/// Which request fields are forwarded beside those in the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginRequestHeaderBehavior(pub(super) ForwardedHeaders);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ForwardedHeaders {
    #[default]
    None,
    /// All that the client has sent, and these fields of CloudFront's own.
    AllViewer(Vec<HeaderName>),
    AllExcept(Vec<HeaderName>),
    AllowList(Vec<HeaderName>),
}

impl OriginRequestHeaderBehavior {
    /// None (`none`).
    pub fn none() -> Self {
        Self::default()
    }

    /// All that the client has sent (`allViewer`).
    pub fn all() -> Self {
        Self::all_and_cloudfront([])
    }

    /// All that the client has sent, and these fields of CloudFront's own (`allViewerAndWhitelistCloudFront`, `all(...)`).
    pub fn all_and_cloudfront(names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self(ForwardedHeaders::AllViewer(names.into_iter().collect()))
    }

    /// These (`whitelist`). `Authorization` cannot be named, and is left out.
    pub fn allow_list(names: impl IntoIterator<Item = HeaderName>) -> Self {
        let names = names.into_iter().filter(|name| *name != header::AUTHORIZATION).collect();
        Self(ForwardedHeaders::AllowList(names))
    }

    /// All that the client has sent except these (`allExcept`, `denyList`).
    pub fn all_except(names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self(ForwardedHeaders::AllExcept(names.into_iter().collect()))
    }

    /// [`OriginRequestHeaderBehavior::all_except`].
    pub fn deny_list(names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self::all_except(names)
    }
}

/// A behavior by names, of cookies or of query parameters.
macro_rules! behavior {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Names compare with case. In a list, `*` stands for any number of characters and `?` for one.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(pub(super) Selection);

        impl Default for $name {
            fn default() -> Self {
                Self::none()
            }
        }

        impl $name {
            /// None (`none`).
            pub fn none() -> Self {
                Self(Selection::None)
            }

            /// All (`all`).
            pub fn all() -> Self {
                Self(Selection::All)
            }

            /// These (`whitelist`).
            pub fn allow_list<P: Into<Pattern>>(names: impl IntoIterator<Item = P>) -> Self {
                Self(Selection::allow_list(names))
            }

            /// All except these (`allExcept`).
            pub fn all_except<P: Into<Pattern>>(names: impl IntoIterator<Item = P>) -> Self {
                Self(Selection::all_except(names))
            }

            /// The same as `all_except`.
            pub fn deny_list<P: Into<Pattern>>(names: impl IntoIterator<Item = P>) -> Self {
                Self::all_except(names)
            }
        }

        impl From<Selection> for $name {
            fn from(names: Selection) -> Self {
                Self(names)
            }
        }
    };
}

behavior!(
    /// Which cookies are in the key.
    CacheCookieBehavior
);
behavior!(
    /// Which parameters of the query are in the key.
    CacheQueryStringBehavior
);
behavior!(
    /// Which cookies are forwarded beside those in the key.
    OriginRequestCookieBehavior
);
behavior!(
    /// Which parameters of the query are forwarded beside those in the key.
    OriginRequestQueryStringBehavior
);

/// Whether a request field can be in a key. Those of the connection, those of this cache and `Cookie`, which has a behavior of
/// its own, cannot; nor can those of CloudFront that have another value for each client.
///
/// ```
/// use larder::policy::cloudfront::is_keyable;
/// assert!(is_keyable(&http::header::ORIGIN) && !is_keyable(&http::header::COOKIE));
/// ```
pub fn is_keyable(name: &HeaderName) -> bool {
    let name = name.as_str();
    let is_known = matches!(
        name,
        "cache-control"
            | "cloudfront-viewer-address"
            | "cloudfront-viewer-asn"
            | "cloudfront-viewer-ja3-fingerprint"
            | "cloudfront-viewer-ja4-fingerprint"
            | "cloudfront-viewer-tls"
            | "connection"
            | "content-length"
            | "cookie"
            | "max-forwards"
            | "pragma"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "x-forwarded-proto"
            | "x-real-ip"
    );
    !is_known && !["proxy-", "x-amz-cf-", "x-edge-"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(min: u64, default: Option<u64>, max: Option<u64>, expected: (u64, u64, u64)) {
        let mut policy = CachePolicyConfig::new().min_ttl(Duration::from_secs(min));
        policy.default_ttl = default.map(Duration::from_secs);
        policy.max_ttl = max.map(Duration::from_secs);
        let Lifetimes { min, default, max } = policy.lifetimes();
        assert_eq!((min.as_secs(), default.as_secs(), max.as_secs()), expected, "{policy:?}");
    }

    #[test]
    fn cf2_lifetimes_that_are_not_given_derive_from_those_that_are() {
        check(0, None, None, (0, 86_400, 31_536_000));
        check(100_000, None, None, (100_000, 100_000, 31_536_000));
        check(0, Some(60), None, (0, 60, 31_536_000));
        check(0, Some(40_000_000), None, (0, 40_000_000, 40_000_000));
        check(40_000_000, None, None, (40_000_000, 40_000_000, 40_000_000));
        check(40_000_000, Some(60), None, (40_000_000, 60, 40_000_000));
        check(60, Some(10), Some(30), (60, 10, 60));
        check(0, None, Some(30), (0, 86_400, 30));
    }

    #[test]
    fn cf1_fields_that_cannot_be_keyed_are_left_out_of_a_key() {
        let names =
            ["origin", "cookie", "x-forwarded-proto", "proxy-x", "x-amz-cf-id", "cloudfront-viewer-tls"];
        let listed = CacheHeaderBehavior::allow_list(names.map(HeaderName::from_static));
        assert_eq!(listed.0, [header::ORIGIN]);
        let forwarded = OriginRequestHeaderBehavior::allow_list([header::AUTHORIZATION, header::ACCEPT]);
        assert_eq!(forwarded.0, ForwardedHeaders::AllowList(vec![header::ACCEPT]));
    }
}
