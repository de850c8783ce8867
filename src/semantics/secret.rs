//! Secrets that a request shows in a field.

use std::fmt;
use std::hint::black_box;

use http::header::{HeaderMap, HeaderName};

/// A field by which somebody shows a secret.
#[derive(Clone)]
pub(crate) struct Token {
    field: HeaderName,
    secret: Box<[u8]>,
}

impl Token {
    /// An empty secret is none, and nobody shows it.
    pub(crate) fn new(field: HeaderName, secret: &str) -> Self {
        Self { field, secret: secret.as_bytes().into() }
    }

    pub(crate) fn field(&self) -> &HeaderName {
        &self.field
    }

    /// Whether a request shows the secret, in one line.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut lines = headers.get_all(&self.field).into_iter();
        match (lines.next(), lines.next()) {
            (Some(shown), None) if !self.secret.is_empty() => is_same(shown.as_bytes(), &self.secret),
            _ => false,
        }
    }
}

/// Without the secret.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.field).finish()
    }
}

/// Takes as long for any two values of the same length.
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differs = one.iter().zip(other).fold(0, |differs, (one, other)| black_box(differs | (one ^ other)));
    one.len() == other.len() && differs == 0
}
