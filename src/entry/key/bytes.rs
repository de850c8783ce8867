//! Keys from bytes that were written down: the inverse of [`CacheKey::as_bytes`].

use http::HeaderValue;
use http::header::HeaderName;
use http::uri::{PathAndQuery, Scheme};

use super::target::{is_authority, without_default_port};
use super::{ABSENT, CacheKey, Kind, ORIGINS, split_length};
use crate::entry::InvalidEntry;

impl CacheKey {
    /// The key that has these bytes: the exact inverse of [`CacheKey::as_bytes`], for stores that write keys down.
    ///
    /// ```
    /// use http::Request;
    /// use larder::CacheKey;
    /// let (parts, ()) = Request::get("http://example.com/a").body(()).unwrap().into_parts();
    /// let key = CacheKey::of(&parts).unwrap().with("device", b"phone");
    /// assert_eq!(CacheKey::from_bytes(key.as_bytes()).unwrap(), key);
    /// assert!(CacheKey::from_bytes(b"http://example.com/a").is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidEntry`] where no key has these bytes: they are cut short, have something left over, or a URI that is not
    /// absolute, with scheme and host in lower case and without a default port.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidEntry> {
        let (uri, mut rest) = split_length(bytes).ok_or(InvalidEntry::Truncated)?;
        let path = path_of(uri).ok_or(InvalidEntry::Key)?;
        let (mut has_asterisk, mut has_origin, mut has_rewritten, mut has_slice) =
            (false, false, false, false);
        while let Some((&kind, after)) = rest.split_first() {
            let (name, after) = split_length(after).ok_or(InvalidEntry::Truncated)?;
            let (value, after) = match after.split_first_chunk() {
                Some((length, after)) if u32::from_le_bytes(*length) == ABSENT => (None, after),
                _ => {
                    let (value, after) = split_length(after).ok_or(InvalidEntry::Truncated)?;
                    (Some(value), after)
                }
            };
            let is_valid = match (kind, value) {
                (kind, _) if kind == Kind::Part as u8 || kind == Kind::Identity as u8 => {
                    std::str::from_utf8(name).is_ok()
                }
                // Clients choose the names of their cookies.
                (kind, _) if kind == Kind::Cookie as u8 => true,
                (kind, value) if kind == Kind::Field as u8 => is_field(name, value),
                (kind, Some(slice)) if kind == Kind::Slice as u8 => {
                    let is_first = !std::mem::replace(&mut has_slice, true);
                    is_first && name.is_empty() && is_slice(slice)
                }
                (kind, Some(uri)) if kind == Kind::Rewritten as u8 => {
                    let is_first = !std::mem::replace(&mut has_rewritten, true);
                    is_first && name.is_empty() && path_of(uri).is_some()
                }
                (kind, None) if kind == Kind::Asterisk as u8 => {
                    let is_first = !std::mem::replace(&mut has_asterisk, true);
                    is_first && name.is_empty() && path.split(|&byte| byte == b'?').next() == Some(b"/*")
                }
                (kind, None) if kind == Kind::Origin as u8 => {
                    let is_first = !std::mem::replace(&mut has_origin, true);
                    is_first && ORIGINS.iter().any(|own| own.as_bytes() == name)
                }
                _ => false,
            };
            if !is_valid {
                return Err(InvalidEntry::Key);
            }
            rest = after;
        }
        Ok(Self { bytes: bytes.into() })
    }
}

/// The path and query of a URI in the form that keys have; `None` where it is in another one.
fn path_of(uri: &[u8]) -> Option<&[u8]> {
    const SEPARATOR: &[u8] = b"://";
    let end = uri.windows(SEPARATOR.len()).position(|window| window == SEPARATOR)?;
    let (scheme, rest) = (&uri[..end], &uri[end + SEPARATOR.len()..]);
    let (authority, path) = rest.split_at(rest.iter().position(|&byte| byte == b'/')?);
    let parsed = Scheme::try_from(scheme).ok().filter(|scheme| !scheme.as_str().is_empty())?;
    let is_lower = |bytes: &[u8]| !bytes.iter().any(u8::is_ascii_uppercase);
    let is_canonical =
        is_lower(scheme) && is_lower(authority) && without_default_port(authority, &parsed) == authority;
    // What comes after a `#` is read as no part of a path.
    let is_path = PathAndQuery::try_from(path).is_ok_and(|parsed| parsed.as_str().as_bytes() == path);
    (is_canonical && is_authority(authority) && is_path).then_some(path)
}

