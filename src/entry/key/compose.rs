//! Keys that a policy composes.

use http::Uri;
use http::header::{self, HeaderMap, HeaderName};
use http::uri::PathAndQuery;
use smallvec::SmallVec;

use super::{CacheKey, KeyError, Kind, absolute, get};
use crate::semantics::CredentialKinds;
use crate::semantics::credentials::cookies;

impl CacheKey {
    /// The key of a URI by itself, in whatever form it is given: for a policy that maps several targets to one, and for
    /// [`PurgeTarget::Key`](crate::store::PurgeTarget::Key).
    ///
    /// ```
    /// use larder::CacheKey;
    /// // Two hosts have one content.
    /// let key = CacheKey::from_uri(&"https://www.example.com/a?b".parse().unwrap()).unwrap();
    /// assert_eq!(key.uri(), b"https://www.example.com/a?b");
    /// ```
    ///
    /// # Errors
    ///
    /// As [`CacheKey::of`].
    pub fn from_uri(uri: &Uri) -> Result<Self, KeyError> {
        let request = get(uri.clone());
        Ok(Self { bytes: absolute(uri, &request)? })
    }

    /// The same with another query, or with none. Where the key holds two URIs, both get it.
    ///
    /// The inner service sees the request's own query. What a key leaves out must not shape the response, or one client
    /// chooses for all: remove it from the request, too, in [`CachePolicy::request`](crate::CachePolicy::request) or
    /// [`CachePolicy::forward`](crate::CachePolicy::forward).
    ///
    /// ```
    /// use larder::CacheKey;
    /// let key = CacheKey::from_uri(&"http://example.com/a?page=2&utm_source=x".parse().unwrap()).unwrap();
    /// assert_eq!(key.clone().with_query(Some("page=2")).unwrap().uri(), b"http://example.com/a?page=2");
    /// assert_eq!(key.with_query(None).unwrap().uri(), b"http://example.com/a");
    /// ```
    ///
    /// # Errors
    ///
    /// [`KeyError::Query`] where it has bytes that the query of a URI cannot have, or the target is `*`, which has none.
    pub fn with_query(self, query: Option<&str>) -> Result<Self, KeyError> {
        let is_asterisk = self.parts().any(|(kind, ..)| kind == Kind::Asterisk as u8);
        if is_asterisk && query.is_some() {
            return Err(KeyError::Query);
        }
        let asked = replace_query(self.uri(), query)?;
        let rewritten = self.rewritten_uri().map(|uri| replace_query(uri, query)).transpose()?;
        let key = self.with_uri(&asked);
        let Some(rewritten) = rewritten else {
            return Ok(key);
        };
        let mut bytes = Self { bytes: key.bytes[..4 + asked.len()].into() };
        for (kind, name, value) in key.parts() {
            let value = if kind == Kind::Rewritten as u8 { Some(&*rewritten) } else { value };
            bytes.push_part(kind, name, value);
        }
        Ok(bytes)
    }

    /// The same for OPTIONS, whose answers have a key of their own where they are stored.
    #[must_use]
    pub(crate) fn for_options(self) -> Self {
        self.with("method", b"OPTIONS")
    }

    /// The same for a slice of the representation, by its index, among slices of `size` bytes.
    #[must_use]
    pub(crate) fn for_slice(mut self, index: u64, size: u64) -> Self {
        self.push(Kind::Slice, "", Some(format!("{index}*{size}").as_bytes()));
        self
    }

    /// Adds a part; to that of the whole, where this is a slice's.
    #[must_use]
    pub(crate) fn with_in_whole(mut self, name: &str, value: &[u8]) -> Self {
        let length = self.whole().map_or(self.bytes.len(), <[u8]>::len);
        let slice: SmallVec<[u8; 32]> = SmallVec::from_slice(&self.bytes[length..]);
        self.bytes.truncate(length);
        let mut key = self.with(name, value);
        key.bytes.extend_from_slice(&slice);
        key
    }

