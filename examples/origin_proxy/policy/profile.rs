//! What a policy starts from.

use std::fmt;

use serde::Deserialize;

/// What a policy starts from, before a file and options change it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    CloudFront,
    #[default]
    Default,
    Fastly,
    Rfc9111,
}

impl Profile {
    pub const ALL: [Self; 4] = [Self::CloudFront, Self::Default, Self::Fastly, Self::Rfc9111];

    pub fn name(self) -> &'static str {
        match self {
            Self::CloudFront => "cloudfront",
            Self::Default => "default",
            Self::Fastly => "fastly",
            Self::Rfc9111 => "rfc9111",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
