//! Which stored response answers a request, and how (RFC 9111 4).

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::HeaderMap;

use super::cache_control::RequestDirectives;
use super::credentials::{CredentialKinds, Credentials};
use super::freshness::{self, current_age};
use super::rules::Rules;
use super::status::is_server_error;
use super::vary::Selecting;

/// Everything that the reuse of a stored response depends on; computed once, when it is stored or freshened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reuse {
    /// The response's `Date`, or the time of reception if it had none.
    pub date: SystemTime,
    /// When the origin made the response, for the order among responses: its `Date`, but no later than its reception,
    /// so that a clock that is ahead does not make it newer than later responses. Without a `Date`, the time of the
    /// request.
    pub generated: SystemTime,
    /// `immutable` (RFC 8246).
    pub immutable: bool,
    /// `corrected_initial_age` (RFC 9111 4.2.3).
    pub initial_age: Duration,
    /// The freshness lifetime (RFC 9111 4.2.1).
    pub lifetime: Duration,
    /// Never served stale: `must-revalidate`, `proxy-revalidate` or `s-maxage`.
    pub must_revalidate: bool,
    /// Never served without validation (RFC 9111 5.2.2.4).
    pub no_cache: bool,
    /// Never served stale, because the origin has since given a newer answer that is not stored (RFC 9111 4.3.3).
    pub outdated: bool,
    /// When the request for it was sent.
    pub request_time: SystemTime,
    /// When the response was received.
    pub response_time: SystemTime,
    /// What selected it (RFC 9111 4.1).
    pub selecting: Selecting,
    /// Kinds of credentials that do not prevent the response from being shared.
    pub shared: CredentialKinds,
    /// How long past its lifetime it may stand in for an error (RFC 5861 4); `None` if neither it nor the policy says.
    pub stale_if_error: Option<Duration>,
    /// How long past its lifetime it may be served while it is validated (RFC 5861 3).
    pub stale_while_revalidate: Duration,
}

impl Reuse {
    /// The simplest terms: fresh for `lifetime` from `date` on, requested and received at `response_time` with no age,
    /// not shared between requests with credentials, without stale windows. `selecting` says which requests it may answer
    /// ([`Selecting::of`]).
    pub fn new(
        date: SystemTime,
        response_time: SystemTime,
        lifetime: Duration,
        selecting: Selecting,
    ) -> Self {
        Self {
            date,
            generated: date.min(response_time),
            immutable: false,
            initial_age: Duration::ZERO,
            lifetime,
            must_revalidate: false,
            no_cache: false,
            outdated: false,
            request_time: response_time,
            response_time,
            selecting,
            shared: CredentialKinds::default(),
            stale_if_error: None,
            stale_while_revalidate: Duration::ZERO,
        }
    }

    /// Whether `other` is the origin's newer response, which this one must not replace: by the origin's `Date`, then by
    /// the time of the call.
    ///
    /// A response that was already stale when this one was requested is replaced whatever its `Date`: the clocks of
    /// several origins differ, and a cache that waited for the one that is ahead would store nothing meanwhile.
    pub fn is_older_than(&self, other: &Self) -> bool {
        let was_stale =
            self.request_time >= other.response_time && (other.no_cache || other.ttl(self.request_time) <= 0);
        // If an origin's clock is ahead, both count from their receptions, but its own dates still say the order.
        let is_by_both = self.date < other.date && self.request_time < other.request_time;
        (is_by_both || (self.generated, self.request_time) < other.place_in_time()) && !was_stale
    }

    /// The same terms by a clock that shows so many microseconds more. What the origin has said of time stays as it is.
    #[cfg(feature = "redis")]
    #[must_use]
    pub(crate) fn by_another_clock(&self, by: i64) -> Self {
        let distance = Duration::from_micros(by.unsigned_abs());
        let put = |time: SystemTime| {
            let put = if by < 0 { time.checked_sub(distance) } else { time.checked_add(distance) };
            put.unwrap_or(time)
        };
        // A response without a `Date` has the times of its own clock here, too.
        let put_own =
            |time| if time == self.response_time || time == self.request_time { put(time) } else { time };
        Self {
            date: put_own(self.date),
            generated: put_own(self.generated),
            request_time: put(self.request_time),
            response_time: put(self.response_time),
            ..self.clone()
        }
    }

