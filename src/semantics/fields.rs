//! Which fields are stored (RFC 9111 3.1), and how a list field is split into members (RFC 9110 5.6.1).

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderName};

/// Whether the field belongs to one connection, whether `Connection` names it or not (RFC 9110 7.6.1, RFC 9111 3.1).
///
/// By the name's text: most names differ in length from all of these.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Fields that `Connection` cannot nominate away: dropping one of them would change what the
/// message means or who may see it. A sender that lists them is broken or hostile.
const NOT_NOMINABLE: [HeaderName; 12] = [
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::HOST,
    header::SET_COOKIE,
    header::VARY,
    HeaderName::from_static("cache-status"),
];

/// Removes connection-specific fields: the fixed list and what `Connection` names.
///
/// `Host`, `Content-Length`, `Cache-Control`, `Vary`, `Age` and a few more stay whatever `Connection` says. Judge a
/// message before calling this: a nominated field is still meant for the recipient of this hop.
///
/// ```
/// use http::HeaderMap;
/// let mut headers = HeaderMap::new();
/// headers.insert("connection", "x-hop, vary".parse().unwrap());
/// headers.insert("x-hop", "1".parse().unwrap());
/// headers.insert("vary", "accept".parse().unwrap());
/// larder::semantics::fields::remove_hop_by_hop(&mut headers);
/// assert!(!headers.contains_key("x-hop") && headers.contains_key("vary"));
/// ```
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in hop_by_hop(headers) {
        headers.remove(name);
    }
}

/// The names of the connection-specific fields, as [`remove_hop_by_hop`] says.
pub(crate) fn hop_by_hop(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut names: Vec<HeaderName> = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    if names.is_empty() {
        return names; // `Connection` is one of them
    }
    let nominated =
        list(headers, &header::CONNECTION).filter_map(|member| HeaderName::from_bytes(member).ok());
    names.extend(nominated.filter(|name| !NOT_NOMINABLE.contains(name)));
    names
}

/// Whether the field is one that a 304 must not change in a stored response.
///
/// RFC 9111 3.2: fields that are not stored, `Content-Length`, and fields on which the stored content depends. The
/// content is stored as received, so its coding and its range are such fields; `Content-Type` is not, and is replaced
/// like any other.
pub(crate) fn kept_by_freshening(name: &HeaderName) -> bool {
    *name == header::CONTENT_LENGTH
        || *name == header::CONTENT_ENCODING
        || *name == header::CONTENT_RANGE
        || CONTENT_DIGESTS.contains(name)
        || is_hop_by_hop(name)
}

/// Digests of the content of one message (RFC 9530 2, RFC 1864). Those of the whole representation, `Repr-Digest` and
/// `Digest`, hold for every part of it.
pub(crate) const CONTENT_DIGESTS: [HeaderName; 2] =
    [HeaderName::from_static("content-digest"), HeaderName::from_static("content-md5")];

/// Removes digests of content other than the content that is sent.
pub(crate) fn remove_content_digests(headers: &mut HeaderMap) {
    for name in &CONTENT_DIGESTS {
        headers.remove(name);
    }
}

/// Whether browsers use this field to decide if a page of another origin may see the response, or how long it took
/// (Fetch, Resource Timing). No such field describes the representation, so every answer that is made from a response
/// carries them.
pub(crate) fn lets_pages_see(name: &str) -> bool {
    name.starts_with("access-control-")
        || matches!(name, "cross-origin-resource-policy" | "timing-allow-origin")
}

/// Whether a 304 has this field of the response that it is about: it guides the update of what the client holds (RFC
/// 9110 15.4.5), or [`lets_pages_see`]. With an entity tag (`has_tag`), `Last-Modified` adds nothing.
pub(crate) fn is_in_not_modified(name: &str, has_tag: bool) -> bool {
    match name {
        "cache-control" | "content-location" | "date" | "etag" | "expires" | "vary" => true,
        "last-modified" => !has_tag,
        name => lets_pages_see(name),
    }
}

