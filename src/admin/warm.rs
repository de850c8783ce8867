//! URLs are asked for through a service, so that what they answer is stored.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tower::{Service, ServiceExt};

use super::answer::{Answer, Refusal};
use super::call::{Call, absolute};
use super::state::State;
use crate::runtime::{Runtime, briefly, joined};
use crate::semantics::cache_status::CACHE_STATUS;
use crate::store::Store;

/// The most URLs of one request.
const MOST_URLS: usize = 1_000;
/// How many of them are asked for at one time, by default.
const AT_ONE_TIME: usize = 8;
/// The most that are asked for at one time.
const MOST_AT_ONE_TIME: usize = 64;
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
struct Warmed {
    bytes: u64,
    cache_status: Option<String>,
    status: StatusCode,
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
    async fn warm(self, uri: Uri) -> Result<Warmed, String> {
        let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
        briefly(LONGEST, (self.ask)(&uri))
            .await
            .unwrap_or_else(|| Err("it took longer than 30 seconds".to_owned()))
    }
}

/// The content of `POST /warm`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    at_one_time: Option<usize>,
    urls: Vec<String>,
}

/// `POST /warm`.
pub(super) async fn warm<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    const HELP: &str =
        "send {\"urls\": [\"https://example.com/\"]} with 1 to 1,000 URLs, and \"at_one_time\" from 1 to 64";
    let warmer =
        state.warmer.as_ref().ok_or_else(|| Refusal::not_set_up("a way to ask for URLs", "Admin::warm"))?;
    let order: Order = call.json()?;
    let at_one_time = order.at_one_time.unwrap_or(AT_ONE_TIME);
    if order.urls.is_empty() || order.urls.len() > MOST_URLS || !(1..=MOST_AT_ONE_TIME).contains(&at_one_time)
    {
        return Err(Refusal::invalid(format!("{} URLs, {at_one_time} at one time", order.urls.len()), HELP));
    }
    let uris: Vec<_> = order.urls.iter().map(|url| absolute(url)).collect::<Result<_, _>>()?;
    let turns = Arc::new(Semaphore::new(at_one_time));
    let mut asked = Vec::with_capacity(uris.len());
    for uri in uris {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
            break; // nobody closes it
        };
        let (warmer, named) = (warmer.clone(), uri.clone());
        let warming = async move {
            let warmed = warmer.warm(uri).await;
            drop(turn);
            warmed
        };
        asked.push((named, Runtime::current().map(|runtime| runtime.spawn(warming))));
    }
    let mut answers = Vec::with_capacity(asked.len());
    for (uri, task) in asked {
        let warmed = match task {
            Some(task) => joined(task).await.unwrap_or_else(|| Err("the runtime shuts down".to_owned())),
            None => Err("there is no runtime".to_owned()),
        };
        answers.push(answer(&uri, warmed));
    }
    let failed = answers.iter().filter(|answer| answer.get("error").is_some()).count();
    Ok(Answer::json(&json!({ "asked": answers.len(), "failed": failed, "urls": answers })))
}

fn answer(uri: &Uri, warmed: Result<Warmed, String>) -> Value {
    match warmed {
        Ok(Warmed { bytes, cache_status, status }) => json!({
            "url": uri.to_string(),
            "status": status.as_u16(),
            "cache_status": cache_status,
            "bytes": bytes,
        }),
        Err(error) => json!({ "url": uri.to_string(), "error": error }),
    }
}
