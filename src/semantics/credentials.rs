//! Who may share a response, in spite of which credentials (RFC 9111 3.5).

use http::header::{self, HeaderMap};

/// What a response must say before it is shared between people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// `Authorization` as in RFC 9111 3.5, and `Cookie` and `Set-Cookie` in the same way: stored, and
    /// reused for requests that carry credentials, only where the response says `public` or `s-maxage` (for
    /// cookies, a targeted lifetime does too), or the key holds the credential.
    Explicit,
    /// RFC 9111 3.5 to the letter: it knows `Authorization` on the request that is stored, and nothing else.
    Rfc9111,
}

/// Kinds of credentials: those that a request carries, that a key holds, or that do not prevent a response from being
/// shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CredentialKinds {
    /// `Authorization`.
    pub authorization: bool,
    /// `Cookie`, the whole field.
    pub cookie: bool,
}

impl CredentialKinds {
    /// Every kind.
    pub const ALL: Self = Self { authorization: true, cookie: true };

    /// The kinds that a request carries.
    pub fn of(request: &HeaderMap) -> Self {
        // One pass costs less than to look for each.
        request.keys().fold(Self::default(), |kinds, name| Self {
            authorization: kinds.authorization || name == header::AUTHORIZATION,
            cookie: kinds.cookie || name == header::COOKIE,
        })
    }

    /// The kinds that are not among `others`.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self {
            authorization: self.authorization && !others.authorization,
            cookie: self.cookie && !others.cookie,
        }
    }

    /// Whether there is any.
    pub fn any(self) -> bool {
        self.authorization || self.cookie
    }
}

/// The cookies of a request, by name and value, byte for byte (RFC 6265 4.2.1). One without a name has an empty one.
pub(crate) fn cookies(request: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = request.get_all(header::COOKIE).into_iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';').map(<[u8]>::trim_ascii));
    pairs.filter(|pair| !pair.is_empty()).map(|pair| match pair.iter().position(|&byte| byte == b'=') {
        Some(end) => (&pair[..end], &pair[end + 1..]),
        None => (&[][..], pair),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::map;

    #[test]
    fn every_byte_of_a_cookie_belongs_to_its_name_or_its_value() {
        let found = |lines: &[&'static str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            cookies(&map(&lines)).map(|(name, value)| (text(name), text(value))).collect::<Vec<_>>()
        };
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        // RFC 6265 4.2.1, 5.2; RFC 9113 8.2.3 for several lines.
        assert_eq!(found(&["a=1; b=2", "c=3"]), pairs(&[("a", "1"), ("b", "2"), ("c", "3")]));
        assert_eq!(found(&["a=1;;  ; a=2"]), pairs(&[("a", "1"), ("a", "2")]));
        assert_eq!(found(&["a=b=c; d; =e; f="]), pairs(&[("a", "b=c"), ("", "d"), ("", "e"), ("f", "")]));
        assert_eq!(found(&["a =1; A=\"x, y\""]), pairs(&[("a ", "1"), ("A", "\"x, y\"")]));
        assert_eq!(found(&[]), pairs(&[]));
    }

    #[track_caller]
    fn check(request: &[(&'static str, &'static str)], authorization: bool, cookie: bool) {
        let found = CredentialKinds::of(&map(request));
        assert_eq!(found, CredentialKinds { authorization, cookie }, "{request:?}");
        assert_eq!(found.any(), authorization || cookie, "{request:?}");
        assert!(!found.without(found).any(), "{request:?}");
        assert_eq!(found.without(CredentialKinds::default()), found, "{request:?}");
    }

    #[test]
    fn authorization_and_cookie_are_the_credentials_of_a_request() {
        // RFC 9110 11.6.2, RFC 6265 4.2.
        check(&[], false, false);
        check(&[("authorization", "Basic eA==")], true, false);
        check(&[("cookie", "a=b")], false, true);
        check(&[("cookie", ""), ("authorization", "")], true, true);
        // These are for the next hop, or the other way.
        check(&[("proxy-authorization", "Basic eA=="), ("set-cookie", "a=b")], false, false);
    }
}