/// Adds the fields of a response for which [`lets_pages_see`] holds to those of an answer made from it.
pub(crate) fn keep_what_lets_pages_see(headers: &HeaderMap, answer: &mut HeaderMap) {
    for (name, value) in headers.iter().filter(|(name, _)| lets_pages_see(name.as_str())) {
        answer.append(name, value.clone());
    }
}

/// Which fields of a request matter to the cache; found in one pass, because most requests have few of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct RequestFields {
    /// `Authorization` or `Cookie`.
    pub(crate) credentials: bool,
    /// `If-Match`, `If-None-Match`, `If-Modified-Since` or `If-Unmodified-Since`.
    pub(crate) conditions: bool,
    /// A `Content-Length` other than 0, or `Transfer-Encoding`.
    pub(crate) content: bool,
    /// `Cache-Control` or `Pragma`.
    pub(crate) directives: bool,
    /// `Range`.
    pub(crate) range: bool,
    /// `Upgrade`.
    pub(crate) upgrade: bool,
}

impl RequestFields {
    /// Searches the fields of a request. What is found are bits of one number until the end: a variable for each takes
    /// 95 instructions more, a hundredth of a hit.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        const CREDENTIALS: u8 = 1;
        const CONDITIONS: u8 = 2;
        const CONTENT: u8 = 4;
        const DIRECTIVES: u8 = 8;
        const RANGE: u8 = 16;
        const UPGRADE: u8 = 32;
        let mut found = 0;
        for (name, value) in headers {
            let name = name.as_str();
            // The lengths of the names below: most fields of most requests have others.
            if !matches!(name.len(), 5..=8 | 13 | 14 | 17 | 19) {
                continue;
            }
            found |= match name {
                "authorization" | "cookie" => CREDENTIALS,
                "cache-control" | "pragma" => DIRECTIVES,
                "content-length" if value != "0" => CONTENT,
                "if-match" | "if-modified-since" | "if-none-match" | "if-unmodified-since" => CONDITIONS,
                "range" => RANGE,
                "transfer-encoding" => CONTENT,
                "upgrade" => UPGRADE,
                _ => 0,
            };
        }
        Self {
            credentials: found & CREDENTIALS != 0,
            conditions: found & CONDITIONS != 0,
            content: found & CONTENT != 0,
            directives: found & DIRECTIVES != 0,
            range: found & RANGE != 0,
            upgrade: found & UPGRADE != 0,
        }
    }
}

/// Which fields of a response matter to the cache; found in one pass. To look for each of them in the map costs 100 to 150
/// instructions, and a miss has to know of some twenty, of which most responses have a handful.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponseFields {
    pub(crate) age: bool,
    pub(crate) cache_groups: bool,
    pub(crate) cache_status: bool,
    pub(crate) content_encoding: bool,
    pub(crate) content_length: bool,
    pub(crate) date: bool,
    pub(crate) etag: bool,
    /// Any for which [`is_hop_by_hop`] holds, `Transfer-Encoding` included.
    pub(crate) hop_by_hop: bool,
    pub(crate) last_modified: bool,
    pub(crate) no_vary_search: bool,
    pub(crate) set_cookie: bool,
    /// One of the targeted fields that count (RFC 9213).
    pub(crate) targeted: bool,
    pub(crate) transfer_encoding: bool,
    pub(crate) vary: bool,
}

impl ResponseFields {
    /// Looks through the fields of a response. `targets` are the targeted fields that count.
    pub(crate) fn of(headers: &HeaderMap, targets: &[HeaderName]) -> Self {
        let mut fields = Self::default();
        for name in headers.keys() {
            match name.as_str() {
                "age" => fields.age = true,
                "cache-groups" => fields.cache_groups = true,
                "cache-status" => fields.cache_status = true,
                "content-encoding" => fields.content_encoding = true,
                "content-length" => fields.content_length = true,
                "date" => fields.date = true,
                "etag" => fields.etag = true,
                "last-modified" => fields.last_modified = true,
                "no-vary-search" => fields.no_vary_search = true,
                "set-cookie" => fields.set_cookie = true,
                "transfer-encoding" => (fields.hop_by_hop, fields.transfer_encoding) = (true, true),
                "vary" => fields.vary = true,
                _ => fields.hop_by_hop |= is_hop_by_hop(name),
            }
            fields.targeted |= targets.contains(name);
        }
        fields
    }

