//! The terms under which a response is stored and reused: what the standards say, and what no policy can lift.

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};

use super::cache_control::ResponseDirectives;
use super::credentials::CredentialKinds;
use super::fields::ResponseFields;
use super::freshness::{self, LifetimeSource, single_date};
use super::groups::{self, CACHE_GROUPS};
use super::incumbent::Incumbent;
use super::range::SentRange;
use super::reuse::Reuse;
use super::rules::Rules;
use super::storing::{self, Exchange, NotStored};
use super::targeted;
use super::vary::{NeverMatches, Selecting};

/// A response as the rules read it.
#[derive(Clone, Debug)]
pub(crate) struct ResponseView {
    /// `Date`, where it has one that is valid.
    pub(crate) date: Option<SystemTime>,
    /// Those of the first targeted field that counts, or of `Cache-Control`.
    pub(crate) directives: ResponseDirectives,
    /// What fields it has.
    pub(crate) fields: ResponseFields,
    /// The freshness lifetime, an error's within [`Rules::max_error_lifetime`].
    pub(crate) lifetime: Duration,
    /// `Age` as received.
    pub(crate) received_age: Option<Duration>,
    /// Where the lifetime comes from.
    pub(crate) source: LifetimeSource,
}

impl ResponseView {
    /// Reads a response that was received at `received_at`.
    pub(crate) fn of(
        status: StatusCode,
        headers: &HeaderMap,
        received_at: SystemTime,
        rules: &Rules,
    ) -> Self {
        let fields = ResponseFields::of(headers, &rules.targets);
        let directives = if fields.targeted {
            targeted::directives(headers, &rules.targets)
        } else {
            ResponseDirectives::of(headers)
        };
        let date = if fields.date { single_date(headers, &header::DATE, received_at) } else { None };
        let counted_from = date.unwrap_or(received_at);
        let (lifetime, source) =
            freshness::lifetime(status, headers, &directives, counted_from, rules.heuristic.as_ref());
        let lifetime = freshness::bounded(lifetime, status, rules.max_error_lifetime);
        let received_age = if fields.age { freshness::received_age(headers) } else { None };
        Self { date, directives, fields, lifetime, received_age, source }
    }

    /// How old it was on its arrival (RFC 9111 4.2.3).
    pub(crate) fn initial_age(&self, sent_at: SystemTime, received_at: SystemTime) -> Duration {
        let date = self.date.unwrap_or(received_at);
        freshness::initial_age(self.received_age, date, sent_at, received_at)
    }
}

/// What of a response and of the request that was sent for it decides what no policy can lift.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetched<'a> {
    /// Bytes of the names of its groups.
    pub(crate) group_bytes: usize,
    /// The groups that it is in, those that the policy has added included.
    pub(crate) groups: usize,
    /// It is in a transfer coding that is not removed with the framing.
    pub(crate) has_transfer_coding: bool,
    /// It has an entity tag or a date of change.
    pub(crate) has_validator: bool,
    /// What is stored already for requests like this one.
    pub(crate) incumbent: Incumbent,
    /// It is known which part of the representation a 206 has, so that it can be stored as that.
    pub(crate) is_known_part: bool,
    /// As it was sent.
    pub(crate) method: &'a Method,
    /// `Content-Location` of the response is the target URI.
    pub(crate) names_target: bool,
    pub(crate) sent_range: SentRange,
    pub(crate) status: StatusCode,
}

/// What the standards say of how a response is stored and reused (RFC 9111 3, 5.2.2; RFC 5861; RFC 9875).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StandardTerms {
    /// Whether it may be shared, as far as credentials are concerned, or why not.
    pub(crate) credentials: Result<(), NotStored>,
    /// Whether anything forbids storing that no policy can lift, whatever is said of lifetimes and credentials.
    pub(crate) firm: Result<(), NotStored>,
    /// Its groups, in the scope of their origin.
    pub(crate) groups: Vec<Box<str>>,
    pub(crate) lifetime: Duration,
    /// Never served stale.
    pub(crate) must_revalidate: bool,
    /// Never served without validation.
    pub(crate) no_cache: bool,
    /// How long it is remembered that it cannot be shared, where it cannot.
    pub(crate) pass_for: Duration,
    /// Kinds of credentials that do not prevent it from being shared.
    pub(crate) shared: CredentialKinds,
    pub(crate) source: LifetimeSource,
    /// How long past its lifetime it stands in for an error; `None` where it does not say.
    pub(crate) stale_if_error: Option<Duration>,
    /// How long past its lifetime it is served while it is validated in the background; `None` where it does not say.
    pub(crate) stale_while_revalidate: Option<Duration>,
    /// Whether it is stored, or why not.
    pub(crate) store: Result<(), NotStored>,
}

