//! Databases in MaxMind's format: read into memory, and again when the file changes.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use maxminddb::MaxMindDbError;
use thiserror::Error;

use super::records::{Record, Records};
use crate::runtime::clock::Clock;
use crate::runtime::{Mutex, Runtime, joined, lock};

/// A database in MaxMind's format (`.mmdb`), in memory: City, Country or ASN, of GeoLite2, GeoIP2 or others with the same
/// records. Its clones are the same database.
///
/// One that was opened from a file is read again when the file has changed. Requests never wait for that: one of them
/// starts it, at most once a minute ([`DatabaseFile::check_every`]), and the old database answers until the new one is there.
/// The old one stays where the new file is broken ([`DatabaseFile::on_error`]). For a moment there are two in memory.
///
/// Replace the file by renaming a complete one over it. While a file is written in place, readers find parts of two
/// databases; most such files are noticed ([`DatabaseFile::verify`]), and not read before they are complete.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    records: ArcSwap<Records>,
    /// What is read again.
    file: Option<Watched>,
}

struct Watched {
    /// Whether somebody looks at it for requests.
    is_watched: AtomicBool,
    options: DatabaseFile,
    /// When a request is to look at the file again, in milliseconds since 1970.
    next_look: AtomicU64,
    /// The file that was read last, or could not be.
    last: Mutex<Last>,
}

struct Last {
    /// Whether it is the one in use.
    is_used: bool,
    /// `None` for a file that could not even be opened.
    stamp: Option<Stamp>,
}

impl Database {
    /// Reads a file, with the defaults of [`DatabaseFile`]. This blocks the thread until it is read.
    ///
    /// # Errors
    ///
    /// If the file can't be read, or is no database.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DatabaseError> {
        DatabaseFile::new(path).open()
    }

    /// A database that is in memory already, and stays as it is.
    ///
    /// # Errors
    ///
    /// If the bytes are no database.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, DatabaseError> {
        let records = Records::new(bytes, true).map_err(|error| DatabaseError::new(None, error.into()))?;
        Ok(Self { inner: Arc::new(Inner { records: ArcSwap::from_pointee(records), file: None }) })
    }

    /// Looks at the file now, whenever that was done last, and reads it if it has changed. Returns whether a new database is
    /// in use.
    ///
    /// # Errors
    ///
    /// If the file as it is now can't be used. The old database stays.
    pub async fn reload(&self) -> Result<bool, DatabaseError> {
        let inner = Arc::clone(&self.inner);
        match Runtime::current() {
            // Without an answer, the runtime is shutting down.
            Some(runtime) => {
                joined(runtime.spawn_blocking(move || inner.look(true))).await.unwrap_or(Ok(false))
            }
            None => inner.look(true),
        }
    }

    /// When the database was made, as it says itself.
    pub fn built(&self) -> Option<SystemTime> {
        self.inner.records.load().built()
    }

    /// What is known of an address. Looks at the file in the background if it is time for that.
    pub(super) fn find(&self, address: IpAddr) -> Option<Record> {
        let inner = &self.inner;
        if let Some(file) = &inner.file
            && let Some(next) = file.due()
            && let Some(runtime) = Runtime::current()
            && let Some(look) = Look::begin(inner)
        {
            file.next_look.store(next, Ordering::Relaxed);
            // What comes of it is reported.
            drop(runtime.spawn_blocking(move || drop(look.0.look(false))));
        }
        inner.records.load().find(address, |error| {
            if let Some(file) = &inner.file {
                file.options.report(&DatabaseError::new(Some(&file.options.path), error.into()));
            }
        })
    }
}

/// A look at the file for requests, of which there is one at a time.
struct Look(Arc<Inner>);

impl Look {
    fn begin(inner: &Arc<Inner>) -> Option<Self> {
        let is_first = !inner.file.as_ref()?.is_watched.swap(true, Ordering::Acquire);
        is_first.then(|| Self(Arc::clone(inner)))
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        if let Some(file) = &self.0.file {
            file.is_watched.store(false, Ordering::Release);
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.inner.file.as_ref().map(|file| &file.options.path);
        f.debug_struct("Database").field("path", &path).field("built", &self.built()).finish_non_exhaustive()
    }
}

impl Inner {
    /// Reads the file if it is not the one that was read last. `is_asked`: somebody waits for the answer, so that one that
    /// could not be used is tried once more.
    fn look(&self, is_asked: bool) -> Result<bool, DatabaseError> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        let mut last = lock(&file.last);
        let stamp = std::fs::metadata(&file.options.path).ok().map(|metadata| Stamp::of(&metadata));
        if stamp == last.stamp && (last.is_used || !is_asked) {
            return Ok(false);
        }
        let (stamp, records) = file.options.read();
        match records {
            Ok(records) => {
                *last = Last { is_used: true, stamp };
                self.records.store(Arc::new(records));
                if let Some(hook) = &file.options.on_reload {
                    hook();
                }
                Ok(true)
            }
            // Somebody is writing: the next look finds another stamp.
            Err(error) if matches!(error.reason, Reason::Changing) => Err(error),
            Err(error) => {
                *last = Last { is_used: false, stamp };
                file.options.report(&error);
                Err(error)
            }
        }
    }
}