    /// Whether a stored response with these fields can be validated (RFC 9110 8.8).
    pub(crate) fn has_validator(self) -> bool {
        self.etag || self.last_modified
    }
}

/// What a response has that matters where it only gets a tag; found in one pass, for most responses have few fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TagFields {
    /// `Content-Length` or `Transfer-Encoding`.
    pub(crate) framing: bool,
    /// The word `no-store` in `Cache-Control` or in a targeted field (RFC 9213), whatever it means there.
    pub(crate) no_store: bool,
}

impl TagFields {
    pub(crate) fn of(headers: &HeaderMap, targets: &[HeaderName]) -> Self {
        const NO_STORE: &[u8] = b"no-store";
        let mut fields = Self::default();
        for (name, value) in headers {
            if *name == header::CONTENT_LENGTH || *name == header::TRANSFER_ENCODING {
                fields.framing = true;
            } else if *name == header::CACHE_CONTROL || targets.contains(name) {
                let mut words = value.as_bytes().windows(NO_STORE.len());
                fields.no_store |= words.any(|word| word.eq_ignore_ascii_case(NO_STORE));
            }
        }
        fields
    }
}

/// All members of a list field, over all its lines, without empty ones (RFC 9110 5.6.1.2).
pub fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).into_iter().flat_map(|line| Members::new(line.as_bytes()))
}

/// Whether a field is longer than `most` bytes: all its lines, with the separators that would join them. Reads no more
/// lines than necessary: a head may have thousands, and be compared with many variants.
pub(crate) fn is_longer_than(headers: &HeaderMap, name: &HeaderName, most: usize) -> bool {
    let mut left = most;
    headers.get_all(name).into_iter().any(|line| match left.checked_sub(line.len()) {
        None => true,
        Some(rest) => {
            left = rest.saturating_sub(b", ".len());
            false
        }
    })
}

/// All lines of a field as one, joined by `, ` (RFC 9110 5.3); `None` if there is none.
pub(crate) fn combined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name).into_iter().map(|line| line.as_bytes());
    let first = lines.next()?;
    let rest: Vec<_> = lines.collect();
    if rest.is_empty() {
        return Some(Cow::Borrowed(first));
    }
    Some(Cow::Owned(std::iter::once(first).chain(rest).collect::<Vec<_>>().join(&b", "[..])))
}

/// The members of one field line: split at commas outside double quotes, white space trimmed, empty ones
/// skipped. Quotes have no escapes here, as in entity tags; `Cache-Control` has its own reader.
#[derive(Clone, Debug)]
pub(crate) struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Members<'a> {
    /// Starts at the beginning of a field line.
    pub(crate) fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let mut quoted = false;
            let end = self
                .rest
                .iter()
                .position(|&byte| {
                    quoted ^= byte == b'"';
                    byte == b',' && !quoted
                })
                .unwrap_or(self.rest.len());
            let member = trim(&self.rest[..end]);
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

/// Strips optional white space (space and tab, RFC 9110 5.6.3) from both ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Whether every byte is a `tchar` and there is at least one (RFC 9110 5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                )
        })
}

