//! Which requests a behavior is for.

use std::fmt;
use std::net::Ipv6Addr;

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
        for pattern in host.iter().flat_map(|hosts| &hosts.0) {
            check_host(pattern.0.as_str()).map_err(D::Error::custom)?;
        }
        Ok(Self { host: host.map(in_lower_case), method, path })
    }
}

/// Finds what is more than the name of a host, and what no host has in its name.
fn check_host(pattern: &str) -> Result<(), String> {
    if pattern.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("'{pattern}' matches no host; write '[{pattern}]'"));
    }
    if !pattern.is_ascii() {
        return Err(format!("'{pattern}' matches no host; clients send such names in ASCII, as xn--..."));
    }
    let name = pattern.split_once("://").map_or(pattern, |(_, rest)| rest);
    let name = name.split('/').next().unwrap_or_default();
    let name = match name.rfind([':', ']']) {
        Some(colon) if name.as_bytes()[colon] == b':' => &name[..colon],
        _ => name,
    };
    let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*?[]:".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_of_host) {
        Err(format!("'{pattern}' is not a host; one looks like www.example.com or *.example.com"))
    } else if name != pattern {
        let reason = "hosts are compared without a scheme, a port and a path";
        Err(format!("'{pattern}' matches no host, since {reason}; write '{name}'"))
    } else {
        Ok(())
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

    /// The patterns of paths, none if it is for every path.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.path.iter().flat_map(|paths| &paths.0).map(|path| path.0.as_str())
    }

    /// Whether it certainly matches all that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        fn all<T>(own: Option<&List<T>>, other: Option<&List<T>>, covers: impl Fn(&T, &T) -> bool) -> bool {
            let covered = |other: &T| own.is_none_or(|own| own.0.iter().any(|own| covers(own, other)));
            own.is_none() || other.is_some_and(|other| other.0.iter().all(covered))
        }
        let path = |own: &PatternText, other: &PatternText| covers(own.0.as_str(), other.0.as_str());
        let has_every_path = || self.paths().any(|path| covers(path, "/*"));
        all(self.method.as_ref(), other.method.as_ref(), |own, other| own.0 == other.0)
            && all(self.host.as_ref(), other.host.as_ref(), |own, other| {
                covers(own.0.as_str(), other.0.as_str())
            })
            && (has_every_path() || all(self.path.as_ref(), other.path.as_ref(), path))
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

/// Whether a pattern certainly matches all that `other` matches.
fn covers(pattern: &str, other: &str) -> bool {
    let beginning = pattern.strip_suffix('*').filter(|beginning| !beginning.contains(['*', '?']));
    pattern == other || beginning.is_some_and(|beginning| other.starts_with(beginning))
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
        part("path", self.paths().collect());
        f.write_str(&parts.join(", "))
    }
}
