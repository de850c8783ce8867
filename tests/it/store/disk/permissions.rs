//! What a process may not read or write. Whoever runs as root may all, so these processes do not.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;

use super::{FILLED, HIT, Node, Place, Process, is, large, place_of_parent};
use crate::support::Reply;
use crate::support::on_disk::patient;

/// Of nobody in particular.
const NOBODY: u32 = 65_534;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn give(path: &Path, to: u32) {
    chown(path, Some(to), Some(to)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|file| give(&file.unwrap().path(), to));
    }
}

/// Runs a test on a folder as its owner, who is not root. Whether that can be done.
fn run(place: &Place, name: &str) -> bool {
    let mut command = Process::command(module_path!(), name, place, &[]);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        give(place.path(), NOBODY);
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
    }
    match command.spawn() {
        Ok(child) => {
            assert!(Process(child).0.wait().unwrap().success(), "{name}");
            true
        }
        Err(error) => {
            println!("not tried: nobody else can run this program ({error})");
            false
        }
    }
}

/// A folder with something small and something large.
async fn filled() -> Place {
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/small", "small").await;
    node.fill("/large", &large()).await;
    node.store.close().await;
    place
}

#[tokio::test]
#[ignore = "the process of a_folder_that_may_not_be_read_is_an_error"]
async fn the_process_that_may_not_open_the_folder() {
    let Some(folder) = place_of_parent() else { return };
    let error = patient(&folder).open().await.unwrap_err();
    assert!(!error.is_in_use() && error.to_string().contains("Permission denied"), "{error}");
}

#[tokio::test]
async fn a_folder_that_may_not_be_read_is_an_error_and_nothing_is_lost() {
    let place = filled().await;
    let entries = place.records()[0].parent().unwrap().to_owned();
    for what in [
        entries,
        place.path().join("entries"),
        place.path().join("lock"),
        place.path().join("purges.redb"),
        place.path().join("last"),
    ] {
        let before = fs::metadata(&what).unwrap().permissions();
        mode(&what, 0);
        if !run(&place, "the_process_that_may_not_open_the_folder") {
            return;
        }
        fs::set_permissions(&what, before).unwrap();
        let node = Node::open(&place).await;
        node.hits("/small", "small").await;
        node.hits("/large", &large()).await;
        node.store.close().await;
    }
}

#[tokio::test]
#[ignore = "the process of f11_files_that_may_not_be_read_are_misses_and_are_replaced"]
async fn the_process_that_may_not_read_files() {
    let Some(folder) = place_of_parent() else { return };
    let node = Node::with(patient(&folder)).await;
    for (path, body) in [("/small", "small"), ("/large", &large())] {
        node.bench.origin.then(Reply::cc(body, "max-age=60").field("etag", "\"1\""));
        let seen = is(node.get(path).await, body);
        assert!(!seen.is_hit(), "{path}: {seen:?}");
        node.hits(path, body).await;
    }
}

#[tokio::test]
async fn f11_files_that_may_not_be_read_are_misses_and_are_replaced() {
    let place = filled().await;
    place.files().iter().for_each(|path| mode(path, 0));
    run(&place, "the_process_that_may_not_read_files");
}

#[tokio::test]
#[ignore = "the process of a_folder_that_may_not_be_written_costs_no_answer"]
async fn the_process_that_may_not_write() {
    let Some(folder) = place_of_parent() else { return };
    let node = Node::with(patient(&folder)).await;
    node.hits("/small", "small").await;
    for (path, body) in [("/new", "new"), ("/large/new", &large())] {
        let seen = node.fetch(path, body).await;
        assert!(!seen.is_hit(), "{path}: {seen:?}");
    }
    mode(&folder.join("staged"), 0o700);
    node.fill("/newer", "newer").await;
    is(node.get("/newer").await, "newer").told(HIT);
    node.fetch("/newest", "newest").await.told(FILLED);
}

#[tokio::test]
async fn f11_a_folder_that_may_not_be_written_costs_no_answer() {
    let place = filled().await;
    mode(&place.path().join("staged"), 0o500);
    run(&place, "the_process_that_may_not_write");
}
