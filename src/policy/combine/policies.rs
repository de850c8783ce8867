//! A table of policies, of which each request gets the first that matches.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::{Method, request};

use crate::entry::key::{asked_path, host_of};
use crate::policy::data::Chooser;
use crate::policy::key::path_of;
use crate::policy::{CachePolicy, Pattern, PolicyData, RequestAction};
use crate::store::PurgeTarget;

/// Policies by path, route, method, host or anything else of a request: the first row that matches decides about the request
/// from beginning to end, and the policy that the table was made with decides about all others.
///
/// Rows are tried in their order, with the request as it came. Paths are those that the client asked for, also in a router
/// that is nested below another one, without the query and as they were sent. Change one thing in a row by
/// [`CachePolicyExt`](crate::CachePolicyExt), or by a switch of a policy that was cloned.
///
/// Rows share what is stored wherever their keys are equal, as those of most policies are for one URI. Clients may choose by which
/// row a response is fetched, for instance by a field that [`Policies::when`] looks at: then rows with equal keys have to
/// forward the same, or what they differ by belongs into the key. That holds as well for a row that fixes the host of its keys
/// ([`KeyRules::host`](crate::policy::KeyRules::host)), beside a row that serves this host itself.
///
/// ```
/// use std::time::Duration;
/// use http::Method;
/// use larder::{CacheBuilder, CachePolicyExt, StandardPolicy};
/// use larder::policy::{Bypass, Policies};
///
/// let standard = StandardPolicy::default().stale_if_error(Duration::from_secs(600));
/// let policy = Policies::new(standard.clone())
///     .path("/admin/*", Bypass::new("admin"))
///     .path("/news/*", standard.clone().map_terms(|_, terms| terms.lifetime = Duration::from_secs(10)))
///     .host("static.example.com", StandardPolicy::rfc9111())
///     .when(|request| request.headers.contains_key("x-preview"), Bypass::new("preview"));
/// let layer = CacheBuilder::default().policy(policy).build();
/// # let _ = layer;
/// ```
#[derive(Clone)]
pub struct Policies {
    chooser: Chooser,
    otherwise: Arc<dyn CachePolicy>,
    rows: Vec<Row>,
}

#[derive(Clone)]
struct Row {
    matches: Matches,
    policy: Arc<dyn CachePolicy>,
}

/// What a row matches.
#[derive(Clone)]
enum Matches {
    /// The path that the client asked for. Apart from the others, because that path is found once for all rows.
    Path(Pattern),
    /// Anything else, and what it is called.
    Other(Cow<'static, str>, Arc<dyn Fn(&request::Parts) -> bool + Send + Sync>),
}

impl Policies {
    /// A table without rows: every request gets this policy.
    pub fn new(otherwise: impl CachePolicy) -> Self {
        Self { chooser: Chooser::new(), otherwise: Arc::new(otherwise), rows: Vec::new() }
    }

    /// A row for the paths that a [`Pattern`] matches, such as `/images/*`.
    #[must_use]
    pub fn path(self, pattern: impl Into<Pattern>, policy: impl CachePolicy) -> Self {
        self.row(Matches::Path(pattern.into()), policy)
    }

    /// A row for a route of axum, such as `/users/{id}`, with the prefixes of the routers that it is nested in. Where the
    /// cache is outside the router that knows the route (`Router::layer` is inside it), no request has one.
    #[cfg(feature = "axum")]
    #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
    #[must_use]
    pub fn route(self, route: impl Into<String>, policy: impl CachePolicy) -> Self {
        let route = route.into();
        let name = format!("route {route}");
        let matches = move |request: &request::Parts| {
            let matched = request.extensions.get::<axum::extract::MatchedPath>();
            matched.is_some_and(|matched| matched.as_str() == route)
        };
        self.other(name, matches, policy)
    }

    /// A row for a method.
    #[must_use]
    pub fn method(self, method: Method, policy: impl CachePolicy) -> Self {
        let name = format!("method {method}");
        self.other(name, move |request| request.method == method, policy)
    }

    /// A row for the hosts that a [`Pattern`] matches, in whatever case, such as `*.example.com`. Ports do not count.
    #[must_use]
    pub fn host(self, pattern: impl AsRef<str>, policy: impl CachePolicy) -> Self {
        let pattern = Pattern::new(pattern.as_ref().to_ascii_lowercase());
        let name = format!("host {}", pattern.as_str());
        let matches = move |request: &request::Parts| {
            host_of(request).is_some_and(|host| {
                if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    pattern.matches(host.to_ascii_lowercase())
                } else {
                    pattern.matches(host)
                }
            })
        };
        self.other(name, matches, policy)
    }

    /// A row for the requests of which this is true.
    #[must_use]
    pub fn when<F>(self, matches: F, policy: impl CachePolicy) -> Self
    where
        F: Fn(&request::Parts) -> bool + Send + Sync + 'static,
    {
        self.other("when", matches, policy)
    }

    fn other<F>(self, name: impl Into<Cow<'static, str>>, matches: F, policy: impl CachePolicy) -> Self
    where
        F: Fn(&request::Parts) -> bool + Send + Sync + 'static,
    {
        self.row(Matches::Other(name.into(), Arc::new(matches)), policy)
    }

    fn row(mut self, matches: Matches, policy: impl CachePolicy) -> Self {
        // Its requests choose by other numbers than those of what it was cloned from.
        self.chooser = Chooser::new();
        self.rows.push(Row { matches, policy: Arc::new(policy) });
        self
    }

    /// The first row that matches a request.
    fn find(&self, request: &request::Parts) -> Option<usize> {
        let mut path = None;
        self.rows.iter().position(|row| match &row.matches {
            Matches::Path(pattern) => pattern.matches(&**path.get_or_insert_with(|| asked_path(request))),
            Matches::Other(_, matches) => matches(request),
        })
    }

    /// The policy that `request` has chosen.
    fn of(&self, data: &PolicyData) -> &dyn CachePolicy {
        let row = data.choice(self.chooser).and_then(|at| self.rows.get(at));
        row.map_or(&*self.otherwise, |row| &*row.policy)
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |row: &Row| match &row.matches {
            Matches::Path(pattern) => format!("path {}", pattern.as_str()),
            Matches::Other(name, _) => name.to_string(),
        };
        let rows: Vec<_> = self.rows.iter().map(name).collect();
        f.debug_struct("Policies").field("rows", &rows).finish_non_exhaustive()
    }
}

impl CachePolicy for Policies {
    fn request(&self, request: &mut request::Parts, data: &mut PolicyData) -> RequestAction {
        let Some(at) = self.find(request) else {
            return self.otherwise.request(request, data);
        };
        data.choose(self.chooser, at);
        self.rows[at].policy.request(request, data)
    }

    leave_to_chosen!();

    fn needs_sent_fields(&self) -> bool {
        self.otherwise.needs_sent_fields() || self.rows.iter().any(|row| row.policy.needs_sent_fields())
    }

    /// Those of every row that a request for it may have got, and no others: what they store is another page.
    fn spellings(&self, target: &PurgeTarget) -> Vec<PurgeTarget> {
        let path = path_of(target);
        let mut spellings = Vec::new();
        for row in &self.rows {
            let is_for_path = match (&row.matches, path) {
                (Matches::Path(pattern), Some(path)) => Some(pattern.matches(path)),
                _ => None,
            };
            if is_for_path != Some(false) {
                spellings.extend(row.policy.spellings(target));
            }
            if is_for_path == Some(true) {
                return spellings;
            }
        }
        spellings.extend(self.otherwise.spellings(target));
        spellings
    }
}
