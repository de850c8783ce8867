//! Storing and freshness against the crate `http-cache-semantics`, an implementation by other hands.
//!
//! Exchanges are generated from pieces that matter. Each difference is one of [`Known`]: the oracle departs
//! there from the RFC, or takes another choice that the RFC leaves. Anything else fails.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test's output is shown when it fails, and only then"
)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_cache_semantics::{CacheOptions, CachePolicy};

use super::cache_control::{RequestDirectives, ResponseDirectives};
use super::credentials::{CredentialKinds, Credentials};
use super::date;
use super::freshness::{Heuristic, received_age};
use super::reuse::{Candidate, Coverage, Decision, RequestView, decide};
use super::rules::Rules;
use super::storing::Exchange;
use super::terms::{FinalTerms, ResponseView, StandardTerms, Timing};
use super::vary::Selecting;

/// Exchanges in a run.
const CASES: u64 = 100_000;

/// A small generator of numbers (splitmix64): a run is told by its seed, and repeated by it.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

struct Case {
    method: Method,
    request: HeaderMap,
    later_request: HeaderMap,
    status: StatusCode,
    response: HeaderMap,
    received: SystemTime,
    now: SystemTime,
}

const DIRECTIVES: [&str; 22] = [
    "max-age=0",
    "max-age=10",
    "max-age=100",
    "s-maxage=0",
    "s-maxage=10",
    "s-maxage=100",
    "public",
    "private",
    "no-store",
    "no-cache",
    "must-revalidate",
    "proxy-revalidate",
    "no-transform",
    "immutable",
    "unknown",
    "unknown=5",
    "max-age=\"50\"",
    "max-age=x",
    "s-maxage=-1",
    "max-age=2147483648",
    "unknown=\"a\"",
    "max-age=007",
];
const STATUSES: [u16; 24] = [
    200, 200, 200, 200, 203, 204, 206, 299, 300, 301, 302, 303, 307, 308, 400, 404, 405, 410, 414, 418, 500,
    501, 503, 599,
];

fn date_value(time: SystemTime) -> HeaderValue {
    HeaderValue::try_from(httpdate::fmt_http_date(time)).unwrap()
}

