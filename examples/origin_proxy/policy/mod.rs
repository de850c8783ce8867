//! The cache's policy: made of a profile, a file and options. Options outweigh the file, and the file the profile.

mod cloudfront;
mod current;
mod describe;
mod error;
mod fastly;
mod file;
mod key;
mod matcher;
mod profile;
mod reload;
mod response;
mod rows;
mod section;
mod standard;
mod terms;
mod values;

use std::path::PathBuf;

use http::header::HeaderName;
use larder::policy::Peers;
use larder::{CachePolicy, CachePolicyExt, ErrorPagesLayer};

pub use self::current::{Beside, Current};
pub use self::error::{PolicyError, explained, unknown};
pub use self::profile::Profile;
pub use self::reload::apply;
#[cfg(unix)]
pub use self::reload::on_signal;
use self::section::File;

/// Where a policy comes from. It can be read again while the proxy runs.
#[derive(Clone, Default)]
pub struct Source {
    pub file: Option<PathBuf>,
    /// Whether other proxies ask this one, or it asks them.
    pub has_peers: bool,
    /// Fields of requests that are in every key.
    pub key_headers: Vec<HeaderName>,
    /// `None` for that of the file, or the default one.
    pub profile: Option<Profile>,
}

/// A policy, and what was understood of its source.
pub struct Loaded {
    pub beside: Beside,
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
        let Some(path) = &self.file else {
            return self.of_toml(File::default());
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| PolicyError::new(format!("can't be read: {error}")).file(path))?;
        let loaded = if cloudfront::is_json(path, &text) {
            self.of_json(&text)
        } else {
            file::read(&text, self.profile).and_then(|file| self.of_toml(file))
        };
        loaded.map_err(|error| error.file(path))
    }

    fn of_toml(&self, file: File) -> Result<Loaded, PolicyError> {
        let profile = self.profile.or(file.profile).unwrap_or_default();
        let (policy, description) = match profile {
            Profile::CloudFront => {
                cloudfront::check_keys(&self.key_headers)?;
                rows::table(cloudfront::base(), &file, &self.key_headers)
            }
            Profile::Default | Profile::Rfc9111 => {
                rows::table(standard::base(profile), &file, &self.key_headers)
            }
            Profile::Fastly => rows::table(fastly::base(), &file, &self.key_headers),
        };
        let policy = self.for_peers(policy, file.fields_for_caches());
        let pages = file.default.error_pages.map(Into::into);
        Ok(self.loaded(Beside { pages, profile }, policy, &description))
    }

    fn of_json(&self, text: &str) -> Result<Loaded, PolicyError> {
        if let Some(profile) = self.profile.filter(|profile| *profile != Profile::CloudFront) {
            let reason =
                format!("this is AWS's JSON, which is for the profile cloudfront and not for {profile}");
            return Err(PolicyError::new(reason));
        }
        let distribution = cloudfront::of_json(text, &self.key_headers)?;
        let pages = Some(ErrorPagesLayer::from(&distribution)).filter(|pages| !pages.is_empty());
        let description = cloudfront::described(&distribution);
        let beside = Beside { pages, profile: Profile::CloudFront };
        let policy = self.for_peers(Box::new(distribution), cloudfront::tag_header(text));
        Ok(self.loaded(beside, policy, &description))
    }

    /// The policy, and what it does for peers if there are any. `fields` are for caches.
    fn for_peers(
        &self,
        policy: Box<dyn CachePolicy>,
        fields: impl IntoIterator<Item = HeaderName>,
    ) -> Box<dyn CachePolicy> {
        if !self.has_peers {
            return policy;
        }
        // Who is one was found out before.
        Box::new(policy.with_peers(Peers::new().fields(fields)))
    }

    fn loaded(&self, beside: Beside, policy: Box<dyn CachePolicy>, description: &str) -> Loaded {
        let keyed = self.key_headers.iter().map(|name| format!("in every key, by option: {name}\n"));
        let (keyed, profile) = (keyed.collect::<String>(), beside.profile);
        Loaded { beside, description: format!("profile {profile}\n{keyed}{description}"), policy }
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