    /// The order among responses. No response is newer than its reception.
    fn place_in_time(&self) -> (SystemTime, SystemTime) {
        (self.generated.min(self.response_time), self.request_time.min(self.response_time))
    }

    /// `current_age`; `None` if the response was received in the future.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        current_age(self.initial_age, self.response_time, now)
    }

    /// Seconds of freshness left, negative when stale: the lifetime minus the age that `Age` reports.
    pub fn ttl(&self, now: SystemTime) -> i64 {
        self.ttl_at(self.age(now))
    }

    /// [`Reuse::ttl`] if the age is known already.
    pub(crate) fn ttl_at(&self, age: Option<Duration>) -> i64 {
        freshness::ttl(self.lifetime, age)
    }

    /// The newest place in time of responses that were received in the future, for the clock has been set back since: what
    /// is received now counts as at least that new. `None` where there is none.
    pub(crate) fn newest_from_the_future<'a>(
        stored: impl Iterator<Item = &'a Self>,
        now: SystemTime,
    ) -> Option<(SystemTime, SystemTime)> {
        let from_the_future = stored.filter(|reuse| reuse.age(now).is_none());
        from_the_future.map(|reuse| (reuse.generated, reuse.request_time)).max()
    }
}

/// How much of the requested bytes a stored response holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// All of it.
    Full,
    /// Too little to be useful.
    Insufficient,
    /// A part, and the missing bytes can be requested under a strong validator (RFC 9111 3.4).
    Partial,
}

/// A stored response as a request's candidate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    /// How much of the requested bytes it holds.
    pub(crate) coverage: Coverage,
    /// When it was purged softly, that is, declared stale before its time.
    pub(crate) expired: Option<SystemTime>,
    /// Its terms.
    pub(crate) reuse: &'a Reuse,
}

/// A request as reuse sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestView<'a> {
    /// Its directives, as far as they count: see [`RequestDirectives::heeded`].
    pub(crate) directives: &'a RequestDirectives,
    /// Its fields.
    pub(crate) headers: &'a HeaderMap,
    /// The credentials that it carries and its key does not hold.
    pub(crate) unkeyed: CredentialKinds,
}

/// Why a request is forwarded (RFC 9211 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Forward {
    /// The policy or the service decided not to handle it.
    Bypass,
    /// The method's semantics require it.
    Method,
    /// Nothing usable was found, for a reason that is not reported.
    Miss,
    /// Parts of the representation are stored, but not all that is asked for.
    Partial,
    /// A stored response is there, but the request does not allow its use.
    Request,
    /// A stored response is there, but it is stale.
    Stale,
    /// Nothing is stored under the key.
    UriMiss,
    /// Something is stored under the key, but its selecting fields differ.
    VaryMiss,
}

impl Forward {
    /// Each of them.
    pub const ALL: &'static [Self] = &[
        Self::Bypass,
        Self::Method,
        Self::Miss,
        Self::Partial,
        Self::Request,
        Self::Stale,
        Self::UriMiss,
        Self::VaryMiss,
    ];

    /// The token of RFC 9211 2.2.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::Miss => "miss",
            Self::Partial => "partial",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
        }
    }
}

/// What answers if a validation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// Nothing: the failure is the answer.
    None,
    /// Nothing may stand in, and the answer is a 504 if the origin can't be reached (RFC 9111 5.2.2.2).
    Forbidden,
    /// The stored response (RFC 5861 4).
    StaleIfError,
}

impl Fallback {
    /// What stands in where the stored response has this status, if there is one. One failure does not stand in for another.
    #[must_use]
    pub(crate) fn with_stored(self, status: Option<StatusCode>) -> Self {
        let is_failure = status.is_some_and(is_server_error);
        if is_failure && self == Self::StaleIfError { Self::None } else { self }
    }
}

/// What to do with a request. An index is a position in the list of candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Ask the inner service for the bytes that a stored part lacks.
    Complete(usize),
    /// Ask the inner service; nothing stored can help.
    Forward(Forward),
    /// Answer from storage.
    Serve(usize),
    /// Answer from storage with a response that will soon be stale, and validate it in the background.
    ServeAhead(usize),
    /// Answer from storage with a stale response in place of the inner service, which has just failed.
    StandIn(usize),
    /// Answer from storage with a stale response, and validate it in the background (RFC 5861 3).
    ServeStale(usize),
    /// `only-if-cached`, and nothing usable: 504 (RFC 9111 5.2.1.7).
    Unsatisfiable,
    /// Ask the inner service whether the stored response is still valid.
    Validate(usize, Forward, Fallback),
}

