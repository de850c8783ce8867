//! Two nodes on one store, and which of them does what.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Collected};

use super::fixtures::{here, response};
use super::subject::{Nodes, Subject};
use crate::entry::key::CacheKey;
use crate::entry::{RemoteContent, ResponseHead, StoredResponse};
use crate::error::StoreError;
use crate::semantics::range::ByteRange;
use crate::store::{
    ContentWriter, Expected, Fence, Lookup, PurgeMode, PurgeNumber, PurgeScope, PurgeTarget, PutOutcome,
    Store, StoreLimits, Stored, StoredId,
};

/// Which node does what: the number of its handle.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    filler: usize,
    purger: usize,
    reader: usize,
}

/// In each of the later ones, one thing is done by another node than the rest.
const WAYS: [Way; 4] = [
    Way { filler: 0, purger: 0, reader: 0 },
    Way { filler: 0, purger: 0, reader: 1 },
    Way { filler: 1, purger: 0, reader: 1 },
    Way { filler: 1, purger: 0, reader: 0 },
];

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.filler == self.purger, self.filler == self.reader) {
            (true, true) => "one node",
            (true, false) => "read by another node",
            (false, true) => "purged by another node",
            (false, false) => "stored by another node",
        })
    }
}

/// Runs a rule to its end, or to the message of its panic.
pub(super) async fn caught<T>(run: impl Future<Output = T>) -> Result<T, String> {
    // The futures of rules are large, and stacks of tests are small.
    let mut run = Box::pin(run);
    std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Poll::Ready(Err(message.unwrap_or_else(|| "a panic".to_owned())))
        }
    })
    .await
}

