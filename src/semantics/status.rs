//! What a status says of caching (RFC 9110 15).

use http::StatusCode;

/// RFC 9110 15.1.
pub fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Whether the caching rules of a status are implemented: the final ones that RFC 9110 15 defines,
/// except 304.
pub fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=206 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505
    )
}

/// Whether a status says that the server has failed. One above 599 is none that exists, and counts as a 500 (RFC 9110 15).
pub fn is_server_error(status: StatusCode) -> bool {
    status.as_u16() >= 500
}

/// Whether a stored response may stand in for one with this status (RFC 5861 4).
pub fn is_failure(status: StatusCode) -> bool {
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
