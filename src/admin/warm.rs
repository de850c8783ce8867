//! URLs are asked for, so that what they answer is stored.

use std::sync::Arc;

use http::Uri;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::answer::{Answer, Refusal};
use super::call::{Call, absolute};
use super::state::State;
use super::warmer::{MOST_AT_ONE_TIME, Warmed};
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
