//! What deserves a second look in a file that is right: keys and behaviors that have no effect.

use crate::policy::error::listed;
use crate::policy::places::{DEFAULT, Places};
use crate::policy::section::{File, Section};

/// Something that has no effect, or one that may surprise.
pub struct Warning {
    /// In the file, the first being 1.
    pub line: Option<usize>,
    /// The number of the section, [`DEFAULT`] and up. `None` if it is of the whole file.
    pub section: Option<usize>,
    pub text: String,
}

impl Warning {
    /// About the whole file.
    pub fn new(text: String) -> Self {
        Self { line: None, section: None, text }
    }
}

/// The keys with which a request that bypasses the cache is made as well.
const OF_FORWARDING: [&str; 9] = [
    "bypass",
    "cache_policy",
    "error_pages",
    "forward_fields",
    "key",
    "match",
    "origin_request_policy",
    "strip_unkeyed",
    "unkeyed_fields",
];

/// The warnings about a file, whatever its profile.
pub fn of(file: &File, places: &Places) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (number, section) in std::iter::once(&file.default).chain(&file.behavior).enumerate() {
        let mut warn = |key: &str, text: String| {
            warnings.push(Warning { line: places.line(number, key), section: Some(number), text });
        };
        if let Some((key, covering)) = covered(file, number) {
            warn(
                key,
                format!("no request gets here: behavior {covering} matches everything that this one does"),
            );
        }
        for pattern in section.matcher.iter().flat_map(|matcher| matcher.paths()).filter(|it| names_query(it))
        {
            warn("match", never_matches_query(pattern));
        }
        let tag_paths = section.response.iter().flat_map(|response| response.tag_paths());
        for pattern in tag_paths.filter(|it| names_query(it)) {
            warn("response", never_matches_query(pattern));
        }
        // What is said for every request holds for behaviors, too, except for `bypass`.
        if section.bypass.is_some() && (number > DEFAULT || file.behavior.is_empty()) {
            let idle: Vec<_> = places.keys(number).filter(|key| !OF_FORWARDING.contains(key)).collect();
            if let Some(first) = idle.first() {
                let verb = if idle.len() == 1 { "has" } else { "have" };
                let idle = listed(idle.iter().copied(), "and");
                warn(first, format!("{idle} {verb} no effect on requests that bypass the cache"));
            }
        }
        for (key, text) in pairs(section) {
            warn(key, text.to_owned());
        }
    }
    warnings
}

/// The earlier behavior that matches all that this one matches, with the key that says so.
fn covered(file: &File, number: usize) -> Option<(&'static str, usize)> {
    let own = file.behavior.get(number.checked_sub(1)?)?.matcher.as_ref()?;
    let earlier = (1..number).zip(&file.behavior);
    let covers = |section: &Section| section.matcher.as_ref().is_some_and(|matcher| matcher.covers(own));
    earlier.into_iter().find(|(_, section)| covers(section)).map(|(number, _)| ("match", number))
}

/// Whether a pattern of paths looks like one with a query.
fn names_query(pattern: &str) -> bool {
    pattern.split_once('?').is_some_and(|(_, rest)| rest.contains('='))
}

fn never_matches_query(pattern: &str) -> String {
    format!(
        "the query is not a part of a path, and '?' in '{pattern}' is any character; see 'query' of 'key'"
    )
}

/// Keys of which one takes the effect of the other.
fn pairs(section: &Section) -> impl Iterator<Item = (&'static str, &'static str)> {
    let has_default = section.lifetime.is_some() && section.default_lifetime.is_some();
    let has_browser = section.browser_lifetime.is_some() && section.browser_lifetime_as_stated.is_some();
    let default =
        ("default_lifetime", "'default_lifetime' has no effect beside 'lifetime', which comes first");
    let browser = (
        "browser_lifetime",
        "'browser_lifetime' is only for responses that state no 'max-age' for clients, since \
         'browser_lifetime_as_stated' comes first",
    );
    [(has_default, default), (has_browser, browser)].into_iter().filter(|(has, _)| *has).map(|(_, pair)| pair)
}
