//! Whether a response may be stored (RFC 9111 3).

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};

use super::cache_control::{RequestDirectives, ResponseDirectives};
use super::credentials::{CredentialKinds, Credentials};
use super::fields::ResponseFields;
use super::freshness::LifetimeSource;
use super::rules::Rules;
use super::status::{is_drawn_by_request, is_heuristically_cacheable, is_understood};

/// Why a response is not stored. [`NotStored::as_str`] is the `detail` of `Cache-Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotStored {
    /// Its key has not been asked for often enough (`Admission` of a policy).
    Admission,
    /// The request has `Authorization`, and the response does not say that it is shared (RFC 9111 3.5).
    Authorization,
    /// The request has `Cookie`, and the response does not say that it is shared.
    Cookie,
    /// The path has marks of an attack, by which a cache and a service read it in two ways
    /// ([`Rules::deception_guard`]).
    DeceptivePath,
    /// An error that a single request can provoke by its fields, and that says nothing about what others get
    /// ([`Rules::drawn_errors`]).
    DrawnError,
    /// `Cache-Groups` names more groups than are supported.
    Groups,
    /// Its [`CacheHint`](crate::CacheHint) says so.
    Hint,
    /// The content ended early, or was not as long as `Content-Length` said.
    Incomplete,
    /// The request's selecting fields are too long to be compared.
    LongFields,
    /// `Cache-Control` is outside the grammar; nobody can say what it forbids.
    Malformed,
    /// Only answers to GET are stored, to QUERY if its content is known, and to POST if they may answer a GET.
    Method,
    /// It would have to be fetched again for every use: no freshness, no validator, no stale window.
    NeverFresh,
    /// There is no room for it in addition to everything that is being stored, or that clients read.
    NoRoom,
    /// `no-store` on the response.
    NoStore,
    /// It was asked for as a slice of a representation, and is not that slice.
    NotTheSlice,
    /// `must-understand`, and a status that is not understood (RFC 9111 5.2.2.3).
    NotUnderstood,
    /// Only a part of the representation.
    Partial,
    /// The cache policy refused.
    Policy,
    /// `private` on the response.
    Private,
    /// `no-store` on the request.
    RequestNoStore,
    /// There is no async runtime in which the content could be received.
    Runtime,
    /// The response has `Set-Cookie` and does not say that it is shared.
    SetCookie,
    /// The status is stored only with explicit freshness or `public`, and there is neither; or it is that of an error,
    /// and a good response is stored.
    Status,
    /// The store failed, or a purge or a newer response came first.
    Store,
    /// Storing is switched off.
    SwitchedOff,
    /// A tag by which nobody could purge it: with a control character, or in the form of an origin's group.
    Tag,
    /// Larger than the largest object that is stored.
    TooLarge,
    /// Smaller than what the policy stores.
    TooSmall,
    /// The content is in a transfer coding, which belongs to one connection.
    TransferCoding,
    /// The policy stores nothing with this `Content-Type`.
    Type,
    /// The path looks like that of a static file, and the content is of another type ([`Rules::deception_guard`]).
    TypeMismatch,
    /// There are as many fresh variants under the key as the policy allows.
    Variants,
    /// `Vary: *`, or a `Vary` that can't be read.
    Vary,
    /// `Vary` names a field for which the policy stores nothing.
    VaryBypass,
    /// The policy gives responses like this one no lifetime.
    ZeroLifetime,
}

