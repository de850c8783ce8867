//! Where tags come from.

use std::fmt;

use http::header;

use crate::entry::key::asked_path;
use crate::policy::response::content_limits::media_type;
use crate::policy::{Pattern, PolicyExchange, ResponseEdits, TagField};

#[derive(Clone)]
pub(super) enum TagSource {
    Field(TagField),
    Path(Pattern, Box<str>),
    Type(Pattern, Box<str>),
}

impl TagSource {
    pub(super) fn apply(&self, exchange: &PolicyExchange<'_>, edits: &mut ResponseEdits<'_>) {
        match self {
            Self::Field(field) => {
                edits.tag_by(field);
                if !field.is_shown() {
                    edits.remove(field.name());
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
            Self::Field(field) => write!(f, "tags from {}", field.name()),
            Self::Path(pattern, tag) => write!(f, "tag {pattern:?} {tag}"),
            Self::Type(pattern, tag) => write!(f, "tag type {pattern:?} {tag}"),
        }
    }
}
