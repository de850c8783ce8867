//! A policy that is counted beside the one in force.

use std::fmt;
use std::path::PathBuf;

use larder::policy::Report;

/// What became of requests, had another policy decided.
#[derive(Clone)]
pub struct Candidate {
    pub file: PathBuf,
    pub report: Report,
}

/// On one line.
impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.report.counts();
        let hits_now = (counts.hits + counts.lost).saturating_sub(counts.gained);
        write!(f, "the candidate {}: {} hits instead of {hits_now}", self.file.display(), counts.hits)?;
        write!(f, " ({} gained, {} lost) of {} requests", counts.gained, counts.lost, counts.requests)?;
        write!(f, "; {} bypassed; answers stored: {}", counts.bypassed, counts.stored)?;
        for (number, (reason, count)) in counts.not_stored.iter().enumerate() {
            write!(f, "{}{reason} {count}", if number == 0 { "; not stored: " } else { ", " })?;
        }
        Ok(())
    }
}
