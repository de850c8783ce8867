//! What a file says of responses before they are judged: the section `response`, whose names are those of the rules that it
//! sets.

use std::collections::BTreeMap;

use http::HeaderValue;
use http::header::HeaderName;
use larder::CacheControl;
use larder::policy::ResponseRules;
use serde::{Deserialize, Serialize};

use crate::policy::error::mistaken;
use crate::policy::rows::set;
use crate::policy::values::{List, Name, On, TagFieldName, by_text, names};

/// The rules are applied in the order of these fields.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table that says what is done to responses")]
pub struct ResponseSection {
    remove_directives: Option<List<DirectiveName>>,
    set_directives: Option<Directives>,
    cache_control: Option<Directives>,
    for_this_cache_only: Option<On>,
    strip_set_cookie: Option<On>,
    set_cookie_for_first_client: Option<On>,
    remove_fields: Option<List<Name>>,
    set_fields: Option<Fields>,
    strip_vary: Option<List<Name>>,
    tags_from: Option<List<TagFieldName>>,
    tag_paths: Option<BTreeMap<String, String>>,
    tag_types: Option<BTreeMap<String, String>>,
}

impl ResponseSection {
    pub fn tag_fields(&self) -> impl Iterator<Item = &TagFieldName> {
        self.tags_from.iter().flat_map(|list| &list.0)
    }

    /// The patterns of paths that get tags.
    pub fn tag_paths(&self) -> impl Iterator<Item = &str> {
        self.tag_paths.iter().flat_map(BTreeMap::keys).map(String::as_str)
    }

    pub fn rules(&self) -> ResponseRules {
        let rules = ResponseRules::new();
        let rules =
            set(rules, self.remove_directives.as_ref(), |it, list| it.remove_directives(names_of(list)));
        let rules = set(rules, self.set_directives.clone(), |it, directives| it.set_directives(directives.0));
        let rules = set(rules, self.cache_control.clone(), |it, directives| it.cache_control(directives.0));
        let rules = set(rules, self.for_this_cache_only, |it, _| it.for_this_cache_only());
        let rules = set(rules, self.strip_set_cookie, |it, _| it.strip_set_cookie());
        let rules = set(rules, self.set_cookie_for_first_client, |it, _| it.set_cookie_for_first_client());
        let rules = self.remove_fields.iter().flat_map(names).fold(rules, ResponseRules::remove_field);
        let fields = self.set_fields.iter().flat_map(|fields| fields.0.clone());
        let rules = fields.fold(rules, |it, (name, value)| it.set_field(name, value));
        let rules = set(rules, self.strip_vary.as_ref(), |it, list| it.strip_vary(names(list)));
        let sources = self.tags_from.iter().flat_map(|list| list.0.clone());
        let rules = sources.fold(rules, |it, field| it.tags_from(field));
        let paths = self.tag_paths.iter().flatten();
        let rules = paths.fold(rules, |it, (paths, tag)| it.tag_paths(&**paths, &**tag));
        let types = self.tag_types.iter().flatten();
        types.fold(rules, |it, (types, tag)| it.tag_types(&**types, &**tag))
    }
}

/// Fields with their values.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
struct Fields(Vec<(HeaderName, HeaderValue)>);

impl TryFrom<BTreeMap<String, String>> for Fields {
    type Error = String;

    fn try_from(table: BTreeMap<String, String>) -> Result<Self, String> {
        let read = |(name, value): (String, String)| {
            let value = HeaderValue::try_from(&value)
                .map_err(|_| format!("'{value}' can't be the value of a field"))?;
            Ok((Name::try_from(name)?.0, value))
        };
        table.into_iter().map(read).collect::<Result<_, String>>().map(Self)
    }
}

impl From<Fields> for BTreeMap<String, String> {
    fn from(fields: Fields) -> Self {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        fields.0.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    }
}

/// The name of a directive.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
struct DirectiveName(String);

by_text!(
    DirectiveName,
    |text| {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if let Some((name, _)) = text.split_once('=') {
            return Err(format!("'{text}' is more than the name of a directive; write '{name}'"));
        }
        if text.is_empty() || !text.bytes().all(is_token) {
            return Err(format!("'{text}' can't be the name of a directive"));
        }
        check_directive(&text.to_ascii_lowercase()).map(|()| Self(text.to_owned()))
    },
    |name| name.0
);

fn names_of(list: &List<DirectiveName>) -> impl Iterator<Item = &str> {
    list.0.iter().map(|name| name.0.as_str())
}

/// The directives of responses that caches know.
const DIRECTIVES: [&str; 13] = [
    "immutable",
    "max-age",
    "must-revalidate",
    "must-understand",
    "no-cache",
    "no-store",
    "no-transform",
    "private",
    "proxy-revalidate",
    "public",
    "s-maxage",
    "stale-if-error",
    "stale-while-revalidate",
];

/// Finds a name in lower case that is nearly that of a directive. Others may be extensions.
fn check_directive(name: &str) -> Result<(), String> {
    match mistaken(name, &DIRECTIVES) {
        Some(meant) => Err(format!("unknown directive '{name}'; did you mean '{meant}'?")),
        None => Ok(()),
    }
}

/// Directives as `Cache-Control` has them: `public, max-age=60`.
#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
struct Directives(CacheControl);

by_text!(
    Directives,
    |text| text.split(',').map(str::trim).try_fold(CacheControl::new(), directive).map(Self),
    |directives| directives.0.to_string()
);

/// Adds a directive. Those that are known have the values that they may have.
fn directive(control: CacheControl, text: &str) -> Result<CacheControl, String> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let seconds = || match value.map(str::parse) {
        Some(Ok(seconds)) => Ok(std::time::Duration::from_secs(seconds)),
        _ => Err(format!("'{text}' is not a directive; {name} has a number of seconds")),
    };
    let flag = |set: fn(CacheControl) -> CacheControl, control| match value {
        None => Ok(set(control)),
        Some(_) => Err(format!("'{text}' is not a directive here; {name} has no value")),
    };
    match name.to_ascii_lowercase().as_str() {
        "immutable" => flag(CacheControl::immutable, control),
        "must-revalidate" => flag(CacheControl::must_revalidate, control),
        "must-understand" => flag(CacheControl::must_understand, control),
        "no-cache" => flag(CacheControl::no_cache, control),
        "no-store" => flag(CacheControl::no_store, control),
        "no-transform" => flag(CacheControl::no_transform, control),
        "private" => flag(CacheControl::private, control),
        "proxy-revalidate" => flag(CacheControl::proxy_revalidate, control),
        "public" => flag(CacheControl::public, control),
        "max-age" => Ok(control.max_age(seconds()?)),
        "s-maxage" => Ok(control.s_maxage(seconds()?)),
        "stale-if-error" => Ok(control.stale_if_error(seconds()?)),
        "stale-while-revalidate" => Ok(control.stale_while_revalidate(seconds()?)),
        name => {
            check_directive(name)?;
            control.extension(name, value).map_err(|error| format!("'{text}' is not a directive: {error}"))
        }
    }
}
