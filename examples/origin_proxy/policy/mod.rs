//! The cache's policy: made of a profile, a file and options. Options outweigh the file, and the file the profile.

mod describe;
mod error;
mod file;
mod matcher;
mod profile;
#[cfg(unix)]
mod reload;
mod section;
mod standard;
mod values;

use std::path::PathBuf;

use http::header::HeaderName;
use larder::policy::Policies;
use larder::{CachePolicy, CachePolicyExt, RequestAction, StandardPolicy};

pub use self::error::PolicyError;
pub use self::profile::Profile;
#[cfg(unix)]
pub use self::reload::on_signal;
use self::section::{File, Section};

/// Where a policy comes from. It can be read again while the proxy runs.
#[derive(Clone, Default)]
pub struct Source {
    pub file: Option<PathBuf>,
    /// Fields of requests that are in every key.
    pub key_headers: Vec<HeaderName>,
    /// `None` for that of the file, or the default one.
    pub profile: Option<Profile>,
}

/// A policy, and what was understood of its source.
pub struct Loaded {
    pub description: String,
    pub policy: Box<dyn CachePolicy>,
}

impl Source {
    /// Reads the file, if there is one, and makes the policy.
    ///
    /// # Errors
    ///
    /// The file can't be read, or something in it is wrong.
    pub fn load(&self) -> Result<Loaded, PolicyError> {
        let file = match &self.file {
            Some(path) => file::read(path, self.profile)?,
            None => File::default(),
        };
        let profile = self.profile.or(file.profile).unwrap_or_default();
        let policy = self.standard(profile, &file);
        Ok(Loaded { description: describe::file(self, profile, &file), policy })
    }

    fn standard(&self, profile: Profile, file: &File) -> Box<dyn CachePolicy> {
        let base = self.key_headers.iter().cloned().fold(standard::base(profile), StandardPolicy::key_field);
        let default = standard::changed(base, &file.default);
        if file.behavior.is_empty() {
            return row(default, &file.default);
        }
        let policies = Policies::new(row(default.clone(), &file.default));
        Box::new(file.behavior.iter().fold(policies, |policies, section| {
            let policy = row(standard::changed(default.clone(), section), section);
            match section.matcher.clone() {
                Some(matcher) => policies.when(move |request| matcher.matches(request), policy),
                None => policies,
            }
        }))
    }
}

/// Prints what was understood of a policy, or what is wrong with it; whether it can be used.
pub fn check(source: &Source) -> bool {
    match source.load() {
        Ok(loaded) => {
            print!("{}", loaded.description);
            true
        }
        Err(error) => {
            eprintln!("{error}");
            false
        }
    }
}

/// A policy, unless the section keeps its requests from the cache. They are forwarded as the policy says.
fn row(policy: impl CachePolicy, section: &Section) -> Box<dyn CachePolicy> {
    match section.bypass.clone() {
        None => Box::new(policy),
        Some(reason) => Box::new(policy.map_request(move |_, _| RequestAction::bypass(reason.0.clone()))),
    }
}
