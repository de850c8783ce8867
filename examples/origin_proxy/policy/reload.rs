//! Reads the policy again when the process is told to (SIGHUP). Requests under way keep the policy that they have.

use std::path::PathBuf;

use larder::CacheHandle;
use tokio::signal::unix::{SignalKind, signal};

use crate::policy::{Current, Loaded, Profile, Source};

/// From now on, each SIGHUP loads the policy from its source. One that can't be loaded is reported, and changes nothing. Nor does
/// the signal where there is no file.
pub fn on_signal(source: Source, handle: CacheHandle, current: Current) -> Result<(), String> {
    let mut hang_up =
        signal(SignalKind::hangup()).map_err(|error| format!("can't listen for signals: {error}"))?;
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            current.print_counts();
            let Some(read) = read(&source) else {
                eprintln!("larder: there is no policy to read again: no --policy was given");
                continue;
            };
            let source = source.clone();
            match tokio::task::spawn_blocking(move || source.load()).await {
                Ok(Ok(loaded)) => {
                    loaded.warn();
                    apply(loaded, &handle, &current);
                    println!("larder: {read} now");
                }
                Ok(Err(error)) => eprintln!("larder: the policy stays as it was: {error}"),
                Err(error) => eprintln!("larder: the policy stays as it was: {error}"),
            }
        }
    });
    Ok(())
}

/// What is read, if there are files.
fn read(source: &Source) -> Option<String> {
    let of = |what: &str, file: &PathBuf| format!("the {what} is that of {}", file.display());
    let policy = source.file.as_ref().map(|file| of("policy", file));
    let candidate = source.candidate.as_ref().map(|file| of("candidate", file));
    policy.into_iter().chain(candidate).reduce(|policy, candidate| format!("{policy} and {candidate}"))
}

/// Only the profile `fastly` looks at fields that begin with `Fastly-`: while it is in force, they get as far as the policy.
fn apply(loaded: Loaded, handle: &CacheHandle, current: &Current) {
    let Loaded { beside, policy, .. } = loaded;
    if beside.profile != Profile::Fastly {
        current.set(beside.clone());
    }
    handle.set_policy(policy);
    current.set(beside);
}
