//! Files that somebody or something has changed.

use std::fs;
use std::path::{Path, PathBuf};

use larder::CacheKey;
use larder::store::{PurgeTarget, Store};

use super::{Node, Place, large};
use crate::support::Reply;

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Cut(usize),
    Flipped(usize),
    Gone,
    Longer,
    Other,
    Zeroed(usize),
}

impl Damage {
    /// At many places, from the beginning to the end.
    fn all(length: usize, places: usize) -> Vec<Self> {
        let place = |number: usize| number * length.saturating_sub(1) / (places - 1);
        let at =
            |number| [Self::Cut(place(number)), Self::Flipped(place(number)), Self::Zeroed(place(number))];
        (0..places).flat_map(at).chain([Self::Gone, Self::Longer, Self::Other]).collect()
    }

    fn to(self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        match self {
            Self::Cut(at) => bytes.truncate(at),
            Self::Flipped(at) => bytes[at] ^= 1 << (at % 8),
            Self::Gone => return fs::remove_file(path).unwrap(),
            Self::Longer => bytes.extend_from_slice(b"more"),
            Self::Other => bytes = b"../../etc/passwd".to_vec(),
            Self::Zeroed(at) => {
                let end = bytes.len().min(at + 512);
                bytes[at..end].fill(0);
            }
        }
        fs::write(path, bytes).unwrap();
    }
}

/// A folder as it was.
struct Copy(Vec<(PathBuf, Vec<u8>)>);

impl Copy {
    fn of(place: &Place) -> Self {
        let top = ["purges.redb", "last"].map(|name| place.path().join(name));
        let files = top.into_iter().chain(place.files());
        Self(files.map(|path| (path.clone(), fs::read(path).unwrap())).collect())
    }

    fn restore(&self, place: &Place) {
        place.files().iter().for_each(|path| fs::remove_file(path).unwrap());
        self.0.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    }
}

/// Fills a folder: one response in a record, one with content of its own, and one that was purged.
async fn filled(place: &Place) {
    let node = Node::open(place).await;
    node.fill("/small", "small").await;
    node.fill("/large", &large()).await;
    node.fill("/purged", "old").await;
    node.purge(PurgeTarget::uri("http://example.com/purged")).await;
    node.store.close().await;
}

/// Gets what the folder has or the origin brings. It is always right, or it breaks off.
async fn is_right(node: &Node, what: &str) {
    for (path, body) in [("/small", "small"), ("/large", large().as_str()), ("/purged", "new")] {
        let reply = Reply::cc(body, "max-age=60").field("etag", "\"1\"");
        node.bench.origin.then(reply);
        let seen = node.get(path).await;
        if seen.broken {
            assert!(path == "/large" && body.starts_with(&seen.body), "{what}: {path}");
        } else {
            assert!(seen.body == body, "{what}: {path} is {:?}", seen.body.get(..80));
        }
    }
}

async fn survives(file: impl Fn(&Place) -> PathBuf, places: usize) {
    let place = Place::new();
    filled(&place).await;
    let copy = Copy::of(&place);
    let path = file(&place);
    for damage in Damage::all(fs::metadata(&path).unwrap().len() as usize, places) {
        copy.restore(&place);
        damage.to(&path);
        let node = Node::open(&place).await;
        let what = format!("{damage:?} of {}", path.display());
        is_right(&node, &what).await;
        // What was wrong was replaced.
        is_right(&node, &what).await;
        node.store.close().await;
    }
}

