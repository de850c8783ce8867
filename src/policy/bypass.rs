//! Requests that are none of the cache's business.

use http::request;

use super::{CachePolicy, PolicyData, Reason, RequestAction};

/// Keeps requests from the cache: as a policy, each request; among the extensions of a request, that one.
///
/// The request is forwarded and nothing is stored. `Cache-Status` reports the reason.
///
/// ```
/// use http::Request;
/// use larder::StandardPolicy;
/// use larder::policy::{Bypass, Policies};
///
/// // Never the admin pages;
/// let policy = Policies::new(StandardPolicy::default()).path("/admin/*", Bypass::new("admin"));
/// // and not this request, as a layer in front of the cache has decided.
/// let request = Request::get("http://example.com/draft").extension(Bypass::new("preview")).body(()).unwrap();
/// # let _ = (policy, request);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bypass(Reason);

impl Bypass {
    /// For a reason: a short word in lower case.
    pub fn new(reason: impl Into<Reason>) -> Self {
        Self(reason.into())
    }

    pub(crate) fn reason(&self) -> &Reason {
        &self.0
    }
}

impl CachePolicy for Bypass {
    fn request(&self, _: &mut request::Parts, _: &mut PolicyData) -> RequestAction {
        RequestAction::Bypass(self.0.clone())
    }
}
