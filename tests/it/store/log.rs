//! A log of purges, as the nodes of a fleet know it: nothing purged is taken for untouched, whatever the log loses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt as _;
use larder::store::log::{
    Announced, Appended, FollowLimits, Follower, LogEntry, LogPage, LogState, MarkTable, MemoryLog, NewEntry,
    PurgeLog, Replica, Verdict,
};
use larder::store::{Expired, Fence, Purge, PurgeMode, PurgeScope, PurgeTarget};
use larder::{CacheKey, StoreError};
use proptest::prelude::*;

use crate::support::logs::{Link, Node, SECRET, key, response};
use crate::support::{alone, cases};

const HERE: &str = "http://a/here";
const THERE: &str = "http://b/there";

fn here() -> PurgeTarget {
    PurgeTarget::uri(HERE)
}

fn there() -> PurgeTarget {
    PurgeTarget::uri(THERE)
}

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

#[tokio::test]
async fn a_node_that_has_not_read_the_log_judges_nothing() {
    let log = MemoryLog::default();
    let node = Node::of(&log).await;
    let fence = node.replica.fence();
    let new = Replica::new(SECRET);
    assert_eq!(new.fence(), Fence::default());
    assert_eq!(new.judge(&key(HERE), &response(&[]), fence), Verdict::Removed);
    assert!(new.concerns(&key(HERE), fence, PurgeScope::Key));
    new.catch_up(&log).await.unwrap();
    assert_eq!(new.fence(), fence);
    assert_eq!(new.judge(&key(HERE), &response(&[]), fence), Verdict::Untouched);
    assert_eq!(new.judge(&key(HERE), &response(&[]), Fence::default()), Verdict::Removed);
}

#[tokio::test]
async fn a_purge_is_known_on_its_own_node_at_once_and_on_another_after_one_read() {
    let log = MemoryLog::default();
    let (one, other) = (Node::of(&log).await, Node::of(&log).await);
    let before = one.replica.fence();
    let first = one.purge(&here()).await;
    assert!(!one.has(HERE, before) && one.has(THERE, before) && one.has(HERE, one.replica.fence()));
    assert!(other.has(HERE, before));
    other.read().await;
    assert!(!other.has(HERE, before) && other.has(THERE, before) && other.has(HERE, other.replica.fence()));
    assert_eq!(one.replica.fence(), other.replica.fence());
    assert!(one.purge(&here()).await > first);
    assert_eq!(one.replica.purge(&log, &[], PurgeMode::Remove).await.unwrap().get(), 0);
}

#[tokio::test]
async fn a_node_that_has_purged_knows_what_others_have_purged_before_it() {
    let log = MemoryLog::default();
    let (one, other) = (Node::of(&log).await, Node::of(&log).await);
    let before = one.replica.fence();
    one.purge(&here()).await;
    other.purge(&there()).await;
    // Its own purge is known, the one before it is not yet: its fence does not say so.
    assert!(!other.has(THERE, before) && other.has(HERE, before));
    assert_eq!(other.replica.fence(), before);
    other.read().await;
    assert!(!other.has(HERE, before) && !other.has(THERE, before));
    assert!(other.has(HERE, other.replica.fence()));
    assert_eq!(log.state().await.unwrap().last, other.replica.number());
}

#[tokio::test]
async fn entries_that_were_trimmed_are_known_by_their_marks() {
    let log = MemoryLog::default();
    let (one, late) = (Node::of(&log).await, Node::of(&log).await);
    let before = one.replica.fence();
    one.purge(&here()).await;
    one.purge(&PurgeTarget::prefix("http://c/x/")).await;
    let between = one.replica.fence();
    one.purge(&PurgeTarget::host("d")).await;
    log.trim(1);
    for node in [late, Node::of(&log).await] {
        node.read().await;
        for (uri, since, expected) in [
            (HERE, before, false),
            (THERE, before, true),
            ("http://c/x/1", before, false),
            ("http://c/y", before, true),
            ("http://d/", before, false),
            ("http://d/", between, false),
            (HERE, between, true),
            ("http://c/x/1", between, true),
        ] {
            assert_eq!(node.has(uri, since), expected, "{uri} {since:?}");
        }
    }
    // All of it, and not a page with entries only.
    let late = Node::of(&log).await;
    let before = late.replica.fence();
    one.purge(&here()).await;
    log.trim(0);
    late.read().await;
    assert!(!late.has(HERE, before) && late.has(THERE, before));
}

