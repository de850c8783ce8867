//! Where tags come from.

use std::fmt;

use http::header::{self, HeaderName};

use crate::entry::key::asked_path;
use crate::policy::response::content_limits::media_type;
use crate::policy::{Pattern, PolicyExchange, ResponseEdits};

/// A field of a response that lists tags. Each part of its lines between separators is a tag, without white space around it.
/// Clients do not get the field.
///
/// ```
/// use http::HeaderName;
/// use larder::policy::TagField;
/// let surrogate_key = TagField::new(HeaderName::from_static("surrogate-key")).separated_by(' ');
/// # let _ = surrogate_key;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagField {
    is_shown: bool,
    name: HeaderName,
    separator: char,
}

impl TagField {
    /// A field with a list that is separated by commas.
    pub fn new(name: HeaderName) -> Self {
        Self { is_shown: false, name, separator: ',' }
    }

    /// Another separator than a comma.
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
}

impl From<HeaderName> for TagField {
    fn from(name: HeaderName) -> Self {
        Self::new(name)
    }
}

#[derive(Clone)]
pub(super) enum TagSource {
    Field(TagField),
    Path(Pattern, Box<str>),
    Type(Pattern, Box<str>),
}

impl TagSource {
    pub(super) fn apply(&self, exchange: &PolicyExchange<'_>, edits: &mut ResponseEdits<'_>) {
        match self {
            Self::Field(TagField { is_shown, name, separator }) => {
                edits.tag_by(name, *separator);
                if !is_shown {
                    edits.remove(name);
                }
            }
            Self::Path(paths, tag) => {
                if paths.matches(&*asked_path(exchange.request)) {
                    edits.tag(tag.clone());
                }
            }
            Self::Type(types, tag) => {
                let kind = edits.headers().get(header::CONTENT_TYPE);
                if kind.is_some_and(|kind| types.matches(media_type(kind.as_bytes()))) {
                    edits.tag(tag.clone());
                }
            }
        }
    }
}

impl fmt::Debug for TagSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => write!(f, "tags from {}", field.name),
            Self::Path(pattern, tag) => write!(f, "tag {pattern:?} {tag}"),
            Self::Type(pattern, tag) => write!(f, "tag type {pattern:?} {tag}"),
        }
    }
}
