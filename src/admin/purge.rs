//! Purges: `PURGE url`, and `POST /purge` with JSON that says what is to go.

use std::time::Duration;

use http::{HeaderName, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use super::call::{Call, absolute};
use super::state::State;
use crate::handle::CacheHandle;
use crate::handle::target::PurgeError;
use crate::store::{PurgeMode, PurgeReceipt, PurgeTarget, Store};

/// Asks for a soft purge, whatever its value, as at Fastly.
const SOFT_PURGE: HeaderName = HeaderName::from_static("fastly-soft-purge");
/// The most targets of one request.
pub(super) const MOST_TARGETS: usize = 3_000;
/// The longest that something may be served stale after a soft purge, in seconds: a year.
const LONGEST_STALE: u64 = 31_536_000;

/// How much of what is purged is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Hard,
    Soft,
    /// Soft, and gone after this long.
    SoftFor(Duration),
}

impl How {
    /// As the fields of a request ask for it.
    pub(super) fn of(call: &Call) -> Self {
        if call.request.headers.contains_key(SOFT_PURGE) { Self::Soft } else { Self::Hard }
    }
}

/// The content of `POST /purge`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Order {
    all: bool,
    host: Option<String>,
    items: Vec<String>,
    prefix: Option<String>,
    soft: bool,
    soft_for: Option<u64>,
    tag: Option<String>,
    tags: Vec<String>,
    url: Option<String>,
    urls: Vec<String>,
}

impl Order {
    fn how(&self) -> Result<How, Refusal> {
        match self.soft_for {
            None if self.soft => Ok(How::Soft),
            None => Ok(How::Hard),
            Some(seconds) if seconds <= LONGEST_STALE => Ok(How::SoftFor(Duration::from_secs(seconds))),
            Some(_) => {
                Err(Refusal::invalid("soft_for is longer than a year", "say it in seconds, at most 31536000"))
            }
        }
    }

    fn targets<S: Store>(&self, handle: &CacheHandle<S>) -> Result<Vec<PurgeTarget>, Refusal> {
        let mut targets = Vec::new();
        for url in self.url.iter().chain(&self.urls) {
            targets.extend(of_url(handle, url)?);
        }
        for item in &self.items {
            targets.push(of_item(item)?);
        }
        targets.extend(self.tag.iter().chain(&self.tags).map(|tag| PurgeTarget::tag(&**tag)));
        targets.extend(self.host.iter().map(|host| PurgeTarget::host(&**host)));
        if let Some(prefix) = &self.prefix {
            let is_path = prefix.starts_with('/');
            targets.push(if is_path {
                PurgeTarget::path_prefix(prefix)
            } else {
                PurgeTarget::prefix(prefix)
            });
        }
        if self.all {
            targets.push(PurgeTarget::All);
        }
        if targets.is_empty() {
            return Err(Refusal::invalid(
                "the request names nothing to purge",
                "say at least one of url, urls, tag, tags, prefix, host, items and all, as in {\"tag\": \"news\"}",
            ));
        }
        Ok(targets)
    }
}

/// `POST /purge`.
pub(super) async fn by_order<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    let order: Order = call.json()?;
    let how = match (How::of(call), order.how()?) {
        (How::Soft, How::Hard) => How::Soft,
        (_, how) => how,
    };
    let receipt = purge(&state.handle, &order.targets(&state.handle)?, how).await?;
    let targets: Vec<_> = receipt.targets.iter().map(ToString::to_string).collect();
    Ok(Answer::json(&json!({
        "status": "ok",
        "number": receipt.number.get(),
        "mode": mode(receipt.mode),
        "targets": targets,
    })))
}

/// `PURGE url`: of the request's own target, absolute or by its `Host`, or of the URL that its path is.
pub(super) async fn by_method<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    let uri = &call.request.uri;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let named =
        path.strip_prefix('/').filter(|url| url.starts_with("http://") || url.starts_with("https://"));
    let url = match (named, uri.authority(), call.field("host")) {
        (Some(named), ..) => named.to_owned(),
        (None, Some(_), _) => uri.to_string(),
        (None, None, Some(host)) => format!("{host}{path}"),
        (None, None, None) => {
            return Err(Refusal::invalid(
                "the request names no host",
                "send PURGE with an absolute URL, or with Host",
            ));
        }
    };
    let receipt = purge(&state.handle, &of_url(&state.handle, &url)?, How::of(call)).await?;
    Ok(Answer::json(&done(&receipt)))
}

/// What Fastly answers to one purge.
pub(super) fn done(receipt: &PurgeReceipt) -> Value {
    json!({ "status": "ok", "id": receipt.number.to_string() })
}

/// The word for what was done.
fn mode(mode: PurgeMode) -> &'static str {
    match mode {
        PurgeMode::Expire(_) | PurgeMode::ExpireUntil { .. } => "soft",
        PurgeMode::Remove => "hard",
    }
}

/// By what a URL goes. Without a scheme, it is meant under both: `example.com/path`.
pub(super) fn of_url<S: Store>(handle: &CacheHandle<S>, url: &str) -> Result<Vec<PurgeTarget>, Refusal> {
    if url.contains("://") {
        return handle.targets_of(&absolute(url)?).map_err(refused);
    }
    let mut targets = Vec::new();
    for scheme in ["http", "https"] {
        targets.extend(handle.targets_of(&absolute(&format!("{scheme}://{url}"))?).map_err(refused)?);
    }
    Ok(targets)
}

/// What an item of an invalidation list names.
pub(super) fn of_item(item: &str) -> Result<PurgeTarget, Refusal> {
    PurgeTarget::from_invalidation(item)
        .map_err(|error| Refusal::invalid(error.to_string(), "correct the item; nothing was purged"))
}

/// Purges all of the targets by one call.
pub(super) async fn purge<S: Store>(
    handle: &CacheHandle<S>,
    targets: &[PurgeTarget],
    how: How,
) -> Result<PurgeReceipt, Refusal> {
    if targets.len() > MOST_TARGETS {
        let message = format!("{} targets are more than {MOST_TARGETS}", targets.len());
        return Err(Refusal::invalid(message, "purge by a tag or a prefix, or in several requests"));
    }
    let purged = match how {
        How::Hard => handle.purge_targets(targets).await,
        How::Soft => handle.soft_purge_targets(targets).await,
        How::SoftFor(stale_for) => handle.soft_purge_targets_for(targets, stale_for).await,
    };
    purged.map_err(refused)
}

/// Why a purge was refused, or may not have taken effect.
pub(super) fn refused(error: PurgeError) -> Refusal {
    match error {
        PurgeError::Store(_) => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "store",
            format!("the store can't say that the purge has taken effect: {error}"),
            "send it again: a purge can be repeated",
        ),
        _ => Refusal::invalid(error.to_string(), "correct the target; nothing was purged"),
    }
}