impl NotStored {
    /// Each of them.
    pub const ALL: &'static [Self] = &[
        Self::Admission,
        Self::Authorization,
        Self::Cookie,
        Self::DeceptivePath,
        Self::DrawnError,
        Self::Groups,
        Self::Hint,
        Self::Incomplete,
        Self::LongFields,
        Self::Malformed,
        Self::Method,
        Self::NeverFresh,
        Self::NoRoom,
        Self::NoStore,
        Self::NotTheSlice,
        Self::NotUnderstood,
        Self::Partial,
        Self::Policy,
        Self::Private,
        Self::RequestNoStore,
        Self::Runtime,
        Self::SetCookie,
        Self::Status,
        Self::Store,
        Self::SwitchedOff,
        Self::Tag,
        Self::TooLarge,
        Self::TooSmall,
        Self::TransferCoding,
        Self::Type,
        Self::TypeMismatch,
        Self::Variants,
        Self::Vary,
        Self::VaryBypass,
        Self::ZeroLifetime,
    ];

    /// Whether a 304 (or a 200 to a HEAD) that is not stored for this reason takes the stored response out of use for
    /// everybody else. It does if the origin or the policy forbids storing, and does not if the reason is what one
    /// client asked for, or the store. A request's credentials count if the stored response was `shared` in spite of
    /// them and the new fields no longer allow that.
    pub(crate) fn withdraws(self, shared: CredentialKinds) -> bool {
        match self {
            Self::Authorization => shared.authorization,
            Self::Cookie => shared.cookie,
            Self::DeceptivePath
            | Self::Groups
            | Self::Hint
            | Self::Malformed
            | Self::NoStore
            | Self::NotUnderstood
            | Self::Policy
            | Self::Private
            | Self::SetCookie
            | Self::Tag
            | Self::Type
            | Self::TypeMismatch
            | Self::Vary
            | Self::VaryBypass
            | Self::ZeroLifetime => true,
            Self::Admission
            | Self::DrawnError
            | Self::Incomplete
            | Self::LongFields
            | Self::Method
            | Self::NeverFresh
            | Self::NoRoom
            | Self::NotTheSlice
            | Self::Partial
            | Self::RequestNoStore
            | Self::Runtime
            | Self::Status
            | Self::Store
            | Self::SwitchedOff
            | Self::TooLarge
            | Self::TooSmall
            | Self::TransferCoding
            | Self::Variants => false,
        }
    }

    /// Whether an answer to a validation that is not stored for this reason keeps the validated response from being served
    /// stale (RFC 9111 4.3.3). An error that one client can provoke says nothing about what others get, and a server error
    /// says nothing at all.
    pub(crate) fn ends_stale_use(self, status: StatusCode, shared: CredentialKinds) -> bool {
        let is_news =
            status.is_success() || status.is_redirection() || matches!(status.as_u16(), 404 | 410 | 451);
        is_news
            && match self {
                Self::Authorization => shared.authorization,
                Self::Cookie => shared.cookie,
                Self::Admission
                | Self::DrawnError
                | Self::Incomplete
                | Self::LongFields
                | Self::Method
                | Self::RequestNoStore
                | Self::Runtime
                | Self::SwitchedOff => false,
                _ => true,
            }
    }

    /// Whether the client's wish is the reason, so that what the origin says of storing is not known yet.
    pub(crate) fn is_clients_wish(self) -> bool {
        self == Self::RequestNoStore
    }

    /// What a response with this status that is not stored for this reason does to the stored one that the inner service was
    /// asked about. A stored part that was put together with what was missing of it (`is_completed`) has the same fields.
    pub(crate) fn effect(self, status: StatusCode, shared: CredentialKinds, is_completed: bool) -> Effect {
        if is_completed && self.withdraws(shared) {
            Effect::Withdraw
        } else if self.ends_stale_use(status, shared) {
            Effect::EndStaleUse
        } else {
            Effect::None
        }
    }

    /// A short name in lower case, fit for a structured-field string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Authorization => "authorization",
            Self::Cookie => "cookie",
            Self::DeceptivePath => "deceptive-path",
            Self::DrawnError => "drawn-error",
            Self::Groups => "too-many-groups",
            Self::Hint => "hint",
            Self::Incomplete => "incomplete",
            Self::LongFields => "long-request-fields",
            Self::Malformed => "malformed-cache-control",
            Self::Method => "method",
            Self::NeverFresh => "never-fresh",
            Self::NoStore => "no-store",
            Self::NotTheSlice => "not-the-slice",
            Self::NotUnderstood => "not-understood",
            Self::Partial => "partial",
            Self::Policy => "policy",
            Self::Private => "private",
            Self::RequestNoStore => "request-no-store",
            Self::NoRoom => "no-room",
            Self::Runtime => "no-runtime",
            Self::SetCookie => "set-cookie",
            Self::Status => "status",
            Self::Store => "store",
            Self::SwitchedOff => "switched-off",
            Self::Tag => "bad-tag",
            Self::TooLarge => "too-large",
            Self::TooSmall => "too-small",
            Self::TransferCoding => "transfer-coding",
            Self::Type => "content-type",
            Self::TypeMismatch => "type-mismatch",
            Self::Variants => "too-many-variants",
            Self::Vary => "vary",
            Self::VaryBypass => "vary-bypass",
            Self::ZeroLifetime => "zero-lifetime",
        }
    }
}