    /// Adds a part.
    #[must_use]
    pub fn with(mut self, name: &str, value: &[u8]) -> Self {
        self.push(Kind::Part, name, Some(value));
        self
    }

    /// Adds the fact that a part is absent, which no value of it says.
    #[must_use]
    pub fn with_absent(mut self, name: &str) -> Self {
        self.push(Kind::Part, name, None);
        self
    }

    /// Adds a request field, its lines one by one, or the fact that it is absent. A key with `Authorization` or
    /// `Cookie` holds that credential: responses under it belong to one user. A part with such a name that was added by
    /// [`CacheKey::with`] is a different part, and holds no credential.
    #[must_use]
    pub fn with_field(mut self, name: &HeaderName, headers: &HeaderMap) -> Self {
        let mut lines = headers.get_all(name).into_iter().peekable();
        if lines.peek().is_none() {
            self.push(Kind::Field, name.as_str(), None);
        }
        for line in lines {
            self.push(Kind::Field, name.as_str(), Some(line.as_bytes()));
        }
        self
    }

    /// Adds one cookie.
    #[must_use]
    pub(crate) fn with_cookie_pair(mut self, name: &[u8], value: &[u8]) -> Self {
        self.push_part(Kind::Cookie as u8, name, Some(value));
        self
    }

    /// Adds the cookies of a name, in their order, or the fact that there is none. Names compare byte for byte (RFC 6265 5.4).
    ///
    /// The key holds the credential `Cookie` of a request whose cookies are all in the key. A policy that keys some of
    /// them and removes the others from the request makes the answer shareable among those who send the same.
    ///
    /// ```
    /// use http::HeaderMap;
    /// use larder::CacheKey;
    /// let mut headers = HeaderMap::new();
    /// headers.insert("cookie", "theme=dark; id=1".parse().unwrap());
    /// let key = CacheKey::from_uri(&"http://example.com/".parse().unwrap()).unwrap();
    /// let themed = key.with_cookie("theme", &headers);
    /// assert!(!themed.keyed_credentials(&headers).cookie);
    /// assert!(themed.with_cookie("id", &headers).keyed_credentials(&headers).cookie);
    /// ```
    #[must_use]
    pub fn with_cookie(mut self, name: &str, headers: &HeaderMap) -> Self {
        let mut values = cookies(headers).filter(|(own, _)| *own == name.as_bytes()).peekable();
        if values.peek().is_none() {
            self.push(Kind::Cookie, name, None);
        }
        for (_, value) in values {
            self.push(Kind::Cookie, name, Some(value));
        }
        self
    }

    /// Adds who asks, as a layer in front of the cache has found out: `name` says what kind of identity it is, such as
    /// `user`. The key then counts as holding every credential of the request, so it has to be all that they prove:
    /// whoever has the same identity may get the same answer.
    #[must_use]
    pub fn with_identity(mut self, name: &str, identity: &[u8]) -> Self {
        self.push(Kind::Identity, name, Some(identity));
        self
    }

    /// Adds the fact that nobody knows who asks. Such a key holds no credential by an identity, whatever others it has.
    #[must_use]
    pub fn with_absent_identity(mut self, name: &str) -> Self {
        self.push(Kind::Identity, name, None);
        self
    }

    /// Whether the key says who asks: by every kind of identity that it has a place for.
    pub(crate) fn is_identified(&self) -> bool {
        let mut identities = self.parts().filter(|(kind, ..)| *kind == Kind::Identity as u8).peekable();
        identities.peek().is_some() && identities.all(|(_, _, identity)| identity.is_some())
    }

    /// Whether the key has cookies, and each of a request by its name.
    fn has_cookies(&self, request: &HeaderMap) -> bool {
        let names = || self.parts().filter(|(kind, ..)| *kind == Kind::Cookie as u8).map(|(_, name, _)| name);
        if names().next().is_none() {
            return false;
        }
        // As rules add them: in the order that the request has.
        let mut rest = names();
        if cookies(request).all(|(name, _)| rest.any(|own| own == name)) {
            return true;
        }
        // A client can send so many that looking through all for each takes minutes.
        let mut sorted: SmallVec<[&[u8]; 16]> = names().collect();
        sorted.sort_unstable();
        cookies(request).all(|(name, _)| sorted.binary_search(&name).is_ok())
    }

