//! Which requests a behavior is for.

use std::fmt;

use http::request;
use larder::policy::Pattern;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use toml::Value;

use crate::host;
use crate::policy::values::{List, MethodName, PatternText, inner};

/// A request matches if everything that is named here matches it, and of each list one member. In a file, patterns by
/// themselves are those of paths.
#[derive(Clone, Serialize)]
pub struct Matcher {
    host: Option<List<PatternText>>,
    method: Option<List<MethodName>>,
    path: Option<List<PatternText>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    host: Option<List<PatternText>>,
    method: Option<List<MethodName>>,
    path: Option<List<PatternText>>,
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Table { host, method, path } = match Value::deserialize(deserializer)? {
            Value::Table(table) => inner(Value::Table(table))?,
            paths => Table { host: None, method: None, path: Some(inner(paths)?) },
        };
        if host.is_none() && method.is_none() && path.is_none() {
            return Err(D::Error::custom("nothing is named here; 'host', 'method' and 'path' can be"));
        }
        let paths = path.iter().flat_map(|paths| &paths.0);
        if let Some(pattern) =
            paths.map(|path| path.0.as_str()).find(|path| !path.starts_with(['/', '*', '?']))
        {
            return Err(D::Error::custom(format!("'{pattern}' matches no path; they begin with /")));
        }
        Ok(Self { host: host.map(in_lower_case), method, path })
    }
}

/// Hosts are compared in lower case.
fn in_lower_case(hosts: List<PatternText>) -> List<PatternText> {
    let lower = |host: &PatternText| PatternText(Pattern::new(host.0.as_str().to_ascii_lowercase()));
    List(hosts.0.iter().map(lower).collect())
}

impl Matcher {
    /// The patterns of hosts, none if it is for every host.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.host.iter().flat_map(|hosts| &hosts.0).map(|host| host.0.as_str())
    }

    pub fn matches(&self, request: &request::Parts) -> bool {
        fn any<T>(list: Option<&List<T>>, matches: impl Fn(&T) -> bool) -> bool {
            list.is_none_or(|list| list.0.iter().any(matches))
        }
        any(self.method.as_ref(), |method| method.0 == request.method)
            && any(self.path.as_ref(), |path| path.0.matches(request.uri.path()))
            && (self.host.is_none() || {
                let host = host::name(request);
                any(self.host.as_ref(), |pattern| pattern.0.matches(&host))
            })
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut part = |what, names: Vec<&str>| {
            if !names.is_empty() {
                parts.push(format!("{what} {}", names.join(" or ")));
            }
        };
        part("method", self.method.iter().flat_map(|list| &list.0).map(|one| one.0.as_str()).collect());
        part("host", self.hosts().collect());
        part("path", self.path.iter().flat_map(|list| &list.0).map(|one| one.0.as_str()).collect());
        f.write_str(&parts.join(", "))
    }
}
