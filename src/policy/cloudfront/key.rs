//! What is in the key of a request.

use std::borrow::Cow;
use std::sync::LazyLock;

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use http::{HeaderValue, Version};
use smallvec::SmallVec;

use super::names::CachePolicyConfig;
use crate::entry::key::{CacheKey, EncodedPart, KeyError, Site, authority_of};
use crate::policy::Selection;
use crate::semantics::accept::accepts_coding;
use crate::semantics::credentials::cookies;

/// What a cache policy has in its keys.
#[derive(Clone, Debug)]
pub(super) struct KeyPlan {
    pub(super) codings: KeyedCodings,
    pub(super) cookies: Selection,
    /// Whether some of the fields are CloudFront's own.
    pub(super) has_cloudfronts: bool,
    headers: Vec<KeyedField>,
    query: Selection,
}

/// A field that is in the key.
#[derive(Clone, Debug)]
struct KeyedField {
    absent: EncodedPart,
    name: HeaderName,
}

impl KeyPlan {
    pub(super) fn of(policy: &CachePolicyConfig) -> Self {
        let codings = KeyedCodings { brotli: policy.brotli, gzip: policy.gzip };
        let is_keyed = |name: &&HeaderName| !(codings.any() && **name == header::ACCEPT_ENCODING);
        let headers = policy.headers.0.iter().filter(is_keyed).cloned();
        Self {
            codings,
            cookies: policy.cookies.0.clone(),
            has_cloudfronts: policy.headers.0.iter().any(is_cloudfronts),
            headers: headers
                .map(|name| KeyedField { absent: EncodedPart::absent_field(&name), name })
                .collect(),
            query: policy.query_strings.0.clone(),
        }
    }

    /// The key of a request. `is_signed`: parameters of signatures are not part of its query. `is_believed` says of CloudFront's
    /// own fields whether what the request has is more than a client's word.
    #[inline]
    pub(super) fn key(
        &self,
        site: &Site,
        request: &Parts,
        is_signed: bool,
        is_believed: bool,
    ) -> Result<CacheKey, KeyError> {
        let codings = self.codings.keyed(request);
        let mut key = CacheKey::of_site(
            site,
            request,
            |query| match self.query {
                Selection::None => None,
                Selection::All if !is_signed => Some(Cow::Borrowed(query)),
                _ => admitted_query(query, is_signed, |name| self.query.admits(name)),
            },
            codings,
        )?;
        for KeyedField { absent, name } in &self.headers {
            if *name == header::HOST {
                match authority_of(request)? {
                    Some(host) => key.push_field(name, host.as_bytes()),
                    None => key.push_encoded(absent),
                }
                continue;
            }
            let mut lines = request.headers.get_all(name).into_iter().peekable();
            if lines.peek().is_none() || (is_cloudfronts(name) && !is_believed) {
                key.push_encoded(absent);
                continue;
            }
            lines.for_each(|line| key.push_field(name, line.as_bytes()));
        }
        if self.cookies != Selection::None && request.headers.contains_key(header::COOKIE) {
            for (name, value) in sorted_cookies(&request.headers, |name| self.cookies.admits(name)) {
                key.push_cookie(name, value);
            }
        }
        Ok(key)
    }
}

/// The codings that count in `Accept-Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyedCodings {
    pub(super) brotli: bool,
    pub(super) gzip: bool,
}

impl KeyedCodings {
    pub(super) fn any(self) -> bool {
        self.brotli || self.gzip
    }

    /// Those of them that a request accepts, of which there is a list for each choice: what is in the key and what is forwarded.
    #[inline]
    fn accepted(self, version: Version, headers: &HeaderMap) -> Option<usize> {
        if !self.any() || version == Version::HTTP_10 {
            return None;
        }
        let accepted = AcceptedCodings::of(headers);
        match (self.brotli && accepted.brotli, self.gzip && accepted.gzip) {
            (true, true) => Some(0),
            (true, false) => Some(1),
            (false, true) => Some(2),
            (false, false) => None,
        }
    }

    /// What of `Accept-Encoding` is in the key.
    #[inline]
    fn keyed(self, request: &Parts) -> Option<&'static EncodedPart> {
        static PARTS: LazyLock<[EncodedPart; 3]> =
            LazyLock::new(|| CODINGS.map(|codings| EncodedPart::new("codings", codings.as_bytes())));
        self.accepted(request.version, &request.headers).map(|at| &PARTS[at])
    }

    /// Gives a request that is forwarded the `Accept-Encoding` that is in the key: `identity` where none is, and no field where
    /// the client has sent none.
    pub(super) fn normalise(self, version: Version, headers: &mut HeaderMap) {
        if version == Version::HTTP_10 {
            headers.remove(header::ACCEPT_ENCODING);
        } else if headers.contains_key(header::ACCEPT_ENCODING) {
            let codings = self.accepted(version, headers).map_or("identity", |at| CODINGS[at]);
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(codings));
        }
    }
}

/// What is in the key of a request that accepts both codings, or one of them.
const CODINGS: [&str; 3] = ["br,gzip", "br", "gzip"];

/// Which of the two codings a request accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct AcceptedCodings {
    brotli: bool,
    gzip: bool,
}

