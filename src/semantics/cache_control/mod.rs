//! `Cache-Control` of requests and responses (RFC 9111 5.2), read once per message.
//!
//! Names match in any case, arguments come as tokens or quoted strings, text inside a quoted string is never a
//! directive, and all lines of the field count. If a field contradicts itself, the most restrictive reading wins. If a
//! member is outside the grammar, [`ResponseDirectives::malformed`] says so, and the response is not stored.

mod builder;
mod edit;

use std::borrow::Cow;

use http::HeaderValue;
use http::header::{self, HeaderMap, HeaderName};

pub use self::builder::{CacheControl, CacheControlField, InvalidDirective};
pub(crate) use self::edit::edited;
use super::fields::{delta_seconds, is_longer_than, is_token, trim};

/// The directives of a response (RFC 9111 5.2.2, RFC 5861, RFC 8246). Durations are seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct ResponseDirectives {
    /// `immutable` (RFC 8246).
    pub(crate) immutable: bool,
    /// A member was outside the grammar: an open quote, a name that is not a token.
    pub(crate) malformed: bool,
    /// `max-age`. An argument that is no delta-seconds reads as 0, that is, stale.
    pub(crate) max_age: Option<u32>,
    /// `must-revalidate`.
    pub(crate) must_revalidate: bool,
    /// `must-understand`.
    pub(crate) must_understand: bool,
    /// `no-cache` without field names.
    pub(crate) no_cache: bool,
    /// The fields of `no-cache="..."`.
    pub(crate) no_cache_fields: Vec<HeaderName>,
    /// `no-store`.
    pub(crate) no_store: bool,
    /// `no-transform`.
    pub(crate) no_transform: bool,
    /// `private` without field names.
    pub(crate) private: bool,
    /// The fields of `private="..."`.
    pub(crate) private_fields: Vec<HeaderName>,
    /// `proxy-revalidate`.
    pub(crate) proxy_revalidate: bool,
    /// `public`.
    pub(crate) public: bool,
    /// `s-maxage`. An argument that is no delta-seconds reads as 0.
    pub(crate) s_maxage: Option<u32>,
    /// `stale-if-error` (RFC 5861 4). An argument that is no delta-seconds reads as 0.
    pub(crate) stale_if_error: Option<u32>,
    /// `stale-while-revalidate` (RFC 5861 3). An argument that is no delta-seconds reads as 0.
    pub(crate) stale_while_revalidate: Option<u32>,
    /// The directives come from a targeted field (RFC 9213), and `Expires` does not count.
    pub(crate) targeted: bool,
}

impl ResponseDirectives {
    /// The fields that must not be stored: those that `private` and `no-cache` name (RFC 9111 5.2.2.4, 5.2.2.7).
    pub(crate) fn unstored(&self) -> impl Iterator<Item = &HeaderName> {
        self.private_fields.iter().chain(&self.no_cache_fields)
    }

    /// Reads every `Cache-Control` line of a response.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for line in headers.get_all(header::CACHE_CONTROL) {
            directives.read(line.as_bytes());
        }
        directives
    }

    fn read(&mut self, line: &[u8]) {
        let mut members = Directives::new(line);
        for directive in members.by_ref() {
            self.take(&directive);
        }
        self.malformed |= members.malformed;
    }

    fn take(&mut self, directive: &Directive<'_>) {
        // Restrictive directives count whatever argument they carry; permissive ones only as defined.
        let bare = directive.argument.is_none();
        match_name(directive.name, |name| match name {
            "immutable" => self.immutable |= bare,
            "max-age" => least(&mut self.max_age, directive.seconds()),
            "must-revalidate" => self.must_revalidate = true,
            "must-understand" => self.must_understand |= bare,
            "no-cache" => directive.qualify(&mut self.no_cache, &mut self.no_cache_fields),
            "no-store" => self.no_store = true,
            "no-transform" => self.no_transform = true,
            "private" => directive.qualify(&mut self.private, &mut self.private_fields),
            "proxy-revalidate" => self.proxy_revalidate = true,
            "public" => self.public |= bare,
            "s-maxage" => least(&mut self.s_maxage, directive.seconds()),
            "stale-if-error" => least(&mut self.stale_if_error, directive.seconds()),
            "stale-while-revalidate" => {
                least(&mut self.stale_while_revalidate, directive.seconds());
            }
            _ => {} // RFC 9111 5.2.3: unknown directives are ignored.
        });
    }
}

