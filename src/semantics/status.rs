//! What a status says about caching (RFC 9110 15).

use http::StatusCode;

/// RFC 9110 15.1.
pub(crate) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Whether the caching rules of a status are implemented: the final ones that RFC 9110 15 defines,
/// except 304.
pub(crate) fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=206 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505
    )
}

/// Whether a client can provoke this error by the fields of its request, for a target that answers others normally.
/// Such an error says nothing about what others get.
///
/// 404, 410 and 451 speak of the target, and 414 of its URI: the key holds these. Every other 4xx, known or not, speaks
/// of the request or of its sender, and so do 501 (method, transfer coding), 505 (version) and 510 (extension).
pub(crate) fn is_drawn_by_request(status: StatusCode) -> bool {
    let of_target = matches!(status.as_u16(), 404 | 410 | 414 | 451);
    (status.is_client_error() && !of_target) || matches!(status.as_u16(), 501 | 505 | 510)
}

/// Whether a status says that the server has failed. A status above 599 is invalid, and counts as a 500 (RFC 9110 15).
pub(crate) fn is_server_error(status: StatusCode) -> bool {
    status.as_u16() >= 500
}

/// Whether a status is an error's: a client error or a server error.
pub(crate) fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || is_server_error(status)
}

/// Whether a status makes sense only in answer to a request for a part, or for a client that has one (RFC 9110 13, 14).
pub(crate) fn is_about_a_part(status: StatusCode) -> bool {
    matches!(status.as_u16(), 206 | 304 | 412 | 416)
}

/// Whether a stored response may stand in for one with this status (RFC 5861 4).
pub(crate) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504 | 600..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: u16, server_error: bool, failure: bool) {
        let status = StatusCode::from_u16(code).expect("a status");
        assert_eq!((is_server_error(status), is_failure(status)), (server_error, failure), "{code}");
    }

    #[test]
    fn a36_the_status_says_whether_a_request_can_draw_the_error() {
        let drawn = |code| is_drawn_by_request(StatusCode::from_u16(code).expect("a status"));
        // RFC 9110 15.5, RFC 6585, RFC 7725: the target, or its URI.
        for code in [404, 410, 414, 451] {
            assert!(!drawn(code), "{code}");
        }
        // What the request says, what it lacks, how often it comes, and what nobody has defined.
        for code in (400..500).filter(|code| ![404, 410, 414, 451].contains(code)) {
            assert!(drawn(code), "{code}");
        }
        // RFC 9110 15.6.2, 15.6.6; RFC 2774 7. Any other 5xx says that the server is not well.
        for code in 500..1000 {
            assert_eq!(drawn(code), [501, 505, 510].contains(&code), "{code}");
        }
        for code in [200, 206, 301, 302, 308] {
            assert!(!drawn(code), "{code}");
        }
    }

    #[test]
    fn the_status_says_whether_a_response_is_an_error_or_about_a_part() {
        // RFC 9110 13.2.2, 15.
        for (code, error, part) in [
            (103, false, false),
            (200, false, false),
            (204, false, false),
            (206, false, true),
            (302, false, false),
            (304, false, true),
            (400, true, false),
            (404, true, false),
            (412, true, true),
            (416, true, true),
            (499, true, false),
            (500, true, false),
            (599, true, false),
            (600, true, false),
        ] {
            let status = StatusCode::from_u16(code).expect("a status");
            assert_eq!((is_error(status), is_about_a_part(status)), (error, part), "{code}");
        }
    }

    #[test]
    fn b07_a_status_above_599_counts_as_a_server_error() {
        check(200, false, false);
        check(499, false, false);
        check(500, true, true);
        check(501, true, false);
        check(503, true, true);
        check(599, true, false);
        check(600, true, true);
        check(999, true, true);
    }
}
