//! Which responses get an entity tag of this cache's own (RFC 9110 8.8.3).

use http::{Method, StatusCode};

use super::cache_control::ResponseDirectives;
use super::methods::is_retrieval;
use super::storing::NotStored;

/// Whether a response is given an entity tag that is generated: it has none, it is a success that is the representation, and
/// a later request could be conditional on the tag. `sent_method` is the method as it was sent.
pub(crate) fn is_taggable(
    sent_method: &Method,
    status: StatusCode,
    has_tag: bool,
    directives: &ResponseDirectives,
    store: Result<(), NotStored>,
) -> bool {
    is_retrieval(sent_method)
        && matches!(status, StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION)
        && !has_tag
        && !(directives.no_store && store.is_err())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::map;

    #[track_caller]
    fn check(
        method: Method,
        code: u16,
        fields: &[(&'static str, &'static str)],
        store: Result<(), NotStored>,
        expected: bool,
    ) {
        let (headers, status) = (map(fields), StatusCode::from_u16(code).expect("a status"));
        let directives = ResponseDirectives::of(&headers);
        let found = is_taggable(&method, status, headers.contains_key("etag"), &directives, store);
        assert_eq!(found, expected, "{method} {code} {fields:?} {store:?}");
    }

    #[test]
    fn fe1_a_success_without_a_tag_gets_one() {
        let no_store = &[("cache-control", "no-store")];
        for method in [Method::GET, Method::QUERY] {
            check(method.clone(), 200, &[], Ok(()), true);
            check(method, 203, &[], Ok(()), true);
        }
        for code in [201, 204, 206, 301, 304, 404, 500] {
            check(Method::GET, code, &[], Ok(()), false);
        }
        // RFC 9110 9.3.2: the content of a HEAD is not there to be read; that of a POST is not the target's.
        for method in [Method::HEAD, Method::POST, Method::PUT] {
            check(method, 200, &[], Ok(()), false);
        }
        // The origin's own tag stays, whatever it is.
        for tag in ["\"a\"", "W/\"a\"", "unquoted", ""] {
            check(Method::GET, 200, &[("etag", tag)], Ok(()), false);
        }
        check(Method::GET, 200, &[("last-modified", "Tue, 01 Sep 2026 00:00:00 GMT")], Ok(()), true);
        // RFC 9111 5.2.2.5: nobody keeps it, so that nobody could ask about it again. A policy may store it all the same.
        check(Method::GET, 200, no_store, Err(NotStored::NoStore), false);
        check(Method::GET, 200, no_store, Ok(()), true);
        check(Method::GET, 200, &[("cache-control", "private")], Err(NotStored::Private), true);
    }
}