impl StandardTerms {
    /// Of a response to `exchange` that is fresh for `lifetime`. `uri` is the key's, in whose origin the groups are.
    pub(crate) fn of(exchange: &Exchange<'_>, lifetime: Duration, uri: &[u8], rules: &Rules) -> Self {
        let directives = exchange.directives;
        let has_groups = exchange.response_fields.cache_groups;
        let groups = if has_groups { groups::of(exchange.response, &CACHE_GROUPS) } else { Ok(Vec::new()) };
        let credentials = storing::credentials(exchange, rules);
        let firm = storing::admit_method_and_form(exchange, rules);
        let store = match firm.and_then(|()| storing::admit_as_said(exchange, credentials, rules)) {
            // A policy that lifts the refusal of a status or of an error lifts no other one.
            Ok(()) | Err(NotStored::DrawnError | NotStored::Status) if groups.is_err() => {
                Err(NotStored::Groups)
            }
            store => store,
        };
        Self {
            credentials,
            firm: if groups.is_err() { firm.and(Err(NotStored::Groups)) } else { firm },
            groups: groups.unwrap_or_default().iter().map(|group| groups::scoped(uri, group)).collect(),
            lifetime,
            must_revalidate: directives.must_revalidate
                || directives.proxy_revalidate
                || directives.s_maxage.is_some(), // RFC 9111 5.2.2.10
            no_cache: directives.no_cache,
            pass_for: rules.pass_for,
            shared: storing::shared_with(directives, rules.credentials),
            source: exchange.source,
            stale_if_error: directives.stale_if_error.map(seconds),
            stale_while_revalidate: directives.stale_while_revalidate.map(seconds),
            store,
        }
    }
}

impl StandardTerms {
    /// Adds tags of a hint or of a policy. One by which nobody could purge it forbids storing.
    pub(crate) fn add_tags(&mut self, tags: impl IntoIterator<Item = Box<str>>, has_bad_tag: bool) {
        if has_bad_tag {
            self.firm = self.firm.and(Err(NotStored::Tag));
            self.store = match self.store {
                // As above: a policy that lifts the refusal of a status or of an error lifts no other one.
                Ok(()) | Err(NotStored::DrawnError | NotStored::Status) => Err(NotStored::Tag),
                store => store,
            };
        }
        self.groups.extend(tags.into_iter().filter(|tag| groups::is_tag(tag)));
    }
}

/// The terms of reuse, as the policy has left them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FinalTerms {
    pub(crate) lifetime: Duration,
    pub(crate) must_revalidate: bool,
    pub(crate) no_cache: bool,
    pub(crate) shared: CredentialKinds,
    pub(crate) stale_if_error: Option<Duration>,
    pub(crate) stale_while_revalidate: Duration,
}

