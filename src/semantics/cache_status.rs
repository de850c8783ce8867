//! `Cache-Status` (RFC 9211): one member that reports what this cache did with a request.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, StatusCode};

use super::freshness::number_text;
use super::outcome_kind::OutcomeKind;
use super::reuse::Forward;
use super::status::is_server_error;
use super::storing::NotStored;

/// The field's name.
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What caches sent before there was a standard.
pub(crate) const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// What the cache did with a request: the one value from which `Cache-Status` and `X-Cache` are made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The inner service was called.
    Forwarded(Forwarding),
    /// Answered from storage. `ttl`: seconds of freshness left, negative when stale.
    #[non_exhaustive]
    Hit {
        /// What the standard's other parameters do not say.
        detail: Option<Detail>,
        /// Seconds of freshness left.
        ttl: i64,
    },
    /// `only-if-cached`, and nothing usable was stored.
    Unsatisfiable,
}

/// The result of calling the inner service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forwarding {
    /// Whether the request waited for another request's call (RFC 9211 2.6): `true` if that gave its answer, `false` if
    /// it had to be forwarded by itself after all.
    pub collapsed: Option<bool>,
    /// What the standard's other parameters do not say.
    pub detail: Option<Detail>,
    /// Why the request was forwarded.
    pub forward: Forward,
    /// The status of the inner service's answer; `None` if the client's answer has the same.
    pub status: Option<StatusCode>,
    /// Whether the answer is stored, as far as is known before its content has been received.
    pub stored: bool,
    /// The lifetime left of what was stored, in seconds.
    pub ttl: Option<i64>,
}

impl Forwarding {
    /// Forwarded for a reason, with nothing else to report yet.
    pub(crate) fn new(forward: Forward) -> Self {
        Self { collapsed: None, detail: None, forward, status: None, stored: false, ttl: None }
    }
}

impl Forwarding {
    fn kind(&self) -> OutcomeKind {
        match (&self.detail, self.forward, self.status) {
            // What is stored stands in, and has a lifetime.
            (Some(Detail::CallLimit), ..) if self.ttl.is_some() => OutcomeKind::Stale,
            (
                Some(
                    Detail::CallLimit
                    | Detail::ServiceFailed
                    | Detail::UnexpectedNotModified
                    | Detail::UnfitPart,
                ),
                ..,
            ) => OutcomeKind::Error,
            (Some(Detail::LatencyBudget | Detail::StaleIfError), ..) => OutcomeKind::Stale,
            (_, Forward::Bypass | Forward::Method, _) => OutcomeKind::Bypass,
            (.., Some(StatusCode::NOT_MODIFIED)) => OutcomeKind::Revalidated,
            _ if self.collapsed == Some(true) => OutcomeKind::Collapsed,
            (_, Forward::Partial, _) => OutcomeKind::Partial,
            _ => OutcomeKind::Miss,
        }
    }
}

impl From<Forwarding> for Outcome {
    fn from(forwarding: Forwarding) -> Self {
        Self::Forwarded(forwarding)
    }
}

/// The `detail` of a `Cache-Status` member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detail {
    /// As many calls as allowed are under way.
    CallLimit,
    /// The inner service took longer than the policy waits, and a stored response stands in.
    LatencyBudget,
    /// The inner service failed, and nothing may stand in (RFC 9111 4.2.4, 5.2.2.2).
    ServiceFailed,
    /// The inner service failed, and a stored response stands in (RFC 5861 4).
    StaleIfError,
    /// The response that is sent is validated in the background (RFC 5861 3).
    StaleWhileRevalidate,
    /// Why the response was not stored.
    NotStored(NotStored),
    /// The request has already passed this cache, further outside.
    Nested,
    /// Stored responses could not be invalidated, because the store failed.
    NotInvalidated,
    /// The inner service answered 304, and nothing that it was asked about can be meant.
    UnexpectedNotModified,
    /// The inner service was asked for what a stored part lacks, and answered with something else.
    UnfitPart,
    /// The policy bypasses this request, for this reason.
    Bypass(Cow<'static, str>),
    /// The policy does not store this response, for this reason.
    Refused(Cow<'static, str>),
}

impl Detail {
    /// Each of them that neither is why a response is not stored nor has a word of a policy.
    pub const PLAIN: &'static [Self] = &[
        Self::CallLimit,
        Self::LatencyBudget,
        Self::Nested,
        Self::NotInvalidated,
        Self::ServiceFailed,
        Self::StaleIfError,
        Self::StaleWhileRevalidate,
        Self::UnexpectedNotModified,
        Self::UnfitPart,
    ];

    /// The word. That of a policy is as the policy has given it: it may hold any character, and have any length.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Bypass(reason) | Self::Refused(reason) => reason,
            Self::CallLimit => "call-limit",
            Self::LatencyBudget => "latency-budget",
            Self::Nested => "nested",
            Self::NotInvalidated => "not-invalidated",
            Self::NotStored(reason) => reason.as_str(),
            Self::ServiceFailed => "service-failed",
            Self::StaleIfError => "stale-if-error",
            Self::StaleWhileRevalidate => "stale-while-revalidate",
            Self::UnexpectedNotModified => "unexpected-304",
            Self::UnfitPart => "unfit-part",
        }
    }
}

