//! Databases: what is read, what is refused, and what happens when the file changes.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, UNIX_EPOCH};

use larder::viewer::{Database, DatabaseFile, ViewerField};
use larder::{Clock, ClockHand, ViewerLayer};
use proptest::prelude::*;

use super::{BERLIN, LOS_ANGELES, UNKNOWN, asn, city, database, fields, from};
use crate::support::cases;
use crate::support::mmdb::{Mmdb, Value, map, named, text};

/// A file of its own for a test; it goes with the value.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("mmdb-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.join("x.mmdb")
    }

    /// As it should be done.
    fn replace(&self, bytes: &[u8]) {
        let new = self.0.join("new");
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// All addresses are in this country.
fn of(country: &str) -> Mmdb {
    let record = || map([("country", map([("iso_code", text(country))]))]);
    Mmdb::new("Test-Country").network("0.0.0.0/1", record()).network("128.0.0.0/1", record())
}

/// A database of a file, with what it reports: `reloaded`, or an error.
struct Watched {
    place: Place,
    clock: ClockHand,
    database: Database,
    layer: ViewerLayer,
    reports: Receiver<String>,
}

impl Watched {
    fn new(options: impl FnOnce(DatabaseFile) -> DatabaseFile) -> Self {
        let place = Place::new();
        place.replace(&of("US").bytes());
        let (clock, hand) = Clock::manual();
        let (report, reports): (Sender<String>, _) = channel();
        let errors = report.clone();
        let file = DatabaseFile::new(place.path())
            .clock(clock)
            .on_error(move |error| errors.send(error.to_string()).unwrap())
            .on_reload(move || report.send("reloaded".to_owned()).unwrap());
        let database = options(file).open().unwrap();
        let layer = ViewerLayer::new().only([ViewerField::Country]).database(database.clone());
        Self { place, clock: hand, database, layer, reports }
    }

    fn country(&self) -> String {
        fields(&self.layer, from(LOS_ANGELES)).concat().replace("viewer-country: ", "")
    }

    /// A minute later, a request makes it look at the file; waits for what it reports.
    fn look(&self) -> String {
        self.clock.advance(Duration::from_secs(60));
        // One look at a time: the one before may have reported, and not ended.
        let report = (0..3_000).find_map(|_| {
            self.country();
            self.reports.recv_timeout(Duration::from_millis(10)).ok()
        });
        report.unwrap().replace(self.place.0.to_str().unwrap(), "")
    }
}

#[test]
fn databases_of_every_shape_are_read() {
    for bits in [24, 28, 32] {
        let layer = ViewerLayer::new().only([ViewerField::City]).database(database(&city().bits(bits)));
        assert_eq!(fields(&layer, from(LOS_ANGELES)), ["viewer-city: Los Angeles"], "{bits}");
        assert_eq!(fields(&layer, from(BERLIN)), ["viewer-city: Berlin"], "{bits}");
        assert_eq!(fields(&layer, from(UNKNOWN)), Vec::<String>::new(), "{bits}");
    }
    let record = map([("city", map([("names", named("Los Angeles"))]))]);
    let v4 = Mmdb::new("Test").v4_only().network("198.51.100.0/24", record);
    let layer = ViewerLayer::new().only([ViewerField::City]).database(database(&v4));
    assert_eq!(fields(&layer, from(LOS_ANGELES)), ["viewer-city: Los Angeles"]);
    assert_eq!(fields(&layer, from(BERLIN)), Vec::<String>::new());
}

#[test]
fn the_writer_of_these_tests_writes_what_the_reader_verifies() {
    // Enough records for pointers of both lengths.
    let record = |number: u32| {
        let name = format!("place {number} with a name that is longer than twenty-eight bytes");
        map([("city", map([("names", named(&name))])), ("again", text(&name))])
    };
    let mmdb = (0..64)
        .fold(Mmdb::new("Test"), |mmdb, number| mmdb.network(&format!("10.{number}.0.0/16"), record(number)));
    let reader = maxminddb::Reader::from_source(mmdb.bytes()).unwrap();
    reader.verify().unwrap();
    for number in 0..64 {
        let address: IpAddr = format!("10.{number}.1.2").parse().unwrap();
        let found = reader.lookup(address).unwrap();
        let again: Option<String> = found.decode_path(&[maxminddb::PathElement::Key("again")]).unwrap();
        assert_eq!(
            again.unwrap(),
            format!("place {number} with a name that is longer than twenty-eight bytes")
        );
        assert_eq!(found.network().unwrap().to_string(), format!("10.{number}.0.0/16"));
    }
}

#[test]
fn a_database_says_when_it_was_made() {
    let made = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    assert_eq!(database(&asn()).built(), Some(made));
}

#[test]
fn what_is_no_database_is_an_error() {
    for (bytes, expected) in [
        (Vec::new(), "invalid database: could not find MaxMind DB metadata in file"),
        (b"<html>not found</html>".to_vec(), "invalid database: could not find MaxMind DB metadata in file"),
        (b"\xab\xcd\xefMaxMind.com".to_vec(), ""),
    ] {
        let error = Database::from_bytes(bytes).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(error.path(), None);
    }
    let missing = Database::open("/no/such/file.mmdb").unwrap_err();
    assert!(missing.to_string().starts_with("/no/such/file.mmdb: No such file"), "{missing}");
    assert_eq!(missing.path(), Some(Path::new("/no/such/file.mmdb")));
}

#[test]
fn a_truncated_database_is_an_error() {
    let whole = city().bytes();
    for length in 0..whole.len() {
        assert!(Database::from_bytes(whole[..length].to_vec()).is_err(), "{length} of {}", whole.len());
    }
    // What follows the metadata does not matter.
    let longer = [&whole[..], b"and more"].concat();
    let layer =
        ViewerLayer::new().only([ViewerField::Country]).database(Database::from_bytes(longer).unwrap());
    assert_eq!(fields(&layer, from(LOS_ANGELES)), ["viewer-country: US"]);
}

#[test]
fn a_record_that_is_not_as_it_should_be_gives_what_it_has() {
    // As another vendor has it.
    let record = map([
        ("asn", text("AS64496")),
        ("autonomous_system_number", text("64496")),
        ("city", text("Los Angeles")),
        ("country", map([("iso_code", text("US")), ("names", text("United States"))])),
        ("location", map([("latitude", text("34")), ("time_zone", Value::U16(7))])),
        ("subdivisions", map([])),
    ]);
    let place = Place::new();
    place.replace(&Mmdb::new("Another").network("198.51.100.0/24", record).bytes());
    let (report, reports) = channel();
    let file = DatabaseFile::new(place.path()).on_error(move |error| report.send(error.to_string()).unwrap());
    let layer = ViewerLayer::new().only([ViewerField::GEOGRAPHY, ViewerField::NETWORK].concat());
    let layer = layer.database(file.open().unwrap());
    for _ in 0..3 {
        assert_eq!(fields(&layer, from(LOS_ANGELES)), ["viewer-country: US"]);
    }
    let reported: Vec<_> = reports.try_iter().collect();
    assert_eq!(reported.len(), 1, "once is enough: {reported:?}");
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_broken_database_makes_no_panic(
        at: prop::sample::Index, bytes in prop::collection::vec(any::<u8>(), 1..9), verify: bool,
    ) {
        let mut broken = city().bits(28).bytes();
        let at = at.index(broken.len() - bytes.len());
        broken[at..at + bytes.len()].copy_from_slice(&bytes);
        let place = Place::new();
        place.replace(&broken);
        // Pointers and sizes that lead anywhere: an error at once, or fields that are missing or wrong.
        if let Ok(database) = DatabaseFile::new(place.path()).verify(verify).open() {
            let layer = ViewerLayer::new().database(database);
            for address in [LOS_ANGELES, BERLIN, UNKNOWN] {
                fields(&layer, from(address));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_an_error_or_a_database(bytes: Vec<u8>) {
        let marked = [&bytes[..], b"\xab\xcd\xefMaxMind.com", &bytes[..]].concat();
        let _ = (Database::from_bytes(bytes), Database::from_bytes(marked));
    }
}

#[tokio::test]
async fn a_file_that_was_replaced_is_read_while_requests_go_on() {
    let watched = Watched::new(|file| file);
    assert_eq!(watched.country(), "US");
    watched.place.replace(&of("DE").bytes());
    watched.clock.advance(Duration::from_secs(59));
    assert_eq!(watched.country(), "US");
    assert_eq!(watched.reports.try_recv().ok(), None, "nobody has looked");
    watched.clock.advance(Duration::from_secs(1));
    // The request that starts it does not wait for it.
    watched.country();
    assert_eq!(watched.reports.recv_timeout(Duration::from_secs(30)).unwrap(), "reloaded");
    assert_eq!(watched.country(), "DE");
    assert!(!watched.database.reload().await.unwrap(), "it has not changed");
}

#[tokio::test]
async fn a_broken_file_leaves_the_old_database_in_use_and_is_reported_once() {
    let watched = Watched::new(|file| file);
    let whole = of("DE").bytes();
    watched.place.replace(&whole[..whole.len() / 2]);
    let error = watched.look();
    assert!(error.starts_with("/x.mmdb: invalid database"), "{error}");
    assert_eq!(watched.country(), "US");
    // The same file again is not read again by itself.
    watched.clock.advance(Duration::from_secs(60));
    watched.country();
    let asked = watched.database.reload().await.unwrap_err();
    assert!(asked.to_string().contains("invalid database"), "{asked}");
    assert_eq!(watched.reports.try_iter().count(), 1, "of the one who asked");
    assert_eq!(watched.country(), "US");
    watched.place.replace(&whole);
    assert_eq!(watched.look(), "reloaded");
    assert_eq!(watched.country(), "DE");
}

#[tokio::test]
async fn a_file_that_is_away_leaves_the_old_database_in_use() {
    let watched = Watched::new(|file| file);
    std::fs::remove_file(watched.place.path()).unwrap();
    let error = watched.look();
    assert!(error.starts_with("/x.mmdb: No such file"), "{error}");
    assert_eq!(watched.country(), "US");
    watched.place.replace(&of("DE").bytes());
    assert_eq!(watched.look(), "reloaded");
    assert_eq!(watched.country(), "DE");
}

#[tokio::test]
async fn a_file_that_is_a_mixture_of_two_is_noticed() {
    let watched = Watched::new(|file| file);
    // The beginning of one, and the end of another one.
    let (mut mixed, other) = (city().bytes(), city().bits(32).bytes());
    mixed.truncate(other.len() / 2);
    mixed.extend_from_slice(&other[other.len() / 2..]);
    std::fs::write(watched.place.path(), &mixed).unwrap();
    let error = watched.look();
    assert!(error.starts_with("/x.mmdb: "), "{error}");
    assert_eq!(watched.country(), "US");
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_read() {
    let watched = Watched::new(|file| file.max_size(10_000));
    watched.place.replace(&[0; 10_001]);
    assert_eq!(watched.look(), "/x.mmdb: the file is larger than 10000 bytes");
    assert_eq!(watched.country(), "US");
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_end_the_looks() {
    let watched = Watched::new(|file| file);
    watched.clock.set_back(Duration::from_secs(1_000_000));
    watched.place.replace(&of("DE").bytes());
    assert_eq!(watched.look(), "reloaded");
}

#[test]
fn without_a_runtime_requests_go_on_and_the_file_is_read_when_asked() {
    let watched = Watched::new(|file| file);
    watched.place.replace(&of("DE").bytes());
    watched.clock.advance(Duration::from_secs(60));
    assert_eq!(watched.country(), "US");
    assert!(crate::support::alone(watched.database.reload()).unwrap());
    assert_eq!(watched.country(), "DE");
}

#[tokio::test]
async fn a_database_in_memory_has_nothing_to_reload() {
    assert!(!database(&city()).reload().await.unwrap());
}
