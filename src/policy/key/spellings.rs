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
                let origin = self.origin(AnyOrigin::SCHEME, authority);
                vec![PurgeTarget::host(origin.split_once("://")?.1)]
            }
            PurgeTarget::PathPrefix(prefix) if changes_queries => {
                vec![PurgeTarget::path_prefix(without_query(text(prefix)?)?)]
            }
            PurgeTarget::Prefix(prefix) => self.prefix(text(prefix)?)?,
            PurgeTarget::Uri(uri) => {
                let (scheme, rest) = text(uri)?.split_once("://")?;
                let (authority, path) = rest.split_at(rest.find('/')?);
                let mut uri = self.origin(scheme, authority);
                match path.split_once('?') {
                    Some((path, query)) => {
                        uri.push_str(path);
                        self.query.write(query, &mut uri);
                    }
                    None => uri.push_str(path),
                }
                vec![PurgeTarget::uri(uri)]
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
