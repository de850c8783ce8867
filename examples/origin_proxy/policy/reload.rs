//! Reads the policy again when the process is told to (SIGHUP). Requests under way keep the policy that they have.

#[cfg(unix)]
use std::path::PathBuf;

#[cfg(unix)]
use crate::hang_up::on_hang_up;
#[cfg(unix)]
use crate::policy::Source;
use crate::policy::{Current, Loaded, Profile};
use crate::store::Handle;

#[cfg(unix)]
const NOTHING: &str = "there is no policy to read again: no --policy was given";

/// From now on, each SIGHUP loads the policy from its source. One that can't be loaded is reported, and changes nothing. Nor does
/// the signal where there is no file; that is said unless it `has_others` to read.
#[cfg(unix)]
pub fn on_signal(source: Source, handle: Handle, current: Current, has_others: bool) -> Result<(), String> {
    let Some(read) = read(&source) else {
        return if has_others { Ok(()) } else { on_hang_up("", || Err(NOTHING.to_owned())) };
    };
    on_hang_up("the policy stays as it was: ", move || {
        current.print_counts();
        current.change(|| {
            let loaded = source.load().map_err(|error| error.to_string())?;
            loaded.warn();
            apply(loaded, &handle, &current);
            Ok(read.clone())
        })
    })
}

/// What is read, if there are files.
#[cfg(unix)]
fn read(source: &Source) -> Option<String> {
    let of = |what: &str, file: &PathBuf| format!("the {what} is that of {}", file.display());
    let policy = source.file.as_ref().map(|file| of("policy", file));
    let candidate = source.candidate.as_ref().map(|file| of("candidate", file));
    policy.into_iter().chain(candidate).reduce(|policy, candidate| format!("{policy} and {candidate}"))
}

/// Only the profile `fastly` looks at fields that begin with `Fastly-`: while it is in force, they get as far as the policy.
pub fn apply(loaded: Loaded, handle: &Handle, current: &Current) {
    let Loaded { beside, policy, .. } = loaded;
    if beside.profile != Profile::Fastly {
        current.set(beside.clone());
    }
    handle.set_policy(policy);
    current.set(beside);
}