fn fixed(numbers: &mut Numbers, list: &[&'static str]) -> HeaderValue {
    HeaderValue::from_static(list[numbers.below(list.len())])
}

fn generate(numbers: &mut Numbers) -> Case {
    let received = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let near = |numbers: &mut Numbers| {
        let seconds = *numbers.pick(&[0, 1, 9, 10, 11, 50, 99, 100, 101, 5_000, 100_000]);
        let distance = Duration::from_secs(seconds);
        if numbers.one_in(2) { received + distance } else { received - distance }
    };
    let mut response = HeaderMap::new();
    if !numbers.one_in(4) {
        let count = 1 + numbers.below(3);
        let list: Vec<_> = (0..count).map(|_| *numbers.pick(&DIRECTIVES)).collect();
        response.insert("cache-control", HeaderValue::try_from(list.join(", ")).unwrap());
    }
    if numbers.one_in(2) {
        response.insert("date", date_value(near(numbers)));
    }
    if numbers.one_in(3) {
        let expires =
            if numbers.one_in(5) { HeaderValue::from_static("0") } else { date_value(near(numbers)) };
        response.insert("expires", expires);
    }
    if numbers.one_in(3) {
        response.insert("last-modified", date_value(near(numbers)));
    }
    if numbers.one_in(4) {
        response.insert("age", fixed(numbers, &["0", "5", "50", "500"]));
    }
    if numbers.one_in(6) {
        response.insert("vary", fixed(numbers, &["x", "x, y", "*"]));
    }
    if numbers.one_in(10) {
        response.insert("set-cookie", HeaderValue::from_static("a=b"));
    }
    let mut request = HeaderMap::new();
    if numbers.one_in(6) {
        request.insert("authorization", HeaderValue::from_static("Basic eA=="));
    }
    if numbers.one_in(10) {
        request.insert("cache-control", HeaderValue::from_static("no-store"));
    }
    let mut later_request = HeaderMap::new();
    for headers in [&mut request, &mut later_request] {
        for name in ["x", "y"] {
            if numbers.one_in(3) {
                let value = fixed(numbers, &["1", "2"]);
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
    if numbers.one_in(3) {
        let directives = [
            "no-cache",
            "max-age=0",
            "max-age=10",
            "max-age=60",
            "min-fresh=10",
            "max-stale",
            "max-stale=20",
        ];
        later_request.insert("cache-control", fixed(numbers, &directives));
    }
    let elapsed = *numbers.pick(&[0, 1, 5, 9, 10, 11, 30, 99, 100, 101, 1_000, 200_000]);
    Case {
        method: numbers.pick(&[Method::GET, Method::GET, Method::GET, Method::GET, Method::PUT]).clone(),
        request,
        later_request,
        status: StatusCode::from_u16(*numbers.pick(&STATUSES)).unwrap(),
        response,
        received,
        now: received + Duration::from_secs(elapsed),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    storable: bool,
    /// The stored response answers the later request without validation.
    serves: bool,
}

fn ours(case: &Case) -> Verdict {
    let rules = Rules {
        credentials: Credentials::Rfc9111,
        drawn_errors: true,
        heuristic: Some(Heuristic::default().with_errors()),
        max_error_lifetime: None,
        ..Rules::default()
    };
    let view = ResponseView::of(case.status, &case.response, case.received, &rules);
    let exchange = Exchange {
        method: &case.method,
        names_target: false,
        is_slice: false,
        request: &case.request,
        request_directives: &RequestDirectives::of(&case.request),
        keyed: CredentialKinds::default(),
        is_identified: false,
        status: case.status,
        response: &case.response,
        response_fields: view.fields,
        directives: &view.directives,
        source: view.source,
    };
    let terms = StandardTerms::of(&exchange, view.lifetime, b"http://a/", &rules);
    let storable = terms.store.is_ok();
    let Ok(selecting) = Selecting::of(&case.response, &case.request, &Rules::default()) else {
        return Verdict { storable, serves: false };
    };
    let timing = Timing {
        age: None,
        at_least: None,
        date: view.date,
        received_age: received_age(&case.response),
        received_at: case.received,
        sent_at: case.received,
    };
    let StandardTerms { lifetime, must_revalidate, no_cache, shared, .. } = terms;
    let stale_if_error = terms.stale_if_error;
    let stale_while_revalidate = terms.stale_while_revalidate.unwrap_or_default();
    let terms =
        FinalTerms { lifetime, must_revalidate, no_cache, shared, stale_if_error, stale_while_revalidate };
    let reuse = terms.reuse(&timing, view.directives.immutable, selecting);
    assert!(reuse.age(case.now).is_some());
    let ask = RequestView {
        directives: &RequestDirectives::of(&case.later_request),
        headers: &case.later_request,
        unkeyed: CredentialKinds::default(),
    };
    let candidate = std::iter::once(Candidate { coverage: Coverage::Full, expired: None, reuse: &reuse });
    let serves = storable && decide(&ask, candidate, &rules, case.now) == Decision::Serve(0);
    Verdict { storable, serves }
}

fn theirs(case: &Case) -> Verdict {
    let mut request = Request::builder().method(&case.method).uri("http://a/").body(()).unwrap();
    *request.headers_mut() = case.request.clone();
    let mut response = Response::builder().status(case.status).body(()).unwrap();
    *response.headers_mut() = case.response.clone();
    let policy = CachePolicy::new_options(&request, &response, case.received, CacheOptions::default());
    let mut later = Request::builder().method(&case.method).uri("http://a/").body(()).unwrap();
    *later.headers_mut() = case.later_request.clone();
    let storable = policy.is_storable();
    let serves = storable && policy.before_request(&later, case.now).satisfies_without_revalidation();
    Verdict { storable, serves }
}

/// Where the two are known to differ, and why we are as we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Known {
    /// RFC 9111 4.2.3: a `Date` in the past is age; the oracle counts `Age` alone.
    ApparentAge,
    /// RFC 9111 5.2: of contradicting values the smaller counts; the oracle takes the first and adds
    /// `must-revalidate`.
    Contradiction,
    /// RFC 9111 4.2.2: heuristic freshness has a cap of a day here.
    HeuristicCap,
    /// RFC 9111 4.2.2: heuristic freshness is for statuses that allow it, and for `public`.
    HeuristicStatus,
    /// RFC 8246 2: `immutable` gives no lifetime; the oracle assumes a day. It outweighs a reload.
    Immutable,
    /// RFC 9111 5.2.1.2: the oracle lets no `max-stale` past `max-stale` limits it reads another way.
    MaxStale,
    /// RFC 9111 3: 206 is refused by both, but the oracle's list of understood statuses is short:
    /// with explicit freshness any final status may be stored.
    Status,
    /// RFC 9111 5.2.2.8: `proxy-revalidate` speaks of stale responses; the oracle never reuses any.
    ProxyRevalidate,
    /// `Set-Cookie` does not inhibit caching (RFC 9111 7.3); the oracle asks for `public`.
    SetCookie,
    /// RFC 9111 5.2.2.10: `s-maxage` forbids stale reuse, `max-stale` or not.
    SMaxageStale,
}

fn known(case: &Case, ours: &Verdict, theirs: &Verdict) -> Option<Known> {
    let control = case.response.get("cache-control").map_or("", |value| value.to_str().unwrap());
    let later = case.later_request.get("cache-control").map_or("", |value| value.to_str().unwrap());
    let directives = ResponseDirectives::of(&case.response);
    let status = case.status.as_u16();
    let repeated =
        |name: &str| control.split(", ").filter(|directive| directive.starts_with(name)).count() > 1;
    if repeated("max-age=") || repeated("s-maxage=") || repeated("unknown") {
        return Some(Known::Contradiction);
    }
    if ours.storable != theirs.storable {
        let short_list = [200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501];
        if !short_list.contains(&status) {
            return Some(Known::Status);
        }
        return None;
    }
    let has = |name| case.response.contains_key(name);
    let explicit = directives.max_age.is_some() || directives.s_maxage.is_some() || has("expires");
    if directives.proxy_revalidate && ours.serves {
        return Some(Known::ProxyRevalidate);
    }
    if directives.immutable {
        return Some(Known::Immutable);
    }
    if has("set-cookie") && ours.serves {
        return Some(Known::SetCookie);
    }
    let is_dated_before = case.response.get("date").is_some_and(|date| {
        let date = date::parse(date.as_bytes(), case.received);
        date.is_some_and(|date| date < case.received)
    });
    if is_dated_before && !ours.serves {
        return Some(Known::ApparentAge);
    }
    if !explicit && has("last-modified") {
        let allowed = [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501];
        return Some(if allowed.contains(&status) || directives.public {
            Known::HeuristicCap
        } else {
            Known::HeuristicStatus
        });
    }
    if later.starts_with("max-stale") {
        return Some(if directives.s_maxage.is_some() { Known::SMaxageStale } else { Known::MaxStale });
    }
    None
}

#[test]
fn storing_and_freshness_agree_with_another_implementation() {
    let seed = std::env::var("LARDER_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut numbers = Numbers(seed);
    let mut differences = std::collections::BTreeMap::new();
    for _ in 0..CASES {
        let case = generate(&mut numbers);
        let (ours, theirs) = (ours(&case), theirs(&case));
        if ours != theirs {
            let known = known(&case, &ours, &theirs);
            let known = known.unwrap_or_else(|| {
                panic!(
                    "LARDER_SEED={seed}: ours {ours:?}, theirs {theirs:?}\n{} {} after {:?}\nrequest {:?}\nresponse {:?}\nlater {:?}",
                    case.method, case.status, case.now.duration_since(case.received), case.request, case.response, case.later_request
                )
            });
            *differences.entry(known).or_insert(0u32) += 1;
        }
    }
    println!("{CASES} exchanges, known differences: {differences:?}");
    let different: u32 = differences.values().sum();
    assert!(u64::from(different) < CASES / 5, "the generator has lost its aim: {differences:?}");
}
