//! Purges: `PURGE url`, and `POST /purge` with JSON that says what is to go.

use std::time::Duration;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use super::call::{Call, absolute};
use super::how::How;
use super::state::State;
use crate::handle::CacheHandle;
use crate::handle::target::PurgeError;
use crate::semantics::groups;
use crate::semantics::uri::is_scheme;
use crate::store::{PurgeMode, PurgeReceipt, PurgeTarget, Store};

/// The most that one request may name.
pub(super) const MOST_NAMED: usize = 3_000;
/// The most prefixes of paths that one request may name: the store in memory tells as many apart.
const MOST_PREFIXES: usize = 1_024;
/// The longest tag, as at Fastly.
const LONGEST_TAG: usize = 1_024;
/// The longest that something may be served stale after a soft purge, in seconds: a year.
const LONGEST_STALE: u64 = 31_536_000;

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

    /// How much it names.
    fn named(&self) -> usize {
        let lists = [&self.items, &self.tags, &self.urls].into_iter().map(Vec::len);
        let single = [&self.host, &self.prefix, &self.tag, &self.url].into_iter().flatten().count();
        lists.sum::<usize>() + single + usize::from(self.all)
    }

    fn targets<S: Store>(&self, handle: &CacheHandle<S>) -> Result<Vec<PurgeTarget>, Refusal> {
        match self.named() {
            0 => {
                return Err(Refusal::invalid(
                    "the request names nothing to purge",
                    "say at least one of url, urls, tag, tags, prefix, host, items and all, as in {\"tag\": \"news\"}",
                ));
            }
            named if named > MOST_NAMED => {
                let message = format!("the request names {named} things to purge, more than {MOST_NAMED}");
                return Err(Refusal::invalid(message, "purge by a tag or a prefix, or in several requests"));
            }
            _ => {}
        }
        let mut targets = Vec::new();
        for url in self.url.iter().chain(&self.urls) {
            targets.extend(of_url(handle, url)?);
        }
        for item in &self.items {
            targets.push(of_item(item)?);
        }
        for tag in self.tag.iter().chain(&self.tags) {
            targets.push(of_tag(tag, |char| char != ',')?);
        }
        targets.extend(self.host.as_deref().map(of_host).transpose()?);
        targets.extend(self.prefix.as_deref().map(of_prefix).transpose()?);
        if self.all {
            targets.push(PurgeTarget::All);
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

/// The URL that a request with the method PURGE names, as an [`AdminService`](super::AdminService) reads it: the one that its path is
/// (`/https://example.com/x`), or its own target, absolute or, without a scheme, by its `Host`. `None` where it has neither.
///
/// ```
/// let request = http::Request::builder().method("PURGE").uri("/x?y").header("host", "example.com");
/// let (request, ()) = request.body(())?.into_parts();
/// assert_eq!(larder::admin::purged_url(&request).as_deref(), Some("example.com/x?y"));
/// # Ok::<(), http::Error>(())
/// ```
pub fn purged_url(request: &Parts) -> Option<String> {
    let path = request.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let named =
        path.strip_prefix('/').filter(|url| url.starts_with("http://") || url.starts_with("https://"));
    match (named, request.uri.authority()) {
        (Some(named), _) => Some(named.to_owned()),
        (None, Some(_)) => Some(request.uri.to_string()),
        (None, None) => Some(format!("{}{path}", request.headers.get(header::HOST)?.to_str().ok()?)),
    }
}

/// `PURGE url`.
pub(super) async fn by_method<S: Store>(state: &State<S>, call: &Call) -> Result<Answer, Refusal> {
    let url = purged_url(&call.request).ok_or_else(|| {
        Refusal::invalid("the request names no host", "send PURGE with an absolute URL, or with Host")
    })?;
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
    if url.ends_with('*') {
        return Err(Refusal::invalid(
            format!("{url:?} ends with '*', and a URL names nothing but itself"),
            "for all that begins like it, send POST /purge with {\"items\": [\"https://example.com/images/*\"]}",
        ));
    }
    if has_scheme(url) {
        return handle.targets_of(&absolute(url)?).map_err(refused);
    }
    let mut targets = Vec::new();
    for scheme in ["http", "https"] {
        targets.extend(handle.targets_of(&absolute(&format!("{scheme}://{url}"))?).map_err(refused)?);
    }
    Ok(targets)
}

/// Whether a URL begins with a scheme. One that has `://` later may be a path with another URL in its query.
fn has_scheme(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme.as_bytes()))
}

/// What one tag names. Where tags are listed in a field or by a person, only a list has other characters than `may_have` says.
pub(super) fn of_tag(tag: &str, may_have: impl Fn(char) -> bool) -> Result<PurgeTarget, Refusal> {
    let is_one = tag.len() <= LONGEST_TAG && tag.trim() == tag && tag.chars().all(may_have);
    if is_one && groups::is_tag(tag) {
        return Ok(PurgeTarget::tag(tag));
    }
    let shown: String = tag.chars().take(100).collect();
    Err(Refusal::invalid(
        format!("{shown:?} is not one tag"),
        "name each tag by itself, as in {\"tags\": [\"a\", \"b\"]}; one has 1 to 1,024 bytes, no comma, and as a surrogate key \
         no space; nothing was purged",
    ))
}

fn of_host(authority: &str) -> Result<PurgeTarget, Refusal> {
    if authority.contains('*') {
        return Err(Refusal::invalid(
            format!("{authority:?} has a '*', and a host names nothing but itself"),
            "send a request for each host, or purge by a tag; nothing was purged",
        ));
    }
    Ok(PurgeTarget::host(authority))
}

fn of_prefix(prefix: &str) -> Result<PurgeTarget, Refusal> {
    if prefix.ends_with('*') {
        return Err(Refusal::invalid(
            format!("{prefix:?} ends with '*', and a prefix is how paths or URLs begin"),
            "leave out the '*', or say it in items, as in {\"items\": [\"/images/*\"]}; nothing was purged",
        ));
    }
    if !prefix.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(Refusal::invalid(
            format!("{prefix:?} has a character that no URL has"),
            "percent-encode it as requests have it; nothing was purged",
        ));
    }
    let is_path = prefix.starts_with('/');
    Ok(if is_path { PurgeTarget::path_prefix(prefix) } else { PurgeTarget::prefix(prefix) })
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
    let prefixes = targets.iter().filter(|target| matches!(target, PurgeTarget::PathPrefix(_))).count();
    if prefixes > MOST_PREFIXES {
        let message = format!(
            "{prefixes} prefixes of paths on every host are more than {MOST_PREFIXES} are told apart"
        );
        return Err(Refusal::invalid(message, "name the paths themselves, or a host, or purge by a tag"));
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
