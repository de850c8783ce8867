//! Further parts of a key: fields, their presence and class, and what a closure makes of a request.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, request};

use super::cookies;
use crate::entry::key::CacheKey;
use crate::semantics::accept::{agreed, has_word, names_media_type};

/// Longer lines are not looked at for their class.
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
            Self::Contains(name, word) => {
                let has = |line: &[u8]| Some(has_word(line, word.as_bytes()));
                with_class(key, name.as_str(), contains(headers, name, has))
            }
            Self::CookiePresence(name) => with_class(key, name, Some(cookies::has(name, headers))),
            Self::Field(name) => key.with_field(name, headers),
            Self::FieldPresence(name) => with_class(key, name.as_str(), Some(headers.contains_key(name))),
            Self::Mobile => with_class(key, "mobile", is_mobile(headers)),
        }
    }
}

/// Adds a class: in it, not in it, or `None` for what the service may read in either way, which shares nothing with the others.
fn with_class(key: CacheKey, name: &str, is_in: Option<bool>) -> CacheKey {
    let class = match is_in {
        Some(true) => b"1",
        Some(false) => b"0",
        None => b"?",
    };
    key.with(name, class)
}

/// Whether a field contains a word. `None` if a line is longer than what is looked at, or lines differ: some services read the
/// first one.
fn contains(
    headers: &HeaderMap,
    name: &HeaderName,
    has_word: impl Fn(&[u8]) -> Option<bool>,
) -> Option<bool> {
    let lines = headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    agreed(lines.map(|line| if line.len() > LONGEST { None } else { has_word(line) }))
}

/// Whether a browser says that it is on a phone: by `Sec-CH-UA-Mobile`, and by `Mobi` in `User-Agent`, as all of them have it.
/// `None` if the two differ: a service looks at either.
fn is_mobile(headers: &HeaderMap) -> Option<bool> {
    static HINT: HeaderName = HeaderName::from_static("sec-ch-ua-mobile");
    const WORD: &[u8] = b"Mobi";
    let by_agent = contains(headers, &header::USER_AGENT, |line| {
        let is_exact = line.windows(WORD.len()).any(|part| part == WORD);
        // A service may look for it in any case.
        (is_exact || !has_word(line, WORD)).then_some(is_exact)
    });
    if !headers.contains_key(&HINT) {
        return by_agent;
    }
    let by_hint = contains(headers, &HINT, |line| match line {
        b"?1" => Some(true),
        b"?0" => Some(false),
        _ => None,
    });
    by_hint.filter(|_| by_hint == by_agent)
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
    fn check(fields: &[(&'static str, &'static str)], expected: Option<bool>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        assert_eq!(is_mobile(&headers), expected, "{fields:?}");
    }

    #[test]
    fn kx4_a_browser_is_mobile_by_its_hint_and_by_its_user_agent() {
        const PHONE: (&str, &str) =
            ("user-agent", "Mozilla/5.0 (Linux; Android 10; K) Chrome/120 Mobile Safari");
        const TABLET: (&str, &str) = ("user-agent", "Mozilla/5.0 (Linux; Android 10; K) Chrome/120 Safari");
        const DESKTOP: (&str, &str) = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/120");
        const IPHONE: (&str, &str) = ("user-agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0) Mobile/15E148");
        const YES: (&str, &str) = ("sec-ch-ua-mobile", "?1");
        const NO: (&str, &str) = ("sec-ch-ua-mobile", "?0");
        for (agent, is_mobile) in
            [(&[PHONE][..], true), (&[IPHONE], true), (&[TABLET], false), (&[DESKTOP], false), (&[], false)]
        {
            check(agent, Some(is_mobile));
            check(&[agent, &[YES]].concat(), is_mobile.then_some(true));
            check(&[agent, &[NO]].concat(), (!is_mobile).then_some(false));
            check(&[agent, &[("sec-ch-ua-mobile", "1")]].concat(), None);
            check(&[agent, &[YES, NO]].concat(), None);
        }
        check(&[PHONE, DESKTOP], None);
        check(&[("user-agent", "x mobi")], None);
    }

    #[test]
    fn kx4_a_word_is_found_in_any_case_and_not_looked_for_in_what_is_too_long() {
        let found = |lines: &[String]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x", HeaderValue::try_from(line).expect("a value"));
            }
            let name = HeaderName::from_static("x");
            contains(&headers, &name, |line| Some(has_word(line, "wörd bot".as_bytes())))
        };
        let (with, without) = ("a WöRD Bot".to_owned(), "a wörd".to_owned());
        assert_eq!(found(std::slice::from_ref(&with)), Some(true));
        assert_eq!(found(std::slice::from_ref(&without)), Some(false));
        assert_eq!(found(&[String::new()]), Some(false));
        assert_eq!(found(&[]), Some(false));
        assert_eq!(found(&[with.clone(), with.clone()]), Some(true));
        assert_eq!(found(&[with.clone(), without.clone()]), None);
        assert_eq!(found(&[without, with]), None);
        for end in ["wörd bot", "wörd but"] {
            let found = |length: usize| found(&[format!("{}{end}", ".".repeat(length - end.len()))]);
            assert_eq!(found(LONGEST), Some(end == "wörd bot"));
            assert_eq!(found(LONGEST + 1), None);
        }
    }
}
