//! A table of policies, of which each request gets the first that matches.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Extensions, Method, request};
use smallvec::SmallVec;

use super::{CachePolicy, Delivery, ForwardReason, Pattern, PolicyExchange, RequestAction, Terms};
use crate::entry::key::{asked_path, host_of};
use crate::semantics::Rules;
use crate::store::PurgeTarget;

/// Policies by path, route, method, host or anything else of a request: the first row that matches decides about the request
/// from beginning to end, and the policy that the table was made with decides about all others.
///
/// Rows are tried in their order, with the request as it came. Paths are those that the client asked for, also in a router
/// that is nested below another one, without the query and as they were sent. Change one thing in a row by
/// [`CachePolicyExt`](crate::CachePolicyExt), or by a switch of a policy that was cloned.
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
    id: u64,
    otherwise: Arc<dyn CachePolicy>,
    rows: Vec<Row>,
}

#[derive(Clone)]
struct Row {
    matches: Arc<dyn Fn(&request::Parts) -> bool + Send + Sync>,
    name: Cow<'static, str>,
    /// The paths that it is for, where it asks for nothing else.
    paths: Option<Pattern>,
    policy: Arc<dyn CachePolicy>,
}

/// The path that a request has which asks for exactly this target.
fn path_of(target: &PurgeTarget) -> Option<&[u8]> {
    let PurgeTarget::Uri(uri) = target else {
        return None;
    };
    let mut slashes = uri.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    uri[slashes.nth(2)?..].split(|&byte| byte == b'?').next()
}

/// Which rows a request got, of tables within each other. That is decided once: the request may be edited, and an answer
/// comes without it. A request without any got the last policy of each.
#[derive(Clone, Default)]
struct Chosen(SmallVec<[(u64, usize); 2]>);

impl Policies {
    /// A table without rows: every request gets this policy.
    pub fn new(otherwise: impl CachePolicy) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // A clone has the same rows, so it may have the same number.
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), otherwise: Arc::new(otherwise), rows: Vec::new() }
    }

    /// A row for the paths that a [`Pattern`] matches, such as `/images/*`.
    #[must_use]
    pub fn path(self, pattern: impl Into<Pattern>, policy: impl CachePolicy) -> Self {
        let pattern = pattern.into();
        let (name, paths) = (format!("path {}", pattern.as_str()), Some(pattern.clone()));
        self.row_of(paths, name, move |request| pattern.matches(&*asked_path(request)), policy)
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
        self.row(name, matches, policy)
    }

    /// A row for a method.
    #[must_use]
    pub fn method(self, method: Method, policy: impl CachePolicy) -> Self {
        let name = format!("method {method}");
        self.row(name, move |request| request.method == method, policy)
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
        self.row(name, matches, policy)
    }

    /// A row for the requests of which this is true.
    #[must_use]
    pub fn when<F>(self, matches: F, policy: impl CachePolicy) -> Self
    where
        F: Fn(&request::Parts) -> bool + Send + Sync + 'static,
    {
        self.row("when", matches, policy)
    }

    fn row<F>(self, name: impl Into<Cow<'static, str>>, matches: F, policy: impl CachePolicy) -> Self
    where
        F: Fn(&request::Parts) -> bool + Send + Sync + 'static,
    {
        self.row_of(None, name, matches, policy)
    }

    fn row_of<F>(
        mut self,
        paths: Option<Pattern>,
        name: impl Into<Cow<'static, str>>,
        matches: F,
        policy: impl CachePolicy,
    ) -> Self
    where
        F: Fn(&request::Parts) -> bool + Send + Sync + 'static,
    {
        let (matches, name, policy) = (Arc::new(matches), name.into(), Arc::new(policy));
        self.rows.push(Row { matches, name, paths, policy });
        self
    }

    /// The policy that `request` has chosen.
    fn of(&self, chosen: Option<&Chosen>) -> &dyn CachePolicy {
        let row = chosen.and_then(|chosen| chosen.0.iter().find(|(table, _)| *table == self.id));
        row.and_then(|(_, at)| self.rows.get(*at)).map_or(&*self.otherwise, |row| &*row.policy)
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> = self.rows.iter().map(|row| &*row.name).collect();
        f.debug_struct("Policies").field("rows", &rows).finish_non_exhaustive()
    }
}

impl CachePolicy for Policies {
    fn request(&self, request: &mut request::Parts, data: &mut Extensions) -> RequestAction {
        let Some(at) = self.rows.iter().position(|row| (row.matches)(request)) else {
            return self.otherwise.request(request, data);
        };
        match data.get_mut::<Chosen>() {
            Some(chosen) => chosen.0.push((self.id, at)),
            None => _ = data.insert(Chosen(SmallVec::from_iter([(self.id, at)]))),
        }
        self.rows[at].policy.request(request, data)
    }

    fn rules(&self, request: &request::Parts, data: &Extensions) -> &Rules {
        self.of(data.get()).rules(request, data)
    }

    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        self.of(exchange.data()).response(exchange, terms);
    }

    fn forward(&self, request: &mut request::Parts, reason: &ForwardReason<'_>) {
        self.of(reason.data()).forward(request, reason);
    }

    fn deliver(&self, delivery: &mut Delivery<'_>) {
        self.of(delivery.data()).deliver(delivery);
    }

    fn needs_sent_fields(&self) -> bool {
        self.otherwise.needs_sent_fields() || self.rows.iter().any(|row| row.policy.needs_sent_fields())
    }

    /// Those of every row that a request for it may have got, and no others: what they store is another page.
    fn spellings(&self, target: &PurgeTarget) -> Vec<PurgeTarget> {
        let mut spellings = Vec::new();
        for row in &self.rows {
            match row.paths.as_ref().zip(path_of(target)).map(|(paths, path)| paths.matches(path)) {
                Some(false) => {}
                Some(true) => {
                    spellings.extend(row.policy.spellings(target));
                    return spellings;
                }
                None => spellings.extend(row.policy.spellings(target)),
            }
        }
        spellings.extend(self.otherwise.spellings(target));
        spellings
    }
}
