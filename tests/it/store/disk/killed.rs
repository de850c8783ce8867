//! A process that is killed at any moment, and what the next one finds.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use http_body_util::BodyExt;
use larder::semantics::reuse::Reuse;
use larder::semantics::vary::Selecting;
use larder::store::{BeginOutcome, PurgeMode, PurgeTarget, PutOutcome, Store, TierLimits, TieredStore};
use larder::{CacheKey, HeadParts, MemoryStore, Payload, ResponseHead, StoredResponse};

use super::{Place, Process, place_of_parent};

const KEYS: u64 = 8;
/// How often the process is killed.
const KILLS: u64 = 12;
/// Versions of one process are below those of the next.
const VERSIONS: u64 = 1_000_000;

fn key(number: u64) -> CacheKey {
    let uri: Uri = format!("http://example.com/{number}/page").parse().unwrap();
    CacheKey::from_uri(&uri).unwrap()
}

fn head() -> ResponseHead {
    let reuse = Reuse::new(UNIX_EPOCH, UNIX_EPOCH, Duration::from_secs(60), Selecting::default());
    let mut fields = HeaderMap::new();
    fields.insert("content-type", "text/plain".parse().unwrap());
    ResponseHead::from_parts(HeadParts::new(StatusCode::OK, fields, reuse)).unwrap()
}

/// Content that says which version it is: in a record, or in a file of its own.
fn content(number: u64, version: u64) -> String {
    let line = format!("{number} {version};");
    line.repeat(if version.is_multiple_of(3) { 20_000 } else { 50 })
}

fn version_of(number: u64, content: &str) -> u64 {
    let first = content.split(';').next().unwrap();
    let version = first.strip_prefix(&format!("{number} ")).unwrap().parse().unwrap();
    assert!(
        content == self::content(number, version),
        "version {version} of {number} is not as it was stored"
    );
    version
}

/// What names the key.
fn target(number: u64, version: u64) -> PurgeTarget {
    match version % 4 {
        0 => PurgeTarget::Key(key(number)),
        1 => PurgeTarget::Uri(key(number).uri().into()),
        2 => PurgeTarget::path(format!("/{number}/page")),
        _ => PurgeTarget::prefix(format!("http://example.com/{number}/")),
    }
}

/// Whether it is stored: a purge of another key that is under way may have it refused.
async fn store(store: &impl Store, number: u64, version: u64) -> bool {
    let key = key(number);
    let expected = store.expect(&key);
    let fence = match expected.fence() {
        Some(fence) => fence,
        None => store.get(&key).await.unwrap().fence,
    };
    let content = Bytes::from(content(number, version));
    if content.len() < 65_536 {
        let response = StoredResponse::new(head(), Payload::from_bytes(content));
        return store.put(&key, response, fence).await.unwrap() == PutOutcome::Stored;
    }
    let mut writer = match store.begin(&key, None, fence).await.unwrap() {
        BeginOutcome::Writer(writer) => writer,
        BeginOutcome::Refused(PutOutcome::Superseded) => return false,
        other => panic!("{other:?}"),
    };
    for at in (0..content.len()).step_by(65_536) {
        let _ = writer.write(content.slice(at..content.len().min(at + 65_536))).await.unwrap();
    }
    writer.commit(head(), None).await.unwrap() == PutOutcome::Stored
}

/// Stores and purges until it is killed. Each line says of a key that nothing is there up to a version.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "the process that is killed in f11_what_a_killed_process_has_left_is_right_and_what_it_purged_is_gone"]
async fn the_process_that_is_killed() {
    let Some(folder) = place_of_parent() else { return };
    let first: u64 = std::env::var("LARDER_TEST_VERSION").unwrap().parse().unwrap();
    let disk = crate::support::on_disk::patient(&folder).open().await.unwrap();
    match std::env::var_os("LARDER_TEST_TIERS") {
        None => work(disk, first).await,
        Some(_) => work(TieredStore::new(near(), disk, TierLimits::new()), first).await,
    }
}

