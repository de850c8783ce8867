//! Further parts of a key: fields, their presence and class, and what a closure makes of a request.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, request};

use super::cookies;
use crate::entry::key::CacheKey;
use crate::semantics::accept::names_media_type;

/// As much of a line is looked at for its class.
const LONGEST: usize = 4 * 1024;

type Add = dyn Fn(CacheKey, &request::Parts) -> CacheKey + Send + Sync;

/// One part of a key. Each adds what no value of another part can look like: names are the policy's, and every part says
/// where it ends.
#[derive(Clone)]
pub(super) enum KeyPart {
    /// Whether `Accept` names a media type.
    Accepts(Box<str>),
    Closure {
        add: Arc<Add>,
        name: Cow<'static, str>,
    },
    Contains(HeaderName, Box<str>),
    CookiePresence(Box<str>),
    Field(HeaderName),
    FieldPresence(HeaderName),
    Mobile,
}

impl KeyPart {
    pub(super) fn closure(
        name: Cow<'static, str>,
        add: impl Fn(CacheKey, &request::Parts) -> CacheKey + Send + Sync + 'static,
    ) -> Self {
        Self::Closure { add: Arc::new(add), name }
    }

    pub(super) fn add(&self, key: CacheKey, request: &request::Parts) -> CacheKey {
        let headers = &request.headers;
        match self {
            Self::Accepts(kind) => with_class(key, kind, names_media_type(headers, kind.as_bytes())),
            Self::Closure { add, .. } => add(key, request),
            Self::Contains(name, word) => with_class(key, name.as_str(), contains(headers, name, word)),
            Self::CookiePresence(name) => with_class(key, name, cookies::has(name, headers)),
            Self::Field(name) => key.with_field(name, headers),
            Self::FieldPresence(name) => with_class(key, name.as_str(), headers.contains_key(name)),
            Self::Mobile => with_class(key, "mobile", is_mobile(headers)),
        }
    }
}

fn with_class(key: CacheKey, name: &str, is_in: bool) -> CacheKey {
    key.with(name, if is_in { b"1" } else { b"0" })
}

/// Whether a line of a field contains a word, in whatever case.
fn contains(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    headers.get_all(name).into_iter().any(|line| has_word(line, word.as_bytes()))
}

fn has_word(line: &HeaderValue, word: &[u8]) -> bool {
    let line = &line.as_bytes()[..line.len().min(LONGEST)];
    let Some((first, rest)) = word.split_first() else {
        return true;
    };
    // Most bytes are no beginning.
    let begins = |byte: &u8| byte.eq_ignore_ascii_case(first);
    let mut after = line;
    while let Some(at) = after.iter().position(begins) {
        after = &after[at + 1..];
        if after.get(..rest.len()).is_some_and(|next| next.eq_ignore_ascii_case(rest)) {
            return true;
        }
    }
    false
}

/// Whether a browser says that it is on a phone: by `Sec-CH-UA-Mobile`, or else by `Mobi` in `User-Agent`, as all of them
/// have it.
fn is_mobile(headers: &HeaderMap) -> bool {
    static HINT: HeaderName = HeaderName::from_static("sec-ch-ua-mobile");
    match headers.get(&HINT).map(HeaderValue::as_bytes) {
        Some(b"?1") => true,
        Some(b"?0") => false,
        _ => contains(headers, &header::USER_AGENT, "Mobi"),
    }
}

impl fmt::Debug for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepts(kind) => write!(f, "accepts {kind}"),
            Self::Closure { name, .. } => write!(f, "{name}"),
            Self::Contains(name, word) => write!(f, "{name} contains {word:?}"),
            Self::CookiePresence(name) => write!(f, "presence of cookie {name}"),
            Self::Field(name) => write!(f, "{name}"),
            Self::FieldPresence(name) => write!(f, "presence of {name}"),
            Self::Mobile => write!(f, "mobile"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fields: &[(&'static str, &'static str)], expected: bool) {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        assert_eq!(is_mobile(&fields.iter().map(field).collect()), expected, "{fields:?}");
    }

    #[test]
    fn kx4_a_browser_is_mobile_by_its_hint_or_by_its_user_agent() {
        const PHONE: (&str, &str) =
            ("user-agent", "Mozilla/5.0 (Linux; Android 10; K) Chrome/120 Mobile Safari");
        const TABLET: (&str, &str) = ("user-agent", "Mozilla/5.0 (Linux; Android 10; K) Chrome/120 Safari");
        const DESKTOP: (&str, &str) = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/120");
        const IPHONE: (&str, &str) = ("user-agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0) Mobile/15E148");
        check(&[PHONE], true);
        check(&[IPHONE], true);
        check(&[TABLET], false);
        check(&[DESKTOP], false);
        check(&[], false);
        // The hint counts first, if it is one.
        check(&[DESKTOP, ("sec-ch-ua-mobile", "?1")], true);
        check(&[PHONE, ("sec-ch-ua-mobile", "?0")], false);
        check(&[PHONE, ("sec-ch-ua-mobile", "0")], true);
    }

    #[test]
    fn kx4_a_word_is_found_in_any_case_and_not_beyond_a_length() {
        let found = |line: String| {
            let mut headers = HeaderMap::new();
            headers.insert("x", HeaderValue::try_from(line).expect("a value"));
            contains(&headers, &HeaderName::from_static("x"), "wörd bot")
        };
        assert!(found("a WöRD Bot".to_owned()) && !found("a wörd".to_owned()) && !found(String::new()));
        let far = |spaces: usize| found(format!("{}wörd bot", ".".repeat(spaces)));
        assert!(far(LONGEST - "wörd bot".len()) && !far(LONGEST));
    }
}
