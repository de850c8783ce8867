//! Keys of a site that has one name, whatever schemes and hosts its clients use.

use std::borrow::Cow;

use http::Uri;
use http::header::HeaderName;
use http::request::Parts;
use http::uri::Authority;
use smallvec::SmallVec;

use super::target::{Targets, authority, scheme};
use super::{CacheKey, KeyError, Kind, SITE, concat};

/// What the keys of a site have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// `http://` and its name.
    origin: Box<str>,
    /// Tells them from those of clients whose `Host` is that name.
    part: EncodedPart,
}

impl Site {
    /// A site of this name, in the spelling of keys. Who its user is does not count.
    pub(crate) fn new(name: &Authority) -> Self {
        let name = name.as_str().rsplit('@').next().unwrap_or_default();
        let bare = name.strip_suffix(":80").unwrap_or(name);
        let bare = bare.strip_suffix(':').unwrap_or(bare);
        Self {
            origin: format!("http://{}", bare.to_ascii_lowercase()).into(),
            part: EncodedPart::of(Kind::Origin, SITE, None),
        }
    }
}

/// A part of a key, as the key has it: what many keys have in common is written once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EncodedPart(Box<[u8]>);

impl EncodedPart {
    fn of(kind: Kind, name: &str, value: Option<&[u8]>) -> Self {
        let mut key = CacheKey { bytes: SmallVec::new() };
        key.push(kind, name, value);
        Self(key.bytes.into_vec().into())
    }

    /// A policy's own.
    pub(crate) fn new(name: &str, value: &[u8]) -> Self {
        Self::of(Kind::Part, name, Some(value))
    }

    /// The fact that a request field is absent.
    pub(crate) fn absent_field(name: &HeaderName) -> Self {
        Self::of(Kind::Field, name.as_str(), None)
    }
}

impl CacheKey {
    /// The key of a request's path, and of what `query` leaves of its query, with a part where there is one. The scheme, and the
    /// host that the client asked for, are not in it.
    ///
    /// # Errors
    ///
    /// As [`CacheKey::of`].
    #[inline]
    pub(crate) fn of_site<F>(
        site: &Site,
        request: &Parts,
        query: F,
        part: Option<&EncodedPart>,
    ) -> Result<Self, KeyError>
    where
        F: for<'a> Fn(&'a str) -> Option<Cow<'a, str>>,
    {
        let Targets { asked, rewritten } = Targets::of(request);
        scheme(&asked, request)?;
        authority(&asked, request)?;
        let mut key = site.key(&asked, &query, part)?;
        if let Some(rewritten) = rewritten {
            key.push(Kind::Rewritten, "", Some(site.key(rewritten, &query, None)?.uri()));
        }
        Ok(key)
    }

    /// Adds a part.
    #[inline]
    pub(crate) fn push_encoded(&mut self, part: &EncodedPart) {
        self.bytes.extend_from_slice(&part.0);
    }

    /// Adds a request field with this value.
    pub(crate) fn push_field(&mut self, name: &HeaderName, value: &[u8]) {
        self.push(Kind::Field, name.as_str(), Some(value));
    }

    /// Adds a cookie.
    pub(crate) fn push_cookie(&mut self, name: &str, value: &[u8]) {
        self.push(Kind::Cookie, name, Some(value));
    }
}

impl Site {
    #[inline]
    fn key<F>(&self, uri: &Uri, query: &F, part: Option<&EncodedPart>) -> Result<CacheKey, KeyError>
    where
        F: for<'a> Fn(&'a str) -> Option<Cow<'a, str>>,
    {
        let path = uri.path();
        let query = uri.query().and_then(query);
        let (mark, query) = query.as_deref().map_or(("", ""), |query| ("?", query));
        let slash = if path.starts_with('/') { "" } else { "/" };
        let own = [&*self.origin, slash, path, mark, query].map(str::as_bytes);
        let length: usize = own.iter().map(|part| part.len()).sum();
        let prefix = u32::try_from(length).map_err(|_| KeyError::TooLong)?.to_le_bytes();
        let part = part.map_or(&[][..], |part| &part.0);
        let [site, slash, of_path, mark, query] = own;
        let parts = [site, slash, of_path, mark, query, &self.part.0, part];
        let mut key = CacheKey { bytes: concat(&prefix, parts, length + self.part.0.len() + part.len()) };
        if path == "*" {
            key.push(Kind::Asterisk, "", None);
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[track_caller]
    fn check(name: &'static str, uri: &str, expected: &str) {
        let (request, ()) = Request::get(uri).body(()).expect("a request").into_parts();
        let site = Site::new(&Authority::from_static(name));
        let key = CacheKey::of_site(&site, &request, |query| Some(query.into()), None).expect("a key");
        assert_eq!(key.uri(), expected.as_bytes());
        assert_eq!(CacheKey::from_bytes(key.as_bytes()), Ok(key));
    }

    #[test]
    fn cf1_scheme_and_host_are_not_in_the_key_of_a_site() {
        check("D1.example", "/a?b", "http://d1.example/a?b");
        check("d1.example", "https://www.example.com/a?b", "http://d1.example/a?b");
        check("d1.example:80", "http://other.example/", "http://d1.example/");
        check("user@d1.example:81", "/", "http://d1.example:81/");
        check("d1.example", "*", "http://d1.example/*");
        let leaves_nothing = |uri: &str| {
            let (request, ()) = Request::get(uri).body(()).expect("a request").into_parts();
            CacheKey::of_site(&Site::new(&Authority::from_static("d1")), &request, |_| None, None)
        };
        assert_eq!(leaves_nothing("/a?b").expect("a key").uri(), b"http://d1/a");
    }

    #[test]
    fn a01_no_host_of_a_client_makes_the_key_of_a_site() {
        let (request, ()) = Request::get("http://d1.example/a").body(()).expect("a request").into_parts();
        let site = Site::new(&Authority::from_static("d1.example"));
        let of_site = CacheKey::of_site(&site, &request, |_| None, None).expect("a key");
        let of_client = CacheKey::of(&request).expect("a key");
        assert_ne!(of_site, of_client);
        assert_eq!(of_site.uri(), of_client.uri());
        assert!(of_client.is_uri_only());
        assert_ne!(of_client.with("site", b""), of_site);
    }

    #[test]
    fn a02_a_request_with_contradicting_authorities_has_no_key_of_a_site() {
        let request = Request::get("http://a/").header("host", "b").body(()).expect("a request");
        let (request, ()) = request.into_parts();
        let key = CacheKey::of_site(&Site::new(&Authority::from_static("d1")), &request, |_| None, None);
        assert_eq!(key, Err(KeyError::Authority));
    }
}