/// Reads `delta-seconds` (RFC 9111 1.2.2): digits only, saturating at 2^31.
pub(crate) fn delta_seconds(bytes: &[u8]) -> Option<u32> {
    const MOST: u32 = 1 << 31;
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = bytes
        .iter()
        .fold(0u32, |seconds, digit| seconds.saturating_mul(10).saturating_add(u32::from(digit - b'0')));
    Some(seconds.min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::targeted::{CDN_CACHE_CONTROL, directives};
    use crate::semantics::tests::any_value;
    use http::HeaderValue;
    use proptest::prelude::*;

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        let members: Vec<_> = Members::new(line.as_bytes()).collect();
        let expected: Vec<_> = expected.iter().map(|member| member.as_bytes()).collect();
        assert_eq!(members, expected, "{line:?}");
    }

    #[test]
    fn a_list_field_is_split_into_its_members() {
        // RFC 9110 5.6.1.2: empty members are ignored; 5.6.3: OWS around members.
        check("", &[]);
        check("a", &["a"]);
        check(" a ,\tb\t", &["a", "b"]);
        check(",, a,,b,", &["a", "b"]);
        check("\"a,b\", c", &["\"a,b\"", "c"]);
        check("W/\"a,\", \"b", &["W/\"a,\"", "\"b"]);
        check("a b, c", &["a b", "c"]);
    }

    #[test]
    fn a39_the_length_of_a_field_is_that_of_all_its_lines() {
        for (lines, length) in [(&[""][..], 0), (&["abc"], 3), (&["abc", "d"], 6), (&["a", "", "b"], 6)] {
            let lines = lines.iter().map(|line| (header::ACCEPT, HeaderValue::from_static(line)));
            let headers: HeaderMap = lines.collect();
            for most in 0..8 {
                assert_eq!(
                    is_longer_than(&headers, &header::ACCEPT, most),
                    length > most,
                    "{headers:?} {most}"
                );
            }
            assert!(!is_longer_than(&headers, &header::COOKIE, 0));
        }
    }

    #[test]
    fn delta_seconds_are_parsed() {
        // RFC 9111 1.2.2.
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("003600", Some(3600)),
            ("2147483648", Some(1 << 31)),
            ("2147483649", Some(1 << 31)),
            ("4294967296", Some(1 << 31)),
            ("99999999999999999999999", Some(1 << 31)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1 ", None),
            ("a1", None),
            ("1a", None),
            ("'1'", None),
        ] {
            assert_eq!(delta_seconds(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn hop_by_hop_fields_are_removed() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "a, B ,cache-control,vary, host, age, content-length"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authentication-info", "x"),
            ("proxy-authorization", "x"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("cache-control", "max-age=1"),
            ("vary", "a"),
            ("age", "1"),
            ("content-length", "3"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["age", "c", "cache-control", "content-length", "vary"]);
    }

    #[test]
    fn request_fields_are_classified_by_their_names() {
        let of = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static("1"));
            RequestFields::of(&headers)
        };
        let none = RequestFields::default();
        for name in ["authorization", "cookie"] {
            assert_eq!(of(name), RequestFields { credentials: true, ..none }, "{name}");
        }
        for name in ["cache-control", "pragma"] {
            assert_eq!(of(name), RequestFields { directives: true, ..none }, "{name}");
        }
        for name in ["content-length", "transfer-encoding"] {
            assert_eq!(of(name), RequestFields { content: true, ..none }, "{name}");
        }
        for name in ["if-match", "if-modified-since", "if-none-match", "if-unmodified-since"] {
            assert_eq!(of(name), RequestFields { conditions: true, ..none }, "{name}");
        }
        assert_eq!(of("range"), RequestFields { range: true, ..none });
        assert_eq!(of("upgrade"), RequestFields { upgrade: true, ..none });
        for name in ["accept", "accept-encoding", "host", "user-agent", "x-a", "sec-fetch-mode"] {
            assert_eq!(of(name), none, "{name}");
        }
    }

    #[test]
    fn what_matters_to_a_tag_is_found_in_a_response() {
        for (name, value, framing, no_store) in [
            ("content-length", "1", true, false),
            ("transfer-encoding", "chunked", true, false),
            ("cache-control", "max-age=60", false, false),
            ("cache-control", "max-age=60, No-Store", false, true),
            ("cdn-cache-control", "no-store", false, true),
            ("other-cache-control", "no-store", false, false),
            ("x-words", "no-store", false, false),
            ("content-type", "text/plain", false, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            headers.insert(header::SERVER, HeaderValue::from_static("origin"));
            let expected = TagFields { framing, no_store };
            assert_eq!(TagFields::of(&headers, &[CDN_CACHE_CONTROL]), expected, "{name}: {value}");
        }
    }

    #[test]
    fn response_fields_are_classified_by_their_names() {
        let of = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static("1"));
            ResponseFields::of(&headers, &[HeaderName::from_static("x-target")])
        };
        let none = ResponseFields::default();
        assert_eq!(of("age"), ResponseFields { age: true, ..none });
        assert_eq!(of("cache-groups"), ResponseFields { cache_groups: true, ..none });
        assert_eq!(of("cache-status"), ResponseFields { cache_status: true, ..none });
        assert_eq!(of("content-encoding"), ResponseFields { content_encoding: true, ..none });
        assert_eq!(of("content-length"), ResponseFields { content_length: true, ..none });
        assert_eq!(of("date"), ResponseFields { date: true, ..none });
        assert_eq!(of("etag"), ResponseFields { etag: true, ..none });
        assert_eq!(of("last-modified"), ResponseFields { last_modified: true, ..none });
        assert_eq!(of("no-vary-search"), ResponseFields { no_vary_search: true, ..none });
        assert_eq!(of("set-cookie"), ResponseFields { set_cookie: true, ..none });
        assert_eq!(of("vary"), ResponseFields { vary: true, ..none });
        assert_eq!(of("x-target"), ResponseFields { targeted: true, ..none });
        let coded = ResponseFields { hop_by_hop: true, transfer_encoding: true, ..none };
        assert_eq!(of("transfer-encoding"), coded);
        for name in ["connection", "keep-alive", "proxy-connection", "te", "upgrade"] {
            assert_eq!(of(name), ResponseFields { hop_by_hop: true, ..none }, "{name}");
        }
        for name in ["cdn-cache-control", "cache-control", "content-type", "expires", "x-a"] {
            assert_eq!(of(name), none, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_response_is_no_store_without_the_word(
            lines in prop::collection::vec((any::<bool>(), "[nN]o-[sS]tor(e|e2|)(=\\?0|=1|)(, ?max-age=60|, &|)|private"), 0..4),
        ) {
            let name = |is_targeted| if is_targeted { CDN_CACHE_CONTROL } else { header::CACHE_CONTROL };
            let mut headers = HeaderMap::new();
            for (is_targeted, line) in &lines {
                headers.append(name(*is_targeted), HeaderValue::from_str(line).expect("a value"));
            }
            let targets = [CDN_CACHE_CONTROL];
            let is_no_store = directives(&headers, &targets).no_store;
            prop_assert!(!is_no_store || TagFields::of(&headers, &targets).no_store);
        }

        #[test]
        fn members_are_trimmed_and_none_is_empty(line: Vec<u8>) {
            for member in Members::new(&line) {
                prop_assert!(!member.is_empty());
                prop_assert_eq!(trim(member), member);
            }
        }

        #[test]
        fn any_list_is_read_as_given(
            members in prop::collection::vec("[!#-+.-~]{1,6}|(W/)?\"[ !#-~]{0,6}\"", 0..5),
            separator in "[ \t]{0,2},[ \t,]{0,3}",
        ) {
            let line = members.join(&separator);
            let read: Vec<_> = Members::new(line.as_bytes()).map(<[u8]>::to_vec).collect();
            let members: Vec<_> = members.into_iter().map(String::into_bytes).collect();
            prop_assert_eq!(read, members);
        }

        #[test]
        fn delta_seconds_are_read_as_written(seconds: u64, zeros in "0{0,4}") {
            let read = delta_seconds(format!("{zeros}{seconds}").as_bytes());
            prop_assert_eq!(read.map(u64::from), Some(seconds.min(1 << 31)));
        }

        #[test]
        fn text_with_anything_but_digits_is_no_number(text: Vec<u8>) {
            let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
            prop_assert_eq!(delta_seconds(&text).is_some(), is_number);
        }

        #[test]
        fn a_field_that_connection_nominates_is_always_removed(lines in prop::collection::vec(any_value(), 0..3), name in "[a-z]{1,8}") {
            let mut headers: HeaderMap = lines.into_iter().map(|line| (header::CONNECTION, line)).collect();
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(header::CONNECTION, HeaderValue::from_str(name.as_str()).expect("a value"));
            headers.insert(&name, HeaderValue::from_static("x"));
            remove_hop_by_hop(&mut headers);
            prop_assert!(!headers.contains_key(header::CONNECTION));
            // A line before it can hold a quote that is left open, but lines are read one by one.
            prop_assert!(NOT_NOMINABLE.contains(&name) || !headers.contains_key(&name));
        }
    }
}
