//! Who may use the admin service: whoever has the token, from a page of its own or from none.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;
use thiserror::Error;

use super::answer::Refusal;
use crate::semantics::token::Token;

/// The fewest bytes of a token: what nobody guesses.
const SHORTEST: usize = 16;
/// The most bytes of a token, so that it fits into a field everywhere.
const LONGEST: usize = 1_024;

/// The field in which clients of Fastly's API send their token.
const FASTLY_KEY: HeaderName = HeaderName::from_static("fastly-key");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a token is none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It has fewer than 16 bytes, or none.
    #[error("the admin token has fewer than 16 bytes: make a random one, as by `openssl rand -hex 32`")]
    Short,
    /// It has more than 1,024 bytes.
    #[error("the admin token has more than 1,024 bytes")]
    Long,
    /// It has bytes that a field can't hold in one word: white space, control characters, or others than ASCII.
    #[error("the admin token has other bytes than visible ASCII characters: no white space, no line break")]
    Bytes,
}

/// What a client has to know: one of these.
pub(super) struct Tokens(ArcSwap<Vec<Token>>);

/// A token that nobody guesses, and that a field can hold.
fn checked(token: &str) -> Result<Token, TokenError> {
    match token.len() {
        ..SHORTEST => Err(TokenError::Short),
        SHORTEST..=LONGEST if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Token::new(token)),
        SHORTEST..=LONGEST => Err(TokenError::Bytes),
        _ => Err(TokenError::Long),
    }
}

impl Tokens {
    pub(super) fn new(token: &str) -> Result<Self, TokenError> {
        Ok(Self(ArcSwap::from_pointee(vec![checked(token)?])))
    }

    /// From now on, these count and no others. One that is none changes nothing.
    pub(super) fn replace<'a>(&self, tokens: impl IntoIterator<Item = &'a str>) -> Result<(), TokenError> {
        let tokens: Vec<_> = tokens.into_iter().map(checked).collect::<Result<_, _>>()?;
        if tokens.is_empty() {
            return Err(TokenError::Short);
        }
        self.0.store(Arc::new(tokens));
        Ok(())
    }

    /// Refuses a request that has none of the tokens. Nothing else is looked at: no address, and no field that says what
    /// another proxy has seen.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let presented = presented(headers).ok_or_else(Refusal::no_token)?;
        let tokens = self.0.load();
        // All of them are compared, whichever it is.
        let is_one = tokens.iter().fold(false, |is_one, token| is_one | token.is(presented));
        if is_one { Ok(()) } else { Err(Refusal::wrong_token()) }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(..)")
    }
}

/// The token of a request: `Authorization: Bearer` or, without that field, `Fastly-Key`. A field that is there twice has none.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let only = |name: &HeaderName| {
        let mut lines = headers.get_all(name).into_iter();
        let line = lines.next()?;
        lines.next().is_none().then_some(line.as_bytes())
    };
    if !headers.contains_key(header::AUTHORIZATION) {
        return only(&FASTLY_KEY);
    }
    let (scheme, token) = only(&header::AUTHORIZATION)?.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Refuses what a page of another site sends, whatever token it has: by what browsers say of a request, which no page can
/// change.
pub(super) fn check_site(request: &Parts) -> Result<(), Refusal> {
    let headers = &request.headers;
    let mut sites = headers.get_all(SEC_FETCH_SITE).into_iter();
    if sites.any(|site| !matches!(site.as_bytes(), b"none" | b"same-origin")) {
        return Err(Refusal::other_site("the request comes from a page of another site"));
    }
    let own = own_authority(request);
    for origin in headers.get_all(header::ORIGIN) {
        let authority =
            origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, after)| after);
        if !authority.zip(own.as_deref()).is_some_and(|(theirs, own)| theirs.eq_ignore_ascii_case(own)) {
            let origin = String::from_utf8_lossy(origin.as_bytes());
            let own = own.as_deref().unwrap_or("(no host)");
            return Err(Refusal::other_site(format!(
                "the request comes from a page of {origin}, and this service was asked as {own}"
            )));
        }
    }
    Ok(())
}

/// Whether a browser asks for a document to show, as where somebody follows a link: what it gets tells nothing, and no page can
/// read it.
pub(super) fn is_navigation(request: &Parts) -> bool {
    request.headers.get(SEC_FETCH_DEST).is_some_and(|dest| dest == "document")
}

