//! How long a response is kept, or why not: the rules of `vcl_fetch`.

use std::borrow::Cow;
use std::time::Duration;

use http::{StatusCode, Uri, header};

use super::surrogate::SurrogateControl;
use super::tags::{ExcessTags, Tags};
use super::{Fastly, ShortErrors};
use crate::entry::key::{asked_uri, host_of};
use crate::policy::words::SCHEME_REDIRECT;
use crate::policy::{PolicyExchange, Terms};
use crate::semantics::cache_control::ResponseDirectives;
use crate::semantics::freshness::LifetimeSource;
use crate::semantics::hint::CacheHint;
use crate::semantics::status::is_server_error;
use crate::semantics::storing::{self, NotStored};
use crate::semantics::{CredentialKinds, Credentials};

/// How long hit-for-pass lasts, at least and at most.
const PASS_FOR: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(3_600));

/// What a response says of caches.
struct Reading<'a> {
    /// `Cache-Control`.
    plain: Cow<'a, ResponseDirectives>,
    /// The hint says how long it is kept, in place of all fields.
    has_lifetime: bool,
    /// Its handler's.
    hint: Option<&'a CacheHint>,
    /// The hint says that it is everybody's.
    is_public: bool,
    surrogate: SurrogateControl,
    /// A targeted field (RFC 9213), or `Cache-Control` once more; as the hint has it.
    targeted: &'a ResponseDirectives,
}

impl<'a> Reading<'a> {
    fn of(exchange: &PolicyExchange<'a>, source: LifetimeSource) -> Self {
        let (headers, targeted) = (&exchange.response.headers, exchange.directives);
        let hint = exchange.response.extensions.get::<CacheHint>();
        let plain = if hint.is_some() || targeted.targeted {
            Cow::Owned(ResponseDirectives::of(headers))
        } else {
            Cow::Borrowed(targeted)
        };
        let is_public = hint.is_some_and(|hint| hint.is_public);
        let (has_lifetime, surrogate) = (source == LifetimeSource::Hint, SurrogateControl::of(headers));
        Self { plain, is_public, has_lifetime, hint, surrogate, targeted }
    }
}

impl Fastly {
    /// Makes terms of what the rules have found.
    pub(super) fn set_terms(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        let headers = &exchange.response.headers;
        let reading = Reading::of(exchange, terms.source);
        self.set_lifetime(&reading, exchange.response.status, terms);
        self.set_shared(&reading, terms);
        terms.store = self.admit(&reading, exchange, terms);
        let tags = Tags::of(headers, &self.tag_fields, Terms::MAX_GROUPS.saturating_sub(terms.groups.len()));
        terms.groups.extend(tags.names);
        if tags.has_excess && self.excess_tags == ExcessTags::Refuse {
            terms.store = terms.store.and(Err(NotStored::Groups));
        }
        if terms.store.is_ok() && self.key.shares_schemes() && is_to_another_scheme(exchange) {
            terms.refuse(SCHEME_REDIRECT);
        }
    }

