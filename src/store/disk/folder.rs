//! The folder of a store, and what is where in it.
//!
//! ```text
//! lock             held by the process that has the store open
//! purges.redb      what was purged, the format and the secret of names (`meta.rs`)
//! last             how far the purges go, to find out whether `purges.redb` is an older one than it was (`meta.rs`)
//! entries/XX/...   records and content by their names (`name.rs`), spread over 256 folders by the last byte of the key's hash
//! staged/...       what is being written: it is renamed when it is whole, and removed when the store is opened
//! ```
//!
//! Readers have a file open or don't find it. They never see one that is being written, and none that they read changes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::name::{Name, hexadecimal};
use crate::store::random::random_wide;

/// How many folders there are for entries.
const FOLDERS: usize = 256;
/// How many threads look through them when the store is opened.
const SCANNERS: usize = 4;

pub(super) struct Folder {
    root: PathBuf,
    /// Files are on the disk before they are found.
    sync: bool,
}

/// Nobody else has the folder open while this is there.
pub(super) struct FolderLock(File);

impl Drop for FolderLock {
    /// Closing the file is not enough: a process that is being started has it, too, until it runs its program.
    #[expect(clippy::incompatible_msrv, reason = "the feature `disk` needs Rust 1.90")]
    fn drop(&mut self) {
        // Where that fails, closing does it.
        let _ = self.0.unlock();
    }
}

/// A file that was found when the store was opened.
pub(super) struct Found {
    pub(super) bytes: u64,
    /// Which content it is; `None` for a record.
    pub(super) content: Option<u128>,
    pub(super) name: Name,
    /// When it was last written or, as far as the file system keeps that, read.
    pub(super) used: SystemTime,
}

