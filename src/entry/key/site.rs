//! Keys of a site that has one name, whatever schemes and hosts its clients use.

use std::borrow::Cow;

use http::header::HeaderName;
use http::request::Parts;
use http::uri::Authority;

use super::target::{Targets, authority, scheme};
use super::{CacheKey, KeyError, Kind, concat};

/// The beginning of the keys of a site: `http://` and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site(Box<str>);

impl Site {
    /// A site of this name, in the spelling of keys. Who its user is does not count.
    pub(crate) fn new(name: &Authority) -> Self {
        let name = name.as_str().rsplit('@').next().unwrap_or_default();
        let bare = name.strip_suffix(":80").unwrap_or(name);
        let bare = bare.strip_suffix(':').unwrap_or(bare);
        Self(format!("http://{}", bare.to_ascii_lowercase()).into())
    }
}

impl CacheKey {
    /// The key of a request's path, and of what `query` leaves of its query. The scheme, and the host that the client asked
    /// for, are not in it.
    ///
    /// # Errors
    ///
    /// As [`CacheKey::of`].
    pub(crate) fn of_site<F>(site: &Site, request: &Parts, query: F) -> Result<Self, KeyError>
    where
        F: for<'a> Fn(&'a str) -> Option<Cow<'a, str>>,
    {
        let Targets { asked, rewritten } = Targets::of(request);
        scheme(&asked, request)?;
        authority(&asked, request)?;
        let of = |uri: &http::Uri| {
            let path = uri.path();
            let query = uri.query().and_then(&query);
            let (mark, query) = query.as_deref().map_or(("", ""), |query| ("?", query));
            let slash = if path.starts_with('/') { "" } else { "/" };
            let parts = [&*site.0, slash, path, mark, query].map(str::as_bytes);
            let length: usize = parts.iter().map(|part| part.len()).sum();
            let prefix = u32::try_from(length).map_err(|_| KeyError::TooLong)?.to_le_bytes();
            let mut key = Self { bytes: concat(&prefix, parts, length) };
            if path == "*" {
                key.push(Kind::Asterisk, "", None);
            }
            Ok(key)
        };
        let key = of(&asked)?;
        match rewritten {
            None => Ok(key),
            Some(rewritten) => Ok(key.rewritten_to(of(rewritten)?.uri())),
        }
    }

    /// Adds a request field with a value of its own, or the fact that it is absent.
    #[must_use]
    pub(crate) fn with_field_value(mut self, name: &HeaderName, value: Option<&[u8]>) -> Self {
        self.push(Kind::Field, name.as_str(), value);
        self
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
        let key = CacheKey::of_site(&site, &request, |query| Some(query.into())).expect("a key");
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
            CacheKey::of_site(&Site::new(&Authority::from_static("d1")), &request, |_| None)
        };
        assert_eq!(leaves_nothing("/a?b").expect("a key").uri(), b"http://d1/a");
    }

    #[test]
    fn a02_a_request_with_contradicting_authorities_has_no_key_of_a_site() {
        let request = Request::get("http://a/").header("host", "b").body(()).expect("a request");
        let (request, ()) = request.into_parts();
        let key = CacheKey::of_site(&Site::new(&Authority::from_static("d1")), &request, |_| None);
        assert_eq!(key, Err(KeyError::Authority));
    }
}
