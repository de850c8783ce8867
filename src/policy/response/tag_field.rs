//! Fields with tags.

use http::header::HeaderName;

/// A field of a response that lists tags. Each part of its lines between separators is a tag, without white space around it.
/// Clients do not get the field.
///
/// ```
/// use http::HeaderName;
/// use larder::policy::TagField;
/// let surrogate_key = TagField::spaced(HeaderName::from_static("surrogate-key"));
/// # let _ = surrogate_key;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagField {
    is_shown: bool,
    name: HeaderName,
    separator: char,
}

impl TagField {
    /// With commas between the tags, as `Cache-Tag` has them.
    pub fn listed(name: HeaderName) -> Self {
        Self { is_shown: false, name, separator: ',' }
    }

    /// With white space between the tags, as `Surrogate-Key` has them.
    pub fn spaced(name: HeaderName) -> Self {
        Self { is_shown: false, name, separator: ' ' }
    }

    /// With another character between the tags.
    #[must_use]
    pub fn separated_by(mut self, separator: char) -> Self {
        self.separator = separator;
        self
    }

    /// Clients get the field.
    #[must_use]
    pub fn shown(mut self) -> Self {
        self.is_shown = true;
        self
    }

    pub(in crate::policy) fn name(&self) -> &HeaderName {
        &self.name
    }

    pub(in crate::policy) fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// What is between the separators of a line.
    pub(in crate::policy) fn split<'a>(&self, line: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        // Any other than an ASCII character is in no line that a tag can come from.
        let separator = u8::try_from(self.separator).unwrap_or(b',');
        line.split(move |&byte| byte == separator || separator == b' ' && byte == b'\t')
    }
}

impl From<HeaderName> for TagField {
    /// [`TagField::listed`].
    fn from(name: HeaderName) -> Self {
        Self::listed(name)
    }
}
