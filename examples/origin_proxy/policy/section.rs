//! A policy file in TOML: a section for every request, and behaviors for some of them.

use serde::{Deserialize, Serialize};

use crate::policy::matcher::Matcher;
use crate::policy::profile::Profile;
use crate::policy::values::{
    CodingsValue, Comparison, CredentialsValue, HeuristicValue, List, Name, Off, Time, Word,
};

/// A file.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// In their order: the first that matches a request counts.
    pub behavior: Vec<Section>,
    /// For every request, as far as its behavior says nothing else.
    pub default: Section,
    pub profile: Option<Profile>,
}

/// What is said for all requests or for some of them. Each key is named after the switch of the library that it sets.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Section {
    #[serde(rename = "match", skip_serializing)]
    pub matcher: Option<Matcher>,

    pub bypass: Option<Word>,

    // RFC 9111: profiles `default` and `rfc9111`.
    pub client_directives: Option<bool>,
    pub codings: Option<CodingsValue>,
    pub credentials: Option<CredentialsValue>,
    pub drawn_errors: Option<bool>,
    pub forward_fields: Option<List<Name>>,
    pub head_as_get: Option<bool>,
    pub heuristic: Option<Off<HeuristicValue>>,
    pub immutable: Option<bool>,
    pub key_fields: Option<List<Name>>,
    pub languages: Option<Comparison>,
    pub latency_budget: Option<Off<Time>>,
    pub max_error_lifetime: Option<Off<Time>>,
    pub no_vary_search: Option<bool>,
    pub partial: Option<bool>,
    pub post: Option<bool>,
    pub private_by_key: Option<bool>,
    pub refresh_ahead: Option<Off<Time>>,
    pub stale_if_error: Option<Time>,
    pub strip_unkeyed: Option<bool>,
    pub targets: Option<List<Name>>,
    pub unkeyed_fields: Option<List<Name>>,
}

/// The keys that only some profiles have.
pub const OF_PROFILES: [(&[Profile], &[&str]); 1] = [(
    &[Profile::Default, Profile::Rfc9111],
    &[
        "client_directives",
        "codings",
        "credentials",
        "drawn_errors",
        "forward_fields",
        "head_as_get",
        "heuristic",
        "immutable",
        "key_fields",
        "languages",
        "latency_budget",
        "max_error_lifetime",
        "no_vary_search",
        "partial",
        "post",
        "private_by_key",
        "refresh_ahead",
        "stale_if_error",
        "strip_unkeyed",
        "targets",
        "unkeyed_fields",
    ],
)];
