//! A 200 to a HEAD, and the stored response to a GET that it speaks of (RFC 9110 9.3.2, RFC 9111 4.3.5).

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};

use super::credentials::CredentialKinds;
use super::rules::Rules;
use super::storing::{Effect, NotStored};
use super::validation::Validators;

/// The method with which the inner service is asked. A HEAD that is about nothing stored (`has_selected`) can go out as a
/// GET, so that the answer can be stored.
pub(crate) fn sent_method(method: &Method, has_selected: bool, rules: &Rules) -> Method {
    let becomes_get = *method == Method::HEAD && !has_selected && rules.head_as_get;
    if becomes_get { Method::GET } else { method.clone() }
}

/// Whether a response is the 200 to a HEAD that a stored GET could have answered.
pub(crate) fn is_about_stored(sent_method: &Method, has_selected: bool, status: StatusCode) -> bool {
    *sent_method == Method::HEAD && has_selected && status == StatusCode::OK
}

/// Whether a response to HEAD is of the representation that is stored (RFC 9111 4.3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agreement {
    /// One of the fields differs.
    Contradicts,
    /// Each of the fields that the response has is the stored one.
    Holds,
    /// It has none of the fields by which that could be said.
    Silent,
}

/// Compares a response to HEAD with a stored response by `ETag`, `Last-Modified` and `Content-Length` (RFC 9111 4.3.5).
/// `own` are the origin's validators and `length` the `Content-Length` of the stored response.
pub(crate) fn agreement(own: Validators<'_>, length: Option<&[u8]>, response: &HeaderMap) -> Agreement {
    let known = [
        (header::ETAG, own.etag),
        (header::LAST_MODIFIED, own.last_modified),
        (header::CONTENT_LENGTH, length),
    ];
    let mut compared = known
        .iter()
        .filter_map(|(name, own)| response.get(name).map(|value| Some(value.as_bytes()) == *own))
        .peekable();
    if compared.peek().is_none() {
        Agreement::Silent
    } else if compared.all(|is_equal| is_equal) {
        Agreement::Holds
    } else {
        Agreement::Contradicts
    }
}

impl Agreement {
    /// What a response to HEAD that does not hold does to the stored response. `word` is whether a GET with its fields could
    /// be stored, as far as the origin and the policy are concerned.
    pub(crate) fn effect(self, word: Result<(), NotStored>, shared: CredentialKinds) -> Effect {
        match (word, self) {
            (Err(reason), _) if reason.withdraws(shared) => Effect::Withdraw,
            (_, Self::Contradicts) => Effect::Expire,
            (_, Self::Holds | Self::Silent) => Effect::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::map;
    use http::HeaderValue;

    const DATE: &str = "Tue, 01 Sep 2026 00:00:00 GMT";

    #[track_caller]
    fn check_method(method: Method, has_selected: bool, switch: bool, expected: Method) {
        let rules = Rules { head_as_get: switch, ..Rules::default() };
        let sent = sent_method(&method, has_selected, &rules);
        assert_eq!(sent, expected, "{method} {has_selected} {switch}");
    }

    #[test]
    fn a_head_is_forwarded_as_a_get_if_no_stored_response_is_selected() {
        check_method(Method::HEAD, false, true, Method::GET);
        check_method(Method::HEAD, true, true, Method::HEAD);
        check_method(Method::HEAD, false, false, Method::HEAD);
        check_method(Method::GET, false, true, Method::GET);
        check_method(Method::QUERY, false, true, Method::QUERY);
    }

    #[test]
    fn only_a_200_to_a_head_describes_the_stored_response() {
        for (method, has_selected, code, expected) in [
            (Method::HEAD, true, 200, true),
            (Method::HEAD, false, 200, false),
            (Method::GET, true, 200, false),
            (Method::HEAD, true, 203, false),
            (Method::HEAD, true, 304, false),
            (Method::HEAD, true, 404, false),
        ] {
            let status = StatusCode::from_u16(code).expect("a status");
            assert_eq!(is_about_stored(&method, has_selected, status), expected, "{method} {code}");
        }
    }

    #[track_caller]
    fn check(
        stored: &[(&'static str, &'static str)],
        response: &[(&'static str, &'static str)],
        expected: Agreement,
    ) {
        let headers = map(stored);
        let field = |name| headers.get(name).map(HeaderValue::as_bytes);
        let own = Validators { etag: field("etag"), last_modified: field("last-modified") };
        assert_eq!(
            agreement(own, field("content-length"), &map(response)),
            expected,
            "{stored:?} {response:?}"
        );
    }

    #[test]
    fn re6_the_response_to_a_head_agrees_with_the_stored_one_or_contradicts_it() {
        use Agreement::{Contradicts, Holds, Silent};
        // RFC 9111 4.3.5.
        let (tag, modified, length) = (("etag", "\"a\""), ("last-modified", DATE), ("content-length", "5"));
        let all = [tag, modified, length];
        check(&all, &all, Holds);
        check(&all, &[tag], Holds);
        check(&all, &[modified], Holds);
        check(&all, &[length], Holds);
        check(&all, &[], Silent);
        check(&all, &[("content-type", "text/plain")], Silent);
        check(&[], &[], Silent);
        check(&all, &[("etag", "\"b\"")], Contradicts);
        check(&all, &[("last-modified", "Wed, 02 Sep 2026 00:00:00 GMT")], Contradicts);
        check(&all, &[("content-length", "6")], Contradicts);
        // One of them is enough.
        check(&all, &[tag, ("content-length", "6")], Contradicts);
        check(&all, &[("etag", "\"b\""), modified, length], Contradicts);
        // A field that the stored response lacks is news.
        check(&[length], &[tag, length], Contradicts);
        check(&[], &[tag], Contradicts);
    }

    #[test]
    fn re6_a_generated_tag_is_not_compared() {
        let response = map(&[("content-length", "5")]);
        assert_eq!(agreement(Validators::default(), Some(b"5"), &response), Agreement::Holds);
        let response = map(&[("etag", "W/\"ours\""), ("content-length", "5")]);
        assert_eq!(agreement(Validators::default(), Some(b"5"), &response), Agreement::Contradicts);
    }

    #[test]
    fn re6_the_response_to_a_head_freshens_expires_or_withdraws_the_stored_one() {
        use Agreement::{Contradicts, Silent};
        let none = CredentialKinds::default();
        let cookie = CredentialKinds { cookie: true, ..none };
        for (agreement, word, shared, expected) in [
            (Silent, Ok(()), none, Effect::None),
            (Contradicts, Ok(()), none, Effect::Expire),
            // The origin forbids what is stored.
            (Silent, Err(NotStored::NoStore), none, Effect::Withdraw),
            (Contradicts, Err(NotStored::Private), none, Effect::Withdraw),
            (Silent, Err(NotStored::Cookie), cookie, Effect::Withdraw),
            // These say nothing about what others get.
            (Silent, Err(NotStored::Cookie), none, Effect::None),
            (Silent, Err(NotStored::NeverFresh), none, Effect::None),
            (Contradicts, Err(NotStored::NeverFresh), none, Effect::Expire),
        ] {
            assert_eq!(agreement.effect(word, shared), expected, "{agreement:?} {word:?}");
        }
    }
}
