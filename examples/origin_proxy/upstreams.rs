//! The servers that requests can be sent to: the healthy ones take turns. Where there is a shield, it gets them all, and the
//! others only what it can't take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::HeaderMap;
use http::{HeaderValue, Uri};
use tokio::time::Instant;

use crate::health::{Change, Health, Recovery};
use crate::peers::PeerTokens;

pub struct Upstreams {
    nodes: Vec<Node>,
    /// Whose turn it is.
    turn: AtomicUsize,
}

/// One server.
pub struct Node {
    /// It is a shield, and knows this proxy by its mark.
    mark: Option<PeerTokens>,
    /// Its authority.
    pub host: HeaderValue,
    /// `http://HOST[:PORT]/`, or the same with `https`.
    pub uri: Uri,
    health: Health,
}

impl Upstreams {
    /// `is_checked` if something checks their health; nothing checks a shield's.
    pub fn new(
        shield: Option<(Uri, PeerTokens)>,
        uris: impl IntoIterator<Item = Uri>,
        is_checked: bool,
    ) -> Arc<Self> {
        let uris: Vec<_> = uris.into_iter().collect();
        let of = |others| if others == 0 { Recovery::Unneeded } else { Recovery::ByRest };
        let recovery = if is_checked { Recovery::ByCheck } else { of(uris.len().saturating_sub(1)) };
        let shield = shield.map(|(uri, mark)| Node { mark: Some(mark), ..Node::new(uri, of(uris.len())) });
        let others = uris.into_iter().map(|uri| Node::new(uri, recovery));
        let nodes = shield.into_iter().chain(others).collect();
        Arc::new(Self { nodes, turn: AtomicUsize::new(0) })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub fn are_several(&self) -> bool {
        self.nodes.len() > 1
    }

    /// The next healthy one of those that are not `tried`; the shield, if it is one of them.
    pub fn next(&self, tried: &[&Node]) -> Option<&Node> {
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
        Upstreams::new(None, (0..count).map(|n| format!("http://{n}.example/").parse().unwrap()), false)
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

    #[test]
    fn a_call_asks_none_twice() {
        let upstreams = upstreams(2);
        let first = upstreams.next(&[]).unwrap();
        let second = upstreams.next(&[first]).unwrap();
        assert_ne!(first.uri, second.uri);
        assert!(upstreams.next(&[first, second]).is_none());
    }
}