    /// Which credentials of a request with these fields the key holds.
    pub fn keyed_credentials(&self, request: &HeaderMap) -> CredentialKinds {
        if self.is_uri_only() {
            return CredentialKinds::default();
        }
        let has =
            |kind: Kind, own: &[u8]| self.parts().any(|(other, name, _)| other == kind as u8 && name == own);
        if self.is_identified() {
            return CredentialKinds::ALL;
        }
        let has_field = |field: &HeaderName| has(Kind::Field, field.as_str().as_bytes());
        CredentialKinds {
            authorization: has_field(&header::AUTHORIZATION),
            cookie: has_field(&header::COOKIE) || self.has_cookies(request),
        }
    }
}

/// A URI with another query.
fn replace_query(uri: &[u8], query: Option<&str>) -> Result<Vec<u8>, KeyError> {
    let path = uri.split(|&byte| byte == b'?').next().unwrap_or_default();
    let Some(query) = query else {
        return Ok(path.into());
    };
    let target = format!("/?{query}");
    // A `#` would be read as the beginning of something else.
    if PathAndQuery::try_from(&*target).is_ok_and(|parsed| parsed.as_str() == target) {
        Ok([path, &target.as_bytes()[1..]].concat())
    } else {
        Err(KeyError::Query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(uri: &str) -> CacheKey {
        CacheKey::from_uri(&uri.parse().expect("a URI")).expect("a key")
    }

    fn sending(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_uri_has_the_key_of_a_plain_request_for_it() {
        for uri in ["http://A:80/x?y", "https://a/", "*", "/x"] {
            let (request, ()) = http::Request::get(uri).body(()).expect("a request").into_parts();
            assert_eq!(of(uri), CacheKey::of(&request).expect("a key"), "{uri}");
        }
        let with_user = "http://user@a/".parse().expect("a URI");
        assert_eq!(CacheKey::from_uri(&with_user), Err(KeyError::Authority));
    }

    #[test]
    fn a_query_is_replaced_in_every_uri_of_the_key() {
        let key = of("http://a/x?one").with("p", b"1");
        assert_eq!(key.clone().with_query(Some("two")), Ok(of("http://a/x?two").with("p", b"1")));
        assert_eq!(key.clone().with_query(Some("")), Ok(of("http://a/x?").with("p", b"1")));
        assert_eq!(key.with_query(None), Ok(of("http://a/x").with("p", b"1")));
        let rewritten = of("http://a/x?one").rewritten_to(b"http://a/y?one").with("p", b"1");
        let expected = of("http://a/x?two").rewritten_to(b"http://a/y?two").with("p", b"1");
        assert_eq!(rewritten.with_query(Some("two")), Ok(expected));
    }

    #[test]
    fn a03_a_query_with_invalid_characters_is_refused() {
        for query in ["a#b", "a b", "a\r\nb", "\u{7f}"] {
            assert_eq!(of("http://a/x").with_query(Some(query)), Err(KeyError::Query), "{query:?}");
        }
        assert_eq!(of("*").with_query(Some("x")), Err(KeyError::Query));
        let key = of("http://a/x").with_query(Some("/../y?z")).expect("a query");
        assert_eq!(CacheKey::from_bytes(key.as_bytes()), Ok(key));
    }

    #[test]
    fn a03_cookies_fields_and_other_parts_of_one_name_are_distinct() {
        let headers = sending(&[(header::COOKIE, "cookie=1")]);
        let key = || of("http://a/");
        let keys = [
            key().with("cookie", b"1"),
            key().with_cookie("cookie", &headers),
            key().with_cookie("cookie", &HeaderMap::new()),
            key().with_field(&header::COOKIE, &headers),
            key().with_identity("cookie", b"1"),
            key(),
        ];
        for (at, one) in keys.iter().enumerate() {
            assert!(keys[at + 1..].iter().all(|other| one != other), "{at}");
        }
        let twice = sending(&[(header::COOKIE, "a=1; b=2; a=3")]);
        let (once, other) = (sending(&[(header::COOKIE, "a=1")]), sending(&[(header::COOKIE, "a=1; A=3")]));
        let of_a = |headers| key().with_cookie("a", headers);
        assert!(of_a(&twice) != of_a(&once) && of_a(&once) == of_a(&other));
    }

    #[test]
    fn a_key_holds_the_cookies_only_if_it_has_each_of_them() {
        let held = |key: CacheKey, headers: &HeaderMap| key.keyed_credentials(headers).cookie;
        let both = sending(&[(header::COOKIE, "a=1"), (header::COOKIE, "b=2")]);
        let key = || of("http://a/").with_cookie("a", &both);
        assert!(!held(key(), &both) && held(key().with_cookie("b", &both), &both));
        assert!(!held(key().with("b", b"2").with_field(&header::ACCEPT, &both), &both));
        let nameless = sending(&[(header::COOKIE, "a=1; secret")]);
        assert!(!held(key(), &nameless) && held(key().with_cookie("", &nameless), &nameless));
        assert!(!key().keyed_credentials(&both).authorization);
        // A key without any holds none, also where the field is empty.
        assert!(!held(of("http://a/").with("x", b"1"), &sending(&[(header::COOKIE, "")])));
    }

    #[test]
    fn very_many_cookies_are_found_in_a_key_in_whatever_order() {
        const MANY: usize = 70_000;
        let sent = |cookies: &mut dyn Iterator<Item = usize>| {
            let line: Vec<_> = cookies.map(|number| format!("{number:x}=")).collect();
            let line = HeaderValue::try_from(line.join("; ")).expect("a value");
            HeaderMap::from_iter([(header::COOKIE, line)])
        };
        let (rising, falling) = (sent(&mut (0..MANY)), sent(&mut (0..MANY).rev()));
        let keyed = |headers: &HeaderMap| {
            cookies(headers).fold(of("http://a/"), |key, (name, value)| key.with_cookie_pair(name, value))
        };
        let begun = std::time::Instant::now();
        for headers in [&rising, &falling] {
            assert!(keyed(&rising).keyed_credentials(headers).cookie);
        }
        let more = sent(&mut (0..=MANY));
        assert!(!keyed(&rising).keyed_credentials(&more).cookie);
        // It takes milliseconds; looking through all for each takes many minutes.
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    }

    #[test]
    fn an_identity_counts_as_every_credential() {
        let headers = sending(&[(header::COOKIE, "a=1"), (header::AUTHORIZATION, "x")]);
        let key = of("http://a/").with_identity("user", b"7");
        assert_eq!(key.keyed_credentials(&headers), CredentialKinds::ALL);
        assert_ne!(key, of("http://a/").with_identity("user", b"8"));
        assert_ne!(key, of("http://a/").with_identity("tenant", b"7"));
        assert!(!format!("{key:?}").contains("user"), "{key:?}");
    }

    #[test]
    fn an_absent_identity_is_no_credential_and_no_identity() {
        let headers = sending(&[(header::COOKIE, "a=1")]);
        let key = || of("http://a/");
        let nobody = key().with_absent_identity("user");
        assert_eq!(nobody.keyed_credentials(&headers), CredentialKinds::default());
        // Who is known by one name is not known by all.
        let half = nobody.clone().with_identity("tenant", b"1");
        assert_eq!(half.keyed_credentials(&headers), CredentialKinds::default());
        let keys =
            [nobody, key().with_identity("user", b""), key().with_absent("user"), key().with("user", b"")];
        for (at, one) in keys.iter().enumerate() {
            assert!(keys[at + 1..].iter().all(|other| one != other), "{at}");
        }
    }
}
