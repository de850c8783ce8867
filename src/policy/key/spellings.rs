//! What a purge has to name so that it reaches what is stored under keys with other URIs than those asked for.

use http::uri::Scheme;

use super::KeyRules;
use crate::entry::key::AnyOrigin;
use crate::store::PurgeTarget;

impl KeyRules {
    /// Other targets under which what `target` names is stored, by these rules: for
    /// [`CachePolicy::spellings`](crate::CachePolicy::spellings) of a policy of your own.
    ///
    /// ```
    /// use larder::policy::{KeyRules, QueryRules};
    /// use larder::store::PurgeTarget;
    ///
    /// let rules = KeyRules::new().query(QueryRules::none());
    /// let asked = PurgeTarget::uri("https://example.com/a?x=1");
    /// assert_eq!(rules.spellings(&asked), [PurgeTarget::uri("https://example.com/a")]);
    /// ```
    pub fn spellings(&self, target: &PurgeTarget) -> Vec<PurgeTarget> {
        let mut spellings = self.all_spellings(target).unwrap_or_default();
        spellings.retain(|spelling| spelling != target);
        spellings
    }

    fn all_spellings(&self, target: &PurgeTarget) -> Option<Vec<PurgeTarget>> {
        let changes_queries = !self.query.is_all();
        Some(match target {
            PurgeTarget::Group(group) => {
                let (origin, name) = group.split_once(' ')?;
                let (scheme, authority) = origin.split_once("://")?;
                vec![PurgeTarget::group(&self.origin(scheme, authority), name)]
            }
            PurgeTarget::Host(authority) if self.origin.any.host || self.origin.authority.is_some() => {
                // A port is left out by the scheme.
                let origins = ["http", "https"].map(|scheme| self.origin(scheme, authority));
                let hosts =
                    origins.iter().filter_map(|origin| Some(PurgeTarget::host(origin.split_once("://")?.1)));
                let mut hosts: Vec<_> = hosts.collect();
                hosts.dedup();
                hosts
            }
            PurgeTarget::Path(path) if changes_queries => vec![PurgeTarget::path(self.path(text(path)?))],
            PurgeTarget::PathPrefix(prefix) if changes_queries => {
                vec![PurgeTarget::path_prefix(without_query(text(prefix)?)?)]
            }
            PurgeTarget::Prefix(prefix) => self.prefix(text(prefix)?)?,
            PurgeTarget::Uri(uri) => {
                let (scheme, rest) = text(uri)?.split_once("://")?;
                let (authority, path) = rest.split_at(rest.find('/')?);
                vec![PurgeTarget::uri(self.origin(scheme, authority) + &self.path(path))]
            }
            _ => return None,
        })
    }

    fn prefix(&self, prefix: &str) -> Option<Vec<PurgeTarget>> {
        let (scheme, rest) = prefix.split_once("://")?;
        let Some(path) = rest.find('/') else {
            // The beginning of an authority.
            let origin = self.origin(scheme, rest);
            let is_whole = self.origin.any.host || self.origin.authority.is_some();
            return Some(vec![PurgeTarget::prefix(if is_whole { origin + "/" } else { origin })]);
        };
        let (authority, path) = rest.split_at(path);
        let origin = self.origin(scheme, authority);
        Some(match without_query(path).filter(|_| !self.query.is_all()) {
            // Nobody can say which queries become one that begins like this.
            Some(path) => {
                let uri = PurgeTarget::uri(format!("{origin}{path}"));
                let queries = PurgeTarget::prefix(format!("{origin}{path}?"));
                if self.query.is_none() { vec![uri] } else { vec![uri, queries] }
            }
            None => vec![PurgeTarget::prefix(format!("{origin}{path}"))],
        })
    }

    /// Path and query in a key, for those that were asked for.
    fn path(&self, asked: &str) -> String {
        let Some((path, query)) = asked.split_once('?') else {
            return asked.to_owned();
        };
        let mut path = path.to_owned();
        self.query.write(query, &mut path);
        path
    }