    fn set_lifetime(&self, reading: &Reading<'_>, status: StatusCode, terms: &mut Terms) {
        let Reading { plain, surrogate, targeted, .. } = reading;
        if let (Some(lifetime), false) = (surrogate.max_age, reading.has_lifetime) {
            (terms.lifetime, terms.source) = (lifetime, LifetimeSource::Targeted);
        }
        let is_explicit = terms.source.is_explicit();
        // A pass ends `vcl_fetch` before it comes to the default.
        let pass_for = if is_explicit { terms.lifetime } else { Duration::ZERO };
        terms.pass_for = self.pass_for.unwrap_or_else(|| pass_for.clamp(PASS_FOR.0, PASS_FOR.1));
        if !is_explicit {
            terms.lifetime = self.default_ttl;
        }
        // What is meant for browsers does not count here.
        terms.no_cache = targeted.targeted && targeted.no_cache;
        let says_so = plain.must_revalidate || plain.proxy_revalidate;
        let forbids_stale = if targeted.targeted || reading.has_lifetime {
            terms.must_revalidate
        } else {
            self.must_revalidate_counts && says_so
        };
        let [of_surrogate, of_hint] = [
            (surrogate.stale_while_revalidate, surrogate.stale_if_error),
            reading.hint.map_or((None, None), |hint| (hint.stale_while_revalidate, hint.stale_if_error)),
        ];
        let said = (of_hint.0.or(of_surrogate.0), of_hint.1.or(of_surrogate.1));
        terms.must_revalidate = forbids_stale && said == (None, None);
        let otherwise = if forbids_stale {
            (Some(Duration::ZERO), Some(Duration::ZERO))
        } else {
            (terms.stale_while_revalidate, terms.stale_if_error)
        };
        terms.stale_while_revalidate = said.0.or(otherwise.0);
        terms.stale_if_error = said.1.or(otherwise.1);
        if let (Some(errors), false) = (self.short_error(status), reading.has_lifetime) {
            terms.lifetime = errors.lifetime;
            (terms.stale_while_revalidate, terms.stale_if_error) = (Some(errors.stale), Some(errors.stale));
            (terms.no_cache, terms.must_revalidate) = (false, false);
        }
    }

    fn set_shared(&self, reading: &Reading<'_>, terms: &mut Terms) {
        terms.shared = if self.shares_credentials {
            CredentialKinds::ALL
        } else {
            let shared = storing::shared_with(reading.targeted, Credentials::Explicit);
            // As in a targeted field: a lifetime that is meant for shared caches alone.
            CredentialKinds { cookie: shared.cookie || reading.surrogate.max_age.is_some(), ..shared }
        };
    }

    /// Whether the response is kept, in the order of Fastly's checks.
    fn admit(
        &self,
        reading: &Reading<'_>,
        exchange: &PolicyExchange<'_>,
        terms: &Terms,
    ) -> Result<(), NotStored> {
        use NotStored as Not;
        terms.firm?;
        match terms.store {
            // These are decided here.
            Ok(())
            | Err(Not::Authorization | Not::Cookie | Not::DrawnError | Not::NoStore)
            | Err(Not::Private | Not::SetCookie | Not::Status) => {}
            store => return store,
        }
        let Reading { plain, surrogate, targeted, .. } = reading;
        let (headers, status) = (&exchange.response.headers, exchange.response.status);
        let is_private = |says: &ResponseDirectives| says.private || !says.private_fields.is_empty();
        if !reading.is_public && (is_private(plain) || is_private(targeted)) {
            return Err(Not::Private);
        }
        let is_unstored = (plain.no_store && self.no_store_counts)
            || (targeted.targeted && targeted.no_store)
            || surrogate.no_store;
        if is_unstored && !reading.has_lifetime {
            return Err(Not::NoStore);
        }
        if headers.contains_key(header::SET_COOKIE) && !reading.is_public {
            return Err(Not::SetCookie);
        }
        if !self.is_cacheable(status) && self.short_error(status).is_none() && !reading.has_lifetime {
            return Err(Not::Status);
        }
        let request = &exchange.request.headers;
        let keyed = exchange.key.keyed_credentials(request);
        let unshared = CredentialKinds::of(request).without(keyed).without(terms.shared);
        if unshared.authorization {
            return Err(Not::Authorization);
        }
        if unshared.cookie {
            return Err(Not::Cookie);
        }
        Ok(())
    }

    /// Whether a status is kept without a word of the handler.
    fn is_cacheable(&self, status: StatusCode) -> bool {
        matches!(status.as_u16(), 200 | 203 | 300 | 301 | 302 | 404 | 410)
            || self.cacheable.iter().any(|range| range.contains(status))
    }

    /// How long an error with this status is kept that would not be otherwise.
    fn short_error(&self, status: StatusCode) -> Option<ShortErrors> {
        self.errors.filter(|_| is_server_error(status) && !self.is_cacheable(status))
    }
}

