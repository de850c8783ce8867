//! What may be shown of a key: names, and values that are no credentials.

use http::header;

use super::{CacheKey, Kind};

/// The longest value that is shown.
const LONGEST: usize = 256;

/// A further part of a key, as it may be shown to an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShownPart {
    /// What it is: `part`, `field`, `cookie`, `identity`, `rewritten-uri`, `asterisk`, `origin` or `slice`.
    pub kind: &'static str,
    /// Its name: of a field, of a cookie, or the policy's own.
    pub name: String,
    /// Its value.
    pub value: ShownValue,
}

/// A value, as it may be shown to an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShownValue {
    /// The request has none.
    Absent,
    /// There is one, which may be a credential, or is too long.
    Hidden,
    /// This one, with a replacement character for what is no UTF-8.
    Text(String),
}

impl ShownValue {
    /// A value that is no credential.
    pub(crate) fn of(value: Option<&[u8]>) -> Self {
        match value {
            None => Self::Absent,
            Some(value) if value.len() > LONGEST => Self::Hidden,
            Some(value) => Self::Text(String::from_utf8_lossy(value).into_owned()),
        }
    }

    /// A value that may be one.
    pub(crate) fn hidden(value: Option<&[u8]>) -> Self {
        if value.is_some() { Self::Hidden } else { Self::Absent }
    }

    /// The value of a request field.
    pub(crate) fn of_field(name: &str, value: Option<&[u8]>) -> Self {
        if is_secret(name) { Self::hidden(value) } else { Self::of(value) }
    }
}

/// Whether the values of a field, by its name in lower case, may be credentials.
pub(crate) fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 10] =
        ["api-key", "apikey", "auth", "cookie", "credential", "jwt", "passw", "secret", "session", "token"];
    // Who may be addressed is no secret: an origin says it to everybody.
    name != header::WWW_AUTHENTICATE.as_str() && WORDS.iter().any(|word| name.contains(word))
}

impl CacheKey {
    /// The parts after the URI. Cookies, identities and credentials are hidden.
    pub(crate) fn shown_parts(&self) -> Vec<ShownPart> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let shown = |(kind, name, value): (u8, &[u8], Option<&[u8]>)| {
            let name = text(name);
            let is = |own: Kind| kind == own as u8;
            let (kind, value) = if is(Kind::Field) {
                ("field", ShownValue::of_field(&name.to_ascii_lowercase(), value))
            } else if is(Kind::Cookie) {
                ("cookie", ShownValue::hidden(value))
            } else if is(Kind::Identity) {
                ("identity", ShownValue::hidden(value))
            } else if is(Kind::Rewritten) {
                ("rewritten-uri", ShownValue::of(value))
            } else if is(Kind::Asterisk) {
                ("asterisk", ShownValue::of(value))
            } else if is(Kind::Origin) {
                ("origin", ShownValue::of(value))
            } else if is(Kind::Slice) {
                ("slice", ShownValue::of(value))
            } else {
                ("part", ShownValue::of_field(&name.to_ascii_lowercase(), value))
            };
            ShownPart { kind, name, value }
        };
        self.parts().map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use http::HeaderValue;

    #[test]
    fn a19_credentials_in_a_key_are_not_shown() {
        let mut headers = HeaderMap::new();
        headers.insert("accept-language", HeaderValue::from_static("de"));
        headers.insert("authorization", HeaderValue::from_static("Basic c2VjcmV0"));
        let key = CacheKey::from_uri(&"http://a/x".parse().expect("a URI")).expect("a key");
        let key = key
            .with_field(&header::ACCEPT_LANGUAGE, &headers)
            .with_field(&header::AUTHORIZATION, &headers)
            .with_cookie_pair(b"id", b"secret")
            .with_identity("user", b"secret")
            .with_absent("country")
            .with("mobile", b"1")
            .with("session", b"secret")
            .with("long", &[b'x'; LONGEST + 1])
            .for_slice(7, 1024);
        let shown = key.shown_parts();
        assert!(!format!("{shown:?}").contains("secret\""), "{shown:?}");
        let values: Vec<_> = shown.iter().map(|part| (part.kind, &*part.name, part.value.clone())).collect();
        let text = |text: &str| ShownValue::Text(text.to_owned());
        let expected = [
            ("field", "accept-language", text("de")),
            ("field", "authorization", ShownValue::Hidden),
            ("cookie", "id", ShownValue::Hidden),
            ("identity", "user", ShownValue::Hidden),
            ("part", "country", ShownValue::Absent),
            ("part", "mobile", text("1")),
            ("part", "session", ShownValue::Hidden),
            ("part", "long", ShownValue::Hidden),
            ("slice", "", text("7*1024")),
        ];
        assert_eq!(values, expected);
    }
}