/// So small that much of it goes soon.
fn near() -> MemoryStore {
    MemoryStore::builder().capacity(64 << 10).build()
}

async fn work<S: Store + Clone>(all: S, first: u64) {
    let tasks = (0..KEYS).map(|number| {
        let all = all.clone();
        tokio::spawn(async move {
            let mut last = found(&all, number).await;
            for version in first.. {
                if store(&all, number, version).await {
                    last = Some(version);
                }
                let found = async || found(&all, number).await;
                let now = found().await;
                assert!(now.is_none() || now == last, "{now:?} is found, not {last:?}");
                if version % 5 == number % 5 {
                    all.invalidate(&[target(number, version)], PurgeMode::Remove).await.unwrap();
                    assert_eq!(found().await, None, "{number} was purged");
                    last = None;
                    // In one piece, with a line of its own: the harness prints, too.
                    use std::io::Write;
                    std::io::stdout()
                        .lock()
                        .write_all(format!("\npurged {number} {version}\n").as_bytes())
                        .unwrap();
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// The version under a key, if anything is there.
async fn found(store: &impl Store, number: u64) -> Option<u64> {
    let key = key(number);
    let lookup = store.get(&key).await.unwrap();
    let stored = lookup.variants.first()?;
    assert!(stored.expired.is_none());
    let payload = stored.response.payload();
    let content = match payload.as_remote() {
        None => payload.to_bytes().unwrap(),
        Some(remote) => store.open(&key, remote, None).await.unwrap()?.collect().await.unwrap().to_bytes(),
    };
    Some(version_of(number, std::str::from_utf8(&content).unwrap()))
}

#[tokio::test]
async fn f11_what_a_killed_process_has_left_is_right_and_what_it_purged_is_gone() {
    killed(&[]).await;
}

#[tokio::test]
async fn f11_what_a_killed_process_with_a_near_level_has_left_is_right_and_what_it_purged_is_gone() {
    killed(&[("LARDER_TEST_TIERS", "memory before disk".into())]).await;
}

async fn killed(arguments: &[(&str, String)]) {
    let is_tiered = !arguments.is_empty();
    let place = Place::new();
    let (mut all, mut purged) = (0, HashMap::new());
    for kill in 0..KILLS {
        let first = kill * VERSIONS + 1;
        let version = ("LARDER_TEST_VERSION", first.to_string());
        let arguments = [arguments, &[version]].concat();
        let mut process = Process::of_test(module_path!(), "the_process_that_is_killed", &place, &arguments);
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let mut note = |line: &str| {
            if let Some((number, version)) =
                line.strip_prefix("purged ").and_then(|line| line.split_once(' '))
            {
                purged.insert(number.parse::<u64>().unwrap(), version.parse::<u64>().unwrap());
                return 1;
            }
            0
        };
        // Another moment each time.
        let mut left = 1 + kill * 7;
        while left > 0 {
            left -= note(&lines.next().expect("it goes on").unwrap());
        }
        process.0.kill().unwrap();
        // What it has said before it was killed counts, too.
        for line in lines {
            let _ = note(&line.unwrap());
        }
        process.0.wait().unwrap();
        let disk = place.builder().open().await.unwrap();
        let tier = TieredStore::new(near(), disk.clone(), TierLimits::new());
        for number in 0..KEYS {
            let far = found(&disk, number).await;
            if is_tiered {
                // Once from the disk, and once from what has come near.
                assert_eq!([found(&tier, number).await, found(&tier, number).await], [far, far]);
            }
            if let Some(version) = far {
                all += 1;
                let gone = purged.get(&number).copied().unwrap_or_default();
                assert!(version > gone, "version {version} of {number} is back, purged up to {gone}");
            }
        }
        assert_eq!(std::fs::read_dir(place.path().join("staged")).unwrap().count(), 0);
        disk.close().await;
    }
    assert!(all > KILLS, "what was stored is found: {all}");
}
