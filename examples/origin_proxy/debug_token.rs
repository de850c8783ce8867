//! The secret of those who look for a fault: only they are told what the cache did.

use std::path::Path;

/// The fewest characters of a secret.
const SHORTEST: usize = 16;

/// The first line of a file.
///
/// # Errors
///
/// One sentence: the file can't be read, or has no secret.
pub fn load(file: &Path) -> Result<String, String> {
    let wrong = |why: &str| format!("--debug-token-file {}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&format!("can't be read: {error}")))?;
    let token = text.lines().next().unwrap_or_default().trim();
    match token.len() >= SHORTEST && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token.to_owned()),
        false => Err(wrong("the first line has to be 16 or more letters, digits and signs")),
    }
}
