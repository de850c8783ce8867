//! The cache's policy: made of a profile, a file and options. Options outweigh the file, and the file the profile.

mod candidate;
mod cloudfront;
mod current;
mod describe;
mod error;
mod fastly;
mod file;
mod key;
mod loaded;
mod matcher;
mod places;
mod profile;
mod reload;
mod replace;
mod response;
mod rows;
mod section;
mod standard;
mod terms;
mod values;
mod warning;

use std::path::PathBuf;

use http::header::HeaderName;
use larder::policy::{Admission, Peers};
use larder::{CachePolicy, CachePolicyExt, ErrorPagesLayer};

pub use self::current::{Beside, Current};
pub use self::error::{PolicyError, explained, unknown};
use self::file::Read;
pub use self::loaded::Loaded;
use self::loaded::Understanding;
pub use self::profile::Profile;
pub use self::reload::apply;
#[cfg(unix)]
pub use self::reload::on_signal;
pub use self::replace::replace;
use self::rows::Understood;
use self::warning::Warning;
use crate::reasons;

/// Where a policy comes from. It can be read again while the proxy runs.
#[derive(Clone, Default)]
pub struct Source {
    /// When responses are admitted, or admitted to what is behind memory, where the file says nothing of it.
    pub admission: Option<Admission>,
    /// A file with another policy, which is only counted.
    pub candidate: Option<PathBuf>,
    pub file: Option<PathBuf>,
    /// Whether other proxies ask this one, or it asks them.
    pub has_peers: bool,
    /// Fields of requests that are in every key.
    pub key_headers: Vec<HeaderName>,
    /// `None` for that of the file.
    pub profile: Option<Profile>,
    /// Where the file names none.
    pub otherwise: Profile,
}

impl Source {
    /// Reads the files, if there are any, and makes the policy.
    ///
    /// # Errors
    ///
    /// A file can't be read, or something in it is wrong.
    pub fn load(&self) -> Result<Loaded, PolicyError> {
        let loaded = self.load_policy()?;
        let loaded = Loaded { policy: Box::new(reasons::told(self.admitting(loaded.policy))), ..loaded };
        let Some(path) = self.candidate.clone() else {
            return Ok(loaded);
        };
        let candidate = Self {
            admission: None,
            candidate: None,
            file: Some(path.clone()),
            has_peers: self.has_peers,
            key_headers: self.key_headers.clone(),
            // A candidate may be for another profile.
            profile: None,
            otherwise: self.profile.unwrap_or(self.otherwise),
        };
        Ok(loaded.beside_candidate(path, candidate.load_policy()?))
    }

    /// Admits as the options say, where the policy says nothing of it.
    fn admitting(&self, policy: Box<dyn CachePolicy>) -> Box<dyn CachePolicy> {
        let Some(admission) = self.admission.clone() else {
            return policy;
        };
        Box::new(policy.map_terms(move |_, terms| {
            terms.admission.get_or_insert_with(|| admission.clone());
        }))
    }

    fn load_policy(&self) -> Result<Loaded, PolicyError> {
        let Some(path) = &self.file else {
            return self.of_toml(Read::default());
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| PolicyError::new(format!("can't be read: {error}")).file(path))?;
        let loaded = if cloudfront::is_json(path, &text) {
            self.of_json(&text)
        } else {
            file::read(&text, self.profile, self.otherwise).and_then(|read| self.of_toml(read))
        };
        loaded.map_err(|error| error.file(path))
    }

    fn of_toml(&self, Read { file, places }: Read) -> Result<Loaded, PolicyError> {
        let profile = self.profile.or(file.profile).unwrap_or(self.otherwise);
        let mut warnings = warning::of(&file, &places);
        let (policy, sections) = match profile {
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
        for (number, section) in sections.iter().enumerate() {
            let of_section = |text: &String| Warning {
                line: places.line(number, ""),
                section: Some(number),
                text: text.clone(),
            };
            warnings.extend(section.warnings.iter().map(of_section));
        }
        let pages = file.default.error_pages.map(Into::into);
        Ok(self.loaded(Beside { candidate: None, pages, profile }, policy, sections, String::new(), warnings))
    }

    fn of_json(&self, text: &str) -> Result<Loaded, PolicyError> {
        if let Some(profile) = self.profile.filter(|profile| *profile != Profile::CloudFront) {
            let reason =
                format!("this is AWS's JSON, which is for the profile cloudfront and not for {profile}");
            return Err(PolicyError::new(reason));
        }
        let distribution = cloudfront::of_json(text, &self.key_headers)?;
        let pages = Some(ErrorPagesLayer::from(&distribution)).filter(|pages| !pages.is_empty());
        let warnings = distribution.warnings().into_iter().map(Warning::new).collect();
        let beside = Beside { candidate: None, pages, profile: Profile::CloudFront };
        let said = distribution.to_string();
        let policy = self.for_peers(Box::new(distribution), cloudfront::tag_header(text));
        Ok(self.loaded(beside, policy, Vec::new(), said, warnings))
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

    fn loaded(
        &self,
        beside: Beside,
        policy: Box<dyn CachePolicy>,
        sections: Vec<Understood>,
        said: String,
        warnings: Vec<Warning>,
    ) -> Loaded {
        let keyed = self.key_headers.iter().map(|name| format!("in every key, by option: {name}\n"));
        let said = format!("profile {}\n{}{said}", beside.profile, keyed.collect::<String>());
        let understood = Understanding { file: self.file.clone(), said, sections, warnings };
        Loaded { beside, policy, understood, candidate: None }
    }
}

/// Prints what was understood of a policy, or what is wrong with it; whether it can be used.
pub fn check(source: &Source) -> bool {
    match source.load() {
        Ok(loaded) => {
            print!("{}", loaded.understood);
            true
        }
        Err(error) => {
            eprintln!("{error}");
            false
        }
    }
}