impl Outcome {
    /// What the standard's other parameters do not say, as `Cache-Status` has it: at most 64 bytes of printable ASCII, whatever a
    /// policy has said.
    pub fn detail(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Forwarded(Forwarding { detail, .. }) | Self::Hit { detail, .. } => {
                detail.as_ref().map(|detail| printable(detail.as_str()))
            }
            Self::Unsatisfiable => Some(ONLY_IF_CACHED.into()),
        }
    }

    /// Why the request was forwarded, if it was.
    pub fn forward(&self) -> Option<Forward> {
        match self {
            Self::Forwarded(forwarding) => Some(forwarding.forward),
            Self::Hit { .. } | Self::Unsatisfiable => None,
        }
    }

    /// Which kind it is, for counting.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Self::Hit { detail: None, ttl: 1.. } => OutcomeKind::Hit,
            Self::Hit { .. } => OutcomeKind::Stale,
            Self::Forwarded(forwarding) => forwarding.kind(),
            Self::Unsatisfiable => OutcomeKind::Miss,
        }
    }

    /// Seconds of freshness left of what is stored, negative where it is stale.
    pub fn ttl(&self) -> Option<i64> {
        match self {
            Self::Forwarded(forwarding) => forwarding.ttl,
            Self::Hit { ttl, .. } => Some(*ttl),
            Self::Unsatisfiable => None,
        }
    }

    /// Whether the inner service was not asked.
    pub fn is_hit(&self) -> bool {
        matches!(self, Self::Hit { .. })
    }

    /// Whether the policy, or the request itself, kept it from the cache.
    pub(crate) fn is_bypass(&self) -> bool {
        matches!(self, Self::Forwarded(Forwarding { forward: Forward::Bypass, .. }))
    }

    /// Whether the request has passed the same layer before.
    pub(crate) fn is_nested(&self) -> bool {
        matches!(self, Self::Forwarded(Forwarding { detail: Some(Detail::Nested), .. }))
    }

    /// The value of `X-Cache` as CloudFront words it: `Hit`, `Miss`, `RefreshHit` or `Error`, `from larder`. `status`
    /// is that of the answer to the client; errors are reported as such wherever they come from.
    pub(crate) fn x_cache(&self, status: StatusCode) -> &'static str {
        if status.is_client_error() || is_server_error(status) {
            return "Error from larder";
        }
        match self.word() {
            Word::Hit => "Hit from larder",
            Word::Refresh => "RefreshHit from larder",
            Word::Miss | Word::Pass => "Miss from larder",
        }
    }

    /// It in one word.
    pub(crate) fn word(&self) -> Word {
        match self {
            Self::Hit { .. }
            | Self::Forwarded(Forwarding {
                detail: Some(Detail::LatencyBudget | Detail::StaleIfError),
                ..
            }) => Word::Hit,
            Self::Forwarded(Forwarding { status: Some(StatusCode::NOT_MODIFIED), .. }) => Word::Refresh,
            Self::Forwarded(Forwarding { forward: Forward::Bypass | Forward::Method, .. }) => Word::Pass,
            Self::Forwarded(_) | Self::Unsatisfiable => Word::Miss,
        }
    }

    /// The member that reports this, after the members of caches nearer to the origin.
    ///
    /// ```
    /// use larder::semantics::cache_status::Outcome;
    /// fn log(outcome: &Outcome) {
    ///     println!("{:?}", outcome.render("edge", None)); // "edge; hit; ttl=42"
    /// }
    /// ```
    pub fn render(&self, cache: &str, upstream: Option<&[u8]>) -> HeaderValue {
        let line = self.line(cache);
        match upstream {
            None => HeaderValue::from_bytes(line.as_bytes()),
            Some(upstream) => HeaderValue::from_bytes(&[upstream, line.as_bytes()].join(&b", "[..])),
        }
        .unwrap_or_else(|_| HeaderValue::from_static("larder"))
    }

    /// The member that says this.
    #[inline]
    pub(crate) fn line(&self, cache: &str) -> Line {
        let mut line = Line { bytes: [0; LINE], length: 0 };
        line.put(cache.as_bytes());
        self.write_parameters(&mut line);
        line
    }

    fn write_parameters(&self, line: &mut Line) {
        let detail = match self {
            Self::Forwarded(Forwarding { collapsed, detail, forward, status, stored, ttl }) => {
                line.put(b"; fwd=");
                line.put(forward.as_str().as_bytes());
                if let Some(status) = status {
                    line.put(b"; fwd-status=");
                    line.put(status.as_str().as_bytes());
                }
                if *stored {
                    line.put(b"; stored");
                }
                match collapsed {
                    None => {}
                    Some(true) => line.put(b"; collapsed"),
                    Some(false) => line.put(b"; collapsed=?0"),
                }
                if let Some(ttl) = ttl {
                    line.put(b"; ttl=");
                    put_integer(line, *ttl);
                }
                detail.as_ref()
            }
            Self::Hit { detail, ttl } => {
                line.put(b"; hit; ttl=");
                put_integer(line, *ttl);
                detail.as_ref()
            }
            Self::Unsatisfiable => {
                line.put(b"; detail=\"");
                line.put(ONLY_IF_CACHED.as_bytes());
                line.put(b"\"");
                None
            }
        };
        if let Some(detail) = detail {
            line.put(b"; detail=\"");
            let name = detail.as_str().as_bytes();
            let name = &name[..name.len().min(MOST_NAME)];
            if name.iter().all(fits) {
                line.put(name);
            } else {
                name.iter().for_each(|byte| line.put(&[if fits(byte) { *byte } else { b'-' }]));
            }
            line.put(b"\"");
        }
    }
}

