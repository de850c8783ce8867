//! What a policy starts from.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

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

/// The profile of the policy that is in force: a file that is read again may name another one.
#[derive(Clone)]
pub struct CurrentProfile(Arc<AtomicU8>);

impl CurrentProfile {
    pub fn new(profile: Profile) -> Self {
        Self(Arc::new(AtomicU8::new(profile as u8)))
    }

    pub fn is(&self, profile: Profile) -> bool {
        self.0.load(Ordering::Relaxed) == profile as u8
    }

    pub fn set(&self, profile: Profile) {
        self.0.store(profile as u8, Ordering::Relaxed);
    }
}
