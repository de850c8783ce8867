//! How a folder is opened, and closed.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use futures_util::FutureExt;
use larder::CacheKey;
use larder::store::{BeginOutcome, DiskStore, Fence, PurgeMode, PurgeScope, PurgeTarget, PutOutcome, Store};

use super::{HIT, Node, Place, Process, large, place_of_parent};

#[tokio::test]
async fn a_store_is_warm_after_it_was_opened_again() {
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/small", "small").await;
    node.fill("/large", &large()).await;
    let held = node.held();
    let node = node.again(&place).await;
    assert_eq!(node.held(), held);
    node.hits("/small", "small").await;
    node.hits("/large", &large()).await;
}

#[tokio::test]
async fn a_store_that_nobody_closed_is_warm_too() {
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/", "kept").await;
    drop(node);
    let node = loop {
        // The folder is let go in the background.
        match place.builder().open().await {
            Ok(store) => break store,
            Err(error) => assert!(error.is_in_use(), "{error}"),
        }
    };
    assert_eq!(node.statistics().entries, 1);
}

#[tokio::test]
async fn one_store_at_a_time_has_a_folder_open() {
    let place = Place::new();
    let node = Node::open(&place).await;
    let error = place.builder().open().await.unwrap_err();
    assert!(error.is_in_use());
    assert_eq!(
        error.to_string(),
        format!(
            "the folder {} cannot be used as a store: another process, or another store of this one, has it open",
            place.path().display()
        )
    );
    node.store.close().await;
    Node::open(&place).await;
}

#[tokio::test]
#[ignore = "the other process of a_second_process_on_one_folder_gets_an_error"]
async fn the_second_process() {
    let Some(folder) = place_of_parent() else { return };
    assert!(DiskStore::builder(folder).open().await.unwrap_err().is_in_use());
}

#[tokio::test]
async fn a_second_process_on_one_folder_gets_an_error() {
    let place = Place::new();
    let node = Node::open(&place).await;
    let mut process = Process::of_test(module_path!(), "the_second_process", &place, &[]);
    assert!(process.0.wait().unwrap().success());
    node.fill("/", "nobody is harmed").await;
}

#[tokio::test]
async fn a_second_store_on_one_folder_leaves_alone_what_the_first_one_is_writing() {
    let place = Place::new();
    let node = Node::open(&place).await;
    let key = CacheKey::from_uri(&"http://example.com/".parse().unwrap()).unwrap();
    let expected = node.store.expect(&key);
    let begun = node.store.begin(&key, None, expected.fence().unwrap()).await.unwrap();
    let BeginOutcome::Writer(mut writer) = begun else { panic!("no writer") };
    for _ in 0..2 {
        let written = writer.write(Bytes::from(vec![7; 65_536])).await.unwrap();
        assert!(written.is_continue());
    }
    let staged = || fs::read_dir(place.path().join("staged")).unwrap().count();
    while staged() == 0 {
        tokio::task::yield_now().await; // it is written in the background
    }
    assert!(place.builder().open().await.unwrap_err().is_in_use());
    assert_eq!(staged(), 1);
    node.store.close().await;
}

/// What takes its time is a pipe in the place of a record: whoever opens it waits until somebody writes to it.
#[tokio::test]
async fn closing_waits_for_what_is_being_written_and_nothing_is_begun_meanwhile() {
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/slow", "old").await;
    node.fill("/other", "other").await;
    let key = |path: &str| CacheKey::from_uri(&format!("http://example.com{path}").parse().unwrap()).unwrap();
    let lookup = node.store.get(&key("/slow")).await.unwrap();
    let record = place.record(&key("/slow")).unwrap();
    fs::remove_file(&record).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&record).status().unwrap().success());
    let (store, response) = (node.store.clone(), lookup.variants[0].response.clone());
    let putting = tokio::spawn(async move {
        let expected = store.expect(&key("/slow"));
        store.put(&key("/slow"), response, expected.fence().unwrap()).await
    });
    tokio::task::yield_now().await;
    let store = node.store.clone();
    let closing = tokio::spawn(async move { store.close().await });
    tokio::task::yield_now().await;
    let store = node.store.clone();
    let getting = tokio::spawn(async move { store.get(&key("/other")).await });
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(!getting.is_finished() && !closing.is_finished(), "it is not closed yet");
    let pipe = tokio::task::spawn_blocking(move || fs::OpenOptions::new().write(true).open(record));
    pipe.await.unwrap().unwrap();
    assert_eq!(putting.await.unwrap().unwrap(), PutOutcome::Stored);
    closing.await.unwrap();
    assert!(getting.await.unwrap().is_err(), "it is closed");
    let node = Node::open(&place).await;
    node.hits("/slow", "old").await;
}