/// An [`Outcome`] in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Hit,
    Miss,
    /// The cache had no business with it.
    Pass,
    /// Validated.
    Refresh,
}

impl Word {
    /// The metric of `Server-Timing` that says it.
    pub(crate) fn server_timing(self) -> &'static str {
        match self {
            Self::Hit => "cache;desc=hit",
            Self::Miss => "cache;desc=miss",
            Self::Pass => "cache;desc=pass",
            Self::Refresh => "cache;desc=refresh",
        }
    }
}

/// A word as it is reported.
fn printable(word: &str) -> Cow<'_, str> {
    if word.len() <= MOST_NAME && word.as_bytes().iter().all(fits) {
        return word.into();
    }
    let bytes = word.as_bytes().iter().take(MOST_NAME);
    bytes.map(|byte| if fits(byte) { char::from(*byte) } else { '-' }).collect::<String>().into()
}

/// A policy's own word may hold any byte; a structured-fields string may not.
fn fits(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

/// The `detail` of [`Outcome::Unsatisfiable`].
pub(crate) const ONLY_IF_CACHED: &str = "only-if-cached";

/// The longest member: two names and less than 96 bytes of parameters.
const LINE: usize = 2 * MOST_NAME + 96;

/// The longest name of a cache, and the longest detail; the rest is cut.
pub(crate) const MOST_NAME: usize = 64;

/// A member, on the stack.
pub(crate) struct Line {
    bytes: [u8; LINE],
    length: usize,
}

impl Line {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn put(&mut self, text: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.length..self.length + text.len()) {
            place.copy_from_slice(text);
            self.length += text.len();
        }
    }
}