/// What a response that does not replace the stored one does to it (RFC 9111 4.3.3 to 4.3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is not served stale any more: the origin has said something newer.
    EndStaleUse,
    /// It is stale from now on.
    Expire,
    /// It stays as it is.
    None,
    /// Nobody gets it any more, neither fresh nor stale.
    Withdraw,
}

/// An exchange, as the rules about storing examine it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange<'a> {
    /// The method of the request as sent.
    pub(crate) method: &'a Method,
    /// `Content-Location` of the response is the target URI.
    pub(crate) names_target: bool,
    /// A slice of the representation was asked for, so that a part is what is to be stored.
    pub(crate) is_slice: bool,
    /// The request's fields.
    pub(crate) request: &'a HeaderMap,
    /// The request's directives.
    pub(crate) request_directives: &'a RequestDirectives,
    /// Which of the request's credentials are in the key.
    pub(crate) keyed: CredentialKinds,
    /// Whether the key says who asks.
    pub(crate) is_identified: bool,
    /// The response's status.
    pub(crate) status: StatusCode,
    /// The response's fields.
    pub(crate) response: &'a HeaderMap,
    /// What these are.
    pub(crate) response_fields: ResponseFields,
    /// The response's directives.
    pub(crate) directives: &'a ResponseDirectives,
    /// Where its freshness lifetime comes from.
    pub(crate) source: LifetimeSource,
}

/// Whether a shared cache may store the response to a request (RFC 9111 3).
///
/// # Errors
///
/// The first rule that forbids it.
#[cfg(test)]
pub(crate) fn admit(exchange: &Exchange<'_>, rules: &Rules) -> Result<(), NotStored> {
    admit_method_and_form(exchange, rules)?;
    admit_as_said(exchange, credentials(exchange, rules), rules)
}

/// Whether nothing forbids storing but what the response says of that, its status and credentials.
///
/// # Errors
///
/// The first rule that forbids it.
pub(crate) fn admit_method_and_form(exchange: &Exchange<'_>, rules: &Rules) -> Result<(), NotStored> {
    let Exchange { directives, status, .. } = *exchange;
    let is_reusable_post = rules.post
        && exchange.method == Method::POST
        && exchange.names_target
        && status == StatusCode::OK
        && exchange.source.is_explicit(); // RFC 9110 9.3.3
    if !rules.store_answers_to(exchange.method) && !is_reusable_post {
        return Err(NotStored::Method);
    }
    if exchange.request_directives.no_store {
        return Err(NotStored::RequestNoStore); // 5.2.1.5
    }
    if status.is_informational() || status == StatusCode::NOT_MODIFIED {
        return Err(NotStored::Status); // 3: the status is final; a 304 freshens instead
    }
    if status == StatusCode::PARTIAL_CONTENT && !rules.partial && !exchange.is_slice {
        return Err(NotStored::Partial);
    }
    if directives.malformed {
        return Err(NotStored::Malformed);
    }
    // 5.2.2.3: with a status that is understood, `no-store` next to it does not count.
    if directives.must_understand && !is_understood(status) {
        return Err(NotStored::NotUnderstood);
    }
    Ok(())
}

