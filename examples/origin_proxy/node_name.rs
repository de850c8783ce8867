//! What this proxy is called in `Cache-Status`, `Via` and `X-Served-By`: where there are several, each has a name of its own.

use std::sync::LazyLock;

use http::{HeaderValue, Version};

/// A name. It lasts as long as the process, so that it costs nothing to copy.
#[derive(Clone, Copy)]
pub struct NodeName(&'static Forms);

struct Forms {
    name: String,
    /// The members of `Via`, by the version in which a message was received.
    via: [(Version, HeaderValue); 5],
}

/// The longest name.
const MOST: usize = 64;

static DEFAULT: LazyLock<Forms> = LazyLock::new(|| Forms::of("larder"));

impl NodeName {
    /// # Errors
    ///
    /// One sentence: it can't be a name. `Via` (RFC 9110 7.6.3) and the cache's identifier (RFC 9211 2, RFC 9651 3.3.4) take tokens.
    pub fn new(name: &str) -> Result<Self, String> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_name =
            name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.bytes().all(is_part);
        if !is_name || name.len() > MOST {
            return Err(format!(
                "'{name}' is not a name: it begins with a letter, and goes on with letters, digits and - . _, {MOST} in all"
            ));
        }
        Ok(Self(Box::leak(Box::new(Forms::of(name)))))
    }

    pub fn as_str(self) -> &'static str {
        &self.0.name
    }

    /// The member of `Via` for a message that was received in this version.
    pub fn via(self, received: Version) -> &'static HeaderValue {
        let [http_1_1, others @ ..] = &self.0.via;
        &others.iter().find(|(version, _)| *version == received).unwrap_or(http_1_1).1
    }

    /// What `Cache-Status` says of an answer that does not come from the cache.
    pub fn with_detail(self, detail: &str) -> String {
        format!("{}; detail=\"{detail}\"", self.as_str())
    }
}

impl Default for NodeName {
    fn default() -> Self {
        Self(&DEFAULT)
    }
}

impl Forms {
    fn of(name: &str) -> Self {
        let via = [
            (Version::HTTP_11, "1.1"),
            (Version::HTTP_09, "0.9"),
            (Version::HTTP_10, "1.0"),
            (Version::HTTP_2, "2.0"),
            (Version::HTTP_3, "3.0"),
        ];
        let member = |number| HeaderValue::from_str(&format!("{number} {name}"));
        // A name has nothing that a field can't have.
        let via = via.map(|(version, number)| {
            (version, member(number).unwrap_or(HeaderValue::from_static("1.1 larder")))
        });
        Self { name: name.to_owned(), via }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_token_that_begins_with_a_letter() {
        let longest = "a".repeat(MOST);
        for name in ["larder", "edge-1", "Edge_1.example", &longest] {
            assert_eq!(NodeName::new(name).ok().map(NodeName::as_str), Some(name));
        }
        for wrong in ["", "1", "-a", "a b", "a;b", "a\"", "ä", &format!("{longest}a")] {
            let error = NodeName::new(wrong).err().expect(wrong);
            assert!(error.starts_with(&format!("'{wrong}' is not a name")), "{error}");
        }
    }

    #[test]
    fn via_says_the_version_in_which_a_message_came() {
        let name = NodeName::new("edge-1").unwrap_or_default();
        for (version, member) in [
            (Version::HTTP_10, "1.0 edge-1"),
            (Version::HTTP_11, "1.1 edge-1"),
            (Version::HTTP_2, "2.0 edge-1"),
        ] {
            assert_eq!(name.via(version), member);
        }
    }
}
