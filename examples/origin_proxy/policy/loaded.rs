//! A policy that has been made, with what was understood of its source.

use std::fmt;
use std::path::PathBuf;

use larder::{CachePolicy, CachePolicyExt};

use crate::policy::candidate::Candidate;
use crate::policy::current::Beside;
use crate::policy::rows::Understood;
use crate::policy::warning::Warning;

/// A policy, and what was understood of its source.
pub struct Loaded {
    pub beside: Beside,
    pub policy: Box<dyn CachePolicy>,
    pub understood: Understanding,
    /// Of a policy that is only counted, and that `policy` has in it.
    pub candidate: Option<Understanding>,
}

impl Loaded {
    /// With another policy, which is only counted.
    #[must_use]
    pub fn beside_candidate(self, file: PathBuf, candidate: Self) -> Self {
        let policy = self.policy.report_only(candidate.policy);
        let counted = Candidate { file, report: policy.report() };
        let beside = Beside { candidate: Some(counted), ..self.beside };
        Self { beside, policy: Box::new(policy), candidate: Some(candidate.understood), ..self }
    }

    /// Prints the warnings.
    pub fn warn(&self) {
        self.warnings().for_each(|warning| warn(&warning));
    }

    /// The warnings, with their places in the file.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        std::iter::once(&self.understood).chain(&self.candidate).flat_map(Understanding::warnings)
    }
}

/// Prints a warning to standard error.
pub fn warn(warning: &str) {
    eprintln!("larder: warning: {warning}");
}

/// What was understood of a source; shown by [`Display`](fmt::Display).
pub struct Understanding {
    pub file: Option<PathBuf>,
    /// Of the whole.
    pub said: String,
    /// Of the sections of a file in TOML.
    pub sections: Vec<Understood>,
    pub warnings: Vec<Warning>,
}

impl Understanding {
    fn warnings(&self) -> impl Iterator<Item = String> {
        self.warnings.iter().map(|Warning { line, section, text }| {
            let file = self.file.as_ref().map(|file| file.display().to_string());
            let place = match (file, line) {
                (Some(file), Some(line)) => format!("{file}:{line}: "),
                (Some(file), None) => format!("{file}: "),
                (None, _) => String::new(),
            };
            // A line says it all.
            let section = section.filter(|_| line.is_none()).and_then(|number| self.sections.get(number));
            let heading = section.map(|section| format!("{}: ", section.heading)).unwrap_or_default();
            format!("{place}{heading}{text}")
        })
    }
}

impl fmt::Display for Understanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |number: Option<usize>| self.warnings.iter().filter(move |it| it.section == number);
        f.write_str(&self.said)?;
        for (number, section) in self.sections.iter().enumerate() {
            write!(f, "{}:\n{}", section.heading, section.said)?;
            of(Some(number)).try_for_each(|warning| writeln!(f, "    warning: {}", warning.text))?;
        }
        of(None).try_for_each(|warning| writeln!(f, "warning: {}", warning.text))
    }
}