impl Watched {
    /// If it is time to look at the file: when it will be next.
    fn due(&self) -> Option<u64> {
        let interval = millis(self.options.check_every);
        let now = self.options.clock.now().duration_since(UNIX_EPOCH).map_or(0, millis);
        let next = self.next_look.load(Ordering::Relaxed);
        // A clock that was set back does not end the looks.
        (now >= next || next - now > interval).then(|| now.saturating_add(interval))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What tells one file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: Option<SystemTime>,
    size: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { inode: inode(metadata), modified: metadata.modified().ok(), size: metadata.len() }
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

type OnError = dyn Fn(&DatabaseError) + Send + Sync;
type OnReload = dyn Fn() + Send + Sync;

/// How a [`Database`] is read from a file.
///
/// ```no_run
/// use larder::viewer::DatabaseFile;
/// use std::time::Duration;
/// let city = DatabaseFile::new("/var/lib/GeoIP/GeoLite2-City.mmdb")
///     .check_every(Duration::from_secs(600))
///     .on_error(|error| eprintln!("{error}"))
///     .open()?;
/// # let _ = city;
/// # Ok::<(), larder::viewer::DatabaseError>(())
/// ```
#[derive(Clone)]
pub struct DatabaseFile {
    check_every: Duration,
    clock: Clock,
    max_size: u64,
    on_error: Option<Arc<OnError>>,
    on_reload: Option<Arc<OnReload>>,
    path: PathBuf,
    verify: bool,
}

impl DatabaseFile {
    /// The file at a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            check_every: Duration::from_secs(60),
            clock: Clock::system(),
            max_size: 1 << 30,
            on_error: None,
            on_reload: None,
            path: path.into(),
            verify: true,
        }
    }

    /// How often requests look whether the file has changed, by its modification time, size and inode; default once a
    /// minute. Without a tokio runtime, only [`Database::reload`] does.
    #[must_use]
    pub fn check_every(mut self, interval: Duration) -> Self {
        self.check_every = interval;
        self
    }

    /// Where the time comes from; default the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// A larger file, in bytes, is not read; default 1 GiB.
    #[must_use]
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = bytes;
        self
    }

    /// Called when a file that has changed can't be used, once for each such file, and for the first record of a database
    /// that can't be read; default nothing is called.
    #[must_use]
    pub fn on_error(mut self, report: impl Fn(&DatabaseError) + Send + Sync + 'static) -> Self {
        self.on_error = Some(Arc::new(report));
        self
    }

    /// Called when a new database is in use; default nothing is called.
    #[must_use]
    pub fn on_reload(mut self, report: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_reload = Some(Arc::new(report));
        self
    }

    /// Whether all of a file is verified before it is used, which takes about as long as reading it; default true. A file that
    /// was not replaced in one step, and is a mixture of two, is noticed by that. The verification is stricter than what
    /// look-ups need; a database of another vendor may need false.
    #[must_use]
    pub fn verify(mut self, on: bool) -> Self {
        self.verify = on;
        self
    }

    /// Reads the file. This blocks the thread until it is read.
    ///
    /// # Errors
    ///
    /// If the file can't be read, or is no database.
    pub fn open(self) -> Result<Database, DatabaseError> {
        let (stamp, records) = self.read();
        let records = ArcSwap::from_pointee(records?);
        let last = Mutex::new(Last { is_used: true, stamp });
        let mut file =
            Watched { is_watched: AtomicBool::new(false), last, next_look: AtomicU64::new(0), options: self };
        file.next_look = AtomicU64::new(file.due().unwrap_or_default());
        Ok(Database { inner: Arc::new(Inner { records, file: Some(file) }) })
    }

    fn report(&self, error: &DatabaseError) {
        if let Some(hook) = &self.on_error {
            hook(error);
        }
    }

    /// The file, and the database in it.
    fn read(&self) -> (Option<Stamp>, Result<Records, DatabaseError>) {
        let mut stamp = None;
        let records = self.read_stamped(&mut stamp);
        (stamp, records.map_err(|reason| DatabaseError::new(Some(&self.path), reason)))
    }

    fn read_stamped(&self, stamp: &mut Option<Stamp>) -> Result<Records, Reason> {
        let file = File::open(&self.path)?;
        let found = Stamp::of(&file.metadata()?);
        *stamp = Some(found);
        if found.size > self.max_size {
            return Err(Reason::TooLarge(self.max_size));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(found.size).unwrap_or_default());
        (&file).take(found.size).read_to_end(&mut bytes)?;
        if Stamp::of(&file.metadata()?) != found {
            return Err(Reason::Changing);
        }
        Ok(Records::new(bytes, self.verify)?)
    }
}

impl fmt::Debug for DatabaseFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A database can't be used.
#[derive(Debug, Error)]
#[error("{}{reason}", path.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default())]
pub struct DatabaseError {
    path: Option<PathBuf>,
    #[source]
    reason: Reason,
}

#[derive(Debug, Error)]
enum Reason {
    #[error("the file changes while it is read; replace it by renaming another one over it")]
    Changing,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] MaxMindDbError),
    #[error("the file is larger than {0} bytes")]
    TooLarge(u64),
}

impl DatabaseError {
    fn new(path: Option<&Path>, reason: Reason) -> Self {
        Self { path: path.map(Into::into), reason }
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}