/// Whether what the response says, its status and credentials permit storing. `credentials` is the verdict about these.
///
/// # Errors
///
/// The first rule that forbids it.
pub(crate) fn admit_as_said(
    exchange: &Exchange<'_>,
    credentials: Result<(), NotStored>,
    rules: &Rules,
) -> Result<(), NotStored> {
    let Exchange { directives, status, .. } = *exchange;
    if directives.no_store && !directives.must_understand {
        return Err(NotStored::NoStore); // 5.2.2.5
    }
    if directives.private && !is_only_for_this_key(exchange, rules) {
        return Err(NotStored::Private); // 5.2.2.7
    }
    credentials?;
    if !(exchange.source.is_explicit() || directives.public || is_heuristically_cacheable(status)) {
        return Err(NotStored::Status);
    }
    // Last, so that a policy that lifts this refusal lifts nothing else.
    if is_drawn_by_request(status) && !rules.drawn_errors {
        return Err(NotStored::DrawnError);
    }
    Ok(())
}

/// RFC 9111 3.5 and, if the rules ask for it, the same for cookies.
///
/// # Errors
///
/// The credential that forbids storing.
pub(crate) fn credentials(exchange: &Exchange<'_>, rules: &Rules) -> Result<(), NotStored> {
    let shared = shared_with(exchange.directives, rules.credentials);
    let unshared = CredentialKinds::of(exchange.request).without(exchange.keyed).without(shared);
    if unshared.authorization {
        return Err(NotStored::Authorization);
    }
    if rules.credentials == Credentials::Rfc9111 {
        return Ok(());
    }
    if unshared.cookie {
        return Err(NotStored::Cookie);
    }
    let directives = exchange.directives;
    if exchange.response_fields.set_cookie
        && !shared.cookie
        && !directives.private_fields.contains(&header::SET_COOKIE)
        && !directives.no_cache_fields.contains(&header::SET_COOKIE)
    {
        return Err(NotStored::SetCookie);
    }
    Ok(())
}

/// Kinds of credentials that, by what the response says, do not prevent it from being shared.
pub(crate) fn shared_with(directives: &ResponseDirectives, credentials: Credentials) -> CredentialKinds {
    let shared = directives.public || directives.s_maxage.is_some();
    CredentialKinds {
        // RFC 9111 3.5 takes `must-revalidate` for a permission as well, which few origins that send it know.
        authorization: shared || (directives.must_revalidate && credentials == Credentials::Rfc9111),
        // A targeted field with a lifetime is meant for shared caches only.
        cookie: shared || (directives.targeted && directives.max_age.is_some()),
    }
}