#[tokio::test]
async fn f17_a_purge_that_a_failover_has_lost_stays_in_effect_and_is_appended_again() {
    for is_followed_by_another in [false, true] {
        let log = MemoryLog::default();
        let (one, other, third) = (Node::of(&log).await, Node::of(&log).await, Node::of(&log).await);
        one.purge(&there()).await;
        third.read().await;
        let before = third.replica.fence();
        one.purge(&here()).await;
        other.read().await;
        let lost = other.replica.fence();
        log.lose(1);
        third.read().await;
        assert!(third.has(HERE, before), "nobody has told it");
        if is_followed_by_another {
            third.purge(&PurgeTarget::host("c")).await;
        }
        other.read().await;
        for node in [&one, &other, &third] {
            node.read().await;
            assert!(!node.has(HERE, before) && node.has(THERE, before));
            assert!(is_followed_by_another != node.has("http://c/", before));
            assert_ne!(node.replica.fence(), lost);
            assert_eq!((node.replica.fence(), node.replica.unsure()), (one.replica.fence(), 0));
        }
    }
}

#[tokio::test]
async fn f17_several_lost_purges_are_found_however_many_were_known() {
    for lost in [1, 2, 9, 40, 100, 150] {
        let log = MemoryLog::default();
        let (one, other) = (Node::of(&log).await, Node::of(&log).await);
        let before = one.replica.fence();
        for number in 0..100 {
            one.purge(&PurgeTarget::uri(format!("http://a/{number}"))).await;
        }
        log.lose(lost);
        other.purge(&there()).await;
        one.read().await;
        other.read().await;
        for node in [&one, &other] {
            assert!(!node.has("http://a/0", before) && !node.has("http://a/99", before), "{lost}");
            assert!(!node.has(THERE, before) && node.has("http://a/100", before), "{lost}");
        }
    }
}

#[tokio::test]
async fn f17_a_log_that_begins_anew_makes_everything_go() {
    let log = MemoryLog::default();
    let (one, other) = (Node::of(&log).await, Node::of(&log).await);
    let before = one.replica.fence();
    one.purge(&here()).await;
    let after = one.replica.fence();
    log.restart();
    // A purge is the first that one of them hears of it.
    one.purge(&there()).await;
    other.read().await;
    for node in [one, other] {
        for fence in [before, after] {
            assert!(!node.has(HERE, fence) && !node.has(THERE, fence) && !node.has("http://c/", fence));
        }
        assert!(node.has(THERE, node.replica.fence()));
    }
}

#[tokio::test]
async fn f17_what_only_a_lost_table_knew_is_gone() {
    let log = MemoryLog::default();
    let (one, late) = (Node::of(&log).await, Node::of(&log).await);
    let before = one.replica.fence();
    one.purge(&here()).await;
    one.purge(&PurgeTarget::host("c")).await;
    log.trim(1);
    log.drop_table();
    late.read().await;
    assert!(!late.has(HERE, before) && !late.has(THERE, before));
    assert!(late.has(THERE, late.replica.fence()));
    // The next purge raises the base for all.
    let older = one.replica.fence();
    assert!(one.has(THERE, older));
    late.purge(&PurgeTarget::host("d")).await;
    one.read().await;
    assert!(!one.has(THERE, older) && one.has(THERE, one.replica.fence()));
}