/// The directives of a request (RFC 9111 5.2.1, RFC 5861 4). Durations are seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct RequestDirectives {
    /// `max-age`. An argument that is no delta-seconds reads as 0.
    pub(crate) max_age: Option<u32>,
    /// `max-stale`; without an argument, the largest number.
    pub(crate) max_stale: Option<u32>,
    /// `min-fresh`. An argument that is no delta-seconds reads as the largest number.
    pub(crate) min_fresh: Option<u32>,
    /// `no-cache`, or `Pragma: no-cache` where there is no `Cache-Control` (RFC 9111 5.4).
    pub(crate) no_cache: bool,
    /// `no-store`.
    pub(crate) no_store: bool,
    /// `no-transform`.
    pub(crate) no_transform: bool,
    /// `only-if-cached`.
    pub(crate) only_if_cached: bool,
    /// `stale-if-error` (RFC 5861 4).
    pub(crate) stale_if_error: Option<u32>,
}

impl RequestDirectives {
    /// Reads every `Cache-Control` line of a request, or `Pragma` if there is none. A field of more than 4 KiB, which
    /// only an attack has, is not read: it counts as `no-cache`, and `Cache-Control` as `no-store` as well.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        const LONGEST: usize = 4096;
        let mut directives = Self::default();
        if headers.contains_key(header::CACHE_CONTROL) {
            if is_longer_than(headers, &header::CACHE_CONTROL, LONGEST) {
                return Self { no_cache: true, no_store: true, ..directives };
            }
            for line in headers.get_all(header::CACHE_CONTROL) {
                for directive in Directives::new(line.as_bytes()) {
                    directives.take(&directive);
                }
            }
        } else if headers.contains_key(header::PRAGMA) {
            let mut lines = headers.get_all(header::PRAGMA).into_iter().map(HeaderValue::as_bytes);
            let is_no_cache = |directive: Directive<'_>| directive.name.eq_ignore_ascii_case(b"no-cache");
            directives.no_cache = is_longer_than(headers, &header::PRAGMA, LONGEST)
                || lines.any(|line| Directives::new(line).any(is_no_cache));
        }
        directives
    }

    /// Those that count by `client_directives` of the rules. Where it is off, what asks for a fresher response than others get
    /// does not: `no-cache` (and `Pragma`), `max-age` and `min-fresh`. What a client says at nobody else's cost always
    /// counts: `no-store`, `only-if-cached`, `max-stale` and `stale-if-error`.
    #[must_use]
    pub(crate) fn heeded(self, client_directives: bool) -> Self {
        if client_directives {
            self
        } else {
            Self { max_age: None, min_fresh: None, no_cache: false, ..self }
        }
    }

    fn take(&mut self, directive: &Directive<'_>) {
        match_name(directive.name, |name| match name {
            "max-age" => least(&mut self.max_age, directive.seconds()),
            "max-stale" => {
                let seconds = match directive.argument {
                    None => u32::MAX,
                    Some(_) => directive.seconds(),
                };
                least(&mut self.max_stale, seconds);
            }
            "min-fresh" => {
                let seconds = directive.try_seconds().unwrap_or(u32::MAX);
                self.min_fresh = Some(self.min_fresh.unwrap_or(0).max(seconds));
            }
            "no-cache" => self.no_cache = true,
            "no-store" => self.no_store = true,
            "no-transform" => self.no_transform = true,
            "only-if-cached" => self.only_if_cached = true,
            "stale-if-error" => least(&mut self.stale_if_error, directive.seconds()),
            _ => {}
        });
    }
}

/// Keeps the smaller of what was read: of two `max-age`, never the larger (RFC 9111 4.2.1).
fn least(slot: &mut Option<u32>, seconds: u32) {
    *slot = Some(slot.map_or(seconds, |earlier| earlier.min(seconds)));
}

/// Calls `with` with the name in lower case; names longer than any known directive are skipped.
fn match_name(name: &[u8], with: impl FnOnce(&str)) {
    let mut lower = [0u8; 24];
    let Some(lower) = lower.get_mut(..name.len()) else {
        return;
    };
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    if let Ok(name) = std::str::from_utf8(lower) {
        with(name);
    }
}

struct Directive<'a> {
    argument: Option<Cow<'a, [u8]>>,
    name: &'a [u8],
    /// All of it, as it stands there.
    written: &'a [u8],
}

