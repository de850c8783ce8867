//! Why a folder is of no use.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a folder can't be opened as a [`DiskStore`](super::DiskStore).
#[derive(Debug, Error)]
#[error("the folder {} cannot be used as a store: {cause}", path.display())]
pub struct DiskError {
    #[source]
    cause: Cause,
    path: PathBuf,
}

#[derive(Debug, Error)]
pub(super) enum Cause {
    #[error("another process, or another store of this one, has it open")]
    InUse,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a store on disk needs a tokio runtime")]
    NoRuntime,
}

impl DiskError {
    pub(super) fn new(path: &Path, cause: impl Into<Cause>) -> Self {
        Self { cause: cause.into(), path: path.into() }
    }

    /// Whether another process, or another store of this one, has the folder open: one at a time may.
    pub fn is_in_use(&self) -> bool {
        matches!(self.cause, Cause::InUse)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