/// Decides how a GET or HEAD is answered (RFC 9111 4).
pub(crate) fn decide<'a>(
    request: &RequestView<'_>,
    candidates: impl ExactSizeIterator<Item = Candidate<'a>>,
    rules: &Rules,
    now: SystemTime,
) -> Decision {
    decide_where(true, request, candidates, rules, now)
}

/// [`decide`] if nothing can be validated in the background, so that nothing stale is served meanwhile.
pub(crate) fn decide_in_front<'a>(
    request: &RequestView<'_>,
    candidates: impl ExactSizeIterator<Item = Candidate<'a>>,
    rules: &Rules,
    now: SystemTime,
) -> Decision {
    decide_where(false, request, candidates, rules, now)
}

#[inline]
fn decide_where<'a>(
    has_background: bool,
    request: &RequestView<'_>,
    candidates: impl ExactSizeIterator<Item = Candidate<'a>>,
    rules: &Rules,
    now: SystemTime,
) -> Decision {
    let decision = match select(request, candidates, rules) {
        Selected::Match(index, candidate) => {
            judge(index, &candidate, request.directives, has_background, rules, now)
        }
        Selected::Nothing(forward) => Decision::Forward(forward),
        Selected::Part(index) => Decision::Complete(index),
    };
    match decision {
        Decision::Complete(_) | Decision::Forward(_) | Decision::Validate(..)
            if request.directives.only_if_cached =>
        {
            Decision::Unsatisfiable
        }
        decision => decision,
    }
}

/// What was found for a request.
enum Selected<'a> {
    Match(usize, Candidate<'a>),
    Nothing(Forward),
    Part(usize),
}

/// Whether a stored response could answer a request, fresh or once it is validated.
pub(crate) fn may_answer(request: &RequestView<'_>, reuse: &Reuse, rules: &Rules) -> bool {
    reuse.selecting.matches(request.headers) && may_be_shared(request, reuse, rules)
}

/// The credentials rule.
fn may_be_shared(request: &RequestView<'_>, reuse: &Reuse, rules: &Rules) -> bool {
    rules.credentials == Credentials::Rfc9111 || !request.unkeyed.without(reuse.shared).any()
}

/// Selects the newest of the matching candidates; among equal ones, the first (RFC 9111 4.1). A candidate that holds
/// all requested bytes comes before any that does not.
fn select<'a>(
    request: &RequestView<'_>,
    candidates: impl ExactSizeIterator<Item = Candidate<'a>>,
    rules: &Rules,
) -> Selected<'a> {
    let mut missing = if candidates.len() == 0 { Forward::UriMiss } else { Forward::VaryMiss };
    let mut selected: Option<(usize, Candidate<'a>)> = None;
    let mut part: Option<(usize, &Reuse)> = None;
    let is_newer = |reuse: &Reuse, best: &Reuse| reuse.place_in_time() > best.place_in_time();
    for (index, candidate) in candidates.enumerate() {
        let reuse = candidate.reuse;
        if !reuse.selecting.matches(request.headers) {
            continue;
        }
        if !may_be_shared(request, reuse, rules) {
            missing = Forward::Request;
            continue;
        }
        match candidate.coverage {
            Coverage::Full if selected.is_none_or(|(_, best)| is_newer(reuse, best.reuse)) => {
                selected = Some((index, candidate));
            }
            Coverage::Full => {}
            Coverage::Insufficient => missing = Forward::Partial,
            Coverage::Partial if part.is_none_or(|(_, best)| is_newer(reuse, best)) => {
                part = Some((index, reuse));
            }
            Coverage::Partial => {}
        }
    }
    match (selected, part) {
        (Some((index, candidate)), _) => Selected::Match(index, candidate),
        (None, Some((index, _))) => Selected::Part(index),
        (None, None) => Selected::Nothing(missing),
    }
}

