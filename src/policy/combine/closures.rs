//! Closures as policies.

use http::request;

use crate::policy::{CachePolicy, PolicyData, PolicyExchange, RequestAction, Terms};

/// A policy that is RFC 9111 as [`StandardPolicy::default`](crate::StandardPolicy::default) reads it, with terms that a closure edits.
///
/// ```
/// use std::time::Duration;
/// use larder::{CacheBuilder, policy};
/// use larder::semantics::freshness::LifetimeSource;
///
/// // What does not say how long it is fresh is so for a minute.
/// let policy = policy::from_fn(|_, terms| {
///     if terms.source == LifetimeSource::None {
///         terms.lifetime = Duration::from_secs(60);
///     }
/// });
/// let layer = CacheBuilder::default().policy(policy).build();
/// # let _ = layer;
/// ```
pub fn from_fn<F>(response: F) -> FromFn<F>
where
    F: Fn(&PolicyExchange<'_>, &mut Terms) + Send + Sync + 'static,
{
    FromFn(response)
}

/// A policy that is RFC 9111 as [`StandardPolicy::default`](crate::StandardPolicy::default) reads it, except that a closure
/// says what is done with a request.
///
/// ```
/// use larder::{CacheBuilder, RequestAction, policy};
///
/// let policy = policy::request_fn(|request| match request.uri.path() {
///     path if path.starts_with("/admin/") => RequestAction::bypass("admin"),
///     _ => RequestAction::of(request),
/// });
/// let layer = CacheBuilder::default().policy(policy).build();
/// # let _ = layer;
/// ```
pub fn request_fn<F>(request: F) -> RequestFn<F>
where
    F: Fn(&request::Parts) -> RequestAction + Send + Sync + 'static,
{
    RequestFn(request)
}

/// The policy that [`from_fn`] makes.
#[derive(Clone, Copy, Debug)]
pub struct FromFn<F>(F);

/// The policy that [`request_fn`] makes.
#[derive(Clone, Copy, Debug)]
pub struct RequestFn<F>(F);

impl<F> CachePolicy for FromFn<F>
where
    F: Fn(&PolicyExchange<'_>, &mut Terms) + Send + Sync + 'static,
{
    fn response(&self, exchange: &PolicyExchange<'_>, terms: &mut Terms) {
        (self.0)(exchange, terms);
    }
}

impl<F> CachePolicy for RequestFn<F>
where
    F: Fn(&request::Parts) -> RequestAction + Send + Sync + 'static,
{
    fn request(&self, request: &mut request::Parts, _: &mut PolicyData) -> RequestAction {
        (self.0)(request)
    }
}