impl AcceptedCodings {
    fn of(headers: &HeaderMap) -> Self {
        let mut lines = headers.get_all(header::ACCEPT_ENCODING).into_iter();
        let first = lines.next();
        match (first, lines.next()) {
            (None, _) => Self::default(),
            (Some(line), None) => Self::of_plain(line).unwrap_or_else(|| Self::of_any(headers)),
            (Some(_), Some(_)) => Self::of_any(headers),
        }
    }

    /// Of a line like those of browsers: known names without weights. Each hit has one.
    #[inline]
    fn of_plain(line: &HeaderValue) -> Option<Self> {
        let mut accepted = Self::default();
        for member in line.as_bytes().split(|&byte| byte == b',') {
            match member.trim_ascii() {
                b"br" => accepted.brotli = true,
                b"gzip" => accepted.gzip = true,
                b"deflate" | b"identity" | b"zstd" => {}
                _ => return None,
            }
        }
        Some(accepted)
    }

    fn of_any(headers: &HeaderMap) -> Self {
        Self { brotli: accepts_coding(headers, b"br"), gzip: accepts_coding(headers, b"gzip") }
    }
}

/// Whether it is a field that CloudFront sets, and nobody else. Many services take `_` for `-`.
pub(super) fn is_cloudfronts(name: &HeaderName) -> bool {
    name.as_str().strip_prefix("cloudfront").is_some_and(|rest| rest.starts_with(['-', '_']))
}

/// The parameters by which a signed URL is one.
pub(super) const SIGNATURE: [&str; 5] = ["Expires", "Policy", "Signature", "Key-Pair-Id", "Hash-Algorithm"];

/// The parameters of a query whose names are admitted, as they were sent; `None` where there is none. In a signed URL those of
/// its signature are not.
pub(super) fn admitted_query<'a>(
    query: &'a str,
    is_signed: bool,
    admits: impl Fn(&str) -> bool,
) -> Option<Cow<'a, str>> {
    let is_admitted = |parameter: &&str| {
        let name = parameter.split('=').next().unwrap_or_default();
        admits(name) && !(is_signed && SIGNATURE.contains(&name))
    };
    if query.split('&').all(|parameter| is_admitted(&parameter)) {
        return Some(query.into());
    }
    let admitted: SmallVec<[&str; 8]> = query.split('&').filter(is_admitted).collect();
    (!admitted.is_empty()).then(|| admitted.join("&").into())
}

/// The cookies of a request whose names are admitted, by name, and those of one name in their order. What is not of the form
/// `name=value` is no cookie.
pub(super) fn sorted_cookies(
    headers: &HeaderMap,
    admits: impl Fn(&str) -> bool,
) -> SmallVec<[(&str, &[u8]); 8]> {
    let named = cookies(headers).filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)));
    let mut admitted: SmallVec<[_; 8]> = named.filter(|(name, _)| !name.is_empty() && admits(name)).collect();
    admitted.sort_by_key(|(name, _)| *name);
    admitted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check_query(query: &str, is_signed: bool, names: &Selection, expected: Option<&str>) {
        let admitted = admitted_query(query, is_signed, |name| names.admits(name));
        assert_eq!(admitted.as_deref(), expected, "{query} {names:?}");
    }

    #[test]
    fn cf1_of_a_query_the_admitted_parameters_stay_as_they_were_sent() {
        let all = Selection::All;
        check_query("b=2&a=1&a=0", false, &all, Some("b=2&a=1&a=0"));
        check_query("", false, &all, Some(""));
        check_query("&&", false, &all, Some("&&"));
        check_query("a=1&Policy=x&policy=y&Key-Pair-Id", true, &all, Some("a=1&policy=y"));
        check_query("Signature=x", true, &all, None);
        check_query("a=1", false, &Selection::None, None);
        let some = Selection::allow_list(["a", "b"]);
        check_query("a;b=1&a=b=c&%61=1&b", false, &some, Some("a=b=c&b"));
        check_query("c&d", false, &some, None);
        check_query("a&&b", false, &Selection::all_except(["b"]), Some("a&"));
    }

    #[test]
    fn cf1_cookies_are_sorted_by_name_and_those_of_one_name_are_not() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("b=2; a=1; =x; y; a=0"));
        headers.append(header::COOKIE, HeaderValue::from_static("A=3; c="));
        let sorted: Vec<_> = sorted_cookies(&headers, |name| name != "b").into_vec();
        let expected: [(&str, &[u8]); 4] = [("A", b"3"), ("a", b"1"), ("a", b"0"), ("c", b"")];
        assert_eq!(sorted, expected);
    }

    proptest! {
        #[test]
        fn cf1_a_plain_accept_encoding_reads_as_any_other(
            line in "(br|gzip|deflate|identity|zstd|x-gzip|BR|\\*|gzip;q=0|br;q=0[.]5|x| )(,[ \t]?(br|gzip|zstd|)){0,4}",
        ) {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(&line).expect("a value"));
            prop_assert_eq!(AcceptedCodings::of(&headers), AcceptedCodings::of_any(&headers), "{:?}", line);
        }
    }
}