impl FinalTerms {
    /// Whether a response may be stored as far as no policy can lift it.
    ///
    /// # Errors
    ///
    /// The first reason not to.
    pub(crate) fn enforce_invariants(
        &self,
        fetched: &Fetched<'_>,
        unselectable: Option<NeverMatches>,
        rules: &Rules,
    ) -> Result<(), NotStored> {
        let Fetched { incumbent, is_known_part, method, names_target, sent_range, status, .. } = *fetched;
        match unselectable {
            None => {}
            Some(NeverMatches::TooLong) => return Err(NotStored::LongFields),
            Some(NeverMatches::Vary) => return Err(NotStored::Vary), // RFC 9111 4.1
        }
        if fetched.has_transfer_coding {
            return Err(NotStored::TransferCoding);
        }
        if status.is_informational() || status == StatusCode::NOT_MODIFIED {
            return Err(NotStored::Status); // RFC 9111 3
        }
        if !rules.store_answers_to(method) && !names_target {
            return Err(NotStored::Method);
        }
        let is_part = status == StatusCode::PARTIAL_CONTENT;
        let is_of_range = sent_range != SentRange::None && status != StatusCode::OK;
        if (is_part || is_of_range) && !is_known_part {
            return Err(NotStored::Partial); // RFC 9111 3.3
        }
        if incumbent.blocks(status) {
            return Err(NotStored::Status); // RFC 9111 4.3.3: what is stored may still do
        }
        if !self.is_of_use(fetched.has_validator, rules) {
            return Err(NotStored::NeverFresh);
        }
        if fetched.groups > groups::MOST_STORED || fetched.group_bytes > groups::MOST_STORED_BYTES {
            return Err(NotStored::Groups); // a purge of one that was left out would miss it
        }
        Ok(())
    }

    /// Whether a stored response could ever answer without being fetched again: fresh, validated or stale.
    fn is_of_use(&self, has_validator: bool, rules: &Rules) -> bool {
        let stands_in = self.stale_if_error.unwrap_or(rules.stale_if_error);
        let stale_window =
            if self.must_revalidate { Duration::ZERO } else { stands_in.max(self.stale_while_revalidate) };
        has_validator || !(self.no_cache || self.lifetime.is_zero() && stale_window.is_zero())
    }

    /// What reuse of the stored response depends on.
    pub(crate) fn reuse(&self, timing: &Timing, immutable: bool, selecting: Selecting) -> Reuse {
        let (generated, request_time) = timing.place_in_time();
        Reuse {
            generated,
            immutable,
            initial_age: timing.initial_age(),
            must_revalidate: self.must_revalidate,
            no_cache: self.no_cache,
            request_time,
            shared: self.shared,
            stale_if_error: self.stale_if_error,
            stale_while_revalidate: self.stale_while_revalidate,
            ..Reuse::new(timing.date(), timing.received_at, self.lifetime, selecting)
        }
    }

    /// Seconds of freshness left at reception.
    pub(crate) fn ttl(&self, timing: &Timing) -> i64 {
        freshness::ttl(self.lifetime, Some(timing.initial_age()))
    }
}

/// When a response was asked for, made and received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// The age that the policy gives it at reception; `None` for what RFC 9111 4.2.3 says.
    pub(crate) age: Option<Duration>,
    /// It counts as at least this new, as in [`Reuse::generated`] and [`Reuse::request_time`]: as what is stored with times
    /// in the future, where the clock was set back.
    pub(crate) at_least: Option<(SystemTime, SystemTime)>,
    /// `Date`, where it has one that is valid.
    pub(crate) date: Option<SystemTime>,
    /// `Age` as received.
    pub(crate) received_age: Option<Duration>,
    pub(crate) received_at: SystemTime,
    pub(crate) sent_at: SystemTime,
}

impl Timing {
    /// RFC 9111 4.2.3, RFC 9110 6.6.1: a response without a date has that of its reception.
    fn date(&self) -> SystemTime {
        self.date.unwrap_or(self.received_at)
    }

    fn initial_age(&self) -> Duration {
        self.age.unwrap_or_else(|| {
            freshness::initial_age(self.received_age, self.date(), self.sent_at, self.received_at)
        })
    }