/// As many as write at one time, and one who stops to wait for its turn.
#[tokio::test]
async fn f16_who_has_stopped_to_write_keeps_nobody_from_writing_and_closing() {
    let place = Place::new();
    let node = Node::open(&place).await;
    let key = |path: &str| CacheKey::from_uri(&format!("http://example.com{path}").parse().unwrap()).unwrap();
    let mut slow = Vec::new();
    for number in 0..32 {
        let path = format!("/{number}");
        node.fill(&path, "old").await;
        let lookup = node.store.get(&key(&path)).await.unwrap();
        slow.push((key(&path), lookup.variants[0].response.clone(), place.record(&key(&path)).unwrap()));
    }
    let mut puts = Vec::new();
    let mut pipes = Vec::new();
    for (key, response, record) in slow {
        fs::remove_file(&record).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&record).status().unwrap().success());
        pipes.push(record);
        let store = node.store.clone();
        let mut put = Box::pin(async move {
            let expected = store.expect(&key);
            store.put(&key, response, expected.fence().unwrap()).await
        });
        assert!((&mut put).now_or_never().is_none());
        puts.push(put);
    }
    let expected = node.store.expect(&key("/large"));
    let begun = node.store.begin(&key("/large"), None, expected.fence().unwrap()).await.unwrap();
    let BeginOutcome::Writer(mut writer) = begun else { panic!("no writer") };
    let pieces = [(); 8].map(|()| Bytes::from(vec![7; 65_536]));
    let is_waited_for = pieces.into_iter().any(|piece| writer.write(piece).now_or_never().is_none());
    assert!(is_waited_for, "there is no place to write");
    for pipe in pipes {
        let opened = tokio::task::spawn_blocking(move || fs::OpenOptions::new().write(true).open(pipe));
        opened.await.unwrap().unwrap();
    }
    for put in puts {
        assert_eq!(put.await.unwrap(), PutOutcome::Stored);
    }
    // The writer is there, and does nothing.
    node.fill("/other", "other").await;
    // As long as that of the store itself: it would never end.
    let closed = tokio::time::timeout(std::time::Duration::from_secs(20), node.store.close());
    closed.await.expect("nobody who has stopped has a place");
    drop(writer);
}

#[tokio::test]
async fn a_closed_store_fails_and_requests_go_to_the_origin() {
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/", "stored").await;
    node.store.close().await;
    node.store.close().await;
    // Also where nothing is stored that it concerns: others may have the folder, and something there.
    let uri = |uri| PurgeTarget::uri(uri);
    for target in [PurgeTarget::All, uri("http://example.com/"), uri("http://example.com/not-stored")] {
        let purged = node.store.invalidate(std::slice::from_ref(&target), PurgeMode::Remove).await;
        assert!(purged.is_err(), "{target:?}");
    }
    let key = CacheKey::from_uri(&"http://example.com/".parse().unwrap()).unwrap();
    assert!(node.store.begin(&key, None, Fence::default()).await.is_err());
    let since = node.store.expect(&key).fence().unwrap();
    assert!(node.store.purged_since(&key, since, PurgeScope::Key).await.is_err());
    node.fetch("/", "from the origin").await.told("larder; fwd=miss; detail=\"store\"");
}

#[tokio::test]
async fn files_are_their_owners_only() {
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/small", "small").await;
    node.fill("/large", &large()).await;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let top = ["lock", "last", "purges.redb"].map(|name| place.path().join(name));
    for path in place.files().iter().chain(&top) {
        assert_eq!(mode(path), 0o600, "{}", path.display());
        if let Some(folder) = path.parent().filter(|folder| *folder != place.path()) {
            assert_eq!(mode(folder), 0o700, "{}", folder.display());
        }
    }
}

/// A file system that is mounted for a test, if that can be done.
pub(super) struct Mount(std::path::PathBuf);

