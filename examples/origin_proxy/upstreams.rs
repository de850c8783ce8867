//! The servers that requests can be sent to: the healthy ones take turns. Where there is a shield, it gets them all, and the
//! others only what it can't take. While all are sick, those that nothing checks take turns: only an answer can tell that one is well
//! again, and a client who has made them sick keeps nobody from them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::select_all;
use http::header::HeaderMap;
use http::{HeaderValue, Uri};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::health::{Change, Failure, Fitness, Health, Recovery};
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

    /// Whether each is known to be sick.
    pub fn are_sick(&self) -> bool {
        let now = Instant::now();
        self.nodes.iter().all(|node| node.health.fitness(now) != Fitness::Healthy)
    }

    /// Begins a call at the next fit one that is not `tried` and has room. If none has, waits for whichever has room first.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Sick`] if none is fit, and [`UpstreamError::Busy`] after so long a wait.
    pub async fn begin(
        &self,
        tried: &[&Node],
        wait: Duration,
    ) -> Result<(&Node, UpstreamCall), UpstreamError> {
        timeout(wait, self.begin_with_room(tried)).await.unwrap_or(Err(UpstreamError::Busy))
    }

    async fn begin_with_room(&self, tried: &[&Node]) -> Result<(&Node, UpstreamCall), UpstreamError> {
        loop {
            let full = match self.begin_now(tried) {
                Ok(begun) => return Ok(begun),
                Err(full) if full.is_empty() => return Err(UpstreamError::Sick),
                Err(full) => full,
            };
            let rooms = full.into_iter().map(|node| Box::pin(async move { (node, node.room().await) }));
            let ((node, call), ..) = select_all(rooms).await;
            // It may have become sick meanwhile.
            if self.admits(node) {
                return Ok((node, call));
            }
        }
    }

    /// The same without a wait: if no fit one has room, those that are full.
    fn begin_now(&self, tried: &[&Node]) -> Result<(&Node, UpstreamCall), Vec<&Node>> {
        let (mut passed, mut full) = (tried.to_vec(), Vec::new());
        while let Some(node) = self.next(&passed) {
            match node.room_now() {
                Some(call) if self.admits(node) => return Ok((node, call)),
                // Another call has begun the trial meanwhile.
                Some(_) => {}
                None => full.push(node),
            }
            passed.push(node);
        }
        Err(full)
    }

    /// The next fit one of those that are not `tried`; the shield, if it is one of them.
    fn next(&self, tried: &[&Node]) -> Option<&Node> {
        let now = Instant::now();
        let is_tried = |node: &Node| tried.iter().any(|tried| std::ptr::eq(*tried, node));
        let untried = || self.nodes.iter().filter(|node| !is_tried(node));
        let fit: Vec<_> = untried().filter(|node| node.health.fitness(now) != Fitness::Sick).collect();
        self.in_turn(&fit)
            .or_else(|| self.in_turn(&untried().filter(|node| self.is_last_resort(node)).collect::<Vec<_>>()))
    }

    /// Whether a call may begin there now. One that is due has its trial with that.
    fn admits(&self, node: &Node) -> bool {
        let now = Instant::now();
        match node.health.fitness(now) {
            Fitness::Healthy => true,
            Fitness::Due if node.health.begin_trial(now) => true,
            Fitness::Due | Fitness::Sick => self.is_last_resort(node),
        }
    }

    /// Whether it is asked although it is sick: while all are, an answer is what tells that one is well again, unless checks do.
    fn is_last_resort(&self, node: &Node) -> bool {
        self.are_sick() && !node.health.is_checked()
    }

    fn in_turn<'a>(&self, nodes: &[&'a Node]) -> Option<&'a Node> {
        if let Some(shield) = nodes.iter().find(|node| node.is_shield()) {
            return Some(shield);
        }
        if nodes.is_empty() {
            return None;
        }
        nodes.get(self.turn.fetch_add(1, Ordering::Relaxed) % nodes.len()).copied()
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

    /// Room for a call, if there is any now.
    fn room_now(&self) -> Option<UpstreamCall> {
        let permit = self.calls.clone().map(Semaphore::try_acquire_owned).transpose().ok()?;
        Some(UpstreamCall { _permit: permit })
    }

    /// Waits for room for a call.
    async fn room(&self) -> UpstreamCall {
        let permit = match self.calls.clone() {
            Some(calls) => calls.acquire_owned().await.ok(), // nobody closes it
            None => None,
        };
        UpstreamCall { _permit: permit }
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

    /// A call was answered.
    pub fn answers(&self) {
        self.report(self.health.answers(), "");
    }

    /// A call was not answered.
    pub fn fails(&self, failure: Failure<'_>, why: &str) {
        self.report(self.health.fails(failure, Instant::now()), why);
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

    fn checked(count: usize) -> Arc<Upstreams> {
        let uris = (0..count).map(|n| format!("http://{n}.example/").parse().unwrap());
        Upstreams::new(None, uris, Care { is_checked: true, ..Care::default() })
    }

    fn make_sick(node: &Node) {
        (0..FALL).for_each(|_| node.fails(Failure::Connecting, "away"));
    }

    /// Who is asked by so many calls.
    fn asked(upstreams: &Upstreams, calls: usize) -> String {
        let ask = || upstreams.begin_now(&[]).ok().map_or("-", |(node, _)| &node.uri.host().unwrap()[..1]);
        (0..calls).map(|_| ask()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn healthy_upstreams_take_turns() {
        let upstreams = upstreams(3);
        assert_eq!(asked(&upstreams, 6), "012012");
        make_sick(&upstreams.nodes[1]);
        // What the sick one would have had is shared evenly.
        assert_eq!(asked(&upstreams, 6), "020202");
        tokio::time::advance(REST).await;
        assert_eq!(asked(&upstreams, 6), "010202", "one call is a trial");
        upstreams.nodes[1].answers();
        assert_eq!(asked(&upstreams, 6), "012012");
    }

    #[tokio::test(start_paused = true)]
    async fn a_shield_that_was_sick_gets_one_call_until_that_is_answered() {
        let uris = ["http://0.example/", "http://1.example/"].map(|uri| uri.parse().unwrap());
        let file = std::env::temp_dir().join(format!("larder-shield-secret-{}", std::process::id()));
        std::fs::write(&file, "a-secret-of-the-owner").unwrap();
        let secret = PeerTokens::load(file.clone()).unwrap();
        std::fs::remove_file(file).unwrap();
        let shield = ("http://9.example/".parse().unwrap(), secret);
        let upstreams = Upstreams::new(Some(shield), uris, Care { is_checked: true, ..Care::default() });
        assert_eq!(asked(&upstreams, 2), "99");
        make_sick(&upstreams.nodes[0]);
        assert_eq!(asked(&upstreams, 2), "01");
        tokio::time::advance(REST).await;
        assert_eq!(asked(&upstreams, 3), "901");
        upstreams.nodes[0].answers();
        assert_eq!(asked(&upstreams, 2), "99");
        // Nothing checks it, so it is asked when all are sick; whoever is checked is not.
        upstreams.iter().for_each(make_sick);
        assert_eq!(asked(&upstreams, 2), "99");
        assert!(upstreams.next(&[&upstreams.nodes[0]]).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a42_while_all_are_sick_that_nothing_checks_they_take_turns() {
        let upstreams = upstreams(2);
        upstreams.iter().for_each(make_sick);
        assert!(upstreams.are_sick());
        assert_eq!(asked(&upstreams, 4), "0101");
        upstreams.nodes[1].answers();
        assert!(!upstreams.are_sick());
        assert_eq!(asked(&upstreams, 2), "11");
        let upstreams = checked(2);
        upstreams.iter().for_each(make_sick);
        assert_eq!(asked(&upstreams, 2), "--", "a check tells when one is well again");
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

    #[tokio::test(start_paused = true)]
    async fn a_call_that_waits_goes_to_whichever_upstream_has_room_first() {
        const WAIT: Duration = Duration::from_secs(2);
        let care = Care { most_calls: Some(1), ..Care::default() };
        // The first that is full is each of them in turn.
        for first in 0..3 {
            let uris = (0..3).map(|n| format!("http://{n}.example/").parse().unwrap());
            let upstreams = Upstreams::new(None, uris, care);
            for freed in 0..3 {
                upstreams.turn.store(first, Ordering::Relaxed);
                let mut calls: Vec<_> = (0..3).map(|_| upstreams.begin_now(&[]).ok().unwrap()).collect();
                assert!(upstreams.begin_now(&[]).is_err());
                let (node, call) = calls.remove(freed);
                let frees = async {
                    tokio::time::sleep(WAIT / 2).await;
                    drop(call);
                };
                let (begun, ()) = tokio::join!(upstreams.begin(&[], WAIT), frees);
                assert!(std::ptr::eq(begun.ok().unwrap().0, node), "{first} {freed}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_waits_goes_to_none_that_has_become_sick_meanwhile() {
        const WAIT: Duration = Duration::from_secs(2);
        let uris = ["http://0.example/", "http://1.example/"].map(|uri| uri.parse().unwrap());
        let care = Care { is_checked: true, most_calls: Some(1) };
        let upstreams = Upstreams::new(None, uris, care);
        let mut calls: Vec<_> = (0..2).map(|_| upstreams.begin_now(&[]).ok().unwrap()).collect();
        let fails = async {
            tokio::time::sleep(WAIT / 4).await;
            let (sick, call) = calls.remove(0);
            make_sick(sick);
            drop(call);
            tokio::time::sleep(WAIT / 4).await;
            calls.remove(0).0
        };
        let (begun, well) = tokio::join!(upstreams.begin(&[], WAIT), fails);
        assert!(std::ptr::eq(begun.ok().unwrap().0, well));
        // While all are, and checks tell when one is well again, nobody waits.
        upstreams.iter().for_each(make_sick);
        assert!(matches!(upstreams.begin(&[], WAIT).await, Err(UpstreamError::Sick)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_is_due_and_full_has_its_trial_when_there_is_room() {
        let uris = ["http://0.example/", "http://1.example/"].map(|uri| uri.parse().unwrap());
        let upstreams = Upstreams::new(None, uris, Care { most_calls: Some(1), ..Care::default() });
        let (node, call) = upstreams.begin_now(&[]).ok().unwrap();
        make_sick(node);
        tokio::time::advance(REST).await;
        let other = upstreams.begin_now(&[]).ok().unwrap();
        assert!(!std::ptr::eq(other.0, node));
        drop((call, other));
        assert!((0..2).any(|_| upstreams.begin_now(&[]).is_ok_and(|(asked, _)| std::ptr::eq(asked, node))));
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