#[tokio::test]
async fn f10_a_purge_that_may_not_have_arrived_is_an_error_and_is_appended_later() {
    let log = MemoryLog::default();
    let (one, other) = (Node::of(&log).await, Node::of(&log).await);
    let before = one.replica.fence();
    one.link.cut();
    let purged = one.replica.purge(&one.link, &[here(), there()], PurgeMode::Remove).await;
    assert!(purged.is_err() && one.replica.catch_up(&one.link).await.is_err());
    assert_eq!(one.replica.unsure(), 1);
    one.link.mend();
    one.read().await;
    other.read().await;
    assert_eq!(one.replica.unsure(), 0);
    assert!(!other.has(HERE, before) && !other.has(THERE, before) && other.has("http://c/", before));
}

#[tokio::test]
async fn f10_a_purge_that_has_not_arrived_is_made_although_an_equal_one_came_before_what_it_has_to_purge() {
    let log = MemoryLog::default();
    let (one, other) = (Node::of(&log).await, Node::of(&log).await);
    one.link.cut();
    other.purge(&here()).await;
    let between = other.replica.fence();
    assert!(one.replica.purge(&one.link, &[here()], PurgeMode::Remove).await.is_err());
    one.link.mend();
    one.read().await;
    other.read().await;
    for node in [&one, &other] {
        assert!(!node.has(HERE, between) && node.has(THERE, between) && node.replica.unsure() == 0);
    }
}

/// A log whose second reading lets the same node purge meanwhile.
struct Interrupted {
    log: MemoryLog,
    node: Arc<Replica>,
    readings: AtomicU32,
}

impl PurgeLog for Interrupted {
    async fn append(&self, entry: &NewEntry) -> Result<Appended, StoreError> {
        self.log.append(entry).await
    }

    async fn read_after(&self, number: u64, wait: Duration) -> Result<LogPage, StoreError> {
        let page = self.log.read_after(number, wait).await;
        if self.readings.fetch_add(1, Ordering::Relaxed) == 1 {
            self.node.purge(&self.log, &[there()], PurgeMode::Remove).await?;
        }
        page
    }

    async fn state(&self) -> Result<LogState, StoreError> {
        self.log.state().await
    }

    async fn table(&self) -> Result<Option<MarkTable>, StoreError> {
        self.log.table().await
    }

    async fn announce(&self, uris: &[u64], time: Option<Duration>) -> Result<Announced, StoreError> {
        self.log.announce(uris, time).await
    }
}

#[tokio::test]
async fn f17_a_purge_made_while_a_node_finds_out_what_was_lost_is_not_made_twice() {
    let log = MemoryLog::default();
    let (one, node) = (Node::of(&log).await, Arc::new(Replica::new(SECRET)));
    one.purge(&PurgeTarget::host("c")).await;
    one.purge(&here()).await;
    node.catch_up(&log).await.unwrap();
    log.lose(1);
    let interrupted = Interrupted { log: log.clone(), node: Arc::clone(&node), readings: AtomicU32::new(0) };
    node.catch_up(&interrupted).await.unwrap();
    let entries = log.read_after(0, Duration::ZERO).await.unwrap().entries;
    let purges: Vec<_> = entries.iter().map(|entry| entry.purge.clone()).collect();
    let purge = |target| Purge::new(vec![target], PurgeMode::Remove).to_bytes();
    assert_eq!(purges, [purge(PurgeTarget::host("c")), purge(there()), purge(here())]);
}

#[tokio::test]
async fn purges_with_many_targets_are_not_kept_for_followers_beyond_some_megabytes() {
    let log = MemoryLog::default();
    let node = Node::of(&log).await;
    let seen = node.replica.changed();
    let many: Vec<_> = (0..60_000).map(|n| PurgeTarget::uri(format!("http://a/a-long-path/{n}"))).collect();
    for _ in 0..2 {
        node.replica.purge(&log, &many, PurgeMode::Remove).await.unwrap();
    }
    assert!(node.replica.changes_since(seen).purges.is_some_and(|purges| purges.len() == 2));
    for _ in 0..16 {
        node.replica.purge(&log, &many, PurgeMode::Remove).await.unwrap();
    }
    assert_eq!(node.replica.changes_since(seen).purges, None);
}

