//! What a method says of caching (RFC 9110 9).

use http::Method;

/// Whether a method retrieves a representation that can be shared: GET, and QUERY with its content (RFC 10008 2).
pub(crate) fn is_retrieval(method: &Method) -> bool {
    *method == Method::GET || *method == Method::QUERY
}

/// Whether a method is known to be safe (RFC 9110 9.2.1; QUERY: RFC 10008).
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "QUERY" | "PROPFIND" | "REPORT" | "SEARCH"
    )
}

/// Whether a method may change what its target gives. CONNECT has no target that is stored.
pub(crate) fn is_unsafe(method: &Method) -> bool {
    !is_safe(method) && method != Method::CONNECT
}

/// Whether conditions mean anything with a method whose answer is stored (RFC 9110 13.2.1).
pub(crate) fn may_be_conditional(method: &Method) -> bool {
    *method != Method::OPTIONS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_get_and_query_retrieve_their_target() {
        // RFC 9110 9.3; RFC 10008 2.
        for (method, expected) in [
            (Method::GET, true),
            (Method::QUERY, true),
            (Method::HEAD, false),
            (Method::OPTIONS, false),
            (Method::POST, false),
            (Method::PUT, false),
        ] {
            assert_eq!(is_retrieval(&method), expected, "{method}");
        }
    }

    #[test]
    fn in1_only_unsafe_methods_may_change_their_target() {
        // RFC 9110 9.2.1, 9.3.6; RFC 10008 2.
        for (method, expected) in [
            ("GET", false),
            ("HEAD", false),
            ("OPTIONS", false),
            ("TRACE", false),
            ("QUERY", false),
            ("PROPFIND", false),
            ("CONNECT", false),
            ("POST", true),
            ("PUT", true),
            ("DELETE", true),
            ("PATCH", true),
            ("PURGE", true),
            ("get", true),
        ] {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            assert_eq!(is_unsafe(&method), expected, "{method}");
        }
    }
}
