//! Replaces the policy and its file by a text.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use larder::admin::PolicyFault;

use crate::policy::{Current, Source, apply};
use crate::say::say;
use crate::store::Handle;

/// Replaces the policy and its file, if the text is a policy, and gives the warnings, which are printed as well. The file keeps its
/// mode, stays where a link to it points, and belongs to whom it did as far as the process may say so; what it had is kept beside
/// it, under its name with `.old`.
///
/// # Errors
///
/// One sentence: it is no policy, or the file can't be replaced. Then nothing has changed.
pub fn replace(
    source: &Source,
    file: &Path,
    text: &str,
    handle: &Handle,
    current: &Current,
) -> Result<Vec<String>, PolicyFault> {
    current.change(|| {
        // In the same folder and with the same ending: that it is JSON, and what it names beside it, may depend on that.
        let trial = Draft::write(file, file, text)?;
        let name = |text: String| text.replace(&*trial.path.to_string_lossy(), &file.to_string_lossy());
        let source = Source { file: Some(trial.path.clone()), ..source.clone() };
        let loaded = source.load().map_err(|error| PolicyFault::Text(name(error.to_string())))?;
        let mut warnings: Vec<_> = loaded.warnings().into_iter().map(name).collect();
        drop(trial);
        let failed = |error| not_replaced(file, file, &error);
        let place = fs::canonicalize(file).map_err(failed)?;
        let draft = Draft::write(&place, file, text)?;
        // The same text once more takes nothing from what was before it.
        if fs::read(&place).ok().as_deref() != Some(text.as_bytes()) {
            keep(&place).map_err(|error| not_replaced(file, &old(&place), &error))?;
        }
        fs::rename(&draft.path, &place).map_err(failed)?;
        if draft.has_other_owner {
            warnings.push(format!("{} belongs to the user of the process now", file.display()));
        }
        current.print_counts();
        warnings.iter().for_each(|warning| say(format_args!("warning: {warning}")));
        apply(loaded, handle, current);
        Ok(warnings)
    })
}

/// Where what a file had is kept.
fn old(place: &Path) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_os_string();
    name.push(".old");
    place.with_file_name(name)
}

/// Keeps what a file has, which is about to be replaced.
fn keep(place: &Path) -> io::Result<()> {
    let old = old(place);
    match fs::remove_file(&old) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The same file under another name keeps owner and mode. Some file systems can't do that.
    fs::hard_link(place, &old).or_else(|_| fs::copy(place, &old).map(drop))
}

/// A file that is gone when it is no longer needed.
struct Draft {
    /// The process may not give it to the owner of the file whose place it takes.
    has_other_owner: bool,
    path: PathBuf,
}

impl Draft {
    /// Writes a text beside `place`, for nobody to read who can't read `file`.
    fn write(place: &Path, file: &Path, text: &str) -> Result<Self, PolicyFault> {
        let name = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = place.with_file_name(format!(".new-{name}"));
        let before = fs::metadata(file).map_err(|error| not_replaced(file, file, &error))?;
        // From here on, what is there is removed in the end.
        let mut draft = Self { has_other_owner: false, path };
        let written = (|| {
            // One that was left behind may have another mode.
            match fs::remove_file(&draft.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut options = OpenOptions::new();
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut new = options.write(true).create_new(true).open(&draft.path)?;
            draft.has_other_owner = !has_owner_of(&draft.path, &before);
            new.set_permissions(before.permissions())?;
            new.write_all(text.as_bytes())?;
            new.sync_all()
        })();
        match written {
            Ok(()) => Ok(draft),
            Err(error) => Err(not_replaced(file, &draft.path, &error)),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path)); // it may have become the file
    }
}

/// Gives a file to whom another one belongs; whether it does now. The mode comes afterwards: the system may change it.
#[cfg(unix)]
fn has_owner_of(path: &Path, other: &Metadata) -> bool {
    use std::os::unix::fs::{MetadataExt, chown};
    let Ok(own) = fs::metadata(path) else {
        return false;
    };
    let group = own.gid() == other.gid() || chown(path, None, Some(other.gid())).is_ok();
    let user = own.uid() == other.uid() || chown(path, Some(other.uid()), None).is_ok();
    group && user
}

#[cfg(not(unix))]
fn has_owner_of(_: &Path, _: &Metadata) -> bool {
    true
}

/// Why a file has not been replaced: for this path.
fn not_replaced(file: &Path, path: &Path, error: &io::Error) -> PolicyFault {
    let file = file.display();
    PolicyFault::File(match error.kind() {
        ErrorKind::NotFound => format!("{file} can't be replaced, because it is not there: {error}"),
        _ => format!("{file} can't be replaced, because {} can't be written: {error}", path.display()),
    })
}
