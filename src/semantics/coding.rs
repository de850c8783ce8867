//! The content codings of a response (RFC 9110 8.4), and which requests accept them.

use http::header::{self, HeaderMap};

use super::accept::{accepts_coding, unaliased};
use super::fields::{Members, list};

/// The codings of IANA's registry, each by one of its names. `identity` is none.
const REGISTERED: [&[u8]; 10] =
    [b"aes128gcm", b"br", b"compress", b"dcb", b"dcz", b"deflate", b"exi", b"gzip", b"pack200-gzip", b"zstd"];

/// The registered codings of a response whose `Vary` does not name `Accept-Encoding`. Many origins that compress forget
/// the field, and give every coding the same tag; then only the request says whether its client can decode the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Coded(Box<[&'static [u8]]>);

impl Coded {
    /// `None` if the content has no registered coding.
    pub(super) fn of(response: &HeaderMap) -> Option<Self> {
        if !response.contains_key(header::CONTENT_ENCODING) {
            return None;
        }
        let codings: Box<[_]> = list(response, &header::CONTENT_ENCODING).filter_map(registered).collect();
        (!codings.is_empty()).then_some(Self(codings))
    }

    pub(super) fn names(&self) -> &[&'static [u8]] {
        &self.0
    }

    /// The codings by the names under which they are registered; `None` where one is not, or there is none.
    pub(super) fn of_names(names: &[&[u8]]) -> Option<Self> {
        let find = |name: &&[u8]| REGISTERED.into_iter().find(|registered| registered == name);
        let codings: Box<[_]> = names.iter().map(find).collect::<Option<_>>()?;
        (!codings.is_empty()).then_some(Self(codings))
    }

    pub(super) fn suits(&self, request: &HeaderMap) -> bool {
        self.0.iter().all(|coding| accepts_coding(request, coding))
    }

    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.0)
    }
}

/// Whether content with this `Content-Encoding`, if any, is in a registered coding.
pub(crate) fn is_coded(field: Option<&[u8]>) -> bool {
    members(field).any(|member| registered(member).is_some())
}

/// Whether two responses have their content in the same codings.
pub(crate) fn is_same(one: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    let codings = |field| members(field).filter(|member| !member.eq_ignore_ascii_case(b"identity"));
    let unaliased = |member: &[u8]| unaliased(member.to_ascii_lowercase().into_boxed_slice());
    codings(one).map(unaliased).eq(codings(other).map(unaliased))
}

/// Whether a request accepts all registered codings of content with this `Content-Encoding`.
pub(crate) fn is_accepted(field: Option<&[u8]>, request: &HeaderMap) -> bool {
    members(field).filter_map(registered).all(|coding| accepts_coding(request, coding))
}

fn members(field: Option<&[u8]>) -> impl Iterator<Item = &[u8]> {
    Members::new(field.unwrap_or_default())
}

fn registered(member: &[u8]) -> Option<&'static [u8]> {
    let name = unaliased(member.to_ascii_lowercase().into_boxed_slice());
    REGISTERED.into_iter().find(|registered| **registered == *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[track_caller]
    fn check(codings: &'static str, accepted: Option<&'static str>, expected: bool) {
        let (mut response, mut request) = (HeaderMap::new(), HeaderMap::new());
        response.insert(header::CONTENT_ENCODING, HeaderValue::from_static(codings));
        request
            .extend(accepted.map(|accepted| (header::ACCEPT_ENCODING, HeaderValue::from_static(accepted))));
        let suits = Coded::of(&response).is_none_or(|coded| coded.suits(&request));
        assert_eq!(suits, expected, "{codings} for {accepted:?}");
    }

    #[test]
    fn b01_a_registered_coding_goes_to_requests_that_accept_it() {
        // RFC 9110 12.5.3.
        check("gzip", Some("gzip"), true);
        check("gzip", Some("br, GZIP;q=0.1"), true);
        check("gzip", Some("x-gzip"), true);
        check("X-GZip", Some("gzip"), true);
        check("gzip", Some("*"), true);
        check("gzip", Some("gzip;q=0, *"), false);
        check("gzip", Some("*;q=0, gzip"), true);
        check("gzip", Some("br"), false);
        check("gzip", Some("identity"), false);
        check("gzip", Some(""), false);
        check("gzip", Some("gzip;q=0"), false);
        // By the letter it accepts anything; clients that do not send it can't decode.
        check("gzip", None, false);
        // Every coding of several.
        check("gzip, br", Some("gzip, br"), true);
        check("gzip, br", Some("br"), false);
        // Nobody knows how an origin reads that.
        check("gzip", Some("gzip, br;level=1"), false);
    }

    #[test]
    fn b01_identity_and_unknown_codings_go_to_every_request() {
        for codings in ["identity", "", "sdch", "aws-chunked", "sdch, identity"] {
            check(codings, None, true);
            check(codings, Some("gzip"), true);
        }
        check("sdch, gzip", None, false);
    }

    #[test]
    fn codings_are_compared_by_their_names() {
        for (one, other, expected) in [
            (None, None, true),
            (None, Some("identity"), true),
            (None, Some(""), true),
            (Some("gzip"), Some("GZip"), true),
            (Some("x-gzip"), Some("gzip"), true),
            (Some("gzip"), None, false),
            (Some("gzip"), Some("br"), false),
            (Some("gzip, br"), Some("gzip,br"), true),
            (Some("gzip, br"), Some("br, gzip"), false),
            (Some("sdch"), None, false),
        ] {
            let bytes = |field: Option<&'static str>| field.map(str::as_bytes);
            assert_eq!(is_same(bytes(one), bytes(other)), expected, "{one:?} {other:?}");
            assert_eq!(is_same(bytes(other), bytes(one)), expected, "{other:?} {one:?}");
        }
        assert!(is_coded(Some(b"sdch, X-Gzip")) && !is_coded(Some(b"sdch")) && !is_coded(None));
    }
}