impl<N: Nodes> Subject<'_, N> {
    /// Tries a rule on empty stores, with one node and with two.
    pub(super) async fn each_way(&self, rule: impl AsyncFn(&Fleet<'_, N>)) {
        for way in WAYS {
            let nodes = self.make().await;
            let fleet = Fleet::new(self, nodes.open().await, way);
            if let Err(message) = caught(rule(&fleet)).await {
                panic!("{way}: {message}");
            }
            nodes.close(fleet.handles).await;
        }
    }

    /// [`Subject::each_way`], for what takes long and depends on who purges.
    pub(super) async fn each_way_of_purging(&self, rule: impl AsyncFn(&Fleet<'_, N>)) {
        self.each_way(async |fleet| {
            if fleet.way.filler == fleet.way.reader {
                rule(fleet).await;
            }
        })
        .await;
    }

    /// [`Subject::each_way`], for what is written in the place of another response.
    pub(super) async fn each_way_of_replacing(&self, rule: impl AsyncFn(&Fleet<'_, N>)) {
        self.each_way(async |fleet| {
            if fleet.sees_replacements() {
                rule(fleet).await;
            }
        })
        .await;
    }
}

impl<N: Nodes> Subject<'_, N> {
    /// Does something, closes the store, does something to what it keeps, opens it again and looks: by one node and by two.
    pub(super) async fn around_reopening(
        &self,
        before: impl AsyncFn(&Fleet<'_, N>),
        between: impl AsyncFn(&N),
        after: impl AsyncFn(&Fleet<'_, N>),
    ) {
        for way in [WAYS[0], WAYS[1]] {
            let nodes = self.make().await;
            let run = async {
                let fleet = Fleet::new(self, nodes.open().await, way);
                before(&fleet).await;
                nodes.close(fleet.handles).await;
                between(&nodes).await;
                after(&Fleet::new(self, nodes.open().await, way)).await;
            };
            if let Err(message) = caught(run).await {
                panic!("{way}: {message}");
            }
        }
    }
}

impl<'a, N: Nodes> Fleet<'a, N> {
    /// One of which one node stores, and the other one reads.
    pub(super) fn of(subject: &'a Subject<'a, N>, handles: [N::Store; 2]) -> Self {
        Self::new(subject, handles, WAYS[1])
    }

    fn new(subject: &'a Subject<'a, N>, handles: [N::Store; 2], way: Way) -> Self {
        Self { handles, subject, waited: Cell::default(), way }
    }
}

/// Two handles on a store.
pub(super) struct Fleet<'a, N: Nodes> {
    handles: [N::Store; 2],
    subject: &'a Subject<'a, N>,
    /// How long was waited since something was changed, so that it is known everywhere.
    waited: Cell<Duration>,
    way: Way,
}

/// What a store gives where it does not fail.
#[track_caller]
pub(super) fn sure<T>(result: Result<T, StoreError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// The content of what a store has found, unless it is gone, or goes while it is read.
pub(super) async fn content_of<S: Store>(store: &S, key: &CacheKey, stored: &Stored) -> Option<Bytes> {
    let payload = stored.response.payload();
    let content = match payload.as_remote() {
        None => payload.to_bytes(),
        Some(remote) => match sure(store.open(key, remote, None).await) {
            Some(body) => body.collect().await.ok().map(Collected::to_bytes),
            None => None,
        },
    };
    if let Some(content) = &content {
        assert_eq!(content.len() as u64, payload.len(), "content is as long as its head says");
    }
    content
}

impl<N: Nodes> Fleet<'_, N> {
    /// The node that asks for responses and stores them.
    pub(super) fn filler(&self) -> &N::Store {
        &self.handles[self.way.filler]
    }

    /// The node that purges.
    pub(super) fn purger(&self) -> &N::Store {
        &self.handles[self.way.purger]
    }

    /// The node that looks at what has come of it.
    pub(super) fn reader(&self) -> &N::Store {
        &self.handles[self.way.reader]
    }

    /// Whether the reader finds what the filler writes in the place of another response.
    pub(super) fn sees_replacements(&self) -> bool {
        self.subject.capabilities.shared_replacements || self.way.filler == self.way.reader
    }

    pub(super) fn limits(&self) -> StoreLimits {
        self.filler().limits()
    }

    fn staleness(&self) -> Duration {
        self.subject.capabilities.staleness
    }

    /// What an attempt gives once it succeeds, which it has to within the bound of staleness.
    pub(super) async fn until<T>(&self, attempt: impl AsyncFn() -> Result<T, String>) -> T {
        match self.tried(&self.waited, attempt).await {
            Ok(output) => output,
            Err(message) => panic!("{message}"),
        }
    }

    /// The same, while something else goes on: its waiting is none of this.
    pub(super) async fn until_meanwhile(&self, attempt: impl AsyncFn() -> Result<(), String>) {
        if let Err(message) = self.tried(&Cell::default(), attempt).await {
            panic!("{message}");
        }
    }

    async fn tried<T>(
        &self,
        waited: &Cell<Duration>,
        attempt: impl AsyncFn() -> Result<T, String>,
    ) -> Result<T, String> {
        let mut step = Duration::from_millis(1);
        loop {
            let outcome = attempt().await;
            let left = self.staleness().saturating_sub(waited.get());
            if outcome.is_ok() || left.is_zero() {
                return outcome;
            }
            let next = step.min(left);
            self.subject.wait(next).await;
            waited.set(waited.get() + next);
            step *= 2;
        }
    }

    /// What the reader finds now, while nothing else goes on.
    pub(super) async fn look_up(&self, key: &CacheKey) -> Lookup {
        self.looked_up(self.reader(), key, |_| Ok(())).await
    }

    /// What the filler finds now.
    pub(super) async fn look_up_to_fill(&self, key: &CacheKey) -> Lookup {
        self.looked_up(self.filler(), key, |_| Ok(())).await
    }

    /// What the reader finds once that is right.
    pub(super) async fn look_up_until(
        &self,
        key: &CacheKey,
        check: impl Fn(&Lookup) -> Result<(), String>,
    ) -> Lookup {
        self.looked_up(self.reader(), key, check).await
    }

    /// What is found at once, if anything is, is what is found by waiting.
    async fn looked_up(
        &self,
        node: &N::Store,
        key: &CacheKey,
        check: impl Fn(&Lookup) -> Result<(), String>,
    ) -> Lookup {
        let found = |lookup: &Lookup| {
            lookup.variants.iter().map(|stored| (stored.id, stored.expired)).collect::<Vec<_>>()
        };
        self.until(async || {
            let waited = sure(node.get(key).await);
            check(&waited)?;
            if let Some(at_once) = node.try_get(key) {
                check(&at_once)?;
                let (at_once, waited) = (found(&at_once), found(&waited));
                // A near tier may have a part of it.
                let is_part = node.limits().is_tiered && at_once.iter().all(|one| waited.contains(one));
                if at_once != waited && !is_part {
                    return Err(format!("try_get finds {at_once:?}, and get {waited:?}"));
                }
            }
            Ok(waited)
        })
        .await
    }

    pub(super) async fn finds_nothing(&self, key: &CacheKey, why: &str) {
        self.look_up_until(key, |lookup| match lookup.variants.len() {
            0 => Ok(()),
            found => Err(format!("{found} responses are found: {why}")),
        })
        .await;
    }

    pub(super) async fn finds_nothing_fresh(&self, key: &CacheKey, why: &str) {
        self.look_up_until(key, |lookup| {
            match lookup.variants.iter().all(|stored| stored.expired.is_some()) {
                true => Ok(()),
                false => Err(format!("a fresh response is found: {why}")),
            }
        })
        .await;
    }

    /// These contents are found under a key, and no others.
    pub(super) async fn finds(&self, key: &CacheKey, contents: &[&str], why: &str) {
        self.until(async || {
            let found = self.contents(key).await;
            match found == contents {
                true => Ok(()),
                false => Err(format!("{found:?} is found, not {contents:?}: {why}")),
            }
        })
        .await;
    }

    /// The contents under a key now.
    pub(super) async fn contents(&self, key: &CacheKey) -> Vec<String> {
        let mut contents = Vec::new();
        for stored in self.look_up(key).await.variants.iter() {
            let content = self.content(key, stored).await;
            contents.push(String::from_utf8_lossy(&content).into_owned());
        }
        contents
    }

    /// The content of what the reader has found just now.
    pub(super) async fn content(&self, key: &CacheKey, stored: &Stored) -> Bytes {
        let content = content_of(self.reader(), key, stored).await;
        content.unwrap_or_else(|| panic!("what was found a moment ago is gone"))
    }

    /// All of what the reader opens, or of a range of it.
    pub(super) async fn opened(
        &self,
        key: &CacheKey,
        content: RemoteContent,
        range: Option<ByteRange>,
    ) -> Option<Bytes> {
        let body = sure(self.reader().open(key, content, range).await)?;
        match body.collect().await {
            Ok(content) => Some(content.to_bytes()),
            Err(error) => panic!("opened content breaks off: {error}"),
        }
    }

    /// From now on, something is new that others may not know yet.
    fn changed<T>(&self, outcome: Result<T, StoreError>) -> T {
        self.waited.set(Duration::ZERO);
        sure(outcome)
    }

    pub(super) async fn put(&self, key: &CacheKey, response: StoredResponse, fence: Fence) -> PutOutcome {
        self.changed(self.filler().put(key, response, fence).await)
    }

    pub(super) async fn freshen(
        &self,
        key: &CacheKey,
        of: StoredId,
        head: ResponseHead,
        fence: Fence,
    ) -> PutOutcome {
        self.changed(self.filler().freshen(key, of, head, fence).await)
    }

    pub(super) async fn commit(
        &self,
        writer: Box<dyn ContentWriter>,
        head: ResponseHead,
        trailers: Option<HeaderMap>,
    ) -> PutOutcome {
        self.changed(writer.commit(head, trailers).await)
    }

    /// Asks for a response and stores it.
    pub(super) async fn fill(&self, key: &CacheKey, content: &'static str, accept: &str) {
        self.fill_with(key, response(content, accept)).await;
    }

    pub(super) async fn fill_with(&self, key: &CacheKey, response: StoredResponse) {
        let fence = self.look_up_to_fill(key).await.fence;
        let written = self.put(key, response, fence).await;
        assert_eq!(written, PutOutcome::Stored, "what was asked for a moment ago is taken");
    }

    /// What the filler would freshen.
    pub(super) async fn id_to_freshen(&self, key: &CacheKey) -> (StoredId, Fence) {
        let lookup = self.look_up_to_fill(key).await;
        match lookup.variants.first() {
            Some(stored) => (stored.id, lookup.fence),
            None => panic!("the node that has stored it does not find it"),
        }
    }

    /// A response is on its way to the filler, and its fence.
    pub(super) async fn expect(&self, key: &CacheKey) -> (Expected, Fence) {
        let fence = sure(self.filler().get(key).await).fence;
        let expected = self.filler().expect(key);
        let fence = expected.fence().unwrap_or(fence);
        (expected, fence)
    }

    /// Purges, and waits until the other nodes know.
    pub(super) async fn invalidate(&self, target: &PurgeTarget, mode: PurgeMode) -> PurgeNumber {
        self.invalidate_all(std::slice::from_ref(target), mode).await
    }

    /// [`Fleet::invalidate`], of many targets.
    pub(super) async fn invalidate_all(&self, targets: &[PurgeTarget], mode: PurgeMode) -> PurgeNumber {
        if self.staleness().is_zero() {
            return self.invalidate_all_now(targets, mode).await;
        }
        let key = here();
        let before = [self.look_up_to_fill(&key).await.fence, self.look_up(&key).await.fence];
        let number = self.invalidate_all_now(targets, mode).await;
        for (node, since) in [self.filler(), self.reader()].into_iter().zip(before) {
            let known = async || match sure(node.purged_since(&key, since, PurgeScope::KeyOrAnyGroup).await) {
                true => Ok(()),
                false => Err(String::new()),
            };
            // What does not concern this key is known at the end of the bound.
            let _ = self.tried(&self.waited, known).await;
        }
        number
    }

    /// Purges. Other nodes may not know yet.
    pub(super) async fn invalidate_now(&self, target: &PurgeTarget, mode: PurgeMode) -> PurgeNumber {
        self.invalidate_all_now(std::slice::from_ref(target), mode).await
    }

    pub(super) async fn invalidate_all_now(&self, targets: &[PurgeTarget], mode: PurgeMode) -> PurgeNumber {
        self.changed(self.purger().invalidate(targets, mode).await)
    }

    /// Whether the filler says that a key was purged.
    pub(super) async fn is_purged(&self, key: &CacheKey, since: Fence, scope: PurgeScope) -> bool {
        sure(self.filler().purged_since(key, since, scope).await)
    }

    /// Panics unless a write was refused, as it was overtaken by a purge; or may not know yet, where that is promised.
    #[track_caller]
    pub(super) fn assert_refused(&self, outcome: PutOutcome, why: &str) {
        let may_not_know = self.way.filler != self.way.purger
            && (!self.subject.capabilities.exact_outcomes || !self.staleness().is_zero());
        if outcome != PutOutcome::Superseded && !(may_not_know && outcome == PutOutcome::Stored) {
            panic!("{outcome:?}, not refused: {why}");
        }
    }
}
