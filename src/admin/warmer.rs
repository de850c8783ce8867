//! Asks for URLs through a service.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use crate::policy::TrustedPeer;
use crate::runtime::briefly;
use crate::semantics::cache_status::CACHE_STATUS;

/// The most that are asked for at one time, by all requests together.
pub(super) const MOST_AT_ONE_TIME: usize = 64;
/// How long one may take until its content has come to its end.
const LONGEST: Duration = Duration::from_secs(30);

pub(super) type Asking = Pin<Box<dyn Future<Output = Result<Warmed, String>> + Send>>;

/// Asks for one URL.
#[derive(Clone)]
pub(super) struct Warmer {
    ask: Arc<dyn Fn(&Visit) -> Asking + Send + Sync>,
    /// Of all requests together.
    turns: Arc<Semaphore>,
}

/// A request that is to be made.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    /// Fields that the request has beside its own, or in their place.
    pub(super) fields: Arc<HeaderMap>,
    /// It is as one of another cache of the same owner.
    pub(super) is_peer: bool,
    pub(super) uri: Uri,
}

impl Visit {
    /// The request that was made for the URL, as this visit wants it.
    pub(super) fn with<Q>(&self, mut request: Request<Q>) -> Request<Q> {
        for name in self.fields.keys() {
            request.headers_mut().remove(name);
        }
        for (name, value) in &*self.fields {
            request.headers_mut().append(name, value.clone());
        }
        if self.is_peer {
            // No field: a client could send it as well.
            request.extensions_mut().insert(TrustedPeer::new());
        }
        request
    }
}

/// What a URL answered.
pub(super) struct Warmed {
    pub(super) bytes: u64,
    pub(super) cache_status: Option<String>,
    pub(super) status: StatusCode,
}

impl fmt::Debug for Warmer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warmer").finish_non_exhaustive()
    }
}

impl Warmer {
    pub(super) fn new(ask: impl Fn(&Visit) -> Asking + Send + Sync + 'static) -> Self {
        Self { ask: Arc::new(ask), turns: Arc::new(Semaphore::new(MOST_AT_ONE_TIME)) }
    }

    /// Asks for one URL when it is its turn: as a client would or, for `is_peer`, as another cache of the same owner.
    pub(super) async fn warm(self, visit: Visit) -> Result<Warmed, String> {
        let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
        briefly(LONGEST, (self.ask)(&visit))
            .await
            .unwrap_or_else(|| Err("it took longer than 30 seconds".to_owned()))
    }
}

/// Reads the content of an answer to its end.
pub(super) async fn read<B: Body>(response: Response<B>) -> Result<Warmed, String> {
    let (parts, body) = response.into_parts();
    let cache_status = parts.headers.get(CACHE_STATUS);
    let cache_status = cache_status.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let (mut body, mut bytes) = (std::pin::pin!(body), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| "the content broke off".to_owned())?;
        if let Some(data) = frame.data_ref() {
            bytes += bytes::Buf::remaining(data) as u64;
        }
    }
    Ok(Warmed { bytes, cache_status, status: parts.status })
}