/// Whether this is how a key names a slice that is not the first: its index and its size, as [`CacheKey::for_slice`] writes
/// them.
fn is_slice(value: &[u8]) -> bool {
    let is_number = |digits: &[u8]| {
        digits.len() <= 20
            && digits.first().is_some_and(|first| *first != b'0')
            && digits.iter().all(u8::is_ascii_digit)
    };
    let mut numbers = value.split(|&byte| byte == b'*');
    let (index, size) = (numbers.next(), numbers.next());
    index.is_some_and(is_number) && size.is_some_and(is_number) && numbers.next().is_none()
}

fn is_field(name: &[u8], value: Option<&[u8]>) -> bool {
    HeaderName::from_lowercase(name).is_ok()
        && value.is_none_or(|value| HeaderValue::from_bytes(value).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::key::AnyOrigin;
    use http::header::{self, HeaderMap};
    use http::{Request, Uri};
    use proptest::prelude::*;

    fn of(uri: &str, host: Option<&str>) -> Option<CacheKey> {
        of_any(uri, host, AnyOrigin::default())
    }

    fn of_any(uri: &str, host: Option<&str>, origin: AnyOrigin) -> Option<CacheKey> {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.uri = uri.parse::<Uri>().ok()?;
        let host = host.map(|host| HeaderValue::from_str(host).expect("a value"));
        parts.headers.extend(host.map(|host| (header::HOST, host)));
        CacheKey::of_any(&parts, origin).ok()
    }

    fn check(key: &CacheKey) {
        let read = CacheKey::from_bytes(key.as_bytes()).expect("bytes of a key");
        assert_eq!(&read, key);
        assert_eq!(read.keyed_credentials(&HeaderMap::new()), key.keyed_credentials(&HeaderMap::new()));
        assert_eq!((read.uri(), read.rewritten_uri()), (key.uri(), key.rewritten_uri()));
    }

    #[test]
    fn a_key_of_each_kind_is_restored_from_its_bytes() {
        for (uri, host) in [
            ("/a?b=%2F#c", Some("A:80")),
            ("*", Some("a")),
            ("/*", Some("a")),
            ("/x", None),
            ("https://[::1]:444/", None),
            ("1://a/", None),
            ("gopher://a/x", None),
            ("/x?", Some("[fe80::80]")),
        ] {
            let key = of(uri, host).expect("a key");
            check(&key);
            check(
                &key.clone().with("x", b"\0\xff").with("", b"").with_absent("x").with_absent_identity("user"),
            );
            check(&key.clone().with_cookie_pair(b"\xff", b"\xff"));
            check(&key.clone().rewritten_to(b"http://b/y").with_field(&header::COOKIE, &HeaderMap::new()));
        }
    }

    #[test]
    fn a01_a_key_without_an_origin_is_restored_and_no_client_can_ask_for_it() {
        for (host, scheme) in [(true, false), (false, true), (true, true)] {
            let key = of_any("http://a/x", None, AnyOrigin { host, scheme }).expect("a key");
            check(&key);
            check(&key.clone().rewritten_to(b"http://b/y").with("x", b"1"));
        }
        for (asked, host, scheme) in [("/x", true, false), ("any://a/x", false, true)] {
            let key = of_any("http://a/x", None, AnyOrigin { host, scheme }).expect("a key");
            let of_client = of(asked, None).expect("a key");
            assert_eq!(of_client.uri(), key.uri());
            assert_ne!(of_client, key);
        }
        let origins = [(false, false), (true, false), (false, true), (true, true)];
        let keys = origins.map(|(host, scheme)| {
            let key = of_any("http://a/x", None, AnyOrigin { host, scheme }).expect("a key");
            key.with_uri(b"http://c/z")
        });
        for (at, one) in keys.iter().enumerate() {
            assert!(keys[at + 1..].iter().all(|other| one != other), "{at}");
        }
    }

    #[test]
    fn a23_a_key_of_a_slice_is_restored_and_no_other_form_of_it_is_read() {
        let key = of("http://a/x", None).expect("a key").with("x", b"1");
        check(&key.clone().for_slice(1, 1024));
        check(&key.clone().for_slice(u64::MAX, u64::MAX));
        for value in
            ["", "1", "1*", "*1", "0*1024", "01*1024", "1*2*3", "a*1", "1*-1", "111111111111111111111*1"]
        {
            let mut key = key.clone();
            key.push(Kind::Slice, "", Some(value.as_bytes()));
            assert!(CacheKey::from_bytes(key.as_bytes()).is_err(), "{value}");
        }
        let twice = key.for_slice(1, 1024).for_slice(2, 1024);
        assert!(CacheKey::from_bytes(twice.as_bytes()).is_err());
    }

    #[test]
    fn bytes_that_no_key_has_are_refused() {
        let with = |uri: &str, further: &[u8]| {
            let length = u32::try_from(uri.len()).expect("short").to_le_bytes();
            CacheKey::from_bytes(&[&length, uri.as_bytes(), further].concat())
        };
        assert!(with("http://a/", b"").is_ok());
        for uri in [
            "",
            "/",
            "a/",
            "http:/a/",
            "http://a",
            "HTTP://a/",
            "http://A/",
            "http://a:80/",
            "http://a:/",
            "https://a:443/",
            "http://u@a/",
            "http://a b/",
            "http://fe80::80/",
            "http://a/ ",
            "http://a/#b",
            "://a/",
            "1:://a/",
            "http://a?b",
        ] {
            assert_eq!(with(uri, b""), Err(InvalidEntry::Key), "{uri}");
        }
        let absent = ABSENT.to_le_bytes();
        let part = |kind: u8, name: &[u8], value: Option<&[u8]>| {
            let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("short").to_le_bytes();
            let value = value.map_or(absent.to_vec(), |value| [&length(value), value].concat());
            [&[kind], &length(name)[..], name, &value].concat()
        };
        for (what, further) in [
            ("a name that is no text", part(0, b"\xff", Some(b""))),
            ("a field's name in capitals", part(1, b"Cookie", Some(b""))),
            ("a field without a name", part(1, b"", None)),
            ("a value that no field has", part(1, b"cookie", Some(b"a\nb"))),
            ("a rewritten URI that is relative", part(2, b"", Some(b"/x"))),
            ("a rewritten URI with a name", part(2, b"x", Some(b"http://a/"))),
            ("a second rewritten URI", part(2, b"", Some(b"http://a/")).repeat(2)),
            ("an asterisk on another path", part(3, b"", None)),
            ("an identity whose name is no text", part(5, b"\xff", None)),
            ("an origin that no policy makes", part(6, b"", None)),
            ("an origin with a value", part(6, b"site", Some(b""))),
            ("a second origin", [part(6, b"site", None), part(6, b"any", None)].concat()),
            ("an unknown kind", part(7, b"", None)),
        ] {
            assert_eq!(with("http://a/", &further), Err(InvalidEntry::Key), "{what}");
        }
        assert!(with("http://a/*", &part(3, b"", None)).is_ok());
        assert_eq!(with("http://a/*", &part(3, b"", None).repeat(2)), Err(InvalidEntry::Key));
        for cut in [&b"\x05\0\0\0http"[..], b"", b"\0\0", b"\xff\xff\xff\xff"] {
            assert_eq!(CacheKey::from_bytes(cut), Err(InvalidEntry::Truncated), "{cut:?}");
        }
        assert_eq!(with("http://a/", &part(0, b"x", Some(b"y"))[..10]), Err(InvalidEntry::Truncated));
    }

    /// What can be done to a key after it was made of a request.
    #[derive(Clone, Debug)]
    enum Step {
        Absent(String, bool),
        Cookie(String, Vec<u8>),
        CookiePair(Vec<u8>, Vec<u8>),
        Field(usize, Vec<Vec<u8>>),
        Identity(String, Vec<u8>),
        Part(String, Vec<u8>),
        Query(Option<String>),
        Rewritten,
        Uri,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let line = prop::collection::vec(prop_oneof![b' '..=b'~', 0x80..=0xff_u8], 0..4);
        prop_oneof![
            any::<(String, bool)>().prop_map(|(name, is_identity)| Step::Absent(name, is_identity)),
            any::<(Vec<u8>, Vec<u8>)>().prop_map(|(name, value)| Step::CookiePair(name, value)),
            ("[ab=]?", "[ab;=é\"]{0,6}").prop_map(|(name, line)| Step::Cookie(name, line.into_bytes())),
            (any::<String>(), any::<Vec<u8>>()).prop_map(|(name, value)| Step::Identity(name, value)),
            prop::option::of("[!-~\u{e9}]{0,4}").prop_map(Step::Query),
            (0..3_usize, prop::collection::vec(line, 0..3))
                .prop_map(|(name, lines)| Step::Field(name, lines)),
            (any::<String>(), any::<Vec<u8>>()).prop_map(|(name, value)| Step::Part(name, value)),
            (0..3_usize, "[a-z]{0,2}").prop_map(|(name, value)| {
                Step::Part(["authorization", "cookie", "x"][name].into(), value.into_bytes())
            }),
            Just(Step::Rewritten),
            Just(Step::Uri),
        ]
    }

    prop_compose! {
        fn any_key()(
            uri in prop_oneof![
                "/[!$-.0-;=?-~\u{e9}]{0,12}(\\?[!$-;=?-~]{0,6})?",
                "(http|HTTPS|x-y)://[A-Za-z.-]{1,8}(:[0-9]{0,4})?(/[a-z*]{0,4})?",
                Just("*".to_owned()),
            ],
            host in prop::option::of("[A-Za-z.-]{0,6}(:[0-9]{0,3})?"),
            (any_host, any_scheme) in any::<(bool, bool)>(),
            steps in prop::collection::vec(any_step(), 0..4),
        ) -> Option<CacheKey> {
            let names = [header::AUTHORIZATION, header::COOKIE, header::ACCEPT];
            let origin = AnyOrigin { host: any_host, scheme: any_scheme };
            let key = of_any(&uri, host.as_deref(), origin)?;
            Some(steps.into_iter().fold(key, |key, step| match step {
                Step::Field(name, lines) => {
                    let mut headers = HeaderMap::new();
                    for line in lines {
                        headers.append(&names[name], HeaderValue::from_bytes(&line).expect("a value"));
                    }
                    key.with_field(&names[name], &headers)
                }
                Step::Absent(name, true) => key.with_absent_identity(&name),
                Step::Absent(name, false) => key.with_absent(&name),
                Step::CookiePair(name, value) => key.with_cookie_pair(&name, &value),
                Step::Cookie(name, line) => {
                    let mut headers = HeaderMap::new();
                    headers.append(header::COOKIE, HeaderValue::from_bytes(&line).expect("a value"));
                    key.with_cookie(&name, &headers)
                }
                Step::Identity(name, value) => key.with_identity(&name, &value),
                Step::Part(name, value) => key.with(&name, &value),
                Step::Query(query) => key.clone().with_query(query.as_deref()).unwrap_or(key),
                Step::Rewritten if key.rewritten_uri().is_none() => key.rewritten_to(b"http://b/y"),
                Step::Uri if !key.uri().ends_with(b"/*") => key.with_uri(b"http://c/z?1"),
                Step::Rewritten | Step::Uri => key,
            }))
        }
    }

    proptest! {
        #[test]
        fn a03_every_key_is_restored_from_its_bytes(key in any_key()) {
            if let Some(key) = key {
                check(&key);
            }
        }

        #[test]
        fn a03_keys_are_equal_exactly_if_their_bytes_are(one in any_key(), other in any_key()) {
            if let (Some(one), Some(other)) = (one, other) {
                prop_assert_eq!(one == other, one.as_bytes() == other.as_bytes());
            }
        }

        #[test]
        fn a23_a_key_that_is_read_from_bytes_has_these_bytes(bytes: Vec<u8>) {
            if let Ok(key) = CacheKey::from_bytes(&bytes) {
                prop_assert_eq!(key.as_bytes(), &bytes[..]);
            }
        }

        #[test]
        fn a23_changed_bytes_of_a_key_are_refused_or_give_another_key(
            key in any_key(), at: prop::sample::Index, bit in 0..8_u32, cut: prop::sample::Index,
        ) {
            if let Some(key) = key {
                let mut bytes = key.as_bytes().to_vec();
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                if let Ok(read) = CacheKey::from_bytes(&bytes) {
                    prop_assert_ne!(&read, &key);
                    prop_assert!(read.uris().all(|uri| path_of(uri).is_some()));
                }
                let cut = CacheKey::from_bytes(&key.as_bytes()[..cut.index(key.as_bytes().len())]);
                prop_assert_ne!(cut, Ok(key));
            }
        }
    }
}