impl Mount {
    pub(super) fn tmpfs(place: &Place, options: &str) -> Option<Self> {
        let mount = Self(place.path().to_owned());
        let is_mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "larder"])
            .arg(&mount.0)
            .output()
            .is_ok_and(|output| output.status.success());
        if is_mounted {
            return Some(mount);
        }
        std::mem::forget(mount);
        println!("not tried: no file system can be mounted here");
        None
    }

    fn again(&self, options: &str) {
        let output = std::process::Command::new("mount").args(["-o", options]).arg(&self.0).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_an_error() {
    let place = Place::new();
    let Some(mount) = Mount::tmpfs(&place, "size=8m") else { return };
    let node = Node::open(&place).await;
    node.fill("/", "stored").await;
    node.store.close().await;
    drop(node);
    mount.again("remount,ro");
    let error = place.builder().open().await.unwrap_err();
    assert!(!error.is_in_use() && error.to_string().contains("Read-only file system"), "{error}");
    mount.again("remount,rw");
    Node::open(&place).await.hits("/", "stored").await;
}

#[tokio::test]
async fn what_is_in_the_place_of_a_folder_is_an_error() {
    let place = Place::new();
    fs::write(place.path().join("file"), "").unwrap();
    let error = DiskStore::builder(place.path().join("file")).open().await.unwrap_err();
    assert!(!error.is_in_use() && error.path() == place.path().join("file"), "{error}");
}

#[tokio::test]
async fn f11_a_full_disk_costs_old_entries_and_no_answer() {
    let place = Place::new();
    let Some(_mount) = Mount::tmpfs(&place, "size=12m") else { return };
    // It is told that there is more.
    let node = Node::open(&place).await;
    for number in 0..80 {
        node.fetch(&format!("/{number}"), &large()).await;
        node.fetch(&format!("/small/{number}"), "small").await;
    }
    // What comes last is stored all the same.
    node.hits("/79", &large()).await;
    node.hits("/small/79", "small").await;
    let hits = async |node: &Node| {
        let mut hits = 0;
        for number in 0..80 {
            node.bench.origin.then(crate::support::Reply::cc(&large(), "no-store"));
            let seen = super::is(node.get(&format!("/{number}")).await, &large());
            hits += usize::from(seen.cache_status() == HIT);
        }
        hits
    };
    let before = hits(&node).await;
    assert!((20..42).contains(&before), "{before} hits");
    // A purge finds room, too.
    node.purge(PurgeTarget::host("example.com")).await;
    assert_eq!(hits(&node).await, 0);
    node.store.close().await;
    drop(node);
    let node = Node::open(&place).await;
    assert_eq!(hits(&node).await, 0);
}

#[tokio::test]
async fn f11_a_purge_on_a_full_disk_takes_the_room_of_old_entries() {
    let place = Place::new();
    let Some(_mount) = Mount::tmpfs(&place, "size=24m") else { return };
    let node = Node::open(&place).await;
    for number in 0..40 {
        node.fill(&format!("/{number}"), &large()).await;
    }
    // Somebody else has the rest.
    let mut rest = fs::File::create(place.path().join("rest")).unwrap();
    while rest.write_all(&[0; 4096]).is_ok() {}
    let before = node.held().1;
    for purge in 0..8 {
        let tag = |target| PurgeTarget::tag(format!("{purge} {target} {}", "x".repeat(500)));
        let targets: Vec<_> = (0..1_024).map(tag).collect();
        node.store.invalidate(&targets, PurgeMode::Remove).await.unwrap();
    }
    assert!(node.held().1 < before);
    node.hits("/39", &large()).await;
}

#[tokio::test]
async fn another_format_is_started_empty() {
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/", "stored").await;
    node.store.close().await;
    // As a version with another format would find it: the database is none of its own.
    fs::write(place.path().join("purges.redb"), "another format").unwrap();
    let node = Node::open(&place).await;
    assert_eq!((node.held(), place.files().len()), ((0, 0), 0));
    node.fill("/", "stored anew").await;
}

#[tokio::test]
async fn a_smaller_capacity_keeps_what_was_used_last() {
    let place = Place::new();
    let node = Node::with(place.builder().capacity(64 << 20)).await;
    for number in 0..100 {
        node.fill(&format!("/{number}"), &large()).await;
    }
    node.store.close().await;
    let node = Node::with(place.builder().capacity(8 << 20)).await;
    let (bytes, entries) = node.held();
    assert!(bytes <= 8 << 20 && entries >= 20, "{bytes} bytes, {entries} keys");
    assert_eq!(place.records().len() as u64, entries);
    assert_eq!(place.contents().len() as u64, entries);
    node.hits("/99", &large()).await;
    node.fill("/0", &large()).await;
}