/// Whether the response sends clients to where they are, under another scheme.
fn is_to_another_scheme(exchange: &PolicyExchange<'_>) -> bool {
    let asked = exchange.request;
    let location = exchange.response.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let Some(location) = location.and_then(|location| location.parse::<Uri>().ok()) else {
        return false;
    };
    let path = |uri: &Uri| uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    exchange.response.status.is_redirection()
        && location.scheme().is_some()
        && location.host().map(str::to_ascii_lowercase) == host_of(asked).map(str::to_ascii_lowercase)
        && path(&location) == path(&asked_uri(asked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::key::CacheKey;
    use crate::policy::PolicyData;
    use crate::policy::judge::{Judged, JudgedRequest};
    use crate::semantics::cache_control::RequestDirectives;
    use crate::semantics::date;
    use http::{HeaderName, HeaderValue, Method, Request, Response};
    use std::time::UNIX_EPOCH;

    type Fields<'a> = &'a [(&'static str, &'a str)];

    const DATE: (&str, &str) = ("date", "Tue, 01 Sep 2026 00:00:00 GMT");
    /// [`DATE`] and 60 s.
    const EXPIRES: (&str, &str) = ("expires", "Tue, 01 Sep 2026 00:01:00 GMT");

    /// The terms of a response with this status and these fields to a GET with those.
    fn terms(policy: &Fastly, code: u16, fields: Fields<'_>, request: Fields<'_>) -> Terms {
        let mut get = Request::get("http://example.com/").body(()).expect("a request").into_parts().0;
        for (name, value) in request {
            get.headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let mut response = Response::builder()
            .status(code)
            .header(DATE.0, DATE.1)
            .body(())
            .expect("a response")
            .into_parts()
            .0;
        for (name, value) in fields {
            response
                .headers
                .append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
        }
        let received_at = date::parse(DATE.1.as_bytes(), UNIX_EPOCH).expect("a date");
        let key = CacheKey::of(&get).expect("a key");
        let judged = Judged {
            is_background: false,
            max_body: u64::MAX,
            method: &Method::GET,
            names_target: false,
            request: JudgedRequest {
                directives: &RequestDirectives::default(),
                key: &key,
                now: received_at,
                parts: &get,
            },
            sent: None,
            store: Ok(()),
        };
        judged.terms_by(policy, &PolicyData::default(), &response, received_at).1
    }

    /// The seconds for which a response is kept, or why it is not.
    #[track_caller]
    fn check(policy: &Fastly, code: u16, fields: Fields<'_>, expected: Result<u64, NotStored>) {
        let terms = terms(policy, code, fields, &[]);
        assert_eq!(terms.store.map(|()| terms.lifetime.as_secs()), expected, "{code} {fields:?}");
        assert!(!terms.no_cache, "{code} {fields:?}");
    }

    /// The same for today's boilerplate and for the older one.
    #[track_caller]
    fn check_both(code: u16, fields: Fields<'_>, expected: Result<u64, NotStored>) {
        check(&Fastly::new(), code, fields, expected);
        check(&Fastly::classic(), code, fields, expected);
    }

    #[test]
    fn fa1_surrogate_control_outweighs_s_maxage_max_age_and_expires() {
        let cc = |value| ("cache-control", value);
        let sc = |value| ("surrogate-control", value);
        check_both(200, &[cc("max-age=60, s-maxage=600")], Ok(600));
        check_both(200, &[sc("max-age=10"), cc("s-maxage=600")], Ok(10));
        check_both(200, &[sc("max-age=0"), cc("s-maxage=600")], Ok(0));
        check_both(200, &[EXPIRES], Ok(60));
        check_both(200, &[EXPIRES, cc("max-age=10")], Ok(10));
        check_both(200, &[EXPIRES, sc("max-age=10")], Ok(10));
        check_both(200, &[], Ok(3_600));
        check(&Fastly::platform(), 200, &[], Ok(120));
        check(&Fastly::new().default_ttl(Duration::ZERO), 200, &[], Ok(0));
        // The default counts only where nothing says how long.
        check_both(200, &[sc("content=\"ESI/1.0\"")], Ok(3_600));
        check_both(200, &[sc("content=\"ESI/1.0\""), cc("max-age=60")], Ok(60));
        check_both(200, &[("expires", "0")], Ok(0));
        check_both(200, &[("last-modified", "Mon, 31 Aug 2026 00:00:00 GMT")], Ok(3_600));
        // RFC 9213: after Surrogate-Control, before Cache-Control.
        let cdn = ("cdn-cache-control", "max-age=30");
        check_both(200, &[cdn, cc("s-maxage=600")], Ok(30));
        check_both(200, &[cdn, sc("max-age=10")], Ok(10));
        check(&Fastly::new().targets([]), 200, &[cdn, cc("s-maxage=600")], Ok(600));
    }

    #[test]
    fn fa2_seven_statuses_are_kept_and_others_if_they_are_named() {
        for code in [200, 203, 300, 301, 302, 404, 410] {
            check_both(code, &[], Ok(3_600));
            check_both(code, &[("cache-control", "max-age=60")], Ok(60));
        }
        let all = Fastly::new().cacheable_success().cacheable_redirects().cacheable(500);
        for code in [201, 204, 299, 303, 307, 308, 500] {
            check_both(code, &[], Err(NotStored::Status));
            check_both(code, &[("cache-control", "max-age=60")], Err(NotStored::Status));
            check(&all, code, &[], Ok(3_600));
            check(&all, code, &[("cache-control", "max-age=60")], Ok(60));
        }
        for code in [304, 305, 400, 403, 405, 414, 451, 501, 502, 599] {
            check(&all, code, &[("cache-control", "max-age=60")], Err(NotStored::Status));
        }
        check(&all, 206, &[], Err(NotStored::Partial));
    }

    #[test]
    fn fa3_private_and_no_store_and_set_cookie_pass_before_any_lifetime_is_looked_at() {
        let long = ("surrogate-control", "max-age=3600");
        let cc = |value| ("cache-control", value);
        for value in ["no-cache", "no-cache, must-revalidate, max-age=0", "public, immutable"] {
            check_both(200, &[cc(value), long], Ok(3_600));
        }
        check_both(200, &[cc("no-cache")], Ok(3_600));
        check(&Fastly::new(), 200, &[cc("no-store"), long], Err(NotStored::NoStore));
        check(&Fastly::classic(), 200, &[cc("no-store"), long], Ok(3_600));
        check(&Fastly::new().no_store_counts(false), 200, &[cc("no-store")], Ok(3_600));
        check(&Fastly::classic().no_store_counts(true), 200, &[cc("no-store")], Err(NotStored::NoStore));
        // `must-understand` is not among what the boilerplate looks at.
        check(&Fastly::new(), 200, &[cc("must-understand, no-store"), long], Err(NotStored::NoStore));
        for value in ["private, s-maxage=60", "Private", "private=\"set-cookie\", max-age=60"] {
            check_both(200, &[cc(value)], Err(NotStored::Private));
            check_both(200, &[cc(value), long], Err(NotStored::Private));
        }
        check_both(200, &[("set-cookie", "a=b"), cc("s-maxage=60")], Err(NotStored::SetCookie));
        check_both(
            200,
            &[("set-cookie", "a=b"), cc("public, no-cache=\"set-cookie\"")],
            Err(NotStored::SetCookie),
        );
        // What Fastly does is not documented.
        for value in ["no-store", "max-age=60, private"] {
            check_both(200, &[("surrogate-control", value)], Err(NotStored::NoStore));
        }
        // A targeted field forbids as well.
        check_both(200, &[("cdn-cache-control", "no-store"), cc("max-age=60")], Err(NotStored::NoStore));
        check_both(200, &[("cdn-cache-control", "private"), cc("max-age=60")], Err(NotStored::Private));
        check_both(200, &[cc("private=\"a")], Err(NotStored::Malformed));
        // The first reason of all is the one that is reported.
        check_both(500, &[cc("private"), ("set-cookie", "a=b")], Err(NotStored::Private));
    }

    #[test]
    fn a09_personal_answers_are_shared_only_if_they_say_so_or_the_policy_does() {
        #[track_caller]
        fn check(
            policy: &Fastly,
            request: (&'static str, &str),
            fields: Fields<'_>,
            expected: Result<(), NotStored>,
        ) {
            let terms = terms(policy, 200, fields, &[request]);
            assert_eq!(terms.store, expected, "{request:?} {fields:?}");
            let shared = [terms.shared.authorization, terms.shared.cookie];
            assert_eq!(shared[usize::from(request.0 == "cookie")], expected.is_ok());
        }
        let (cookie, authorization) = (("cookie", "a=b"), ("authorization", "Basic eA=="));
        let policy = Fastly::new();
        for fields in [&[][..], &[("cache-control", "max-age=60")]] {
            check(&policy, cookie, fields, Err(NotStored::Cookie));
            check(&policy, authorization, fields, Err(NotStored::Authorization));
        }
        for value in ["s-maxage=60", "public"] {
            check(&policy, cookie, &[("cache-control", value)], Ok(()));
            check(&policy, authorization, &[("cache-control", value)], Ok(()));
        }
        let surrogate = &[("surrogate-control", "max-age=60"), ("cache-control", "no-cache")];
        check(&policy, cookie, surrogate, Ok(()));
        check(&policy, authorization, surrogate, Err(NotStored::Authorization));
        let letter = Fastly::new().share_credentials(true);
        for request in [cookie, authorization] {
            check(&letter, request, &[], Ok(()));
        }
        let private = super::tests::terms(&letter, 200, &[("cache-control", "private")], &[cookie]);
        assert_eq!(private.store, Err(NotStored::Private));
    }

    /// Seconds of stale-while-revalidate and stale-if-error, and whether stale answers are forbidden.
    #[track_caller]
    fn check_windows(
        policy: &Fastly,
        fields: Fields<'_>,
        revalidate: u64,
        error: Option<u64>,
        forbidden: bool,
    ) {
        let terms = terms(policy, 200, fields, &[]);
        assert_eq!(terms.stale_while_revalidate.unwrap_or_default().as_secs(), revalidate, "{fields:?}");
        assert_eq!(terms.stale_if_error.map(|window| window.as_secs()), error, "{fields:?}");
        assert_eq!(terms.must_revalidate, forbidden, "{fields:?}");
    }

    #[test]
    fn fa7_stale_windows_come_from_surrogate_control_else_from_cache_control() {
        let policy = Fastly::new();
        let cc = |value| ("cache-control", value);
        let sc = |value| ("surrogate-control", value);
        let swr = sc("max-age=60, stale-while-revalidate=30");
        check_windows(&policy, &[swr, cc("stale-while-revalidate=600")], 30, None, false);
        check_windows(&policy, &[swr, cc("stale-if-error=600")], 30, Some(600), false);
        check_windows(&policy, &[sc("max-age=60"), cc("stale-while-revalidate=600")], 600, None, false);
        check_windows(&policy, &[sc("max-age=600+30")], 30, Some(30), false);
        check_windows(&policy, &[sc("stale-if-error=0"), cc("stale-if-error=600")], 0, Some(0), false);
        // RFC 9111 5.2.2.10 has `s-maxage` forbid stale answers; Fastly does not.
        check_windows(&policy, &[cc("s-maxage=60, stale-while-revalidate=10")], 10, None, false);
        // RFC 9111 5.2.2.2, 5.2.2.8.
        for value in ["must-revalidate, stale-while-revalidate=10", "proxy-revalidate, stale-if-error=10"] {
            check_windows(&policy, &[cc(value)], 0, Some(0), true);
        }
        check_windows(&policy, &[swr, cc("must-revalidate, stale-if-error=600")], 30, Some(0), false);
        let letter = Fastly::new().must_revalidate_counts(false);
        check_windows(&letter, &[cc("must-revalidate, stale-while-revalidate=10")], 10, None, false);
    }

    #[test]
    fn fa7_hit_for_pass_lasts_for_the_lifetime_from_two_minutes_to_an_hour() {
        #[track_caller]
        fn check(policy: &Fastly, value: &str, seconds: u64) {
            let terms = terms(policy, 200, &[("cache-control", value)], &[]);
            assert_eq!(terms.pass_for, Duration::from_secs(seconds), "{value}");
        }
        for (value, seconds) in [
            ("private", 120),
            ("private, max-age=60", 120),
            ("private, max-age=600", 600),
            ("private, max-age=86400", 3_600),
        ] {
            check(&Fastly::new(), value, seconds);
            check(&Fastly::new().pass_for(Duration::from_secs(5)), value, 5);
        }
    }

    #[test]
    fn fa12_server_errors_are_kept_for_a_moment_if_the_policy_says_so() {
        let (lifetime, stale) = (Duration::from_secs(1), Duration::from_secs(5));
        let policy = Fastly::new().short_errors(lifetime, stale).cacheable(501);
        for code in [500, 502, 503, 504, 599] {
            for fields in [&[][..], &[("cache-control", "max-age=600, must-revalidate")]] {
                check(&policy, code, fields, Ok(1));
                let terms = terms(&policy, code, fields, &[]);
                assert_eq!((terms.stale_while_revalidate, terms.stale_if_error), (Some(stale), Some(stale)));
            }
            check(&policy, code, &[("cache-control", "private")], Err(NotStored::Private));
            check(&policy, code, &[("set-cookie", "a=b")], Err(NotStored::SetCookie));
        }
        check(&policy, 501, &[], Ok(3_600));
        check(&policy, 403, &[], Err(NotStored::Status));
        check(&policy, 200, &[], Ok(3_600));
    }

    #[test]
    fn fa4_tags_of_a_response_are_bare_and_their_excess_is_ignored_or_refused() {
        let long = format!("first tag {}", "x".repeat(17_000));
        let fields = [("surrogate-key", long.as_str()), ("cache-groups", "\"g\"")];
        let kept = terms(&Fastly::new(), 200, &fields, &[]);
        let names: Vec<_> = kept.groups.iter().map(|group| &**group).collect();
        assert_eq!((kept.store, names), (Ok(()), vec!["http://example.com g", "first", "tag"]));
        let strict = Fastly::new().excess_tags(ExcessTags::Refuse);
        assert_eq!(terms(&strict, 200, &fields, &[]).store, Err(NotStored::Groups));
        assert_eq!(terms(&strict, 200, &[("surrogate-key", "a b")], &[]).store, Ok(()));
        // Another reason outweighs it, and it outweighs none.
        let private = [fields[0], ("cache-control", "private")];
        assert_eq!(terms(&strict, 200, &private, &[]).store, Err(NotStored::Private));
        // What 16 KiB can name is never too much.
        let shortest = (0..=u8::MAX).filter(u8::is_ascii_graphic).map(char::from);
        let pairs = shortest.clone().flat_map(|a| shortest.clone().map(move |b| format!("{a}{b}")));
        let all: Vec<_> = shortest.clone().map(String::from).chain(pairs).collect();
        let most = terms(&Fastly::new(), 200, &[("surrogate-key", &all.join(" "))], &[]);
        assert!(most.groups.len() > 5_000 && most.groups.len() <= Terms::MAX_GROUPS, "{}", most.groups.len());
        assert_eq!(most.store, Ok(()));
        // Too many groups are refused whatever else is decided here.
        let many = vec!["\"g\""; 129].join(", ");
        let fields = [("cache-groups", many.as_str()), ("cache-control", "no-store")];
        assert_eq!(terms(&Fastly::classic(), 200, &fields, &[]).store, Err(NotStored::Groups));
    }
}
