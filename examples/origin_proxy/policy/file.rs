//! Reads a policy file in TOML.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::policy::error::{PolicyError, explained, joined, unknown};
use crate::policy::places::{DEFAULT, Places, sections};
use crate::policy::profile::Profile;
use crate::policy::section::{File, KEYS, NAMESAKES};
use crate::units::show_size;

/// A file as it is understood.
#[derive(Default)]
pub struct Read {
    pub file: File,
    pub places: Places,
}

/// Reads a file. `outweighing` outweighs the profile that it names, and one that names none has the profile `otherwise`.
///
/// # Errors
///
/// What is wrong, and in which line.
pub fn read(text: &str, outweighing: Option<Profile>, otherwise: Profile) -> Result<Read, PolicyError> {
    let wrong = |error: toml::de::Error| PolicyError::new(explained(error.message())).at(text, error.span());
    let document = DeTable::parse(text).map_err(wrong)?;
    // A profile that nobody knows is reported below.
    if let Some(named) = named_profile(document.get_ref()) {
        check(text, document.get_ref(), outweighing.or(named).unwrap_or(otherwise))?;
    }
    let file: File = toml::from_str(text).map_err(wrong)?;
    let places = Places::of(text, document.get_ref());
    check_sizes(&file, &places)?;
    Ok(Read { file, places })
}

/// The profile that a file names, if it names one; `None` if nobody knows it.
fn named_profile(document: &DeTable<'_>) -> Option<Option<Profile>> {
    match document.get("profile").map(Spanned::get_ref) {
        None => Some(None),
        Some(DeValue::String(name)) => Profile::named(name).map(Some),
        Some(_) => None,
    }
}

/// Finds what has no place where it stands.
fn check(text: &str, document: &DeTable<'_>, profile: Profile) -> Result<(), PolicyError> {
    for (number, section, span) in sections(document) {
        let misplaced = |name: &str, reason: &str| match section.get_key_value(name) {
            Some((key, _)) => Err(PolicyError::new(reason).at(text, Some(key.span()))),
            None => Ok(()),
        };
        if number == DEFAULT {
            misplaced("match", "'match' is for a [[behavior]]; [default] is for every request")?;
        } else {
            misplaced(
                "error_pages",
                "'error_pages' is for [default]: an error of any request gets its page",
            )?;
        }
        for key in section.keys() {
            check_key(key.get_ref(), number, profile).map_err(|wrong| wrong.at(text, Some(key.span())))?;
        }
        let is_table = |value: &Spanned<DeValue<'_>>| matches!(value.get_ref(), DeValue::Table(_));
        if profile == Profile::CloudFront && section.get("lifetime").is_some_and(|value| !is_table(value)) {
            misplaced(
                "lifetime",
                "what states no lifetime has the DefaultTTL of 'cache_policy' in the profile cloudfront; others are \
                 { exactly = ... }, { at_least = ... } and { at_most = ... }",
            )?;
        }
        if number != DEFAULT && !section.contains_key("match") {
            let reason = "a [[behavior]] needs 'match', which says what it is for";
            return Err(PolicyError::new(reason).at(text, Some(span)));
        }
    }
    Ok(())
}

/// Whether a section may have a key in this profile.
fn check_key(name: &str, section: usize, profile: Profile) -> Result<(), PolicyError> {
    if name == "match" {
        return Ok(());
    }
    match KEYS.iter().find(|(_, names)| names.contains(&name)) {
        Some((profiles, _)) if profiles.contains(&profile) => Ok(()),
        Some((profiles, _)) => {
            let profiles: Vec<_> = profiles.iter().map(|profile| profile.name()).collect();
            let is_namesake = |(own, of, _): &&(&str, Profile, &str)| *own == name && *of == profile;
            let instead = NAMESAKES.iter().find(is_namesake);
            let instead = instead.map(|(.., instead)| format!(", where it is {instead}")).unwrap_or_default();
            let profiles = joined(&profiles, "and");
            let reason = format!("'{name}' is a key of profile {profiles}, and this is {profile}{instead}");
            Err(PolicyError::new(reason))
        }
        None => {
            let own = KEYS.iter().filter(|(profiles, _)| profiles.contains(&profile));
            let own = own.flat_map(|(_, names)| *names).copied();
            let own = own.filter(|name| section == DEFAULT || *name != "error_pages");
            let own = own.chain((section != DEFAULT).then_some("match"));
            Err(PolicyError::new(unknown("key", name, own)))
        }
    }
}

/// Finds bounds of content that nothing is within. A behavior has those of `[default]` that it does not change.
fn check_sizes(file: &File, places: &Places) -> Result<(), PolicyError> {
    for (number, section) in std::iter::once(&file.default).chain(&file.behavior).enumerate() {
        let (min, max) = (section.min_body, section.max_body);
        let bounds = (min.or(file.default.min_body), max.or(file.default.max_body));
        if let (Some(least), Some(most)) = bounds
            && least.0 > most.0
            && (min.is_some() || max.is_some())
        {
            let (least, most) = (show_size(least.0), show_size(most.0));
            let reason =
                format!("nothing is stored, since 'min_body' ({least}) is above 'max_body' ({most}) here");
            let key = if min.is_some() { "min_body" } else { "max_body" };
            let error = PolicyError::new(reason);
            return Err(match places.line(number, key) {
                Some(line) => error.line(line),
                None => error,
            });
        }
    }
    Ok(())
}
