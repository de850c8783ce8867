//! How long CloudFront keeps a response, as pure rules.

use std::time::Duration;

use http::header;
use http::{HeaderMap, StatusCode};

use super::names::Lifetimes;
use crate::policy::Terms;
use crate::semantics::cache_control::ResponseDirectives;
use crate::semantics::freshness::LifetimeSource;

/// What a response says of how long it is kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    pub(super) has_cache_control: bool,
    /// How long it is fresh from its reception on, where it says so.
    pub(super) fresh_for: Option<Duration>,
    /// That is by `max-age` or `s-maxage`, not by `Expires`.
    pub(super) is_by_directive: bool,
    pub(super) no_cache: bool,
    pub(super) no_store: bool,
    pub(super) private: bool,
    pub(super) stale_if_error: Option<Duration>,
    pub(super) stale_while_revalidate: Option<Duration>,
}

impl Said {
    /// What a response says. `terms` are those that the rules have found.
    pub(super) fn of(headers: &HeaderMap, directives: &ResponseDirectives, terms: &Terms) -> Self {
        Self {
            has_cache_control: headers.contains_key(header::CACHE_CONTROL)
                || terms.source == LifetimeSource::Hint,
            fresh_for: terms
                .source
                .is_explicit()
                .then(|| terms.lifetime.saturating_sub(terms.age_on_arrival())),
            is_by_directive: terms.source.is_explicit() && terms.source != LifetimeSource::Expires,
            no_cache: directives.no_cache,
            no_store: directives.no_store,
            private: directives.private,
            stale_if_error: terms.stale_if_error,
            stale_while_revalidate: terms.stale_while_revalidate,
        }
    }

    /// The first of the directives that forbid to keep it.
    fn forbids(&self) -> Option<NotKept> {
        let all = [
            (self.no_store, NotKept::NoStore),
            (self.private, NotKept::Private),
            (self.no_cache, NotKept::NoCache),
        ];
        all.into_iter().find(|(is_said, _)| *is_said).map(|(_, reason)| reason)
    }
}

/// How a response is kept. Times count from its reception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) fresh_for: Duration,
    /// Each use is validated.
    pub(super) no_cache: bool,
    /// How long after that it stands in for an error.
    pub(super) stale_if_error: Duration,
    /// How long after that it is served while it is validated.
    pub(super) stale_while_revalidate: Duration,
}

impl Kept {
    fn fresh_for(fresh_for: Duration) -> Self {
        let never = Duration::ZERO;
        Self { fresh_for, no_cache: false, stale_if_error: never, stale_while_revalidate: never }
    }
}

/// Why a response is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotKept {
    NoCache,
    NoStore,
    Private,
    Status,
}

/// How CloudFront treats a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// An error that is kept unless it says no.
    Absent,
    /// An error that is kept where it says for how long.
    Drawn,
    /// An error that is kept whatever it says.
    Failure,
    /// By the lifetimes of the cache policy.
    Good,
    /// The same where it has a `Cache-Control`.
    GoodIfSaid,
    Never,
}

impl Class {
    fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            304 => Self::Never,
            200..=299 | 301 | 302 => Self::Good,
            300..=399 => Self::GoodIfSaid,
            404 | 410 | 414 | 501 => Self::Absent,
            500 | 502..=504 => Self::Failure,
            400 | 403 | 405 | 412 | 415 => Self::Drawn,
            _ => Self::Never,
        }
    }
}

/// How long a response is kept. `error_min` is the minimum for errors with its status.
///
/// # Errors
///
/// Why it is not kept.
pub(super) fn kept(
    lifetimes: Lifetimes,
    error_min: Duration,
    status: StatusCode,
    said: &Said,
) -> Result<Kept, NotKept> {
    let error = |said_for: Option<Duration>| {
        Kept::fresh_for(error_min.max(said_for.unwrap_or_default().min(lifetimes.max)))
    };
    match (Class::of(status), said.forbids()) {
        (Class::Good, _) => good(lifetimes, said),
        (Class::GoodIfSaid, _) if said.has_cache_control => good(lifetimes, said),
        (Class::Failure, None) => Ok(error(said.fresh_for)),
        (Class::Failure, Some(_)) => Ok(error(None)),
        (Class::Absent | Class::Drawn, Some(reason)) => Err(reason),
        (Class::Absent, None) => Ok(error(said.fresh_for)),
        (Class::Drawn, None) if said.is_by_directive => Ok(error(said.fresh_for)),
        // Those count where somebody lifts what the status says, and where others wait for the response.
        (Class::GoodIfSaid | Class::Never, Some(reason @ (NotKept::NoStore | NotKept::Private))) => {
            Err(reason)
        }
        (Class::Drawn | Class::GoodIfSaid | Class::Never, _) => Err(NotKept::Status),
    }
}