/// Whether the key says who asks, or the request has credentials and all of them are in the key, and the rules let that
/// stand for `private`.
fn is_only_for_this_key(exchange: &Exchange<'_>, rules: &Rules) -> bool {
    let carried = CredentialKinds::of(exchange.request);
    let is_keyed = exchange.is_identified || carried.any();
    rules.private_by_key && is_keyed && !carried.without(exchange.keyed).any()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    struct Case {
        is_slice: bool,
        method: Method,
        names_target: bool,
        status: u16,
        request: &'static [(&'static str, &'static str)],
        response: &'static [(&'static str, &'static str)],
        keyed: CredentialKinds,
        rules: Rules,
    }

    impl Default for Case {
        fn default() -> Self {
            Self {
                is_slice: false,
                method: Method::GET,
                names_target: false,
                status: 200,
                request: &[],
                response: &[("cache-control", "max-age=60")],
                keyed: CredentialKinds::default(),
                rules: Rules::default(),
            }
        }
    }

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    impl Case {
        #[track_caller]
        fn gives(&self, expected: Result<(), NotStored>) {
            let (request, response) = (map(self.request), map(self.response));
            let directives = ResponseDirectives::of(&response);
            let status = StatusCode::from_u16(self.status).expect("a status");
            let epoch = std::time::UNIX_EPOCH;
            let (_, source) = super::super::freshness::lifetime(status, &response, &directives, epoch, None);
            let admitted = admit(
                &Exchange {
                    method: &self.method,
                    names_target: self.names_target,
                    is_slice: self.is_slice,
                    request: &request,
                    request_directives: &RequestDirectives::of(&request),
                    keyed: self.keyed,
                    is_identified: false,
                    status,
                    response: &response,
                    response_fields: ResponseFields::of(&response, &[]),
                    directives: &directives,
                    source,
                },
                &self.rules,
            );
            assert_eq!(admitted, expected, "{} {:?} {:?}", self.status, self.request, self.response);
        }
    }

    fn cc(status: u16, response: &'static [(&'static str, &'static str)]) -> Case {
        Case { status, response, ..Case::default() }
    }

    fn drawn(case: Case) -> Case {
        Case { rules: Rules { drawn_errors: true, ..case.rules }, ..case }
    }

    #[test]
    fn st1_only_final_responses_to_understood_methods_are_stored() {
        Case::default().gives(Ok(()));
        for method in [Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
            Case { method, ..Case::default() }.gives(Err(NotStored::Method));
        }
        cc(103, &[("cache-control", "max-age=60")]).gives(Err(NotStored::Status));
        cc(304, &[("cache-control", "max-age=60")]).gives(Err(NotStored::Status));
        cc(206, &[("cache-control", "max-age=60")]).gives(Err(NotStored::Partial));
        let rules = Rules { partial: true, ..Rules::default() };
        Case { rules, ..cc(206, &[("cache-control", "max-age=60")]) }.gives(Ok(()));
        // RA4: what was asked for as a slice.
        Case { is_slice: true, ..cc(206, &[("cache-control", "max-age=60")]) }.gives(Ok(()));
        Case { is_slice: true, ..cc(206, &[("cache-control", "no-store")]) }.gives(Err(NotStored::NoStore));
    }

    #[test]
    fn st1_a_post_that_names_its_target_may_be_stored() {
        let rules = Rules { post: true, ..Rules::default() };
        let post =
            || Case { method: Method::POST, names_target: true, rules: rules.clone(), ..Case::default() };
        post().gives(Ok(()));
        Case { names_target: false, ..post() }.gives(Err(NotStored::Method));
        Case { rules: Rules::default(), ..post() }.gives(Err(NotStored::Method));
        Case { status: 404, ..post() }.gives(Err(NotStored::Method));
        Case { response: &[("cache-control", "public")], ..post() }.gives(Err(NotStored::Method));
        Case { method: Method::PUT, ..post() }.gives(Err(NotStored::Method));
    }

    #[test]
    fn st2_st6_explicit_or_heuristic_freshness_permits_storing() {
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
            drawn(cc(status, &[])).gives(Ok(()));
        }
        for status in [201, 202, 299, 302, 303, 307, 400, 403, 418, 499, 500, 502, 503, 504, 599] {
            drawn(cc(status, &[])).gives(Err(NotStored::Status));
            drawn(cc(status, &[("cache-control", "max-age=60")])).gives(Ok(()));
            drawn(cc(status, &[("cache-control", "s-maxage=60")])).gives(Ok(()));
            drawn(cc(status, &[("cache-control", "public")])).gives(Ok(()));
            drawn(cc(status, &[("expires", "Tue, 01 Sep 2099 00:00:00 GMT")])).gives(Ok(()));
        }
    }

    #[test]
    fn a36_drawn_error_is_the_last_reason_to_refuse_a_response() {
        for status in [400, 403, 405, 406, 413, 415, 416, 417, 418, 429, 431, 501] {
            for line in [("cache-control", "max-age=60"), ("cache-control", "public")] {
                let response: &'static [_] = Box::leak(Box::new([line]));
                cc(status, response).gives(Err(NotStored::DrawnError));
                drawn(cc(status, response)).gives(Ok(()));
            }
        }
        for status in [404, 410, 414, 451, 500, 503] {
            cc(status, &[("cache-control", "max-age=60")]).gives(Ok(()));
        }
        // A policy that lifts it must not lift these.
        cc(400, &[("cache-control", "private, max-age=60")]).gives(Err(NotStored::Private));
        cc(400, &[("cache-control", "no-store")]).gives(Err(NotStored::NoStore));
        cc(400, &[("cache-control", "max-age=60"), ("set-cookie", "a=b")]).gives(Err(NotStored::SetCookie));
        cc(400, &[]).gives(Err(NotStored::Status));
        let cookie = Case { request: &[("cookie", "a=b")], ..cc(400, &[("cache-control", "max-age=60")]) };
        cookie.gives(Err(NotStored::Cookie));
    }

    #[test]
    fn st3_no_store_forbids_storing_unless_must_understand_overrides_it() {
        cc(200, &[("cache-control", "no-store, max-age=60")]).gives(Err(NotStored::NoStore));
        cc(200, &[("cache-control", "no-store, must-understand, max-age=60")]).gives(Ok(()));
        cc(599, &[("cache-control", "must-understand, max-age=60")]).gives(Err(NotStored::NotUnderstood));
        cc(299, &[("cache-control", "must-understand, max-age=60")]).gives(Err(NotStored::NotUnderstood));
        Case { request: &[("cache-control", "no-store")], ..Case::default() }
            .gives(Err(NotStored::RequestNoStore));
    }

    #[test]
    fn st4_private_forbids_storing_unless_the_key_has_the_credential() {
        cc(200, &[("cache-control", "private, max-age=60")]).gives(Err(NotStored::Private));
        cc(200, &[("cache-control", "private=\"x\", max-age=60")]).gives(Ok(()));
        let keyed = CredentialKinds { authorization: true, cookie: false };
        let rules = Rules { private_by_key: true, ..Rules::default() };
        let private = Case {
            request: &[("authorization", "user:one")],
            response: &[("cache-control", "private, max-age=60")],
            keyed,
            rules: rules.clone(),
            ..Case::default()
        };
        private.gives(Ok(()));
        Case { rules: Rules::default(), ..private }.gives(Err(NotStored::Private));
        // A second credential that the key does not hold, and none at all.
        for request in [&[("authorization", "user:one"), ("cookie", "a=b")][..], &[]] {
            Case {
                request,
                response: &[("cache-control", "private, max-age=60")],
                keyed,
                rules: rules.clone(),
                ..Case::default()
            }
            .gives(Err(NotStored::Private));
        }
    }

    #[test]
    fn st5_a_response_to_authorization_needs_permission_to_be_shared() {
        let with = |response| Case {
            request: &[("authorization", "Basic eA==")],
            response,
            rules: Rules { credentials: Credentials::Rfc9111, ..Rules::default() },
            ..Case::default()
        };
        with(&[("cache-control", "max-age=60")]).gives(Err(NotStored::Authorization));
        with(&[("cache-control", "max-age=60, public")]).gives(Ok(()));
        with(&[("cache-control", "s-maxage=60")]).gives(Ok(()));
        with(&[("cache-control", "max-age=60, must-revalidate")]).gives(Ok(()));
        with(&[("cache-control", "max-age=60, proxy-revalidate")]).gives(Err(NotStored::Authorization));
        Case {
            keyed: CredentialKinds { authorization: true, cookie: false },
            ..with(&[("cache-control", "max-age=60")])
        }
        .gives(Ok(()));
    }

    #[test]
    fn a_response_with_cookies_needs_permission_to_be_shared() {
        let with = |response| Case { request: &[("cookie", "a=b")], response, ..Case::default() };
        with(&[("cache-control", "max-age=60")]).gives(Err(NotStored::Cookie));
        with(&[("cache-control", "max-age=60, must-revalidate")]).gives(Err(NotStored::Cookie));
        with(&[("cache-control", "max-age=60, public")]).gives(Ok(()));
        with(&[("cache-control", "s-maxage=60")]).gives(Ok(()));
        cc(200, &[("cache-control", "max-age=60"), ("set-cookie", "a=b")]).gives(Err(NotStored::SetCookie));
        cc(200, &[("cache-control", "public, max-age=60"), ("set-cookie", "a=b")]).gives(Ok(()));
        cc(200, &[("cache-control", "private=\"set-cookie\", max-age=60"), ("set-cookie", "a=b")])
            .gives(Ok(()));
        let strict = Rules { credentials: Credentials::Rfc9111, ..Rules::default() };
        Case { rules: strict.clone(), ..with(&[("cache-control", "max-age=60")]) }.gives(Ok(()));
        Case { rules: strict, ..cc(200, &[("cache-control", "max-age=60"), ("set-cookie", "a=b")]) }
            .gives(Ok(()));
    }

    #[test]
    fn a08_a_malformed_cache_control_forbids_storing() {
        cc(200, &[("cache-control", "max-age=60, private=\"a")]).gives(Err(NotStored::Malformed));
        cc(200, &[("cache-control", "private; max-age=60")]).gives(Err(NotStored::Malformed));
    }

    #[track_caller]
    fn check_effect(reason: NotStored, code: u16, shared: bool, plain: Effect, completed: Effect) {
        let status = StatusCode::from_u16(code).expect("a status");
        let shared = CredentialKinds { authorization: shared, cookie: shared };
        let found = [false, true].map(|is_completed| reason.effect(status, shared, is_completed));
        assert_eq!(found, [plain, completed], "{reason:?} {code} {shared:?}");
    }

    #[test]
    fn a_response_that_is_not_stored_ends_stale_use_of_the_stored_one() {
        use Effect::{EndStaleUse, None, Withdraw};
        // RFC 9111 4.3.3: a full response is newer than the stored one, and a part that no longer may be stored is the same.
        for reason in [NotStored::NoStore, NotStored::Private, NotStored::Vary, NotStored::Policy] {
            check_effect(reason, 200, false, EndStaleUse, Withdraw);
            check_effect(reason, 302, false, EndStaleUse, Withdraw);
            check_effect(reason, 404, false, EndStaleUse, Withdraw);
        }
        for reason in [NotStored::NeverFresh, NotStored::TooLarge, NotStored::Store, NotStored::NoRoom] {
            check_effect(reason, 200, false, EndStaleUse, EndStaleUse);
            check_effect(reason, 410, false, EndStaleUse, EndStaleUse);
        }
        // A server error, and an error that one client can draw, are no news.
        for code in [400, 403, 429, 500, 503] {
            check_effect(NotStored::Status, code, false, None, None);
            check_effect(NotStored::DrawnError, code, false, None, None);
        }
        // What one client has asked for says nothing of what others get.
        for reason in [NotStored::RequestNoStore, NotStored::Incomplete, NotStored::SwitchedOff] {
            check_effect(reason, 200, false, None, None);
        }
        // RFC 9111 3.5: others got the stored one in spite of their credentials.
        for reason in [NotStored::Authorization, NotStored::Cookie] {
            check_effect(reason, 200, false, None, None);
            check_effect(reason, 200, true, EndStaleUse, Withdraw);
        }
    }

    #[test]
    fn only_the_clients_no_store_hides_what_the_origin_says() {
        assert!(NotStored::RequestNoStore.is_clients_wish());
        for reason in [NotStored::NoStore, NotStored::Private, NotStored::Cookie, NotStored::Method] {
            assert!(!reason.is_clients_wish(), "{reason:?}");
        }
    }
}
