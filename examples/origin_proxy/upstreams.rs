//! The servers that requests can be sent to: the healthy ones take turns. Where there is a shield, it gets them all, and the
//! others only what it can't take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::HeaderMap;
use http::{HeaderValue, Uri};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::health::{Change, Health, Recovery};
use crate::peers::PeerTokens;
use crate::upstream_error::UpstreamError;

pub struct Upstreams {
    nodes: Vec<Node>,
    /// Whose turn it is.
    turn: AtomicUsize,
}

/// What is known of health, and how many calls there may be.
#[derive(Clone, Copy, Default)]
pub struct Care {
    /// Whether something checks the servers' health; nothing checks a shield's.
    pub is_checked: bool,
    /// The most calls under way at each server but a shield.
    pub most_calls: Option<usize>,
}

/// A call under way at one server. It ends when the value is dropped.
pub struct UpstreamCall {
    _permit: Option<OwnedSemaphorePermit>,
}

/// One server.
pub struct Node {
    /// How many calls more there may be.
    calls: Option<Arc<Semaphore>>,
    /// It is a shield, and knows this proxy by its mark.
    mark: Option<PeerTokens>,
    /// Its authority.
    pub host: HeaderValue,
    /// `http://HOST[:PORT]/`, or the same with `https`.
    pub uri: Uri,
    health: Health,
}

