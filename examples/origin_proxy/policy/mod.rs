//! The cache's policy: made of a profile, a file and options. Options outweigh the file, and the file the profile.

mod describe;
mod error;
mod fastly;
mod file;
mod key;
mod matcher;
mod profile;
#[cfg(unix)]
mod reload;
mod rows;
mod section;
mod standard;
mod terms;
mod values;

use std::path::PathBuf;

use http::header::HeaderName;
use larder::CachePolicy;

pub use self::error::PolicyError;
pub use self::profile::Profile;
#[cfg(unix)]
pub use self::reload::on_signal;
use self::section::File;

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
        let policy = match profile {
            Profile::Default | Profile::Rfc9111 => {
                rows::table(standard::base(profile), &file, &self.key_headers)
            }
            Profile::Fastly => rows::table(fastly::base(), &file, &self.key_headers),
        };
        Ok(Loaded { description: describe::file(self, profile, &file), policy })
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