impl Directive<'_> {
    fn try_seconds(&self) -> Option<u32> {
        delta_seconds(self.argument.as_deref()?)
    }

    fn seconds(&self) -> u32 {
        self.try_seconds().unwrap_or(0)
    }

    /// `private` and `no-cache`: with an argument that names fields, they concern these fields only. An argument that
    /// names none, or something that is not a field name, counts as no argument at all.
    fn qualify(&self, whole: &mut bool, fields: &mut Vec<HeaderName>) {
        let Some(argument) = self.argument.as_deref() else {
            *whole = true;
            return;
        };
        let mut named = 0;
        for name in argument.split(|&byte| byte == b',').map(trim) {
            match HeaderName::from_bytes(name) {
                Ok(name) => {
                    named += 1;
                    if !fields.contains(&name) {
                        fields.push(name);
                    }
                }
                Err(_) if name.is_empty() => {}
                Err(_) => *whole = true,
            }
        }
        *whole |= named == 0;
    }
}

/// `token [ "=" ( token / quoted-string ) ]`, comma-separated. Allocates only for escapes in quotes.
struct Directives<'a> {
    rest: &'a [u8],
    malformed: bool,
}

impl<'a> Directives<'a> {
    fn new(line: &'a [u8]) -> Self {
        Self { rest: line, malformed: false }
    }

    /// Takes everything up to a byte that `stop` accepts.
    fn until(&mut self, stop: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| stop(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// The rest of a quoted string after its opening quote; `None` if it is never closed.
    fn quoted(&mut self) -> Option<Cow<'a, [u8]>> {
        let plain = self.until(|byte| byte == b'"' || byte == b'\\');
        if let [b'"', rest @ ..] = self.rest {
            self.rest = rest;
            return Some(Cow::Borrowed(plain));
        }
        let mut text = plain.to_vec();
        loop {
            match self.rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return Some(Cow::Owned(text));
                }
                [b'\\', escaped, rest @ ..] => {
                    text.push(*escaped);
                    self.rest = rest;
                }
                [byte, rest @ ..] if *byte != b'\\' => {
                    text.push(*byte);
                    self.rest = rest;
                }
                _ => return None,
            }
        }
    }
}

impl<'a> Iterator for Directives<'a> {
    type Item = Directive<'a>;

    fn next(&mut self) -> Option<Directive<'a>> {
        loop {
            while let [b' ' | b'\t' | b',', rest @ ..] = self.rest {
                self.rest = rest;
            }
            if self.rest.is_empty() {
                return None;
            }
            let begun = self.rest;
            let name = self.until(|byte| byte == b'=' || byte == b',' || byte == b'"');
            let argument = match self.rest {
                [b'=', b'"', rest @ ..] => {
                    self.rest = rest;
                    let Some(text) = self.quoted() else {
                        self.rest = &[];
                        self.malformed = true;
                        return None;
                    };
                    // Only white space may be between the closing quote and the comma.
                    if !trim(self.until(|byte| byte == b',')).is_empty() {
                        self.malformed = true;
                        continue;
                    }
                    Some(text)
                }
                [b'=', rest @ ..] => {
                    self.rest = rest;
                    // White space after the `=` is not trimmed: `max-age= 5` is no delta-seconds.
                    let text = self.until(|byte| byte == b',');
                    if text.contains(&b'"') {
                        self.malformed = true;
                    }
                    Some(Cow::Borrowed(trim_end(text)))
                }
                [b'"', ..] => {
                    // A quote where none belongs: what follows cannot be distinguished from directives.
                    self.rest = &[];
                    self.malformed = true;
                    return None;
                }
                _ => None,
            };
            // `max-age =5` is `max-age` with no argument that counts: there is no space around the `=`.
            let argument = if name.ends_with(b" ") || name.ends_with(b"\t") {
                argument.map(|_| Cow::Borrowed(&b""[..]))
            } else {
                argument
            };
            let name = trim(name);
            if is_token(name) {
                let written = trim(&begun[..begun.len() - self.rest.len()]);
                return Some(Directive { argument, name, written });
            }
            self.malformed = true;
        }
    }
}

fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn response(lines: &[&str]) -> ResponseDirectives {
        ResponseDirectives::of(&headers(lines))
    }

    fn request(lines: &[&str]) -> RequestDirectives {
        RequestDirectives::of(&headers(lines))
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                header::CACHE_CONTROL,
                HeaderValue::from_bytes(line.as_bytes()).expect("a field value"),
            );
        }
        headers
    }

    #[track_caller]
    fn check(lines: &[&str], expected: ResponseDirectives) {
        assert_eq!(response(lines), expected, "{lines:?}");
    }

    fn directives(edit: impl FnOnce(&mut ResponseDirectives)) -> ResponseDirectives {
        let mut directives = ResponseDirectives::default();
        edit(&mut directives);
        directives
    }

    #[test]
    fn directives_without_arguments_are_recognised() {
        // RFC 9111 5.2.2, RFC 8246 2.
        check(&[], directives(|_| {}));
        check(&[""], directives(|_| {}));
        check(&["no-store"], directives(|d| d.no_store = true));
        check(&["NO-STORE"], directives(|d| d.no_store = true));
        check(&["no-store=1"], directives(|d| d.no_store = true));
        check(&["Private"], directives(|d| d.private = true));
        check(&["public"], directives(|d| d.public = true));
        check(&["public=1"], directives(|_| {}));
        check(&["no-cache"], directives(|d| d.no_cache = true));
        check(&["no-transform"], directives(|d| d.no_transform = true));
        check(&["must-revalidate"], directives(|d| d.must_revalidate = true));
        check(&["proxy-revalidate"], directives(|d| d.proxy_revalidate = true));
        check(&["must-understand"], directives(|d| d.must_understand = true));
        check(&["immutable"], directives(|d| d.immutable = true));
        check(&["unknown, x=\"y\", z=1"], directives(|_| {}));
        check(&["a-directive-with-a-very-long-name-indeed"], directives(|_| {}));
        check(
            &["public", "no-store"],
            directives(|d| {
                d.public = true;
                d.no_store = true;
            }),
        );
        check(
            &[" ,public,, ,no-store , "],
            directives(|d| {
                d.public = true;
                d.no_store = true;
            }),
        );
    }

    #[test]
    fn directives_with_seconds_are_parsed() {
        // RFC 9111 1.2.2, 4.2.1, 5.2.2.1: conflicts and nonsense read as the stalest.
        for (line, expected) in [
            ("max-age=60", Some(60)),
            ("MAX-AGE=60", Some(60)),
            ("max-age=\"60\"", Some(60)),
            ("max-age=\"\\60\"", Some(60)),
            ("max-age=0060", Some(60)),
            ("max-age=60 ", Some(60)),
            ("max-age=60\t, public=x", Some(60)),
            ("max-age=60, max-age=10", Some(10)),
            ("max-age=10, max-age=60", Some(10)),
            ("max-age=0", Some(0)),
            ("max-age=2147483648", Some(1 << 31)),
            ("max-age=99999999999999999999", Some(1 << 31)),
            ("max-age", Some(0)),
            ("max-age=", Some(0)),
            ("max-age=-1", Some(0)),
            ("max-age=+1", Some(0)),
            ("max-age=1.5", Some(0)),
            ("max-age=60.0", Some(0)),
            ("max-age='60'", Some(0)),
            ("max-age=a60", Some(0)),
            ("max-age=60a", Some(0)),
            ("max-age=60;public", Some(0)),
            ("max-age= 60", Some(0)),
            ("max-age=\" 60\"", Some(0)),
            ("max-age=\"\"", Some(0)),
            ("max-age =60", Some(0)),
            ("x=\"max-age=60\"", None),
            ("x=\"a, max-age=60\", y", None),
            ("x=\"\\\", max-age=60\"", None),
            ("max-age=1, x=\"max-age=3600\"", Some(1)),
            ("x=\"max-age=3600\", max-age=1", Some(1)),
        ] {
            let read = response(&[line]);
            assert_eq!(read.max_age, expected, "{line:?}");
            assert!(!read.malformed, "{line:?}");
        }
        assert_eq!(response(&["max-age=60", "max-age=10"]).max_age, Some(10));
        assert_eq!(response(&["s-maxage=60"]).s_maxage, Some(60));
        assert_eq!(response(&["s-maxage=x"]).s_maxage, Some(0));
        assert_eq!(response(&["stale-while-revalidate=30"]).stale_while_revalidate, Some(30));
        assert_eq!(response(&["stale-while-revalidate=x"]).stale_while_revalidate, Some(0));
        assert_eq!(response(&["stale-if-error=30"]).stale_if_error, Some(30));
    }

    #[test]
    fn private_and_no_cache_may_name_fields() {
        // RFC 9111 5.2.2.4, 5.2.2.7.
        let set_cookie = || vec![header::SET_COOKIE];
        check(&["private=\"set-cookie\""], directives(|d| d.private_fields = set_cookie()));
        check(&["private=\" Set-Cookie \""], directives(|d| d.private_fields = set_cookie()));
        check(&["private=Set-Cookie"], directives(|d| d.private_fields = set_cookie()));
        check(
            &["no-cache=\"set-cookie, age\""],
            directives(|d| d.no_cache_fields = vec![header::SET_COOKIE, header::AGE]),
        );
        check(
            &["private=\"set-cookie\", private"],
            directives(|d| {
                d.private = true;
                d.private_fields = set_cookie();
            }),
        );
        check(&["private=\"\""], directives(|d| d.private = true));
        check(&["private=\" , \""], directives(|d| d.private = true));
        check(&["private="], directives(|d| d.private = true));
        check(&["private=\"a b\""], directives(|d| d.private = true));
        check(&["no-cache=\"(\""], directives(|d| d.no_cache = true));
    }

    #[test]
    fn malformed_lines_are_reported() {
        for line in [
            "max-age=\"60",
            "private=\"set-cookie",
            "private=\"a\"b",
            "private;max-age=60",
            "private; max-age=60",
            "\"no-store\"",
            "public \"",
            "x=\"\\",
            "=60",
            "max age=60",
            "max-age=6\"0\"",
            "caf\u{e9}",
        ] {
            assert!(response(&[line]).malformed, "{line:?}");
        }
        // Directives before and after it still count.
        let read = response(&["no-store, @, private=x\"y\", public"]);
        assert!(read.malformed && read.no_store && read.public);
    }

    #[test]
    fn request_directives_are_parsed() {
        // RFC 9111 5.2.1, 5.4.
        assert_eq!(request(&["max-age=5, max-age=9"]).max_age, Some(5));
        assert_eq!(request(&["max-age=x"]).max_age, Some(0));
        assert_eq!(request(&["max-stale"]).max_stale, Some(u32::MAX));
        assert_eq!(request(&["max-stale=7"]).max_stale, Some(7));
        assert_eq!(request(&["max-stale=x"]).max_stale, Some(0));
        assert_eq!(request(&["min-fresh=7, min-fresh=9"]).min_fresh, Some(9));
        assert_eq!(request(&["min-fresh=x"]).min_fresh, Some(u32::MAX));
        assert!(request(&["No-Cache"]).no_cache);
        assert!(request(&["no-store"]).no_store);
        assert!(request(&["only-if-cached"]).only_if_cached);
        assert!(request(&["no-transform"]).no_transform);
        assert_eq!(request(&["stale-if-error=9"]).stale_if_error, Some(9));

        let mut headers = HeaderMap::new();
        headers.insert(header::PRAGMA, HeaderValue::from_static("No-Cache"));
        assert!(RequestDirectives::of(&headers).no_cache);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=5"));
        assert!(!RequestDirectives::of(&headers).no_cache);
    }

    #[test]
    fn a39_a_field_that_is_too_long_to_read_counts_as_no_cache() {
        let fields = |name, length: usize| {
            HeaderMap::from_iter([(name, HeaderValue::try_from("a".repeat(length)).expect("a value"))])
        };
        for (name, length, demands, forbids) in [
            (header::CACHE_CONTROL, 4096, false, false),
            (header::CACHE_CONTROL, 4097, true, true),
            (header::PRAGMA, 4096, false, false),
            (header::PRAGMA, 4097, true, false),
        ] {
            let read = RequestDirectives::of(&fields(name, length));
            assert_eq!((read.no_cache, read.no_store), (demands, forbids), "{length}");
        }
    }

    proptest! {
        #[test]
        fn parsing_cache_control_never_panics(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                let mut headers = HeaderMap::new();
                headers.insert(header::CACHE_CONTROL, value);
                let _ = ResponseDirectives::of(&headers);
                let _ = RequestDirectives::of(&headers);
            }
        }

        #[test]
        fn any_number_of_seconds_is_read_as_given(seconds: u64, quoted: bool) {
            let line = if quoted { format!("Max-Age=\"{seconds}\"") } else { format!("max-age={seconds}") };
            let expected = Some(u32::try_from(seconds).unwrap_or(u32::MAX).min(1 << 31));
            prop_assert_eq!(response(&[&line]).max_age, expected);
            prop_assert_eq!(request(&[&line]).max_age, expected);
        }

        #[test]
        fn a_max_age_that_is_no_number_counts_as_zero(argument in "[ -!#-+.-~]{0,8}") {
            prop_assume!(delta_seconds(trim_end(argument.as_bytes())).is_none());
            prop_assert_eq!(response(&[&format!("max-age={argument}")]).max_age, Some(0));
            prop_assert_eq!(response(&[&format!("max-age=\"{argument}")]).max_age, None);
        }

        #[test]
        fn no_store_is_found_beside_any_valid_directives(
            before in "[a-z]{1,8}(=([a-z0-9]{1,4}|\"[a-z ,=]{0,8}\"))?",
            after in "[a-z]{1,8}(=([a-z0-9]{1,4}|\"[a-z ,=]{0,8}\"))?",
        ) {
            let line = format!("{before}, No-Store ,{after}");
            prop_assert!(response(&[&line]).no_store);
        }
    }
}