fn judge(
    index: usize,
    candidate: &Candidate<'_>,
    directives: &RequestDirectives,
    has_background: bool,
    rules: &Rules,
    now: SystemTime,
) -> Decision {
    let reuse = candidate.reuse;
    let Some(age) = reuse.age(now) else {
        return Decision::Validate(index, Forward::Stale, Fallback::None);
    };
    let staleness = staleness(candidate, age, now);
    let fallback = fallback(reuse, directives.stale_if_error, staleness, rules);
    if reuse.no_cache {
        return Decision::Validate(index, Forward::Stale, fallback); // 5.2.2.4
    }
    let reload_is_moot = rules.immutable && reuse.immutable && staleness.is_none();
    let demands = directives.no_cache // 5.2.1.4
        || directives.max_age.is_some_and(|most| age > seconds(most)); // 5.2.1.1
    let wants_fresher = directives.min_fresh.is_some_and(|least| {
        staleness.is_some() || reuse.lifetime.saturating_sub(age) < seconds(least) // 5.2.1.3
    });
    if (demands && !reload_is_moot) || wants_fresher {
        return Decision::Validate(index, Forward::Request, fallback);
    }
    let Some(staleness) = staleness else {
        // At most half of a short lifetime.
        let is_soon_stale = |window: Duration| {
            let left = reuse.lifetime.saturating_sub(age);
            left <= window.min(reuse.lifetime / 2)
        };
        return if has_background && rules.refresh_ahead.is_some_and(is_soon_stale) {
            Decision::ServeAhead(index)
        } else {
            Decision::Serve(index)
        };
    };
    if reuse.must_revalidate || reuse.outdated {
        return Decision::Validate(index, Forward::Stale, fallback); // 4.2.4
    }
    if directives.max_stale.is_some_and(|most| staleness <= seconds(most)) {
        return Decision::Serve(index); // 5.2.1.2
    }
    let window = reuse.stale_while_revalidate;
    if has_background && staleness <= window && !window.is_zero() {
        return Decision::ServeStale(index);
    }
    Decision::Validate(index, Forward::Stale, fallback)
}

/// How long a response has been stale; `None` while it is fresh, that is, younger than its lifetime.
fn staleness(candidate: &Candidate<'_>, age: Duration, now: SystemTime) -> Option<Duration> {
    let lifetime = candidate.reuse.lifetime;
    let by_age = (age >= lifetime).then(|| age.saturating_sub(lifetime));
    let by_purge = candidate.expired.map(|purged| now.duration_since(purged).unwrap_or_default());
    by_age.max(by_purge)
}