    /// When it was made, and when it was asked for, for the order among responses.
    fn place_in_time(&self) -> (SystemTime, SystemTime) {
        // By the time of its reception, a call that was made first and is answered last would pass for the newest.
        let generated = self.date.map_or(self.sent_at, |date| date.min(self.received_at));
        let own = (generated, self.sent_at);
        self.at_least.map_or(own, |least| least.max(own))
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::cache_control::RequestDirectives;
    use crate::semantics::tests::map;
    use std::time::UNIX_EPOCH;

    const DATE: &str = "Tue, 01 Sep 2026 00:00:00 GMT";

    fn date() -> SystemTime {
        crate::semantics::date::parse(DATE.as_bytes(), UNIX_EPOCH).expect("a date")
    }

    fn at(seconds: i64) -> SystemTime {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { date() - distance } else { date() + distance }
    }

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).expect("a status")
    }

    #[track_caller]
    fn check_view(
        code: u16,
        fields: &[(&'static str, &'static str)],
        rules: &Rules,
        expected: (u64, LifetimeSource, Option<SystemTime>),
    ) {
        let view = ResponseView::of(status(code), &map(fields), at(100), rules);
        let (lifetime, source, date) = expected;
        assert_eq!(view.lifetime, Duration::from_secs(lifetime), "{code} {fields:?}");
        assert_eq!((view.source, view.date), (source, date), "{code} {fields:?}");
    }

    #[test]
    fn a_response_is_read_with_the_rules_that_apply() {
        use LifetimeSource::{Expires, MaxAge, None as Nothing, Targeted};
        let rules = Rules::default();
        let unbounded = Rules { max_error_lifetime: None, ..Rules::default() };
        let untargeted = Rules { targets: Vec::new(), ..Rules::default() };
        let dated = ("date", DATE);
        // RFC 9111 4.2.1.
        check_view(200, &[dated, ("cache-control", "max-age=900")], &rules, (900, MaxAge, Some(date())));
        // RFC 9213 2.1: the targeted field, where it is one of those that count.
        let both = [("cache-control", "max-age=900"), ("cdn-cache-control", "max-age=5")];
        check_view(200, &both, &rules, (5, Targeted, None));
        check_view(200, &both, &untargeted, (900, MaxAge, None));
        // RFC 9111 5.3: `Expires` is counted from `Date`, or from reception (at 100 s) without one.
        let expires = ("expires", "Tue, 01 Sep 2026 00:10:00 GMT");
        check_view(200, &[dated, expires], &rules, (600, Expires, Some(date())));
        check_view(200, &[expires], &rules, (500, Expires, None));
        // RFC 9110 5.3: a date field with two lines is invalid.
        check_view(200, &[dated, dated, expires], &rules, (500, Expires, None));
        // The bound on errors, and on errors alone.
        for code in [400, 404, 500, 503, 600] {
            check_view(code, &[("cache-control", "max-age=900")], &rules, (300, MaxAge, None));
            check_view(code, &[("cache-control", "max-age=200")], &rules, (200, MaxAge, None));
            check_view(code, &[("cache-control", "max-age=900")], &unbounded, (900, MaxAge, None));
        }
        check_view(301, &[("cache-control", "max-age=900")], &rules, (900, MaxAge, None));
        check_view(200, &[], &rules, (0, Nothing, None));
    }

    fn standard(fields: &[(&'static str, &'static str)], rules: &Rules) -> StandardTerms {
        let (request, response) = (HeaderMap::new(), map(fields));
        let view = ResponseView::of(StatusCode::OK, &response, date(), rules);
        let exchange = Exchange {
            method: &Method::GET,
            names_target: false,
            is_slice: false,
            request: &request,
            request_directives: &RequestDirectives::default(),
            keyed: CredentialKinds::default(),
            is_identified: false,
            status: StatusCode::OK,
            response: &response,
            response_fields: view.fields,
            directives: &view.directives,
            source: view.source,
        };
        StandardTerms::of(&exchange, view.lifetime, b"http://a.example/x", rules)
    }

    /// [`standard`] terms that no policy has edited.
    fn unedited(fields: &[(&'static str, &'static str)], rules: &Rules) -> FinalTerms {
        let StandardTerms { lifetime, must_revalidate, no_cache, shared, stale_if_error, .. } =
            standard(fields, rules);
        let stale_while_revalidate = standard(fields, rules).stale_while_revalidate.unwrap_or_default();
        FinalTerms { lifetime, must_revalidate, no_cache, shared, stale_if_error, stale_while_revalidate }
    }

    /// The terms of a response with a `Cache-Control` are those of one with `max-age=60`, except for what `change` says.
    #[track_caller]
    fn check_standard(control: &'static str, change: impl FnOnce(&mut StandardTerms)) {
        let mut expected = standard(&[("cache-control", "max-age=60")], &Rules::default());
        change(&mut expected);
        assert_eq!(standard(&[("cache-control", control)], &Rules::default()), expected, "{control}");
    }

    #[test]
    fn directives_become_terms() {
        let plain = standard(&[("cache-control", "max-age=60")], &Rules::default());
        let none = CredentialKinds::default();
        let all = CredentialKinds { authorization: true, cookie: true };
        assert_eq!((plain.lifetime, plain.source), (seconds(60), LifetimeSource::MaxAge));
        assert_eq!((plain.must_revalidate, plain.no_cache, plain.shared), (false, false, none));
        assert_eq!((plain.stale_if_error, plain.stale_while_revalidate), (None, None));
        assert_eq!((plain.store, plain.groups.len()), (Ok(()), 0));
        // RFC 9111 5.2.2.2, 5.2.2.8, 5.2.2.10: each of the three forbids stale answers.
        check_standard("max-age=60, must-revalidate", |terms| terms.must_revalidate = true);
        check_standard("max-age=60, proxy-revalidate", |terms| terms.must_revalidate = true);
        check_standard("s-maxage=60", |terms| {
            (terms.must_revalidate, terms.shared, terms.source) = (true, all, LifetimeSource::SMaxage);
        });
        // RFC 9111 5.2.2.4: `no-cache` with field names is about these fields alone.
        check_standard("max-age=60, no-cache", |terms| terms.no_cache = true);
        check_standard("max-age=60, no-cache=\"x\"", |_| {});
        // RFC 9111 5.2.2.9.
        check_standard("max-age=60, public", |terms| terms.shared = all);
        // RFC 5861 3, 4. A window of nothing is another thing than none.
        check_standard("max-age=60, stale-while-revalidate=7", |terms| {
            terms.stale_while_revalidate = Some(seconds(7));
        });
        check_standard("max-age=60, stale-if-error=9", |terms| terms.stale_if_error = Some(seconds(9)));
        check_standard("max-age=60, stale-if-error=0", |terms| terms.stale_if_error = Some(Duration::ZERO));
        // RFC 9111 5.2.2.5, 5.2.2.7.
        check_standard("max-age=60, no-store", |terms| terms.store = Err(NotStored::NoStore));
        check_standard("max-age=60, private", |terms| terms.store = Err(NotStored::Private));
    }

    #[track_caller]
    fn check_groups(
        control: &'static str,
        groups: &'static str,
        expected: &[&str],
        store: Result<(), NotStored>,
    ) {
        let terms = standard(&[("cache-control", control), ("cache-groups", groups)], &Rules::default());
        let names: Vec<_> = terms.groups.iter().map(AsRef::as_ref).collect();
        assert_eq!((names, terms.store), (expected.to_vec(), store), "{control} {groups}");
    }

    #[test]
    fn in2_groups_are_scoped_to_the_origin_and_too_many_forbid_storing() {
        // RFC 9875 2.
        check_groups("max-age=60", "\"a\", \"b\"", &["http://a.example a", "http://a.example b"], Ok(()));
        check_groups("max-age=60", "a, b", &[], Ok(()));
        let many = vec!["\"a\""; groups::MOST_GROUPS + 1].join(", ").leak();
        check_groups("max-age=60", many, &[], Err(NotStored::Groups));
        // Another reason comes first.
        check_groups("no-store", many, &[], Err(NotStored::NoStore));
    }

    fn fetched(method: &Method) -> Fetched<'_> {
        Fetched {
            group_bytes: 0,
            groups: 0,
            has_transfer_coding: false,
            has_validator: false,
            incumbent: Incumbent::None,
            is_known_part: false,
            method,
            names_target: false,
            sent_range: SentRange::None,
            status: StatusCode::OK,
        }
    }

    #[track_caller]
    fn check_invariants(fetched: Fetched<'_>, expected: Result<(), NotStored>) {
        let terms = unedited(&[("cache-control", "max-age=60")], &Rules::default());
        let result = terms.enforce_invariants(&fetched, None, &Rules::default());
        assert_eq!(result, expected, "{fetched:?}");
    }

    #[test]
    fn no_policy_can_store_a_response_that_would_break_an_answer() {
        let plain = fetched(&Method::GET);
        check_invariants(plain, Ok(()));
        // RFC 9112 6.1.
        check_invariants(Fetched { has_transfer_coding: true, ..plain }, Err(NotStored::TransferCoding));
        // RFC 9111 3: the status is final, and a 304 freshens instead.
        for code in [100, 103, 304] {
            check_invariants(Fetched { status: status(code), ..plain }, Err(NotStored::Status));
        }
        // RFC 9110 9.3.2, 9.3.3.
        for method in [Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
            check_invariants(Fetched { method: &method, ..plain }, Err(NotStored::Method));
        }
        check_invariants(Fetched { method: &Method::QUERY, ..plain }, Ok(()));
        check_invariants(Fetched { method: &Method::POST, names_target: true, ..plain }, Ok(()));
        // RFC 9111 3.3: a part that nobody can make out.
        let part = Fetched { status: status(206), ..plain };
        check_invariants(part, Err(NotStored::Partial));
        check_invariants(Fetched { is_known_part: true, ..part }, Ok(()));
        // RFC 9110 14.2: an origin that cuts no range answers with a 200; anything else may be about the range.
        for sent_range in [SentRange::Clients, SentRange::Missing] {
            let ranged = Fetched { sent_range, ..plain };
            check_invariants(ranged, Ok(()));
            check_invariants(Fetched { status: status(404), ..ranged }, Err(NotStored::Partial));
            check_invariants(Fetched { status: status(416), ..ranged }, Err(NotStored::Partial));
        }
        // RFC 9111 4.3.3.
        let stale = Fetched { incumbent: Incumbent::Stale, ..plain };
        check_invariants(Fetched { status: status(500), ..stale }, Err(NotStored::Status));
        check_invariants(Fetched { status: status(404), ..stale }, Ok(()));
        check_invariants(stale, Ok(()));
        // RFC 9875 2: a response is found by each of its groups.
        let (most, bytes) = (groups::MOST_STORED, groups::MOST_STORED_BYTES);
        check_invariants(Fetched { groups: most, group_bytes: bytes, ..plain }, Ok(()));
        check_invariants(Fetched { groups: most + 1, ..plain }, Err(NotStored::Groups));
        check_invariants(Fetched { group_bytes: bytes + 1, ..plain }, Err(NotStored::Groups));
    }

    #[test]
    fn no_policy_can_store_a_response_that_no_request_selects() {
        let terms = unedited(&[("cache-control", "max-age=60")], &Rules::default());
        let fetched = fetched(&Method::GET);
        for (unselectable, expected) in [
            (None, Ok(())),
            (Some(NeverMatches::Vary), Err(NotStored::Vary)), // RFC 9111 4.1
            (Some(NeverMatches::TooLong), Err(NotStored::LongFields)),
        ] {
            assert_eq!(
                terms.enforce_invariants(&fetched, unselectable, &Rules::default()),
                expected,
                "{unselectable:?}"
            );
        }
    }

    #[track_caller]
    fn check_use(
        control: &'static str,
        validator: Option<(&'static str, &'static str)>,
        stale_if_error: u64,
        expected: Result<(), NotStored>,
    ) {
        let rules = Rules { stale_if_error: Duration::from_secs(stale_if_error), ..Rules::default() };
        let fields = ResponseFields::of(&map(validator.as_slice()), &[]);
        let terms = unedited(&[("cache-control", control)], &rules);
        let fetched = Fetched { has_validator: fields.has_validator(), ..fetched(&Method::GET) };
        let result = terms.enforce_invariants(&fetched, None, &rules);
        assert_eq!(result, expected, "{control} {validator:?} {stale_if_error}");
    }

    #[test]
    fn a_response_that_could_never_answer_is_not_stored() {
        let (tag, date) = (Some(("etag", "\"a\"")), Some(("last-modified", DATE)));
        check_use("max-age=1", None, 0, Ok(()));
        check_use("max-age=0", None, 0, Err(NotStored::NeverFresh));
        // RFC 9111 4.3: it can be validated.
        check_use("max-age=0", tag, 0, Ok(()));
        check_use("max-age=0", date, 0, Ok(()));
        check_use("no-cache, max-age=60", tag, 0, Ok(()));
        check_use("no-cache, max-age=60", None, 0, Err(NotStored::NeverFresh));
        // RFC 5861: it can be served stale, by its own word or by the rules.
        check_use("max-age=0, stale-while-revalidate=5", None, 0, Ok(()));
        check_use("max-age=0, stale-if-error=5", None, 0, Ok(()));
        check_use("max-age=0", None, 5, Ok(()));
        check_use("max-age=0, stale-if-error=0", None, 5, Err(NotStored::NeverFresh));
        // RFC 9111 4.2.4, 5.2.2.4.
        check_use("max-age=0, must-revalidate, stale-if-error=5", None, 5, Err(NotStored::NeverFresh));
        check_use("max-age=0, no-cache, stale-if-error=5", None, 5, Err(NotStored::NeverFresh));
    }

    /// Times are seconds after [`DATE`]; `expected` is (date, generated, request time, initial age).
    #[track_caller]
    fn check_timing(timing: Timing, expected: (i64, i64, i64, u64)) {
        let terms = unedited(&[("cache-control", "max-age=60")], &Rules::default());
        let reuse = terms.reuse(&timing, false, Selecting::default());
        let (date, generated, request_time, age) = expected;
        assert_eq!((reuse.date, reuse.generated), (at(date), at(generated)), "{timing:?}");
        assert_eq!(reuse.request_time, at(request_time), "{timing:?}");
        assert_eq!(reuse.initial_age, Duration::from_secs(age), "{timing:?}");
        assert_eq!(reuse.ttl(timing.received_at), terms.ttl(&timing), "{timing:?}");
        assert_eq!(terms.ttl(&timing), 60 - i64::try_from(age).expect("small"), "{timing:?}");
    }

    #[test]
    fn the_times_of_a_call_give_the_age_and_order_of_a_response() {
        let plain = Timing {
            age: None,
            at_least: None,
            date: Some(at(0)),
            received_age: None,
            received_at: at(12),
            sent_at: at(10),
        };
        // RFC 9111 4.2.3: (date, generated, request time, age).
        check_timing(plain, (0, 0, 10, 12));
        check_timing(Timing { received_age: Some(Duration::from_secs(30)), ..plain }, (0, 0, 10, 32));
        // The policy knows better.
        check_timing(Timing { age: Some(Duration::from_secs(5)), ..plain }, (0, 0, 10, 5));
        // Without a date it is as old as the call took, and as new as when it was asked for.
        check_timing(Timing { date: None, ..plain }, (12, 10, 10, 2));
        // A clock that is ahead makes it no newer than its reception.
        check_timing(Timing { date: Some(at(50)), ..plain }, (50, 12, 10, 2));
        // This clock was set back: it counts as new as what is stored from the future.
        check_timing(Timing { at_least: Some((at(900), at(910))), ..plain }, (0, 900, 910, 12));
        check_timing(Timing { at_least: Some((at(-900), at(910))), ..plain }, (0, 0, 10, 12));
    }

    #[test]
    fn reuse_follows_the_terms_that_the_policy_has_edited() {
        let mut terms = unedited(&[("cache-control", "max-age=60")], &Rules::default());
        terms.lifetime = seconds(5);
        (terms.must_revalidate, terms.no_cache) = (true, true);
        terms.shared.cookie = true;
        terms.stale_if_error = Some(seconds(6));
        terms.stale_while_revalidate = seconds(7);
        let timing = Timing {
            age: None,
            at_least: None,
            date: None,
            received_age: None,
            received_at: at(1),
            sent_at: at(1),
        };
        let reuse = terms.reuse(&timing, true, Selecting::default());
        assert_eq!((reuse.lifetime, reuse.immutable, reuse.outdated), (seconds(5), true, false));
        assert_eq!((reuse.must_revalidate, reuse.no_cache), (true, true));
        assert_eq!((reuse.shared, reuse.response_time), (terms.shared, at(1)));
        assert_eq!((reuse.stale_if_error, reuse.stale_while_revalidate), (Some(seconds(6)), seconds(7)));
    }
}
