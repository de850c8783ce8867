//! What a purge gives back, and what its event has.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use http::{Method, Uri};
use larder::policy::{KeyRules, QueryRules};
use larder::store::chaos::StoreCall;
use larder::store::{PurgeMode, PurgeNumber, PurgeTarget, Store};
use larder::{
    BoxStore, CacheLayer, Event, InvalidatedBy, MemoryStore, PurgeError, PurgeReceipt, StandardPolicy,
};

use crate::store::failing::Down;
use crate::support::stores::{before, faulty};
use crate::support::{Bench, Reply, cache_builder, settle};

/// A purge as its event has it.
type Seen = (InvalidatedBy, PurgeNumber, bool, Vec<PurgeTarget>);

#[derive(Clone, Default)]
struct Purges(Arc<Mutex<Vec<Seen>>>);

impl Purges {
    fn observer(&self) -> impl Fn(&Event<'_>) + Send + Sync + 'static {
        let purges = Arc::clone(&self.0);
        move |event| {
            if let Event::Invalidated { by, number, succeeded, targets, .. } = event {
                purges.lock().unwrap().push((*by, *number, *succeeded, targets.to_vec()));
            }
        }
    }

    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn page() -> Uri {
    Uri::from_static("http://example.com/a?x=1")
}

#[tokio::test]
async fn a_receipt_names_what_was_purged_as_keys_spell_it() {
    let policy = StandardPolicy::default().key(KeyRules::new().query(QueryRules::none()));
    let bench = Bench::with(cache_builder().policy(policy), [Reply::cc("x", "max-age=60")]);
    let (spelled, asked) =
        (PurgeTarget::uri("http://example.com/a"), PurgeTarget::uri("http://example.com/a?x=1"));
    let receipt = bench.handle.purge(&Uri::from_static("HTTP://Example.com:80/a?x=1")).await.unwrap();
    // The cache can't know whether keys say http: a server in front may have ended TLS.
    let [spelled_by_tls, asked_by_tls] =
        ["https://example.com/a", "https://example.com/a?x=1"].map(PurgeTarget::uri);
    let all = [spelled.clone(), asked.clone(), spelled_by_tls.clone(), asked_by_tls.clone()];
    assert_eq!(receipt.targets, all);
    assert_eq!(receipt.mode, PurgeMode::Remove);
    let host = PurgeTarget::host("EXAMPLE.com");
    let receipt = bench.handle.soft_purge_targets(&[asked.clone(), host]).await.unwrap();
    let mut targets = receipt.targets;
    targets.sort_by_key(PurgeTarget::to_string);
    assert_eq!(targets, [PurgeTarget::host("example.com"), spelled, asked, spelled_by_tls, asked_by_tls]);
    assert_eq!(receipt.mode, PurgeMode::Expire(bench.clock.now()));
    let ten = Duration::from_secs(10);
    let receipt = bench.handle.soft_purge_for(&page(), ten).await.unwrap();
    let at = bench.clock.now();
    assert_eq!(receipt.mode, PurgeMode::ExpireUntil { at, until: at + ten });
}

#[tokio::test]
async fn kx8_a_receipt_and_the_event_of_its_purge_have_one_number() {
    let purges = Purges::default();
    let builder = cache_builder().observer(purges.observer());
    let bench = Bench::with(builder, [Reply::cc("x", "max-age=60")]);
    let mut last = PurgeNumber::default();
    let mut check = |receipt: PurgeReceipt| {
        let [(by, number, succeeded, targets)] = &purges.take()[..] else { panic!("one event a purge") };
        assert_eq!((*by, *number, *succeeded), (InvalidatedBy::Handle, receipt.number, true));
        assert_eq!(*targets, receipt.targets);
        assert!(receipt.number > last, "{} after {last}", receipt.number);
        last = receipt.number;
    };
    let (handle, tag, seconds) = (&bench.handle, PurgeTarget::tag("news"), Duration::from_secs(9));
    let two = [tag.clone(), PurgeTarget::All];
    check(handle.purge(&page()).await.unwrap());
    check(handle.soft_purge(&page()).await.unwrap());
    check(handle.soft_purge_for(&page(), seconds).await.unwrap());
    check(handle.purge_target(&tag).await.unwrap());
    check(handle.soft_purge_target(&tag).await.unwrap());
    check(handle.purge_targets(&two).await.unwrap());
    check(handle.soft_purge_targets(&two).await.unwrap());
    check(handle.soft_purge_target_for(&tag, seconds).await.unwrap());
    check(handle.soft_purge_targets_for(&two, seconds).await.unwrap());
    // So has the purge that an unsafe request makes.
    bench.send(Method::POST, "/a?x=1", &[]).await;
    let [(by, number, true, _)] = &purges.take()[..] else { panic!("one event") };
    assert_eq!(*by, InvalidatedBy::UnsafeRequest);
    assert!(*number > last);
}

#[tokio::test]
async fn a_purge_that_is_repeated_succeeds_and_changes_nothing_more() {
    let bench = Bench::new([Reply::cc("x", "max-age=60")]);
    for path in ["/a?x=1", "/b"] {
        bench.get(path).await;
    }
    for round in 0..3 {
        let all = [PurgeTarget::uri(page()), PurgeTarget::tag("nobody's")];
        bench.handle.purge_targets(&all).await.unwrap();
        assert!(!bench.get("/a?x=1").await.is_hit(), "{round}");
        bench.handle.purge(&page()).await.unwrap();
        bench.handle.purge(&page()).await.unwrap();
        assert!(bench.get("/b").await.is_hit(), "{round}");
    }
    // A soft one counts from the first: what is stale since then does not get its time again.
    let bench = Bench::new([Reply::cc("x", "max-age=60, stale-if-error=60")]);
    bench.get("/a?x=1").await;
    for _ in 0..4 {
        bench.handle.soft_purge(&page()).await.unwrap();
        bench.later(20);
    }
    bench.origin.then(Reply::new("").status(503));
    assert_eq!(bench.get("/a?x=1").await.status, 503, "stale for longer than its window");
}

#[tokio::test]
async fn a_purge_of_no_targets_is_no_purge() {
    let purges = Purges::default();
    let bench = Bench::with(cache_builder().observer(purges.observer()), [Reply::cc("x", "max-age=60")]);
    bench.get("/").await;
    bench.handle.purge_target(&PurgeTarget::tag("x")).await.unwrap();
    purges.take();
    let receipt = bench.handle.purge_targets(&[]).await.unwrap();
    assert_eq!((receipt.number, receipt.targets), (PurgeNumber::default(), Vec::new()));
    assert!(purges.take().is_empty() && bench.get("/").await.is_hit());
}

#[tokio::test]
async fn f10_a_purge_that_has_failed_has_no_receipt_and_its_event_no_number() {
    let purges = Purges::default();
    let handle = CacheLayer::builder(Down).observer(purges.observer()).build().handle();
    let failed = handle.purge_target(&PurgeTarget::All).await;
    assert!(matches!(failed, Err(PurgeError::Store(_))));
    let expected = (InvalidatedBy::Handle, PurgeNumber::default(), false, vec![PurgeTarget::All]);
    assert_eq!(purges.take(), [expected]);
}

#[tokio::test]
async fn one_target_that_can_mean_nothing_fails_the_whole_call() {
    let purges = Purges::default();
    let bench = Bench::with(cache_builder().observer(purges.observer()), [Reply::cc("x", "max-age=60")]);
    bench.get("/").await;
    for bad in [PurgeTarget::path("x"), PurgeTarget::path_prefix("x"), PurgeTarget::uri("/x")] {
        assert!(bench.handle.purge_targets(&[PurgeTarget::All, bad]).await.is_err());
    }
    assert!(purges.take().is_empty() && bench.get("/").await.is_hit());
}

#[test]
fn layers_over_one_store_share_its_numbers() {
    let store = MemoryStore::default();
    let handles = [0, 1].map(|_| CacheLayer::new(store.clone()).handle());
    let purge = |at: usize| handles[at].purge_target(&PurgeTarget::All).now_or_never().unwrap().unwrap();
    let numbers = [purge(0), purge(1), purge(0)].map(|receipt| receipt.number);
    assert!(numbers.is_sorted() && numbers[0] != numbers[2], "{numbers:?}");
    let own = store.invalidate(&[PurgeTarget::All], PurgeMode::Remove).now_or_never().unwrap().unwrap();
    assert!(own > numbers[2]);
}

#[tokio::test]
async fn receipts_and_events_have_each_target_once() {
    let by_all = StandardPolicy::default();
    let by_any = by_all.clone().key(KeyRules::new().any_scheme().query(QueryRules::none()));
    let [http, https, any] = ["http", "https", "any"].map(|scheme| format!("{scheme}://example.com/a"));
    for (policy, spelled) in [(by_all, &[&http, &https][..]), (by_any, &[&any, &http, &https])] {
        let purges = Purges::default();
        let builder = cache_builder().policy(policy).observer(purges.observer());
        let bench = Bench::with(builder, [Reply::cc("x", "max-age=60")]);
        let named: Vec<_> = [&http, &https, &http].map(PurgeTarget::uri).into();
        let mut targets = bench.handle.purge_targets(&named).await.unwrap().targets;
        let seen = purges.take();
        assert_eq!(seen[0].3, targets);
        targets.sort_by_key(PurgeTarget::to_string);
        assert_eq!(targets, spelled.iter().map(PurgeTarget::uri).collect::<Vec<_>>());
        let mut one = bench.handle.purge(&http.parse().unwrap()).await.unwrap().targets;
        one.sort_by_key(PurgeTarget::to_string);
        assert_eq!(one, targets);
        // Of whatever length a list is.
        let many: Vec<_> =
            (0..3_000).map(|number| PurgeTarget::uri(format!("{http}/{}", number % 1_500))).collect();
        let receipt = bench.handle.purge_targets(&many).await.unwrap();
        assert_eq!(receipt.targets.len(), 1_500 * spelled.len());
    }
}

#[tokio::test(start_paused = true)]
async fn b15_a_purge_whose_caller_leaves_goes_to_its_end_and_is_reported() {
    let (gate, at_gate) = before(&[StoreCall::Invalidate]);
    let purges = Purges::default();
    let store = BoxStore::new(faulty(MemoryStore::default(), [at_gate]));
    let builder = CacheLayer::builder(store).observer(purges.observer());
    let bench = Bench::with(builder, [Reply::cc("x", "max-age=60")]);
    bench.get("/a?x=1").await;
    for leave in [0, 1, 2] {
        let handle = bench.handle.clone();
        let purge = tokio::spawn(async move {
            match leave {
                0 => handle.purge(&page()).await,
                1 => handle.purge_target(&PurgeTarget::All).await,
                _ => handle.follow(&[PurgeTarget::All], PurgeMode::Remove).await,
            }
        });
        settle().await;
        assert_eq!(gate.arrived(), leave + 1);
        purge.abort();
        assert!(purge.await.is_err() && purges.take().is_empty());
        gate.pass(1);
        settle().await;
        let seen = purges.take();
        assert!(matches!(&seen[..], [(_, number, true, _)] if number.get() > 0), "{leave}: {seen:?}");
        assert!(!bench.get("/a?x=1").await.is_hit());
    }
}