async fn announce(node: &Node, uri: &str, since: Fence) -> Option<u64> {
    let (key, response) = (key(uri), response(&[]));
    node.replica.announce(&node.link, &key, &response, since, Duration::MAX).await.unwrap()
}

#[tokio::test]
async fn a33_a_purge_of_uris_is_an_entry_only_where_one_of_them_was_announced() {
    let log = MemoryLog::default();
    let (one, other) = (Node::of(&log).await, Node::of(&log).await);
    let last = async || log.state().await.unwrap().last;
    let purge = async |targets: &[PurgeTarget]| {
        one.replica.purge_announced(&one.link, targets, PurgeMode::Remove).await.unwrap()
    };
    let (before, empty) = (other.replica.fence(), last().await);
    let number = purge(&[here()]).await;
    assert_eq!(last().await, empty);
    assert!(purge(&[here()]).await > number);
    // What was asked for before it is not stored, and what is asked for after it is.
    assert_eq!(announce(&other, HERE, before).await, None);
    assert!(other.replica.is_noted(&other.link, &key(HERE), before).await.unwrap());
    let after = other.replica.fence();
    assert!(!other.replica.is_noted(&other.link, &key(HERE), after).await.unwrap());
    assert!(announce(&other, THERE, before).await.is_some(), "nobody has purged that");
    assert!(announce(&other, HERE, after).await.is_some());
    purge(&[PurgeTarget::uri("http://c/"), here()]).await;
    assert!(last().await > empty);
    other.read().await;
    assert!(!other.has(HERE, after) && other.has(THERE, after));
    // Everything but a URI is an entry.
    for target in [PurgeTarget::tag("c"), PurgeTarget::Key(key("http://c/")), PurgeTarget::host("c")] {
        let before = last().await;
        purge(&[PurgeTarget::uri("http://d/"), target]).await;
        assert!(last().await > before);
    }
}

#[tokio::test]
async fn f17_what_was_announced_under_a_number_that_the_log_has_lost_is_known_to_be_lost() {
    let log = MemoryLog::default();
    let (one, other) = (Node::of(&log).await, Node::of(&log).await);
    let before = one.replica.fence();
    let kept = announce(&one, HERE, before).await.unwrap();
    one.purge(&PurgeTarget::tag("x")).await;
    let on_its_way = one.replica.fence();
    let lost = announce(&one, THERE, on_its_way).await.unwrap();
    log.lose(0);
    for node in [&one, &other] {
        node.read().await;
        assert!(node.replica.is_announced(kept) && !node.replica.is_announced(lost));
        assert_eq!(announce(node, THERE, on_its_way).await, None, "a note may be lost");
        let again = announce(node, THERE, node.replica.fence()).await.unwrap();
        assert!(node.replica.is_announced(again));
    }
}

/// A log whose calls never end.
struct Frozen;

impl PurgeLog for Frozen {
    async fn append(&self, _: &NewEntry) -> Result<Appended, StoreError> {
        std::future::pending().await
    }

    async fn read_after(&self, _: u64, _: Duration) -> Result<LogPage, StoreError> {
        std::future::pending().await
    }

    async fn state(&self) -> Result<LogState, StoreError> {
        std::future::pending().await
    }

    async fn table(&self) -> Result<Option<MarkTable>, StoreError> {
        std::future::pending().await
    }

    async fn announce(&self, _: &[u64], _: Option<Duration>) -> Result<Announced, StoreError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn f10_a_purge_that_nobody_waits_for_any_more_is_appended_later() {
    let log = MemoryLog::default();
    let (one, other) = (Node::of(&log).await, Node::of(&log).await);
    let before = one.replica.fence();
    let targets = [here()];
    let mut purge = Box::pin(one.replica.purge(&Frozen, &targets, PurgeMode::Remove));
    assert!(purge.as_mut().now_or_never().is_none());
    drop(purge);
    one.read().await;
    other.read().await;
    assert!(!other.has(HERE, before) && other.has(THERE, before));
}

/// A log with scripted pages.
struct Scripted(LogPage);

impl PurgeLog for Scripted {
    async fn append(&self, _: &NewEntry) -> Result<Appended, StoreError> {
        Err(StoreError::new("append", "scripted"))
    }