/// A structured-field integer: at most 15 digits (RFC 9651 3.3.1). Written by hand, because each hit has one.
fn put_integer(line: &mut Line, number: i64) {
    if let Some(text) = u64::try_from(number).ok().and_then(number_text) {
        return line.put(text.as_bytes());
    }
    let mut digits = [0u8; 15];
    let mut rest = number.unsigned_abs().min(999_999_999_999_999);
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 || start == 0 {
            break;
        }
    }
    if number < 0 {
        line.put(b"-");
    }
    line.put(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(outcome: Outcome, expected: &str) {
        assert_eq!(outcome.render("larder", None), expected);
    }

    #[test]
    fn cs1_each_outcome_has_its_member() {
        // RFC 9211 2.
        check(Outcome::Hit { ttl: 0, detail: None }, "larder; hit; ttl=0");
        check(
            Outcome::Hit { ttl: -412, detail: Some(Detail::StaleWhileRevalidate) },
            "larder; hit; ttl=-412; detail=\"stale-while-revalidate\"",
        );
        check(Outcome::Hit { ttl: i64::MAX, detail: None }, "larder; hit; ttl=999999999999999");
        check(Outcome::Hit { ttl: i64::MIN, detail: None }, "larder; hit; ttl=-999999999999999");
        check(Outcome::Unsatisfiable, "larder; detail=\"only-if-cached\"");
        check(Outcome::Forwarded(Forwarding::new(Forward::Method)), "larder; fwd=method");
        check(
            Outcome::Forwarded(Forwarding {
                status: Some(StatusCode::NOT_MODIFIED),
                stored: true,
                ttl: Some(60),
                ..Forwarding::new(Forward::Stale)
            }),
            "larder; fwd=stale; fwd-status=304; stored; ttl=60",
        );
        for (collapsed, expected) in [
            (true, "larder; fwd=uri-miss; stored; collapsed; ttl=5"),
            (false, "larder; fwd=uri-miss; stored; collapsed=?0; ttl=5"),
        ] {
            let forwarding = Forwarding {
                collapsed: Some(collapsed),
                stored: true,
                ttl: Some(5),
                ..Forwarding::new(Forward::UriMiss)
            };
            check(forwarding.into(), expected);
        }
        check(
            Outcome::Forwarded(Forwarding {
                detail: Some(Detail::NotStored(NotStored::Private)),
                ..Forwarding::new(Forward::UriMiss)
            }),
            "larder; fwd=uri-miss; detail=\"private\"",
        );
    }

    #[test]
    fn cs1_the_reason_of_a_policy_is_made_printable_and_short() {
        let outcome = |reason: String| {
            Outcome::Forwarded(Forwarding {
                detail: Some(Detail::Bypass(reason.into())),
                ..Forwarding::new(Forward::Bypass)
            })
        };
        check(outcome("a \"b\" \\ \u{e9}\n".to_owned()), "larder; fwd=bypass; detail=\"a -b- - ---\"");
        let long = "x".repeat(200);
        assert_eq!(outcome(long).render("larder", None).len(), 29 + MOST_NAME);
    }

    #[test]
    fn cs1_upstream_members_come_first() {
        let upstream = HeaderValue::from_static("origin-shield; hit");
        let line = Outcome::Hit { ttl: 5, detail: None }.render("larder", Some(upstream.as_bytes()));
        assert_eq!(line, "origin-shield; hit, larder; hit; ttl=5");
    }

    #[test]
    fn cs2_x_cache_has_the_words_of_cloudfront() {
        let refreshed = Outcome::Forwarded(Forwarding {
            status: Some(StatusCode::NOT_MODIFIED),
            stored: true,
            ..Forwarding::new(Forward::Stale)
        });
        let hit = Outcome::Hit { ttl: 0, detail: None };
        assert_eq!(hit.x_cache(StatusCode::OK), "Hit from larder");
        assert_eq!(hit.x_cache(StatusCode::NOT_MODIFIED), "Hit from larder");
        assert_eq!(hit.x_cache(StatusCode::NOT_FOUND), "Error from larder");
        assert_eq!(refreshed.x_cache(StatusCode::OK), "RefreshHit from larder");
        let miss = Outcome::Forwarded(Forwarding::new(Forward::UriMiss));
        assert_eq!(miss.x_cache(StatusCode::OK), "Miss from larder");
        assert_eq!(miss.x_cache(StatusCode::BAD_GATEWAY), "Error from larder");
    }

    proptest! {
        #[test]
        fn cs1_every_member_is_a_valid_structured_field(
            ttl: i64,
            reason in prop::option::of("\\PC{0,80}"),
            hit: bool,
            stored: bool,
            status in prop::option::of(100u16..1000),
        ) {
            let detail = reason.clone().map(|reason| Detail::Bypass(reason.into()));
            let outcome = if hit {
                Outcome::Hit { detail, ttl }
            } else {
                let status = status.map(|status| StatusCode::from_u16(status).expect("a status"));
                let forwarding = Forwarding { detail, status, stored, ttl: Some(ttl), ..Forwarding::new(Forward::Stale) };
                forwarding.into()
            };
            // RFC 9211 2: a list with one member, a token with parameters.
            let line = outcome.render("larder", None);
            let list: sfv::List = sfv::Parser::new(line.as_bytes()).parse().expect("a list");
            prop_assert_eq!(list.len(), 1);
            let sfv::ListEntry::Item(item) = &list[0] else { panic!("an inner list: {line:?}") };
            let most = 999_999_999_999_999;
            let number = item.params.get("ttl").and_then(|ttl| ttl.as_integer()).map(i64::from);
            prop_assert_eq!(number, Some(ttl.clamp(-most, most)));
            prop_assert_eq!(item.params.contains_key("detail"), reason.is_some());
            prop_assert_eq!(item.params.contains_key("hit"), hit);
        }
    }
}