/// How long a response is kept that is no error.
fn good(lifetimes: Lifetimes, said: &Said) -> Result<Kept, NotKept> {
    let Lifetimes { min, default, max } = lifetimes;
    let forbids = said.forbids();
    if min.is_zero()
        && let Some(reason @ (NotKept::NoStore | NotKept::Private)) = forbids
    {
        return Err(reason);
    }
    let fresh_for = match (forbids, said.fresh_for) {
        (Some(_), _) => min,
        (None, Some(said)) => said.clamp(min, max),
        (None, None) => default.max(min),
    };
    // Past the maximum, nothing is served stale, unless the origin has not said how long it may be.
    let until_max = max.saturating_sub(fresh_for);
    Ok(Kept {
        fresh_for,
        no_cache: min.is_zero() && forbids == Some(NotKept::NoCache),
        stale_if_error: said.stale_if_error.map_or(Duration::MAX, |said| said.min(until_max)),
        stale_while_revalidate: said.stale_while_revalidate.unwrap_or_default().min(until_max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::key::CacheKey;
    use crate::policy::cloudfront::{CachePolicyConfig, Distribution};
    use crate::policy::judge::{Judged, JudgedRequest};
    use crate::policy::{CachePolicy, PolicyData};
    use crate::semantics::Rules;
    use crate::semantics::cache_control::RequestDirectives;
    use http::{HeaderName, Method, Request, Response, request};
    use proptest::prelude::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    const MAX: u64 = 31_536_000;
    const DAY: u64 = 86_400;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000)
    }

    /// The rules of a distribution, without what it makes of them.
    struct Unedited(Distribution);

    impl CachePolicy for Unedited {
        fn rules(&self, request: &request::Parts, data: &PolicyData) -> &Rules {
            self.0.rules(request, data)
        }
    }

    /// What a response with these fields says. `Expires` is so many seconds from now.
    fn said(status: StatusCode, cache_control: &str, expires: Option<u64>, age: u64) -> Said {
        let (request, ()) = Request::get("http://example.com/").body(()).expect("a request").into_parts();
        let (mut response, ()) = Response::new(()).into_parts();
        response.status = status;
        let mut add = |name: HeaderName, value: &str| {
            response.headers.insert(name, value.parse().expect("a value"));
        };
        if !cache_control.is_empty() {
            add(header::CACHE_CONTROL, cache_control);
        }
        if let Some(seconds) = expires {
            add(header::EXPIRES, &httpdate::fmt_http_date(now() + Duration::from_secs(seconds)));
        }
        add(header::AGE, &age.to_string());
        let judged = Judged {
            is_background: false,
            max_body: u64::MAX,
            method: &Method::GET,
            names_target: false,
            request: JudgedRequest {
                directives: &RequestDirectives::default(),
                key: &CacheKey::of(&request).expect("a key"),
                now: now(),
                parts: &request,
            },
            sent: None,
            store: Ok(()),
        };
        let policy = Unedited(Distribution::new(CachePolicyConfig::new()));
        let (view, terms) = judged.terms_by(&policy, &PolicyData::default(), &response, now());
        Said::of(&response.headers, &view.directives, &terms)
    }

    /// What becomes of a response: seconds, with each use validated or not; `None` for not kept.
    fn edge(lifetimes: (u64, u64, u64), error_min: u64, status: u16, said: &Said) -> Option<(u64, bool)> {
        let (min, default, max) = lifetimes;
        let seconds = Duration::from_secs;
        let lifetimes = Lifetimes { min: seconds(min), default: seconds(default), max: seconds(max) };
        let status = StatusCode::from_u16(status).expect("a status");
        let kept = kept(lifetimes, seconds(error_min), status, said).ok()?;
        Some((kept.fresh_for.as_secs(), kept.no_cache))
    }

    const V: Option<(u64, bool)> = Some((0, true));
    const X: Option<(u64, bool)> = None;

    const fn s(seconds: u64) -> Option<(u64, bool)> {
        Some((seconds, false))
    }

    type Row = (u8, (u64, u64, u64), &'static str, Option<u64>, &'static [u16], Option<(u64, bool)>);

    /// The number of the row, minimum, default and maximum, `Cache-Control`, `Expires`, statuses, and what becomes of it.
    const ROWS: [Row; 36] = [
        (1, (0, DAY, MAX), "max-age=60", None, &[200], s(60)),
        (2, (0, DAY, 30), "max-age=60", None, &[200], s(30)),
        (3, (100, DAY, MAX), "max-age=60", None, &[200], s(100)),
        (4, (10, DAY, 50), "max-age=60", None, &[200], s(50)),
        (5, (10, DAY, 100), "max-age=60", None, &[200], s(60)),
        (6, (0, DAY, MAX), "max-age=60, s-maxage=600", None, &[200], s(600)),
        (7, (0, DAY, MAX), "s-maxage=0, max-age=600", None, &[200], s(0)),
        (8, (0, DAY, MAX), "", None, &[200], s(DAY)),
        (9, (0, 0, DAY), "", None, &[200], s(0)),
        (10, (0, 0, DAY), "max-age=300", None, &[200], s(300)),
        (11, (7200, 3600, DAY), "", None, &[200], s(7200)),
        (12, (0, DAY, MAX), "no-store", None, &[200], X),
        (13, (0, DAY, MAX), "private, max-age=60", None, &[200], X),
        (14, (0, DAY, MAX), "no-cache", None, &[200], V),
        (15, (1, DAY, MAX), "no-cache, must-revalidate", None, &[200], s(1)),
        (16, (60, DAY, MAX), "no-store", None, &[200], s(60)),
        (17, (60, DAY, MAX), "private, max-age=600", None, &[200], s(60)),
        (18, (0, DAY, 100), "", Some(60), &[200], s(60)),
        (19, (0, DAY, 30), "", Some(60), &[200], s(30)),
        (20, (100, DAY, 1000), "", Some(60), &[200], s(100)),
        (21, (0, DAY, MAX), "max-age=60", Some(600), &[200], s(60)),
        (23, (0, DAY, 100), "max-age=50, stale-while-revalidate=1000", None, &[200], s(50)),
        (25, (0, DAY, MAX), "", None, &[404], s(10)),
        (26, (0, DAY, MAX), "max-age=60", None, &[404], s(60)),
        (27, (0, DAY, MAX), "max-age=2", None, &[404], s(10)),
        (28, (0, DAY, MAX), "no-store", None, &[404, 410, 414, 501], X),
        (28, (0, DAY, MAX), "no-cache", None, &[404, 410, 414, 501], X),
        (29, (0, DAY, MAX), "no-store", None, &[500, 502, 503, 504], s(10)),
        (30, (0, DAY, MAX), "", None, &[403], X),
        (31, (0, DAY, MAX), "max-age=60", None, &[403, 400, 405, 412, 415], s(60)),
        (32, (0, DAY, MAX), "", Some(600), &[403], X),
        (33, (0, DAY, MAX), "max-age=60", None, &[416, 401, 429, 407, 451, 505], X),
        (34, (0, DAY, MAX), "", None, &[302, 301, 201, 204], s(DAY)),
        (35, (0, DAY, MAX), "", None, &[307, 308], X),
        (36, (0, DAY, MAX), "max-age=60", None, &[307, 308], s(60)),
        (36, (0, DAY, MAX), "public", None, &[307], s(DAY)),
    ];

    #[test]
    fn cf2_cf3_cf13_each_row_of_the_table_of_lifetimes_holds() {
        for (row, lifetimes, cache_control, expires, statuses, expected) in ROWS {
            for &status in statuses {
                let code = StatusCode::from_u16(status).expect("a status");
                let said = said(code, cache_control, expires, 0);
                assert_eq!(edge(lifetimes, 10, status, &said), expected, "row {row}, {status}");
            }
        }
        // Row 22: the minimum counts from reception.
        let aged = said(StatusCode::OK, "max-age=10", None, 500);
        assert_eq!(edge((60, DAY, MAX), 10, 200, &aged), s(60), "row 22");
        // Row 24: a policy of zeros keeps nothing, whatever a response says.
        let zeros = Lifetimes { min: Duration::ZERO, default: Duration::ZERO, max: Duration::ZERO };
        assert!(zeros.are_zero(), "row 24");
        // Row 37: a minimum of zero for an error.
        let silent = Said::default();
        assert_eq!(edge((0, DAY, MAX), 0, 404, &silent), s(0), "row 37");
    }

    #[test]
    fn cf3_the_lifetime_of_an_error_is_its_own_within_the_maximum_or_the_minimum_for_errors() {
        let of = |cache_control, status: u16, max, error_min| {
            let code = StatusCode::from_u16(status).expect("a status");
            edge((0, DAY, max), error_min, status, &said(code, cache_control, None, 0))
        };
        assert_eq!(of("max-age=600", 404, 60, 10), s(60));
        assert_eq!(of("max-age=600", 503, MAX, 10), s(600));
        assert_eq!(of("no-store, max-age=600", 503, MAX, 10), s(10));
        assert_eq!(of("private, max-age=600", 403, MAX, 10), X);
        assert_eq!(of("max-age=0", 403, MAX, 5), s(5));
        assert_eq!(of("s-maxage=20", 403, MAX, 5), s(20));
        // The minimum of the cache policy is for good responses.
        let silent = Said::default();
        assert_eq!(edge((3600, DAY, MAX), 10, 404, &silent), s(10));
    }

    #[test]
    fn cf2_stale_windows_reach_to_the_maximum() {
        let seconds = Duration::from_secs;
        let windows = |min, max, cache_control| {
            let lifetimes = Lifetimes { min: seconds(min), default: seconds(DAY), max: seconds(max) };
            let said = said(StatusCode::OK, cache_control, None, 0);
            let kept = kept(lifetimes, seconds(10), StatusCode::OK, &said).expect("kept");
            (kept.stale_while_revalidate, kept.stale_if_error)
        };
        // Row 23.
        let both = "max-age=50, stale-while-revalidate=1000, stale-if-error=1000";
        assert_eq!(windows(0, 100, both), (seconds(50), seconds(50)));
        assert_eq!(windows(0, MAX, both), (seconds(1000), seconds(1000)));
        assert_eq!(windows(0, 30, both), (seconds(0), seconds(0)));
        // Without a word of it, a response stands in without an end.
        assert_eq!(windows(0, 100, "max-age=50"), (seconds(0), Duration::MAX));
        assert_eq!(windows(60, 100, "no-store"), (seconds(0), Duration::MAX));
        assert_eq!(windows(60, 100, "no-store, stale-if-error=0"), (seconds(0), seconds(0)));
    }

    #[test]
    fn cf2_the_sources_of_a_lifetime_are_those_of_cloudfront() {
        let of = |cache_control, expires| {
            let said = said(StatusCode::OK, cache_control, expires, 20);
            (said.fresh_for.map(|duration| duration.as_secs()), said.is_by_directive)
        };
        assert_eq!(of("max-age=60", Some(600)), (Some(40), true));
        assert_eq!(of("max-age=60, s-maxage=90", None), (Some(70), true));
        assert_eq!(of("", Some(60)), (Some(40), false));
        assert_eq!(of("public", None), (None, false));
        assert_eq!(of("max-age=x", None), (Some(0), true));
    }

    proptest! {
        #[test]
        fn cf2_what_is_kept_is_kept_for_the_minimum_and_no_longer_than_the_greatest_of_the_three(
            min in 0..100_u64,
            default in 0..100_u64,
            more in 0..100_u64,
            said_for in prop::option::of(0..300_u64),
            no_store: bool,
            stale in 0..300_u64,
        ) {
            let seconds = Duration::from_secs;
            let lifetimes = Lifetimes { min: seconds(min), default: seconds(default), max: seconds(min + more) };
            let said = Said {
                fresh_for: said_for.map(seconds),
                no_store,
                stale_while_revalidate: Some(seconds(stale)),
                ..Said::default()
            };
            match kept(lifetimes, seconds(10), StatusCode::OK, &said) {
                Err(reason) => {
                    prop_assert_eq!(reason, NotKept::NoStore);
                    prop_assert!(no_store && min == 0);
                }
                Ok(kept) => {
                    let most = lifetimes.max.max(lifetimes.default);
                    prop_assert!(kept.fresh_for >= lifetimes.min && kept.fresh_for <= most);
                    prop_assert!(kept.fresh_for + kept.stale_while_revalidate <= most);
                    prop_assert!(!no_store || kept.fresh_for == lifetimes.min);
                }
            }
        }
    }
}
