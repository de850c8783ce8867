//! The syntax of URIs, as far as more than one place has to know it (RFC 3986).

/// Whether text can be the scheme of a URI (RFC 3986 3.1).
pub(crate) fn is_scheme(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_begins_with_a_letter() {
        for scheme in ["http", "H", "coap+tcp", "a.b-1"] {
            assert!(is_scheme(scheme.as_bytes()), "{scheme}");
        }
        for text in ["", "1a", "+a", "a/b", "a b", "a_b", "\u{e9}"] {
            assert!(!is_scheme(text.as_bytes()), "{text}");
        }
    }
}
