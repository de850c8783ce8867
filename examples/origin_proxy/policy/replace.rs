//! Replaces the policy and its file by a text.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use larder::CacheHandle;

use crate::policy::loaded::warn;
use crate::policy::{Current, Source, apply};

/// Replaces the policy and its file, if the text is a policy, and returns the warnings about it. The file keeps its mode, and stays
/// where a link to it points. As on SIGHUP, the warnings and the counts of a candidate are printed.
///
/// # Errors
///
/// One sentence: it is no policy, or the file can't be replaced. Then nothing has changed.
pub fn replace(
    source: &Source,
    file: &Path,
    text: &str,
    handle: &CacheHandle,
    current: &Current,
) -> Result<Vec<String>, String> {
    current.change(|| {
        // In the same folder and with the same ending: that it is JSON, and what it names beside it, may depend on that.
        let trial = Draft::write(file, file, text)?;
        let source = Source { file: Some(trial.0.clone()), ..source.clone() };
        let of_file = |text: String| text.replace(&*trial.0.to_string_lossy(), &file.to_string_lossy());
        let loaded = source.load().map_err(|error| of_file(error.to_string()))?;
        let warnings: Vec<_> = loaded.warnings().map(of_file).collect();
        drop(trial);
        let place = fs::canonicalize(file).map_err(|error| wrong(file, "replaced", &error))?;
        let draft = Draft::write(&place, file, text)?;
        fs::rename(&draft.0, &place).map_err(|error| wrong(file, "replaced", &error))?;
        current.print_counts();
        warnings.iter().for_each(|warning| warn(warning));
        apply(loaded, handle, current);
        Ok(warnings)
    })
}

/// A file that is gone when it is no longer needed.
struct Draft(PathBuf);

impl Draft {
    /// Writes a text beside `place`, for nobody to read who can't read `file`.
    fn write(place: &Path, file: &Path, text: &str) -> Result<Self, String> {
        let name = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let draft = Self(place.with_file_name(format!(".new-{name}")));
        let written = (|| {
            let permissions = fs::metadata(file)?.permissions();
            // One that was left behind may have another mode.
            match fs::remove_file(&draft.0) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut options = OpenOptions::new();
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut new = options.write(true).create_new(true).open(&draft.0)?;
            new.set_permissions(permissions)?;
            new.write_all(text.as_bytes())?;
            new.sync_all()
        })();
        match written {
            Ok(()) => Ok(draft),
            Err(error) => Err(wrong(&draft.0, "written", &error)),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0)); // it may have become the file
    }
}

fn wrong(file: &Path, what: &str, error: &std::io::Error) -> String {
    format!("{} can't be {what}: {error}", file.display())
}
