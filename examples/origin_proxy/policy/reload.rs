//! Reads the policy again when the process is told to (SIGHUP). Requests under way keep the policy that they have.

use larder::CacheHandle;

#[cfg(unix)]
use crate::hang_up::on_hang_up;
#[cfg(unix)]
use crate::policy::Source;
use crate::policy::{Current, Loaded, Profile};

/// From now on, each SIGHUP loads the policy from its source. One that can't be loaded is reported, and changes nothing.
#[cfg(unix)]
pub fn on_signal(source: Source, handle: CacheHandle, current: Current) -> Result<(), String> {
    let Some(file) = source.file.clone() else {
        return Ok(()); // nothing to read
    };
    on_hang_up("the policy", move || {
        let loaded = source.load().map_err(|error| error.to_string())?;
        apply(loaded, &handle, &current);
        Ok(file.display().to_string())
    })
}

/// Only the profile `fastly` looks at fields that begin with `Fastly-`: while it is in force, they get as far as the policy.
pub fn apply(loaded: Loaded, handle: &CacheHandle, current: &Current) {
    let Loaded { beside, policy, .. } = loaded;
    if beside.profile != Profile::Fastly {
        current.set(beside.clone());
    }
    handle.set_policy(policy);
    current.set(beside);
}