/// RFC 5861 4, within what RFC 9111 4.2.4 allows.
fn fallback(reuse: &Reuse, asked: Option<u32>, staleness: Option<Duration>, rules: &Rules) -> Fallback {
    let staleness = staleness.unwrap_or_default();
    if reuse.must_revalidate || reuse.no_cache {
        return Fallback::Forbidden;
    }
    if reuse.outdated {
        return Fallback::None;
    }
    let window = reuse.stale_if_error.max(asked.map(seconds)).unwrap_or(rules.stale_if_error);
    if !window.is_zero() && staleness <= window { Fallback::StaleIfError } else { Fallback::None }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue, header};
    use std::time::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_790_000_000 + seconds)
    }

    /// Fresh for 60 seconds, received at second 0 with age 0.
    fn stored() -> Reuse {
        Reuse::new(at(0), at(0), Duration::from_secs(60), Selecting::default())
    }

    fn with(edit: impl FnOnce(&mut Reuse)) -> Reuse {
        let mut reuse = stored();
        edit(&mut reuse);
        reuse
    }

    fn ask(reuse: &[Reuse], fields: &[(&'static str, &'static str)], now: u64) -> Decision {
        ask_by(&Rules::default(), reuse, fields, now)
    }

    fn ask_by(rules: &Rules, reuse: &[Reuse], fields: &[(&'static str, &'static str)], now: u64) -> Decision {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let ask = RequestView {
            directives: &RequestDirectives::of(&headers),
            headers: &headers,
            unkeyed: CredentialKinds::of(&headers),
        };
        let candidates =
            reuse.iter().map(|reuse| Candidate { coverage: Coverage::Full, expired: None, reuse });
        decide(&ask, candidates, rules, at(now))
    }

    #[track_caller]
    fn check(reuse: Reuse, request: &'static str, now: u64, expected: Decision) {
        let fields: &[_] = if request.is_empty() { &[] } else { &[("cache-control", request)] };
        assert_eq!(ask(&[reuse], fields, now), expected, "{request:?} at {now}");
    }

    use Decision::{Serve, ServeStale, Unsatisfiable, Validate};
    const STALE: Decision = Validate(0, Forward::Stale, Fallback::None);
    const REQUEST: Decision = Validate(0, Forward::Request, Fallback::None);

    #[test]
    fn a_response_is_fresh_while_its_lifetime_exceeds_its_age() {
        // RFC 9111 4.2: fresh while the lifetime is greater than the age.
        check(stored(), "", 0, Serve(0));
        check(stored(), "", 59, Serve(0));
        check(stored(), "", 60, STALE);
        check(with(|r| r.initial_age = Duration::from_secs(50)), "", 9, Serve(0));
        check(with(|r| r.initial_age = Duration::from_secs(50)), "", 10, STALE);
        check(with(|r| r.lifetime = Duration::ZERO), "", 0, STALE);
    }

    #[test]
    fn re1_request_directives_decide_about_reuse() {
        check(stored(), "max-age=10", 10, Serve(0)); // 5.2.1.1
        check(stored(), "max-age=10", 11, REQUEST);
        check(stored(), "max-age=0", 0, Serve(0));
        check(stored(), "max-age=x", 1, REQUEST);
        check(stored(), "min-fresh=30", 30, Serve(0)); // 5.2.1.3
        check(stored(), "min-fresh=30", 31, REQUEST);
        check(stored(), "max-stale", 1000, Serve(0)); // 5.2.1.2
        check(stored(), "max-stale=10", 70, Serve(0));
        check(stored(), "max-stale=10", 71, STALE);
        check(
            with(|r| r.must_revalidate = true),
            "max-stale",
            70,
            Validate(0, Forward::Stale, Fallback::Forbidden),
        );
        check(stored(), "no-cache", 1, REQUEST); // 5.2.1.4
        check(stored(), "no-store", 1, Serve(0)); // 5.2.1.5 speaks of storing
        check(stored(), "only-if-cached", 1, Serve(0)); // 5.2.1.7
        check(stored(), "only-if-cached", 61, Unsatisfiable);
        check(stored(), "only-if-cached, max-stale", 61, Serve(0));
        check(stored(), "only-if-cached, no-cache", 1, Unsatisfiable);
        assert_eq!(ask(&[], &[("cache-control", "only-if-cached")], 0), Unsatisfiable);
    }

    #[test]
    fn a36_directives_that_ask_for_a_fresher_response_count_only_by_rule() {
        let decide_by = |heeds, reuse: &[Reuse], field: (&'static str, &'static str), now| {
            let rules = Rules { client_directives: heeds, ..Rules::default() };
            let headers =
                HeaderMap::from_iter([(HeaderName::from_static(field.0), HeaderValue::from_static(field.1))]);
            let directives = RequestDirectives::of(&headers).heeded(rules.client_directives);
            let ask = RequestView {
                directives: &directives,
                headers: &headers,
                unkeyed: CredentialKinds::default(),
            };
            let candidates =
                reuse.iter().map(|reuse| Candidate { coverage: Coverage::Full, expired: None, reuse });
            decide(&ask, candidates, &rules, at(now))
        };
        for value in ["no-cache", "max-age=0", "min-fresh=1000"] {
            let field = ("cache-control", value);
            assert_eq!(decide_by(false, &[stored()], field, 30), Serve(0), "{value}");
            assert_eq!(decide_by(true, &[stored()], field, 30), REQUEST, "{value}");
        }
        assert_eq!(decide_by(false, &[stored()], ("pragma", "no-cache"), 30), Serve(0));
        assert_eq!(decide_by(true, &[stored()], ("pragma", "no-cache"), 30), REQUEST);
        // 5.2.1.2, 5.2.1.7, RFC 5861 4: what costs nobody else anything.
        for heeds in [false, true] {
            let stands_in = Validate(0, Forward::Stale, Fallback::StaleIfError);
            assert_eq!(decide_by(heeds, &[stored()], ("cache-control", "max-stale=10"), 70), Serve(0));
            assert_eq!(decide_by(heeds, &[stored()], ("cache-control", "stale-if-error=30"), 90), stands_in);
            assert_eq!(decide_by(heeds, &[], ("cache-control", "only-if-cached"), 0), Unsatisfiable);
        }
    }

    #[test]
    fn re2_no_cache_validates_on_each_use_and_must_revalidate_forbids_stale() {
        let forbidden = Validate(0, Forward::Stale, Fallback::Forbidden);
        check(with(|r| r.no_cache = true), "", 0, forbidden);
        check(with(|r| r.no_cache = true), "max-stale", 0, forbidden);
        let strict = with(|r| {
            r.must_revalidate = true;
            r.stale_while_revalidate = Duration::from_secs(100);
            r.stale_if_error = Some(Duration::from_secs(100));
        });
        check(strict.clone(), "", 59, Serve(0));
        check(strict, "", 61, forbidden);
    }

    #[test]
    fn b16_without_background_tasks_a_stale_response_is_validated_before_the_answer() {
        let headers = HeaderMap::new();
        let directives = RequestDirectives::default();
        let ask =
            RequestView { directives: &directives, headers: &headers, unkeyed: CredentialKinds::default() };
        let rules = Rules { refresh_ahead: Some(Duration::from_secs(10)), ..Rules::default() };
        let reuse = with(|r| {
            r.stale_while_revalidate = Duration::from_secs(30);
            r.stale_if_error = Some(Duration::from_secs(30));
        });
        let candidate = || Candidate { coverage: Coverage::Full, expired: None, reuse: &reuse };
        let decide = |now| decide_in_front(&ask, std::iter::once(candidate()), &rules, at(now));
        assert_eq!(decide(55), Serve(0));
        assert_eq!(decide(61), Validate(0, Forward::Stale, Fallback::StaleIfError));
    }

    #[track_caller]
    fn check_order(one: &Reuse, other: &Reuse, expected: bool) {
        assert_eq!(one.is_older_than(other), expected, "{one:?} {other:?}");
    }

    /// Generated, asked for and received at these seconds; fresh for 60.
    fn timed(generated: u64, asked: u64, received: u64) -> Reuse {
        let mut reuse =
            Reuse::new(at(generated), at(received), Duration::from_secs(60), Selecting::default());
        reuse.request_time = at(asked);
        reuse
    }

    #[test]
    fn b03_the_newer_response_has_the_later_date_or_else_the_later_call() {
        // Sent first, landed last.
        check_order(&timed(0, 0, 20), &timed(10, 10, 11), true);
        check_order(&timed(10, 10, 11), &timed(0, 0, 20), false);
        check_order(&timed(5, 0, 20), &timed(5, 4, 6), true);
        check_order(&timed(5, 4, 6), &timed(5, 4, 7), false);
        // A clock that is ahead counts up to the reception.
        check_order(&timed(20, 20, 20), &timed(1_000, 10, 11), false);
        check_order(&timed(1_005, 0, 20), &timed(1_010, 5, 6), true);
        assert_eq!(timed(1_000, 10, 11).generated, at(11));
        // What had become stale by then, or has to be validated each time, gives way to any answer of the origin.
        check_order(&timed(0, 70, 71), &timed(5, 4, 6), false);
        check_order(&timed(0, 30, 31), &timed(5, 4, 6), true);
        let mut validated = timed(5, 4, 6);
        validated.no_cache = true;
        check_order(&timed(0, 30, 31), &validated, false);
    }

    #[test]
    fn b03_a_response_dated_in_the_future_is_not_preferred_to_a_later_one() {
        let ahead = timed(100_000, 0, 1);
        let next = timed(2, 2, 2);
        assert_eq!(ask(&[ahead.clone(), next.clone()], &[], 3), Serve(1));
        assert_eq!(ask(&[next, ahead], &[], 3), Serve(0));
    }

    #[test]
    fn re3_stale_while_revalidate_serves_stale_within_its_window() {
        let reuse = || with(|r| r.stale_while_revalidate = Duration::from_secs(30));
        check(reuse(), "", 59, Serve(0));
        check(reuse(), "", 60, ServeStale(0));
        check(reuse(), "", 90, ServeStale(0));
        check(reuse(), "", 91, STALE);
        check(reuse(), "no-cache", 61, REQUEST);
    }

    #[test]
    fn a_response_that_expires_soon_is_refreshed_ahead() {
        let decide_by = |window, now| {
            let rules = Rules { refresh_ahead: Some(Duration::from_secs(window)), ..Rules::default() };
            ask_by(&rules, &[stored()], &[], now)
        };
        assert_eq!(decide_by(10, 49), Serve(0));
        assert_eq!(decide_by(10, 50), Decision::ServeAhead(0));
        assert_eq!(decide_by(10, 60), STALE);
        assert_eq!(decide_by(1000, 29), Serve(0), "half its life at most");
        assert_eq!(decide_by(1000, 30), Decision::ServeAhead(0));
        assert_eq!(decide_by(0, 59), Serve(0));
    }

    #[test]
    fn re4_stale_if_error_allows_a_stand_in_within_its_window() {
        let reuse = || with(|r| r.stale_if_error = Some(Duration::from_secs(30)));
        let stands_in = Validate(0, Forward::Stale, Fallback::StaleIfError);
        check(reuse(), "", 90, stands_in);
        check(reuse(), "", 91, STALE);
        check(stored(), "stale-if-error=30", 90, stands_in);
        check(stored(), "stale-if-error=30", 91, STALE);
        // An option counts where nobody else says.
        let rules = Rules { stale_if_error: Duration::MAX, ..Rules::default() };
        let of = |reuse, line: &'static str| {
            let fields: &[_] = if line.is_empty() { &[] } else { &[("cache-control", line)] };
            ask_by(&rules, &[reuse], fields, 1000)
        };
        assert_eq!(of(stored(), ""), stands_in);
        assert_eq!(of(stored(), "stale-if-error=30"), STALE);
        assert_eq!(of(reuse(), ""), STALE);
        assert_eq!(of(with(|r| r.stale_if_error = Some(Duration::ZERO)), ""), STALE);
    }

    #[test]
    fn re5_a_fresh_immutable_response_outweighs_a_reload() {
        let reuse = || with(|r| r.immutable = true);
        check(reuse(), "no-cache", 30, Serve(0));
        check(reuse(), "max-age=0", 30, Serve(0));
        check(reuse(), "max-age=0", 61, REQUEST);
        let rules = Rules { immutable: false, ..Rules::default() };
        assert_eq!(ask_by(&rules, &[reuse()], &[("cache-control", "no-cache")], 30), REQUEST);
    }

    #[test]
    fn va4_the_latest_matching_response_answers() {
        let select = |value: &'static str| {
            let mut vary = HeaderMap::new();
            vary.insert(header::VARY, HeaderValue::from_static("a"));
            let mut request = HeaderMap::new();
            request.insert("a", HeaderValue::from_static(value));
            Selecting::of(&vary, &request, &Rules::default()).expect("a Vary that can match")
        };
        let list = [
            with(|r| r.selecting = select("1")),
            with(|r| r.generated = at(0) - Duration::from_secs(9)),
            with(|r| {
                r.selecting = select("2");
                (r.generated, r.response_time) = (at(1), at(1));
            }),
        ];
        assert_eq!(ask(&list, &[("a", "1")], 5), Serve(0));
        assert_eq!(ask(&list, &[("a", "2")], 5), Serve(2));
        assert_eq!(ask(&list, &[("a", "3")], 5), Serve(1));
        assert_eq!(ask(&list[..1], &[("a", "3")], 5), Decision::Forward(Forward::VaryMiss));
        assert_eq!(ask(&[], &[], 5), Decision::Forward(Forward::UriMiss));
    }

    #[test]
    fn ra2_a_part_answers_only_for_bytes_that_it_holds() {
        use Coverage::{Full, Insufficient, Partial};
        let directives = |line: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(line));
            RequestDirectives::of(&headers)
        };
        let decide_on = |list: &[(Coverage, u64)], line| {
            let headers = HeaderMap::new();
            let reuses: Vec<_> = list
                .iter()
                .map(|(_, date)| with(|r| (r.generated, r.response_time) = (at(*date), at(*date))))
                .collect();
            let ask = RequestView {
                directives: &directives(line),
                headers: &headers,
                unkeyed: CredentialKinds::default(),
            };
            let candidates = list.iter().zip(&reuses).map(|(&(coverage, _), reuse)| Candidate {
                coverage,
                expired: None,
                reuse,
            });
            decide(&ask, candidates, &Rules::default(), at(5))
        };
        assert_eq!(decide_on(&[(Full, 0)], ""), Serve(0));
        assert_eq!(decide_on(&[(Partial, 0)], ""), Decision::Complete(0));
        assert_eq!(decide_on(&[(Insufficient, 0)], ""), Decision::Forward(Forward::Partial));
        assert_eq!(decide_on(&[(Partial, 3), (Full, 0)], ""), Serve(1));
        assert_eq!(decide_on(&[(Partial, 0), (Partial, 3)], ""), Decision::Complete(1));
        assert_eq!(decide_on(&[(Insufficient, 3), (Partial, 0)], ""), Decision::Complete(1));
        assert_eq!(decide_on(&[(Partial, 0)], "only-if-cached"), Unsatisfiable);
    }

    #[test]
    fn a_request_with_credentials_needs_a_shared_response() {
        let cookie = [("cookie", "a=b")];
        assert_eq!(ask(&[stored()], &cookie, 5), Decision::Forward(Forward::Request));
        assert_eq!(ask(&[with(|r| r.shared.cookie = true)], &cookie, 5), Serve(0));
        let rules = Rules { credentials: super::super::Credentials::Rfc9111, ..Rules::default() };
        assert_eq!(ask_by(&rules, &[stored()], &cookie, 5), Serve(0));
    }

    #[test]
    fn a_soft_purge_makes_a_response_stale_from_its_time_on() {
        let reuse = with(|r| r.stale_while_revalidate = Duration::from_secs(30));
        let headers = HeaderMap::new();
        let ask = RequestView {
            directives: &RequestDirectives::default(),
            headers: &headers,
            unkeyed: CredentialKinds::default(),
        };
        let decide_at = |now| {
            let coverage = Coverage::Full;
            let candidate = Candidate { coverage, expired: Some(at(10)), reuse: &reuse };
            decide(&ask, std::iter::once(candidate), &Rules::default(), at(now))
        };
        assert_eq!(decide_at(10), ServeStale(0));
        assert_eq!(decide_at(40), ServeStale(0));
        assert_eq!(decide_at(41), STALE);
    }

    #[test]
    fn f12_a_response_from_the_future_is_validated() {
        let reuse = with(|r| r.response_time = at(3600));
        check(reuse.clone(), "", 0, STALE);
        assert_eq!(reuse.ttl(at(3600)), 60);
        assert!(reuse.ttl(at(0)) < 0);
    }

    #[test]
    fn the_ttl_is_the_remaining_freshness_in_seconds() {
        assert_eq!(stored().ttl(at(0)), 60);
        assert_eq!(stored().ttl(at(60)), 0);
        assert_eq!(stored().ttl(at(75)), -15);
        assert_eq!(with(|r| r.lifetime = Duration::MAX).ttl(at(0)), i64::MAX);
    }

    /// Responses by the seconds at which they were made, asked for and received; `now` is second 100.
    #[track_caller]
    fn check_future(stored: &[(u64, u64, u64)], expected: Option<(u64, u64)>) {
        let stored: Vec<_> = stored
            .iter()
            .map(|&(generated, request, response)| {
                let mut reuse =
                    Reuse::new(at(generated), at(response), Duration::from_secs(60), Selecting::default());
                (reuse.generated, reuse.request_time) = (at(generated), at(request));
                reuse
            })
            .collect();
        let found = Reuse::newest_from_the_future(stored.iter(), at(100));
        assert_eq!(found, expected.map(|(generated, request)| (at(generated), at(request))));
    }

    #[test]
    fn f12_the_newest_response_received_in_the_future_is_found() {
        check_future(&[], None);
        check_future(&[(90, 90, 95)], None);
        // The clock of another writer may be ahead by as much without notice.
        check_future(&[(104, 104, 105)], None);
        check_future(&[(200, 201, 202)], Some((200, 201)));
        check_future(&[(90, 90, 95), (200, 201, 202)], Some((200, 201)));
        check_future(&[(200, 201, 202), (300, 301, 302), (250, 400, 402)], Some((300, 301)));
        check_future(&[(200, 201, 202), (200, 205, 206)], Some((200, 205)));
    }

    #[test]
    fn re4_a_stored_server_error_is_no_stand_in() {
        use Fallback::{Forbidden, None as Nothing, StaleIfError};
        for (fallback, code, expected) in [
            (StaleIfError, Some(200), StaleIfError),
            (StaleIfError, Some(404), StaleIfError),
            (StaleIfError, Some(500), Nothing),
            (StaleIfError, Some(503), Nothing),
            (StaleIfError, Some(600), Nothing),
            (StaleIfError, None, StaleIfError),
            (Forbidden, Some(500), Forbidden),
            (Nothing, Some(200), Nothing),
        ] {
            let status = code.map(|code| StatusCode::from_u16(code).expect("a status"));
            assert_eq!(fallback.with_stored(status), expected, "{fallback:?} {code:?}");
        }
    }
}
