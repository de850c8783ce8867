//! Reads a policy file in TOML.

use toml::de::{DeTable, DeValue};

use crate::policy::error::{PolicyError, explained};
use crate::policy::profile::Profile;
use crate::policy::section::{File, OF_PROFILES};

/// The file as it is understood. `profile` outweighs the one that it names.
///
/// # Errors
///
/// What is wrong, and in which line.
pub fn read(text: &str, profile: Option<Profile>) -> Result<File, PolicyError> {
    let wrong = |error: toml::de::Error| PolicyError::new(explained(error.message())).at(text, error.span());
    let file: File = toml::from_str(text).map_err(wrong)?;
    let profile = profile.or(file.profile).unwrap_or_default();
    let document = DeTable::parse(text).map_err(wrong)?;
    check(text, document.get_ref(), profile)?;
    Ok(file)
}

/// Finds what has no place where it stands.
fn check(text: &str, document: &DeTable<'_>, profile: Profile) -> Result<(), PolicyError> {
    if let Some(DeValue::Table(default)) = document.get("default").map(toml::Spanned::get_ref) {
        check_profile(text, default, profile)?;
        if let Some((key, _)) = default.get_key_value("match") {
            let reason = "'match' is for a [[behavior]]; [default] is for every request";
            return Err(PolicyError::new(reason).at(text, Some(key.span())));
        }
    }
    if let Some(DeValue::Array(behaviors)) = document.get("behavior").map(toml::Spanned::get_ref) {
        for behavior in behaviors.iter() {
            let DeValue::Table(section) = behavior.get_ref() else { continue };
            check_profile(text, section, profile)?;
            if let Some((key, _)) = section.get_key_value("error_pages") {
                let reason = "'error_pages' is for [default]: an error of any request gets its page";
                return Err(PolicyError::new(reason).at(text, Some(key.span())));
            }
            if !section.contains_key("match") {
                let reason = "a [[behavior]] needs 'match', which says what it is for";
                return Err(PolicyError::new(reason).at(text, Some(behavior.span())));
            }
        }
    }
    Ok(())
}

/// Keys that another profile has.
fn check_profile(text: &str, section: &DeTable<'_>, profile: Profile) -> Result<(), PolicyError> {
    for key in section.keys() {
        let name = key.get_ref();
        let has_name = |names: &[&str]| names.contains(&name.as_ref());
        let of = OF_PROFILES.iter().find(|(_, names)| has_name(names));
        if let Some((profiles, _)) = of.filter(|(profiles, _)| !profiles.contains(&profile)) {
            let profiles: Vec<_> = profiles.iter().map(|profile| profile.name()).collect();
            let reason =
                format!("'{name}' is a key of profile {}, and this is {profile}", profiles.join(" and "));
            return Err(PolicyError::new(reason).at(text, Some(key.span())));
        }
    }
    Ok(())
}