    /// The origin in a key, for one that was asked for.
    fn origin(&self, scheme: &str, authority: &str) -> String {
        let scheme = match &self.origin.scheme {
            Some(scheme) => scheme.as_str(),
            None if self.origin.any.scheme => AnyOrigin::SCHEME,
            None => scheme,
        };
        let authority = match &self.origin.authority {
            Some(authority) => authority.as_str(),
            None if self.origin.any.host => "",
            None => authority,
        };
        let port = match Scheme::try_from(scheme) {
            Ok(scheme) if scheme == Scheme::HTTP => ":80",
            Ok(scheme) if scheme == Scheme::HTTPS => ":443",
            _ => "",
        };
        let authority = authority.strip_suffix(port).unwrap_or(authority);
        format!("{scheme}://{authority}")
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The path before the query; `None` where there is no query.
fn without_query(path: &str) -> Option<&str> {
    path.split_once('?').map(|(path, _)| path)
}

/// The path that a request has which asks for exactly this target.
pub(in crate::policy) fn path_of(target: &PurgeTarget) -> Option<&[u8]> {
    let path = match target {
        PurgeTarget::Path(path) => path,
        PurgeTarget::Uri(uri) => {
            let mut slashes = uri.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
            &uri[slashes.nth(2)?..]
        }
        _ => return None,
    };
    path.split(|&byte| byte == b'?').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::QueryRules;
    use http::uri::Authority;

    fn rules(rules: &str) -> KeyRules {
        let (host, new) = (Authority::from_static("One:443"), KeyRules::new);
        match rules {
            "all" => new(),
            "none" => new().query(QueryRules::none()),
            "sorted" => new().query(QueryRules::all().sorted()),
            "host" => new().host(host),
            "any host" => new().any_host(),
            "scheme" => new().scheme(Scheme::HTTPS),
            "any scheme" => new().any_scheme(),
            "both" => new().host(host).scheme(Scheme::HTTPS),
            "any" => new().any_host().any_scheme().query(QueryRules::none()),
            _ => new().mobile().cookies(["a"]),
        }
    }

    /// The targets that are added to one.
    #[track_caller]
    fn check(name: &str, target: &PurgeTarget, expected: &[PurgeTarget]) {
        assert_eq!(rules(name).spellings(target), expected, "{name}: {target:?}");
    }

    #[test]
    fn fa11_targets_are_spelled_as_keys_are() {
        let (uri, prefix) = (|uri: &str| PurgeTarget::uri(uri), |prefix: &str| PurgeTarget::prefix(prefix));
        for target in [
            uri("http://a/x?b&a"),
            prefix("http://a/x?b"),
            prefix("http://a"),
            PurgeTarget::host("a"),
            PurgeTarget::path_prefix("/x?b"),
            PurgeTarget::group("http://a", "g"),
            PurgeTarget::tag("g"),
            PurgeTarget::All,
        ] {
            check("all", &target, &[]);
            check("parts", &target, &[]);
        }
        check("none", &uri("http://a/x?b&a"), &[uri("http://a/x")]);
        check("none", &uri("http://a/x?"), &[uri("http://a/x")]);
        check("none", &uri("http://a/x"), &[]);
        check("none", &prefix("http://a/x?b"), &[uri("http://a/x")]);
        check("none", &PurgeTarget::path_prefix("/x?b"), &[PurgeTarget::path_prefix("/x")]);
        check("none", &PurgeTarget::path_prefix("/x"), &[]);
        check("none", &PurgeTarget::path("/x?b"), &[PurgeTarget::path("/x")]);
        check("sorted", &PurgeTarget::path("/x?b&a"), &[PurgeTarget::path("/x?a&b")]);
        check("sorted", &PurgeTarget::path("/x?a&b"), &[]);
        check("any host", &PurgeTarget::path("/x?b&a"), &[]);
        check("sorted", &uri("http://a/x?b&a"), &[uri("http://a/x?a&b")]);
        check("sorted", &prefix("http://a/x?b"), &[uri("http://a/x"), prefix("http://a/x?")]);
        check("host", &uri("http://a/x?b"), &[uri("http://one:443/x?b")]);
        check("both", &uri("http://a/x?b"), &[uri("https://one/x?b")]);
        check("both", &prefix("http://a/x?b"), &[prefix("https://one/x?b")]);
        check("both", &prefix("http://a"), &[prefix("https://one/")]);
        check("both", &PurgeTarget::group("http://a", "g h"), &[PurgeTarget::group("https://one", "g h")]);
        check("both", &PurgeTarget::host("a"), &[PurgeTarget::host("one")]);
        check("host", &PurgeTarget::host("a"), &[PurgeTarget::host("one:443"), PurgeTarget::host("one")]);
        check("any host", &uri("https://a:8443/x"), &[uri("https:///x")]);
        check("any host", &prefix("http://a"), &[prefix("http:///")]);
        check("any host", &PurgeTarget::host("a"), &[PurgeTarget::host("")]);
        check("scheme", &uri("http://a:443/x"), &[uri("https://a/x")]);
        check("scheme", &prefix("http://a"), &[prefix("https://a")]);
        check("scheme", &PurgeTarget::host("a"), &[]);
        check("any scheme", &uri("http://a:443/x"), &[uri("any://a:443/x")]);
        check("any scheme", &uri("any://a/x"), &[]);
        check("any scheme", &PurgeTarget::host("a"), &[]);
        check("any", &uri("https://a/x?y"), &[uri("any:///x")]);
        check("any", &prefix("https://a/x"), &[prefix("any:///x")]);
        // What is no target is nobody's.
        for odd in ["", "a", "://", "http://", "http://a"] {
            check("both", &uri(odd), &[]);
        }
        check("none", &PurgeTarget::Uri(b"http://a/\xff?x"[..].into()), &[]);
    }
}
