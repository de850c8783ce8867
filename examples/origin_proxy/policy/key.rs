//! What a file says of keys: the section `key`, whose names are those of the rules that it sets.

use http::header::HeaderName;
use http::uri::{Authority, Scheme};
use larder::policy::{KeyRules, Pattern, QueryRules, Selection};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use toml::Value;

use crate::policy::rows::set;
use crate::policy::values::{List, Name, Off, OffOr, On, PatternText, by_text, inner, names};

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table that says what is in the key")]
pub struct KeySection {
    accepts: Option<List<String>>,
    cookie_presence: Option<List<String>>,
    cookies: Option<Names>,
    header_contains: Option<List<Containing>>,
    header_presence: Option<List<Name>>,
    headers: Option<List<Name>>,
    host: Option<Off<Host>>,
    mobile: Option<On>,
    query: Option<Query>,
    scheme: Option<Off<SchemeName>>,
}

impl KeySection {
    /// The rules as this changes them: lists are added to, except for those of cookies and parameters.
    pub fn changed(&self, mut rules: KeyRules) -> KeyRules {
        for media_type in self.accepts.iter().flat_map(List::texts) {
            rules = rules.accepts(media_type);
        }
        for name in self.cookie_presence.iter().flat_map(List::texts) {
            rules = rules.cookie_presence(name);
        }
        for Containing { name, word } in self.header_contains.iter().flat_map(|list| &list.0) {
            rules = rules.header_contains(name.0.clone(), &**word);
        }
        rules = self.header_presence.iter().flat_map(names).fold(rules, KeyRules::header_presence);
        rules = self.headers().fold(rules, KeyRules::header);
        rules = set(rules, self.cookies.clone(), |rules, cookies| rules.cookies(cookies));
        rules = set(rules, self.host.clone(), |rules, host| match host.0 {
            Some(host) => rules.host(host.0),
            None => rules.any_host(),
        });
        rules = set(rules, self.mobile, |rules, _| rules.mobile());
        rules = set(rules, self.query.clone(), |rules, query| rules.query(query));
        set(rules, self.scheme.clone(), |rules, scheme| match scheme.0 {
            Some(scheme) => rules.scheme(scheme.0),
            None => rules.any_scheme(),
        })
    }

    /// The fields that are in the key as they are.
    pub fn headers(&self) -> impl Iterator<Item = HeaderName> {
        self.headers.iter().flat_map(names)
    }
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
struct Host(Authority);

by_text!(
    Host,
    |text| text
        .parse()
        .map(Self)
        .map_err(|_| format!("'{text}' is not a host; one looks like www.example.com")),
    |host| host.0.as_str().to_owned()
);

impl OffOr for Host {
    const LOOKS: &str = "the one host that all requests are for";
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
struct SchemeName(Scheme);

by_text!(
    SchemeName,
    |text| text.parse().map(Self).map_err(|_| format!("'{text}' is not a scheme; there are http and https")),
    |scheme| scheme.0.as_str().to_owned()
);

impl OffOr for SchemeName {
    const LOOKS: &str = "\"http\" or \"https\"";
}

/// A field, and a word that it contains or not.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a table with 'name' and 'word'")]
struct Containing {
    name: Name,
    word: String,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum AllOrNone {
    All,
    None,
}

/// Names: `all`, `none`, one that counts, a list of them, or `{ except = [...] }`.
#[derive(Clone, Serialize)]
#[serde(untagged)]
enum Names {
    AllOrNone(AllOrNone),
    Except(Except),
    Only(List<PatternText>),
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Except {
    except: List<PatternText>,
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            table @ Value::Table(_) => inner(table).map(Self::Except),
            // A word in capitals is not the name of a parameter.
            Value::String(word) if ["all", "none"].contains(&&*word.to_ascii_lowercase()) => {
                inner(Value::String(word)).map(Self::AllOrNone)
            }
            list @ (Value::Array(_) | Value::String(_)) => inner(list).map(Self::Only),
            other => Err(D::Error::custom(format!(
                "{other} is not a name; this is \"all\", \"none\", a name or a list of names"
            ))),
        }
    }
}

impl From<Names> for Selection {
    fn from(names: Names) -> Self {
        match names {
            Names::AllOrNone(AllOrNone::All) => Self::All,
            Names::AllOrNone(AllOrNone::None) => Self::None,
            Names::Except(Except { except }) => Self::AllExcept(patterns(except)),
            Names::Only(only) => Self::AllowList(patterns(only)),
        }
    }
}

fn patterns(list: List<PatternText>) -> Vec<Pattern> {
    list.0.into_iter().map(|pattern| pattern.0).collect()
}

/// Parameters: as [`Names`], or a table with what else is done to the query.
#[derive(Clone, Serialize)]
#[serde(untagged)]
enum Query {
    Names(Names),
    Table(QueryTable),
}

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct QueryTable {
    cleaned: Option<On>,
    except: Option<List<PatternText>>,
    forward_as_sent: Option<On>,
    ignore_trackers: Option<On>,
    only: Option<List<PatternText>>,
    sorted: Option<On>,
}

impl<'de> Deserialize<'de> for Query {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            table @ Value::Table(_) => {
                let table: QueryTable = inner(table)?;
                if table.only.is_some() && table.except.is_some() {
                    return Err(D::Error::custom("'only' and 'except' exclude each other"));
                }
                Ok(Self::Table(table))
            }
            names => inner(names).map(Self::Names),
        }
    }
}

impl From<Query> for QueryRules {
    fn from(query: Query) -> Self {
        let table = match query {
            Query::Names(names) => return Selection::from(names).into(),
            Query::Table(table) => table,
        };
        let rules = match (table.only, table.except) {
            (Some(only), _) => Self::allow_list(patterns(only)),
            (None, Some(except)) => Self::all_except(patterns(except)),
            (None, None) => Self::all(),
        };
        let rules = set(rules, table.cleaned, |rules, _| rules.cleaned());
        let rules = set(rules, table.forward_as_sent, |rules, _| rules.forward_as_sent());
        let rules = set(rules, table.ignore_trackers, |rules, _| rules.ignore_trackers());
        set(rules, table.sorted, |rules, _| rules.sorted())
    }
}