impl Upstreams {
    pub fn new(
        shield: Option<(Uri, PeerTokens)>,
        uris: impl IntoIterator<Item = Uri>,
        care: Care,
    ) -> Arc<Self> {
        let uris: Vec<_> = uris.into_iter().collect();
        let of = |others| if others == 0 { Recovery::Unneeded } else { Recovery::ByRest };
        let recovery = if care.is_checked { Recovery::ByCheck } else { of(uris.len().saturating_sub(1)) };
        let shield = shield.map(|(uri, mark)| Node { mark: Some(mark), ..Node::new(uri, of(uris.len())) });
        let others = uris.into_iter().map(|uri| Node {
            calls: care.most_calls.map(|most| Arc::new(Semaphore::new(most))),
            ..Node::new(uri, recovery)
        });
        let nodes = shield.into_iter().chain(others).collect();
        Arc::new(Self { nodes, turn: AtomicUsize::new(0) })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub fn are_several(&self) -> bool {
        self.nodes.len() > 1
    }

    /// Begins a call at the next healthy one that is not `tried` and has room. If none has, waits for it.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Sick`] if none is healthy, and [`UpstreamError::Busy`] after so long a wait.
    pub async fn begin(
        &self,
        tried: &[&Node],
        wait: Duration,
    ) -> Result<(&Node, UpstreamCall), UpstreamError> {
        let (mut passed, mut full) = (tried.to_vec(), None);
        while let Some(node) = self.next(&passed) {
            match &node.calls {
                None => return Ok((node, UpstreamCall { _permit: None })),
                Some(calls) => match Arc::clone(calls).try_acquire_owned() {
                    Ok(permit) => return Ok((node, UpstreamCall { _permit: Some(permit) })),
                    Err(_) => _ = full.get_or_insert((node, calls)),
                },
            }
            passed.push(node);
        }
        let (node, calls) = full.ok_or(UpstreamError::Sick)?;
        match timeout(wait, Arc::clone(calls).acquire_owned()).await {
            Ok(Ok(permit)) => Ok((node, UpstreamCall { _permit: Some(permit) })),
            _ => Err(UpstreamError::Busy),
        }
    }

    /// The next healthy one of those that are not `tried`; the shield, if it is one of them.
    fn next(&self, tried: &[&Node]) -> Option<&Node> {
        if let [only] = &self.nodes[..] {
            return (tried.is_empty() && only.is_healthy()).then_some(only);
        }
        let is_tried = |node: &Node| tried.iter().any(|tried| std::ptr::eq(*tried, node));
        let fit: Vec<_> = self.nodes.iter().filter(|node| !is_tried(node) && node.is_healthy()).collect();
        if let Some(shield) = fit.iter().find(|node| node.is_shield()) {
            return Some(shield);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(fit.len())?;
        fit.get(turn).copied()
    }
}

impl Node {
    fn new(uri: Uri, recovery: Recovery) -> Self {
        let host = uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        Self {
            calls: None,
            host: host.unwrap_or(HeaderValue::from_static("")),
            mark: None,
            uri,
            health: Health::new(recovery),
        }
    }

    pub fn is_shield(&self) -> bool {
        self.mark.is_some()
    }

    /// Marks a request for a shield.
    pub fn mark(&self, headers: &mut HeaderMap) {
        if let Some(mark) = &self.mark {
            mark.mark(headers);
        }
    }

    fn is_healthy(&self) -> bool {
        self.health.is_healthy(Instant::now())
    }

    /// A call was answered.
    pub fn answers(&self) {
        self.report(self.health.called(true, Instant::now()), "");
    }

    /// A call was not answered.
    pub fn fails(&self, why: &str) {
        self.report(self.health.called(false, Instant::now()), why);
    }

    /// A check has succeeded, or has failed for this reason.
    pub fn checked(&self, outcome: Result<(), String>) {
        let change = self.health.checked(outcome.is_ok(), Instant::now());
        self.report(change, &outcome.err().unwrap_or_default());
    }

    fn report(&self, change: Option<Change>, why: &str) {
        match change {
            Some(Change::Sick) => eprintln!("larder: upstream {} is sick: {why}", self.uri),
            Some(Change::Healthy) => eprintln!("larder: upstream {} is healthy again", self.uri),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{FALL, REST};

    fn upstreams(count: usize) -> Arc<Upstreams> {
        Upstreams::new(
            None,
            (0..count).map(|n| format!("http://{n}.example/").parse().unwrap()),
            Care::default(),
        )
    }

    /// Who is asked by so many calls.
    fn asked(upstreams: &Upstreams, calls: usize) -> String {
        (0..calls).map(|_| upstreams.next(&[]).map_or("-", |node| &node.uri.host().unwrap()[..1])).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn healthy_upstreams_take_turns() {
        let upstreams = upstreams(3);
        assert_eq!(asked(&upstreams, 6), "012012");
        (0..FALL).for_each(|_| upstreams.nodes[1].fails("away"));
        // What the sick one would have had is shared evenly.
        assert_eq!(asked(&upstreams, 6), "020202");
        tokio::time::advance(REST).await;
        assert_eq!(asked(&upstreams, 6), "012012");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_while_all_are_sick() {
        let upstreams = upstreams(2);
        upstreams.iter().for_each(|node| (0..FALL).for_each(|_| node.fails("away")));
        assert_eq!(asked(&upstreams, 2), "--");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_beyond_the_bound_of_one_go_to_another_and_then_wait() {
        const WAIT: Duration = Duration::from_secs(2);
        let care = Care { most_calls: Some(1), ..Care::default() };
        let uris = ["http://0.example/", "http://1.example/"].map(|uri| uri.parse().unwrap());
        let upstreams = Upstreams::new(None, uris, care);
        let host = |node: &Node| node.uri.host().unwrap().to_owned();
        let (first, call) = upstreams.begin(&[], WAIT).await.unwrap_or_else(|_| panic!("there is room"));
        let (second, _kept) = upstreams.begin(&[], WAIT).await.unwrap_or_else(|_| panic!("there is room"));
        assert_ne!(host(first), host(second));
        let begun = Instant::now();
        assert!(matches!(upstreams.begin(&[], WAIT).await, Err(UpstreamError::Busy)));
        assert_eq!(begun.elapsed(), WAIT);
        drop(call);
        let (third, _) = upstreams.begin(&[], WAIT).await.unwrap_or_else(|_| panic!("there is room"));
        assert_eq!(host(third), host(first));
    }

    #[test]
    fn a_call_asks_none_twice() {
        let upstreams = upstreams(2);
        let first = upstreams.next(&[]).unwrap();
        let second = upstreams.next(&[first]).unwrap();
        assert_ne!(first.uri, second.uri);
        assert!(upstreams.next(&[first, second]).is_none());
    }
}
