//! Which way a request would take, without going it.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http_body_util::Empty;

use super::CacheHandle;
use crate::entry::key::{self, CacheKey};
use crate::entry::slice::SliceRequest;
use crate::policy::{Reason, RequestPolicy, TrustedPeer};
use crate::respond::request::CacheRequest;
use crate::semantics::cache_status::Detail;
use crate::semantics::reuse::Forward;
use crate::service::classify::{Ways, classify};
use crate::store::Store;

/// Which way a request would take.
pub(super) enum Classified {
    Change { bypass: Option<Reason>, key: CacheKey, request: Box<Parts> },
    LookUp(Box<CacheRequest>),
    Pass { detail: Option<Detail>, forward: Forward, key: Option<CacheKey> },
}

impl Classified {
    /// The key, and the request if it would be looked up.
    pub(super) fn keyed(self) -> Option<(CacheKey, Option<Box<CacheRequest>>)> {
        match self {
            Self::Change { key, .. } => Some((key, None)),
            Self::LookUp(request) => Some((request.key.clone(), Some(request))),
            Self::Pass { key, .. } => key.map(|key| (key, None)),
        }
    }
}

/// Whether a request counts as one of another cache of the same owner, before the policy has looked at it.
pub(super) fn is_of_peer(request: &Parts) -> bool {
    request.extensions.get::<TrustedPeer>().is_some()
}

/// The same request of another cache of the same owner. No field says so, which a client could send as well, but an extension,
/// which only code in this process can add.
pub(super) fn of_peer(request: &Parts) -> Parts {
    let mut request = request.clone();
    request.extensions.insert(TrustedPeer::new());
    request
}

/// The same request without that.
pub(super) fn of_client(request: &Parts) -> Parts {
    let mut request = request.clone();
    request.extensions.remove::<TrustedPeer>();
    request
}

/// Goes no way, and remembers which one it would be.
#[derive(Default)]
struct Signpost {
    content: Empty<Bytes>,
    key: Option<CacheKey>,
}

impl Ways for Signpost {
    type Content = Empty<Bytes>;
    type End = Classified;

    fn content(&self) -> &Empty<Bytes> {
        &self.content
    }

    fn keyed(&mut self, key: &CacheKey) {
        self.key = Some(key.clone());
    }

    fn change(self, key: CacheKey, request: Parts, bypass: Option<Reason>, _: RequestPolicy) -> Classified {
        Classified::Change { bypass, key, request: Box::new(request) }
    }

    fn look_up(self, request: CacheRequest) -> Classified {
        Classified::LookUp(Box::new(request.lasting()))
    }

    /// Nobody but the layer in front of the cache asks for slices.
    fn look_up_slice(self, request: CacheRequest, _: Arc<SliceRequest>) -> Self::End {
        self.look_up(request)
    }

    fn pass(self, _: Parts, forward: Forward, detail: Option<Detail>, _: RequestPolicy) -> Classified {
        Classified::Pass { detail, forward, key: self.key }
    }
}

impl<S: Store> CacheHandle<S> {
    /// Which way a request without content would take.
    pub(super) fn classified(&self, mut request: Parts) -> Classified {
        key::enter(&mut request);
        classify(&self.shared.core, request, Signpost::default())
    }
}
