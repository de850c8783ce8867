//! URLs are asked for, so that what they answer is stored.

use std::sync::Arc;

use http::Uri;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::answer::{Answer, Refusal};
use super::call::{Call, absolute, fields};
use super::state::State;
use super::warmer::{MOST_AT_ONE_TIME, Visit, Warmed};
use crate::runtime::{Runtime, joined};
use crate::store::Store;

/// The most URLs of one request.
const MOST_URLS: usize = 1_000;
/// How many of them are asked for at one time, by default.
const AT_ONE_TIME: usize = 8;

/// The content of `POST /warm`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    at_one_time: Option<usize>,
    #[serde(default)]
    headers: Vec<String>,
    /// Only as another cache of the same owner would ask, or only as clients would.
    peer: Option<bool>,
    urls: Vec<String>,
}

impl Order {
    /// As whom a URL is asked for. Where the policy keeps apart what other caches of the same owner get, nobody who does not know
    /// of that should have to: both of what is kept is warmed.
    fn callers<S: Store>(&self, state: &State<S>, uri: &Uri) -> &'static [bool] {
        match self.peer {
            Some(true) => &[true],
            Some(false) => &[false],
            None if state.warms_for_peers && state.handle.keeps_peers_apart(uri) => &[true, false],
            None => &[false],
        }
    }
}

/// `POST /warm`.
pub(super) async fn warm<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    const HELP: &str = "send {\"urls\": [\"https://example.com/\"]} with 1 to 1,000 URLs, \"at_one_time\" from 1 to 64, and \
                        \"headers\": [\"Name: value\"] where they matter";
    let warmer =
        state.warmer.as_ref().ok_or_else(|| Refusal::not_set_up("a way to ask for URLs", "Admin::warm"))?;
    let order: Order = call.json()?;
    let at_one_time = order.at_one_time.unwrap_or(AT_ONE_TIME);
    if order.urls.is_empty() || order.urls.len() > MOST_URLS || !(1..=MOST_AT_ONE_TIME).contains(&at_one_time)
    {
        return Err(Refusal::invalid(format!("{} URLs, {at_one_time} at one time", order.urls.len()), HELP));
    }
    let uris: Vec<_> = order.urls.iter().map(|url| absolute(url)).collect::<Result<_, _>>()?;
    let fields = Arc::new(fields(order.headers.iter().cloned(), HELP)?);
    let turns = Arc::new(Semaphore::new(at_one_time));
    let mut asked = Vec::with_capacity(uris.len());
    let visits = uris.iter().flat_map(|uri| {
        let visit = |is_peer: &bool| Visit { fields: fields.clone(), is_peer: *is_peer, uri: uri.clone() };
        order.callers(state, uri).iter().map(visit)
    });
    for visit in visits.collect::<Vec<_>>() {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
            break; // nobody closes it
        };
        let (warmer, named) = (warmer.clone(), visit.clone());
        let warming = async move {
            let warmed = warmer.warm(visit).await;
            drop(turn);
            warmed
        };
        asked.push((named, Runtime::current().map(|runtime| runtime.spawn(warming))));
    }
    let mut answers = Vec::with_capacity(asked.len());
    for (visit, task) in asked {
        let warmed = match task {
            Some(task) => joined(task).await.unwrap_or_else(|| Err("the runtime shuts down".to_owned())),
            None => Err("there is no runtime".to_owned()),
        };
        answers.push(answer(&visit, warmed));
    }
    let failed = answers.iter().filter(|answer| answer.get("error").is_some()).count();
    Ok(Answer::json(&json!({ "asked": answers.len(), "failed": failed, "urls": answers })))
}

fn answer(visit: &Visit, warmed: Result<Warmed, String>) -> Value {
    let url = visit.uri.to_string();
    match warmed {
        Ok(Warmed { bytes, cache_status, status }) => json!({
            "url": url,
            "peer": visit.is_peer,
            "status": status.as_u16(),
            "cache_status": cache_status,
            "bytes": bytes,
        }),
        Err(error) => json!({ "url": url, "peer": visit.is_peer, "error": error }),
    }
}
