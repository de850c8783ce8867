//! Tokens that a request shows in a field.

use std::fmt;
use std::hint::black_box;

use http::header::{HeaderMap, HeaderName};

/// What somebody has to show.
#[derive(Clone)]
pub(crate) struct Token(Box<[u8]>);

impl Token {
    /// An empty one is never shown.
    pub(crate) fn new(token: &str) -> Self {
        Self(token.as_bytes().into())
    }

    /// Takes as long for any two values of the same length.
    pub(crate) fn is(&self, shown: &[u8]) -> bool {
        let differs =
            self.0.iter().zip(shown).fold(0, |differs, (own, shown)| black_box(differs | (own ^ shown)));
        !self.0.is_empty() && self.0.len() == shown.len() && differs == 0
    }
}

/// Without what it is.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A field by which somebody shows a token.
#[derive(Clone, Debug)]
pub(crate) struct TokenField {
    name: HeaderName,
    token: Token,
}

impl TokenField {
    pub(crate) fn new(name: HeaderName, token: &str) -> Self {
        Self { name, token: Token::new(token) }
    }

    pub(crate) fn name(&self) -> &HeaderName {
        &self.name
    }

    /// Whether a request shows the token, in one line.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut lines = headers.get_all(&self.name).into_iter();
        match (lines.next(), lines.next()) {
            (Some(shown), None) => self.token.is(shown.as_bytes()),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_whole_in_one_line() {
        let field = TokenField::new(HeaderName::from_static("x"), "secret");
        for (lines, expected) in [
            (&["secret"][..], true),
            (&[], false),
            (&["secre"], false),
            (&["secret1"], false),
            (&["sicret"], false),
            (&[""], false),
            (&["secret", "secret"], false),
        ] {
            let mut headers = HeaderMap::new();
            lines.iter().for_each(|line| _ = headers.append("x", line.parse().expect("a value")));
            assert_eq!(field.is_in(&headers), expected, "{lines:?}");
        }
        let nobodys = TokenField::new(HeaderName::from_static("x"), "");
        assert!(
            !nobodys
                .is_in(&HeaderMap::from_iter([(HeaderName::from_static("x"), "".parse().expect("a value"))]))
        );
        assert_eq!(format!("{field:?}"), "TokenField { name: \"x\", token: Token(..) }");
    }
}
