//! Fields with tags.

use http::header::HeaderName;
use larder::policy::TagField;
use larder::policy::fastly::ExcessTags;
use serde::{Deserialize, Serialize};

use super::{Name, by_text};

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExcessTagsValue {
    Ignore,
    Refuse,
}

impl From<ExcessTagsValue> for ExcessTags {
    fn from(value: ExcessTagsValue) -> Self {
        match value {
            ExcessTagsValue::Ignore => Self::Ignore,
            ExcessTagsValue::Refuse => Self::Refuse,
        }
    }
}

/// A field with tags: its name, with a comma at the end if commas are between the tags, and not spaces.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagFieldName {
    is_listed: bool,
    name: Name,
}

by_text!(
    TagFieldName,
    |text| {
        let (name, is_listed) = text.strip_suffix(',').map_or((text, false), |name| (name, true));
        Ok(Self { is_listed, name: name.to_owned().try_into()? })
    },
    |field| format!("{}{}", field.name.0, if field.is_listed { "," } else { "" })
);

impl TagFieldName {
    pub fn name(&self) -> &HeaderName {
        &self.name.0
    }
}

impl From<TagFieldName> for TagField {
    fn from(field: TagFieldName) -> Self {
        if field.is_listed { Self::listed(field.name.0) } else { Self::spaced(field.name.0) }
    }
}