fn of_largest(paths: Vec<PathBuf>) -> PathBuf {
    paths.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

#[tokio::test]
async fn f11_a_record_that_has_changed_is_a_miss_and_is_replaced() {
    survives(|place| of_largest(place.records()), 40).await;
}

#[tokio::test]
async fn f11_content_that_has_changed_is_a_miss_or_breaks_off_and_is_replaced() {
    survives(|place| of_largest(place.contents()), 24).await;
}

#[tokio::test]
async fn f11_where_what_was_purged_has_changed_nothing_that_was_purged_is_back() {
    survives(|place| place.path().join("purges.redb"), 40).await;
}

#[tokio::test]
async fn f11_where_the_number_of_the_last_purge_has_changed_nothing_that_was_purged_is_back() {
    survives(|place| place.path().join("last"), 16).await;
}

/// By a backup, or by a fault that has the database go back to its last state but one.
#[tokio::test]
async fn f11_a_database_that_has_gone_back_to_an_older_state_is_found_out() {
    let place = Place::new();
    let node = Node::open(&place).await;
    node.fill("/purged", "old").await;
    node.store.close().await;
    let database = place.path().join("purges.redb");
    let older = fs::read(&database).unwrap();
    let node = Node::open(&place).await;
    node.hits("/purged", "old").await;
    node.purge(PurgeTarget::uri("http://example.com/purged")).await;
    node.store.close().await;
    fs::write(&database, older).unwrap();
    let node = Node::open(&place).await;
    assert_eq!(node.held(), (0, 0), "the store is empty");
    node.fill("/purged", "new").await;
}

#[tokio::test]
async fn f11_content_that_breaks_off_breaks_off_for_its_reader_and_is_a_miss_for_the_next_one() {
    let place = Place::new();
    let node = Node::open(&place).await;
    let body = large();
    node.fill("/large", &body).await;
    let path = of_largest(place.contents());
    // In the last of five blocks; the first four are read before the head goes out.
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let seen = node.get("/large").await.told(super::HIT);
    assert!(seen.broken && seen.body == body[..4 * 65_536], "{} bytes", seen.body.len());
    assert_eq!(place.contents(), [] as [PathBuf; 0], "it was removed");
    node.fetch("/large", &body).await.told("larder; fwd=miss; stored; ttl=60");
    node.hits("/large", &body).await;
}

/// The file stays, but the store has no more of it than of what was never stored.
#[tokio::test]
async fn f11_a_purge_of_what_was_evicted_and_could_not_be_removed_is_not_lost() {
    let place = Place::new();
    let node = Node::with(place.builder().capacity(4 << 20)).await;
    node.fill("/purged", "old").await;
    // Reserves numbers: only then does a purge of nothing stay unwritten.
    node.purge(PurgeTarget::host("a.example")).await;
    let record = place.records().remove(0);
    let aside = place.path().join("aside");
    fs::rename(&record, &aside).unwrap();
    // A folder is not removed as a file is.
    fs::create_dir(&record).unwrap();
    let key = CacheKey::from_uri(&"http://example.com/purged".parse().unwrap()).unwrap();
    let mut number = 0;
    while node.store.try_get(&key).is_none() {
        node.fetch(&format!("/{number}"), &large()).await;
        number += 1;
        assert!(number < 100, "it is evicted");
    }
    node.purge(PurgeTarget::uri("http://example.com/purged")).await;
    node.store.close().await;
    fs::remove_dir(&record).unwrap();
    fs::rename(&aside, &record).unwrap();
    let node = Node::open(&place).await;
    node.fill("/purged", "new").await;
}

#[tokio::test]
async fn a23_files_that_are_none_of_the_stores_are_removed_and_harm_nobody() {
    let place = Place::new();
    filled(&place).await;
    let (record, others) = (place.records().remove(0), place.records().len() - 1);
    let folder = record.parent().unwrap().to_owned();
    let name = record.file_name().unwrap().to_str().unwrap().to_owned();
    let strangers = ["x", "notes.txt", &format!("{name}.x"), &format!("{name}0"), &name.to_uppercase()];
    strangers.iter().for_each(|stranger| fs::write(folder.join(stranger), "?").unwrap());
    // A record in another folder, content that no record says anything of, and a file that is too large for a record.
    let elsewhere = place.path().join("entries/zz");
    fs::create_dir_all(&elsewhere).unwrap();
    fs::copy(&record, elsewhere.join(&name)).unwrap();
    let of_nobody = folder.join(format!("{}.{}", name.replace(&name[..1], "0"), "0".repeat(32)));
    fs::write(&of_nobody, "?").unwrap();
    fs::File::create(&record).unwrap().set_len(1 << 40).unwrap();
    fs::write(place.path().join("staged/left"), "?").unwrap();
    let node = Node::open(&place).await;
    assert_eq!(node.held().1, others as u64, "one that is too large takes the room of nobody");
    is_right(&node, "strangers").await;
    for stranger in strangers {
        assert!(!folder.join(stranger).exists(), "{stranger}");
    }
    assert!(!of_nobody.exists() && !place.path().join("staged/left").exists());
    assert!(elsewhere.join(&name).exists(), "the store looks into its own folders only");
}
