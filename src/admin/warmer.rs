//! Asks for URLs through a service.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tower::{Service, ServiceExt};

use crate::runtime::briefly;
use crate::semantics::cache_status::CACHE_STATUS;

/// The most that are asked for at one time, by all requests together.
pub(super) const MOST_AT_ONE_TIME: usize = 64;
/// How long one may take until its content has come to its end.
const LONGEST: Duration = Duration::from_secs(30);

type Asking = Pin<Box<dyn Future<Output = Result<Warmed, String>> + Send>>;

/// Asks for one URL.
#[derive(Clone)]
pub(super) struct Warmer {
    ask: Arc<dyn Fn(&Uri) -> Asking + Send + Sync>,
    /// Of all requests together.
    turns: Arc<Semaphore>,
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
    pub(super) fn new<W, F, Q, B>(service: W, request: F) -> Self
    where
        W: Service<Request<Q>, Response = Response<B>, Future: Send, Error: fmt::Display + Send>
            + Clone
            + Send
            + Sync
            + 'static,
        F: Fn(&Uri) -> Request<Q> + Send + Sync + 'static,
        Q: Send + 'static,
        B: Body<Data: Send, Error: Send> + Send + 'static,
    {
        let ask = move |uri: &Uri| -> Asking {
            let (service, request) = (service.clone(), request(uri));
            Box::pin(async move {
                let response = service.oneshot(request).await.map_err(|error| error.to_string())?;
                let (parts, body) = response.into_parts();
                let cache_status = parts.headers.get(CACHE_STATUS);
                let cache_status =
                    cache_status.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
                let (mut body, mut bytes) = (std::pin::pin!(body), 0);
                while let Some(frame) = body.frame().await {
                    let frame = frame.map_err(|_| "the content broke off".to_owned())?;
                    if let Some(data) = frame.data_ref() {
                        bytes += bytes::Buf::remaining(data) as u64;
                    }
                }
                Ok(Warmed { bytes, cache_status, status: parts.status })
            })
        };
        Self { ask: Arc::new(ask), turns: Arc::new(Semaphore::new(MOST_AT_ONE_TIME)) }
    }

    /// Asks for one URL when it is its turn.
    pub(super) async fn warm(self, uri: Uri) -> Result<Warmed, String> {
        let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
        briefly(LONGEST, (self.ask)(&uri))
            .await
            .unwrap_or_else(|| Err("it took longer than 30 seconds".to_owned()))
    }
}