/// By which authority the service was asked, as a browser spells it in `Origin`.
fn own_authority(request: &Parts) -> Option<String> {
    let of_field = || Some(request.headers.get(header::HOST)?.to_str().ok()?.to_owned());
    request.uri.authority().map(|authority| authority.as_str().to_owned()).or_else(of_field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Request};

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn a19_a_token_that_could_be_guessed_is_none() {
        for (token, expected) in [
            ("", TokenError::Short),
            ("0123456789abcde", TokenError::Short),
            ("0123456789abcde ", TokenError::Bytes),
            ("0123456789abcdef\n", TokenError::Bytes),
            ("0123456789abcdé", TokenError::Bytes),
            (&*"x".repeat(1_025), TokenError::Long),
        ] {
            assert_eq!(Tokens::new(token).err(), Some(expected), "{token:?}");
        }
        assert!(Tokens::new(TOKEN).is_ok() && Tokens::new(&"x".repeat(1_024)).is_ok());
        assert!(!format!("{:?}", Tokens::new(TOKEN)).contains(TOKEN));
    }

    #[track_caller]
    fn check(fields: &[(&'static str, &'static str)], expected: Option<u16>) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let tokens = Tokens::new(TOKEN).expect("a token");
        assert_eq!(
            tokens.check(&headers).err().map(|refusal| refusal.status().as_u16()),
            expected,
            "{fields:?}"
        );
    }

    #[test]
    fn a19_only_the_token_opens() {
        check(&[("authorization", "Bearer 0123456789abcdef")], None);
        check(&[("authorization", "bearer   0123456789abcdef")], None);
        check(&[("fastly-key", TOKEN)], None);
        check(&[], Some(401));
        check(&[("authorization", "Basic 0123456789abcdef")], Some(401));
        check(&[("authorization", TOKEN)], Some(401));
        check(&[("authorization", "Bearer")], Some(401));
        check(&[("authorization", "Bearer 0123456789abcdeX")], Some(403));
        check(&[("authorization", "Bearer 0123456789abcdef0")], Some(403));
        check(&[("authorization", "Bearer 0123456789abcde")], Some(403));
        check(&[("authorization", "Bearer ")], Some(403));
        check(&[("fastly-key", "")], Some(403));
        // What counts is one field, not any.
        check(&[("authorization", "Bearer 0123456789abcdeX"), ("fastly-key", TOKEN)], Some(403));
        check(&[("fastly-key", TOKEN), ("fastly-key", TOKEN)], Some(401));
        // Nor does it matter where a request says that it comes from.
        check(&[("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1;by=admin")], Some(401));
        check(&[("cookie", "token=0123456789abcdef")], Some(401));
    }

    #[test]
    fn a19_each_of_several_tokens_opens_and_one_that_is_none_changes_nothing() {
        let tokens = Tokens::new(TOKEN).expect("a token");
        let opens = |token: &'static str| {
            tokens.check(&HeaderMap::from_iter([(FASTLY_KEY, HeaderValue::from_static(token))])).is_ok()
        };
        let (new, longer) = ("fedcba9876543210", "0123456789abcdef0");
        assert_eq!([TOKEN, new, longer].map(opens), [true, false, false]);
        assert_eq!(tokens.replace([new, longer, "short"]), Err(TokenError::Short));
        assert_eq!(tokens.replace([]), Err(TokenError::Short));
        assert_eq!([TOKEN, new, longer].map(opens), [true, false, false]);
        assert_eq!(tokens.replace([new, longer]), Ok(()));
        assert_eq!([TOKEN, new, longer].map(opens), [false, true, true]);
        assert!(!opens("fedcba987654321") && !opens(""));
    }

    #[track_caller]
    fn check_site_of(uri: &str, fields: &[(&'static str, &'static str)], is_own: bool) {
        let (mut request, ()) = Request::get(uri).body(()).expect("a request").into_parts();
        for (name, value) in fields {
            request.headers.append(*name, HeaderValue::from_static(value));
        }
        assert_eq!(check_site(&request).is_ok(), is_own, "{uri} {fields:?}");
    }

    #[test]
    fn a19_pages_of_other_sites_are_refused() {
        let host = ("host", "admin.example:8443");
        check_site_of("/", &[host], true);
        check_site_of("/", &[host, ("origin", "https://admin.example:8443")], true);
        check_site_of("/", &[host, ("origin", "https://Admin.example:8443")], true);
        check_site_of("https://admin.example/", &[("origin", "https://admin.example")], true);
        check_site_of("/", &[host, ("sec-fetch-site", "same-origin")], true);
        check_site_of("/", &[host, ("sec-fetch-site", "none")], true);
        for origin in ["https://evil.example", "https://admin.example", "null", "", "admin.example:8443"] {
            check_site_of("/", &[host, ("origin", origin)], false);
        }
        check_site_of("/", &[("origin", "https://evil.example")], false);
        check_site_of(
            "/",
            &[host, ("origin", "https://admin.example:8443"), ("origin", "https://evil")],
            false,
        );
        for site in ["cross-site", "same-site", "", "Same-Origin"] {
            check_site_of("/", &[host, ("sec-fetch-site", site)], false);
        }
        // A field that a page may set says nothing.
        let forwarded = ("x-forwarded-host", "evil.example");
        check_site_of("/", &[host, forwarded, ("origin", "https://evil.example")], false);
    }
}
