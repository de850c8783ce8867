//! What policies say of responses, in parts that any policy can have.

mod content_limits;
pub(super) mod edits;
mod lifetimes;
mod rules;
mod status_range;
mod tag_field;
mod vary_rules;

pub use self::content_limits::ContentLimits;
pub use self::edits::ResponseEdits;
pub use self::lifetimes::{Lifetime, Lifetimes};
pub use self::rules::ResponseRules;
pub use self::status_range::{InvalidStatusRange, StatusRange};
pub use self::tag_field::TagField;
pub use self::vary_rules::{NormalForm, VaryField, VaryRules};
pub use crate::entry::Admission;
