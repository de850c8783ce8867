//! What is in memory, kept in a file between two processes.

use std::io;
use std::path::{Path, PathBuf};

use larder::MemoryStore;
use larder::store::SnapshotCounts;

use crate::say::{say, tell};

/// A file for what is in memory between two processes.
pub struct Snapshot {
    file: PathBuf,
    read: io::Result<SnapshotCounts>,
    store: MemoryStore,
}

impl Snapshot {
    /// Reads what the last process has left.
    pub fn read(file: &Path, store: &MemoryStore) -> Self {
        Self { file: file.to_owned(), read: store.load_snapshot(file), store: store.clone() }
    }

    /// Says what was read.
    pub fn report(&self) {
        match &self.read {
            Ok(counts) if counts.bytes == 0 => {}
            Ok(counts) => tell(format!("{} responses from {}", counts.responses, self.file.display())),
            Err(error) => say(format!("nothing more from {}: {error}", self.file.display())),
        }
    }

    /// Writes it for the next process.
    pub fn write(&self) {
        match self.store.save_snapshot(&self.file) {
            Ok(counts) => tell(format!("{} responses into {}", counts.responses, self.file.display())),
            Err(error) => say(format!("nothing is kept in {}: {error}", self.file.display())),
        }
    }
}