impl Folder {
    pub(super) fn new(root: &Path, sync: bool) -> Self {
        Self { root: root.into(), sync }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Makes what is missing: for the owner only, as responses may be private.
    pub(super) fn make(&self) -> io::Result<()> {
        for folder in [&self.root, &self.path("entries"), &self.path("staged")] {
            make_folder(folder, true)?;
        }
        Ok(())
    }

    /// `None` where another process has the store open, or this one in another place.
    #[expect(clippy::incompatible_msrv, reason = "the feature `disk` needs Rust 1.90")]
    pub(super) fn lock(&self) -> io::Result<Option<FolderLock>> {
        let file = private().create(true).truncate(false).open(self.path("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(FolderLock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn place(&self, name: Name) -> PathBuf {
        self.entry(name, format_args!(""))
    }

    pub(super) fn record(&self, name: Name) -> PathBuf {
        self.entry(name, format_args!("{name}"))
    }

    pub(super) fn content(&self, name: Name, id: u128) -> PathBuf {
        self.entry(name, format_args!("{name}.{id:032x}"))
    }

    /// What is in the place of a name. Each look-up makes such a path, so it is written at once.
    fn entry(&self, name: Name, file: fmt::Arguments<'_>) -> PathBuf {
        const LONGEST: usize = "/entries/xx/".len() + 16 + 32 + 16 + ".".len() + 32;
        let mut path = OsString::with_capacity(self.root.as_os_str().len() + LONGEST);
        path.push(&self.root);
        // It fails only where its arguments do.
        let _ = write!(path, "/entries/{:02x}/{file}", name.place(FOLDERS));
        path.into()
    }

    /// A new file that nobody finds yet.
    pub(super) fn stage(&self) -> io::Result<Staged> {
        let path = self.path("staged").join(format!("{:032x}", random_wide()));
        let file = private().create_new(true).open(&path)?;
        Ok(Staged { file, path, sync: self.sync })
    }

    /// A new file with all that is to be in it.
    pub(super) fn stage_all(&self, bytes: &[u8]) -> io::Result<Staged> {
        let mut staged = self.stage()?;
        staged.file.write_all(bytes)?;
        Ok(staged)
    }

    /// Where files are on the disk before they are found, they are gone from it after this: they do not come back by a loss of
    /// power.
    pub(super) fn sync_removed(&self, names: impl Iterator<Item = Name>) -> io::Result<()> {
        if !self.sync {
            return Ok(());
        }
        let places: BTreeSet<_> = names.map(|name| self.place(name)).collect();
        places.iter().try_for_each(|place| match sync_folder(place) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            synced => synced,
        })
    }

    /// Removes what was being written when the store was last open.
    pub(super) fn clear_staged(&self) -> io::Result<()> {
        empty(&self.path("staged"))
    }

    /// Removes all entries.
    pub(super) fn clear_entries(&self) -> io::Result<()> {
        (0..FOLDERS).try_for_each(|number| empty(&self.number(number)))
    }

    fn number(&self, number: usize) -> PathBuf {
        self.path("entries").join(format!("{number:02x}"))
    }

    /// All files of entries. What has another name is not of this store, and is removed.
    pub(super) fn scan(&self) -> io::Result<Vec<Found>> {
        let scan = |first: usize| {
            let mut found = Vec::new();
            for number in (first..FOLDERS).step_by(SCANNERS) {
                self.scan_one(number, &mut found)?;
            }
            Ok(found)
        };
        std::thread::scope(|scope| {
            let scanners: Vec<_> = (0..SCANNERS).map(|first| scope.spawn(move || scan(first))).collect();
            let mut all = Vec::new();
            for scanner in scanners {
                let found: io::Result<Vec<Found>> =
                    scanner.join().unwrap_or_else(|_| Err(io::Error::other("a thread has failed")));
                all.extend(found?);
            }
            Ok(all)
        })
    }

    fn scan_one(&self, number: usize, found: &mut Vec<Found>) -> io::Result<()> {
        for entry in list(&self.number(number))? {
            let entry = entry?;
            let file = entry.file_name();
            let named = file.to_str().and_then(read_name);
            let metadata = entry.metadata()?;
            match named {
                Some((name, content)) if metadata.is_file() && name.place(FOLDERS) == number => {
                    let (written, read) = (metadata.modified()?, metadata.accessed());
                    let used = read.map_or(written, |read| read.max(written));
                    found.push(Found { bytes: metadata.len(), content, name, used });
                }
                _ if metadata.is_dir() => {}
                _ => remove(&entry.path())?,
            }
        }
        Ok(())
    }
}

fn read_name(file: &str) -> Option<(Name, Option<u128>)> {
    match file.split_once('.') {
        None => Some((Name::read(file)?, None)),
        Some((name, id)) if id.len() == 32 => Some((Name::read(name)?, Some(hexadecimal(id)?))),
        Some(_) => None,
    }
}

/// A file that nobody finds yet. Dropped, it is removed.
pub(super) struct Staged {
    pub(super) file: File,
    path: PathBuf,
    sync: bool,
}

impl Staged {
    /// Gives it a name by which it is found, in place of what has that name.
    pub(super) fn put(self, target: &Path) -> io::Result<()> {
        if self.sync {
            self.file.sync_data()?;
        }
        let folder = target.parent().unwrap_or(target);
        match fs::rename(&self.path, target) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_folder(folder, false)?;
                fs::rename(&self.path, target)?;
            }
            renamed => renamed?,
        }
        // The name, too.
        if self.sync { sync_folder(folder) } else { Ok(()) }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Not there where it has got its name. Where it can't be removed now, it is when the store is opened next.
        let _ = fs::remove_file(&self.path);
    }
}

/// A file that is read and written by its owner only.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

pub(super) fn open_private(path: &Path) -> io::Result<File> {
    private().create(true).truncate(false).open(path)
}

/// Which names there are in a folder is on the disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

fn make_folder(path: &Path, with_parents: bool) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.recursive(with_parents).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// What is in a folder; nothing where there is none.
fn list(path: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    match fs::read_dir(path) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}

fn empty(path: &Path) -> io::Result<()> {
    for entry in list(path)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file, which need not be there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Whether a file can't be read now or later: this process may not, or the disk has lost it.
pub(super) fn is_unreadable(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.kind() == ErrorKind::PermissionDenied || error.raw_os_error() == Some(EIO)
}

/// Whether there is no room on the disk.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_although_a_process_that_is_being_started_has_its_file() {
        let root = std::env::temp_dir().join(format!("larder-lock-{}", std::process::id()));
        let folder = Folder::new(&root, false);
        folder.make().expect("a folder");
        let lock = || folder.lock().expect("a file");
        let first = lock().expect("it is free");
        let copy = first.0.try_clone().expect("a copy");
        assert!(lock().is_none());
        drop(first);
        assert!(lock().is_some());
        drop(copy);
        fs::remove_dir_all(root).expect("it goes");
    }
}