    async fn read_after(&self, number: u64, _: Duration) -> Result<LogPage, StoreError> {
        let entries = self.0.entries.iter().filter(|entry| entry.number > number);
        Ok(LogPage::new(entries.cloned().collect(), self.0.state))
    }

    async fn state(&self) -> Result<LogState, StoreError> {
        Ok(self.0.state)
    }

    async fn table(&self) -> Result<Option<MarkTable>, StoreError> {
        Ok(Some(MarkTable::new(self.0.state.incarnation, Vec::new())))
    }

    async fn announce(&self, _: &[u64], _: Option<Duration>) -> Result<Announced, StoreError> {
        Ok(Announced::new(self.0.state, 0))
    }
}

fn entry(number: u64, predecessor: u64, target: PurgeTarget) -> LogEntry {
    LogEntry::new(number, predecessor, Purge::new(vec![target], PurgeMode::Remove).to_bytes().into())
}

fn fence(number: u64) -> Fence {
    Fence::from_bits(7 << 64 | u128::from(number))
}

#[tokio::test]
async fn an_entry_that_nobody_can_read_is_a_purge_of_everything() {
    let entries = vec![LogEntry::new(5, 1, b"\xff later version".as_slice().into())];
    let node = Replica::new(SECRET);
    node.catch_up(&Scripted(LogPage::new(entries, LogState::new(7, 1, 5)))).await.unwrap();
    assert_eq!(node.judge(&key(HERE), &response(&[]), fence(4)), Verdict::Removed);
    assert_eq!(node.judge(&key(HERE), &response(&[]), fence(5)), Verdict::Untouched);
}

#[tokio::test]
async fn f17_a_number_that_is_not_greater_than_a_lost_one_hides_what_was_put_since() {
    let page = |entries: Vec<LogEntry>| {
        let last = entries.last().unwrap().number;
        Scripted(LogPage::new(entries, LogState::new(7, 1, last)))
    };
    let node = Replica::new(SECRET);
    let first = entry(5, 1, there());
    node.catch_up(&page(vec![first.clone(), entry(9, 5, here())])).await.unwrap();
    // The clock of the server that has lost 9 is behind.
    let other = PurgeTarget::host("c");
    let failed = node.catch_up(&page(vec![first, entry(8, 5, other)])).await;
    assert!(failed.is_err(), "it appends again what was lost, and this log takes nothing");
    assert_eq!(node.unsure(), 2, "the lost entry, and the one whose number is too small");
    let verdict = |uri, number| node.judge(&key(uri), &response(&[]), fence(number));
    assert_eq!(verdict(HERE, 8), Verdict::Removed);
    assert_eq!(verdict("http://c/", 9), Verdict::Removed, "put under the number that is lost");
    assert_eq!(verdict("http://d/", 8), Verdict::Untouched);
}

#[tokio::test]
async fn older_entries_are_coarse_and_hide_no_less() {
    let log = MemoryLog::default();
    let (one, late) = (Node::of(&log).await, Node::of(&log).await);
    let before = one.replica.fence();
    let soft = PurgeMode::Expire(at(60));
    let until = PurgeMode::ExpireUntil { at: at(60), until: at(90) };
    one.purge(&here()).await;
    one.purge_as(&PurgeTarget::host("s"), soft).await;
    one.purge_as(&PurgeTarget::host("u"), until).await;
    assert_eq!(one.verdict("http://s/", before), Verdict::Expired(Expired::new(at(60), None)));
    assert_eq!(one.verdict("http://u/", before), Verdict::Expired(Expired::new(at(60), Some(at(90)))));
    let after = one.replica.fence();
    for number in 0..66_000 {
        one.purge(&PurgeTarget::uri(format!("http://z/{number}"))).await;
    }
    late.read().await;
    for node in [&one, &late, &Node::of(&log).await] {
        assert!(
            !node.has(HERE, before) && !node.has("http://z/0", before) && !node.has("http://z/65999", before)
        );
        assert!(!node.has("http://s/", before) && !node.has("http://u/", before));
        let recent = (0..1_000).filter(|n| node.has(&format!("http://y/{n}"), node.replica.fence())).count();
        assert_eq!(recent, 1_000);
    }
    assert_eq!(one.verdict("http://s/", before), Verdict::Expired(Expired::new(UNIX_EPOCH, None)));
    assert_eq!(one.verdict("http://u/", before), Verdict::Removed, "its end is not kept");
    // Whoever has followed has lost sight of a few only, and not of all since then.
    let share = (0..1_000).filter(|n| one.has(&format!("http://y/{n}"), after)).count();
    assert!(share > 600, "of what was not purged, {share} in 1,000 are untouched");
}

#[tokio::test]
async fn prefixes_beyond_their_bound_hide_no_less() {
    let log = MemoryLog::default();
    let one = Node::of(&log).await;
    let before = one.replica.fence();
    one.purge(&PurgeTarget::path_prefix("/img/http://b/")).await;
    for number in 0..1_100 {
        one.purge(&PurgeTarget::prefix(format!("http://p/{number}/"))).await;
        one.purge(&PurgeTarget::path_prefix(format!("/{number}/"))).await;
    }
    assert!(one.has("http://q/none", one.replica.fence()));
    let late = Node::of(&log).await;
    log.trim(0);
    for node in [one, late, Node::of(&log).await] {
        assert!(!node.has("http://a/img/http://b/x", before), "a URL in a path is no host");
        for number in [0, 500, 1_099] {
            assert!(!node.has(&format!("http://p/{number}/x"), before), "{number}");
            assert!(!node.has(&format!("http://q/{number}/x"), before), "{number}");
        }
        assert!(node.has("http://q/none", node.replica.fence()));
    }
}

#[tokio::test]
async fn what_has_changed_is_said_in_order_or_not_at_all() {
    let log = MemoryLog::default();
    let (one, other) = (Node::of(&log).await, Node::of(&log).await);
    let purge = |target| Purge::new(vec![target], PurgeMode::Remove);
    let seen = other.replica.changed();
    one.purge(&here()).await;
    one.purge(&there()).await;
    other.read().await;
    let changes = other.replica.changes_since(seen);
    assert_eq!((changes.seen, changes.purges), (seen + 2, Some(vec![purge(here()), purge(there())])));
    assert_eq!(other.replica.changes_since(seen + 2).purges, Some(Vec::new()));
    for loss in [MemoryLog::restart, |log: &MemoryLog| log.lose(1), MemoryLog::drop_table] {
        let seen = other.replica.changed();
        loss(&log);
        one.purge(&here()).await;
        other.read().await;
        assert_eq!(other.replica.changes_since(seen).purges, None);
    }
    let seen = other.replica.changed();
    for _ in 0..5_000 {
        other.purge(&here()).await;
    }
    assert_eq!(other.replica.changes_since(seen).purges, None);
}

/// Whole turns of the other tasks, without time.
async fn turns() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_has_each_entry_at_once_and_proves_that_it_misses_none() {
    const BOUND: Duration = Duration::from_millis(250);
    let log = MemoryLog::default();
    let (one, link) = (Node::of(&log).await, Link::to(&log));
    let replica = std::sync::Arc::new(Replica::new(SECRET));
    assert!(!replica.is_proven(BOUND));
    let follower = Follower::start(std::sync::Arc::new(link.clone()), replica.clone(), FollowLimits::new());
    turns().await;
    let before = replica.fence();
    assert_eq!(before, one.replica.fence());
    one.purge(&here()).await;
    turns().await;
    assert_eq!(replica.judge(&key(HERE), &response(&[]), before), Verdict::Removed);
    for _ in 0..100 {
        tokio::time::advance(Duration::from_millis(50)).await;
        turns().await;
        assert!(replica.is_proven(BOUND), "an empty answer proves it, too");
    }
    link.cut();
    tokio::time::advance(Duration::from_millis(251)).await;
    turns().await;
    assert!(!replica.is_proven(BOUND));
    one.purge(&there()).await;
    link.mend();
    tokio::time::advance(Duration::from_secs(1)).await;
    turns().await;
    assert!(replica.is_proven(BOUND));
    assert_eq!(replica.judge(&key(THERE), &response(&[]), before), Verdict::Removed);
    drop(follower);
    tokio::time::advance(Duration::from_secs(1)).await;
    turns().await;
    tokio::time::advance(BOUND + Duration::from_millis(1)).await;
    turns().await;
    assert!(!replica.is_proven(BOUND), "nobody follows any more");
}

fn any_uri() -> impl Strategy<Value = String> {
    let scheme = prop_oneof![Just("http"), Just("https")];
    (scheme, "[ab]", "(/[xy]{0,2}){1,2}", "(\\?[xy])?").prop_map(|(s, h, p, q)| format!("{s}://{h}{p}{q}"))
}

fn any_key() -> impl Strategy<Value = CacheKey> {
    (any_uri(), any::<bool>())
        .prop_map(|(uri, has_part)| if has_part { key(&uri).with("part", b"1") } else { key(&uri) })
}

fn any_target() -> impl Strategy<Value = PurgeTarget> {
    let cut = || (any_uri(), 0..14_usize).prop_map(|(uri, end)| uri[..end.min(uri.len())].to_owned());
    let path = || any_uri().prop_map(|uri| uri[uri.find("://").unwrap() + 4..].to_owned());
    prop_oneof![
        Just(PurgeTarget::All),
        "[ab]".prop_map(|name| PurgeTarget::group("http://a", &name)),
        "[ab]".prop_map(PurgeTarget::host),
        any_key().prop_map(PurgeTarget::Key),
        path().prop_map(PurgeTarget::path),
        (path(), 0..4_usize).prop_map(|(path, end)| PurgeTarget::path_prefix(&path[..end.min(path.len())])),
        cut().prop_map(PurgeTarget::prefix),
        "[abAB]".prop_map(PurgeTarget::tag),
        "[abAB]".prop_map(PurgeTarget::tag_any_case),
        any_uri().prop_map(PurgeTarget::uri),
    ]
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn a_purge_hits_what_its_target_names_exactly_as_long_as_its_entry_is_there_and_no_less_later(
        targets in prop::collection::vec(any_target(), 1..4),
        key in any_key(),
        groups in prop::collection::vec(prop_oneof![Just("http://a a"), Just("http://b A"), Just("b")], 0..3),
    ) {
        let log = MemoryLog::default();
        let (one, late) = (alone(Node::of(&log)), alone(Node::of(&log)));
        let (before, response) = (one.replica.fence(), response(&groups));
        alone(one.replica.purge(&log, &targets, PurgeMode::Remove)).unwrap();
        let is_meant = targets.iter().any(|target| target.names(&key, groups.iter().copied()));
        let is_gone = |node: &Node| node.replica.judge(&key, &response, before) == Verdict::Removed;
        prop_assert_eq!(is_gone(&one), is_meant);
        let names_key = targets.iter().any(|target| target.names(&key, []));
        prop_assert_eq!(one.replica.concerns(&key, before, PurgeScope::Key), names_key);
        let names_group = |target: &PurgeTarget| {
            matches!(target, PurgeTarget::Group(_) | PurgeTarget::Tag(_) | PurgeTarget::TagAnyCase(_))
        };
        let may_concern = names_key || targets.iter().any(names_group);
        prop_assert_eq!(one.replica.concerns(&key, before, PurgeScope::KeyOrAnyGroup), may_concern);
        log.trim(0);
        alone(late.read());
        prop_assert!(is_gone(&late) || !is_meant);
        prop_assert!(late.replica.concerns(&key, before, PurgeScope::KeyOrAnyGroup) || !may_concern);
    }
}
