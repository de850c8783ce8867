//! The rules of the house, read from the source.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// The part of a file that is compiled into the library.
fn library(source: &str) -> &str {
    source.split("#[cfg(test)]\nmod tests").next().unwrap()
}

/// The room of a file: `store/memory.rs` and `store/mod.rs` are `store`.
fn room(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

/// From the bottom to the top. A room imports from those that stand before it, so there is no circle.
const ROOMS: [&str; 19] = [
    "semantics",
    "error",
    "runtime",
    "entry",
    "limits",
    "store",
    "policy",
    "body",
    "observe",
    "query_layer",
    "collapse",
    "shared",
    "respond",
    "fetch",
    "service",
    "handle",
    "layer",
    "schedules",
    "lib",
];

fn place(room: &str) -> usize {
    ROOMS.iter().position(|known| *known == room).unwrap_or_else(|| {
        panic!("the room {room} has no place: give it one here and in docs/ARCHITECTURE.md")
    })
}

#[test]
fn imports_never_point_upwards() {
    for (file, source) in sources() {
        let here = room(&file);
        for line in library(&source).lines().filter(|line| !line.trim_start().starts_with("//")) {
            assert!(
                !line.contains("crate::{"),
                "{file} imports by a group, which this test does not read: {line}"
            );
            for reference in line.split("crate::").skip(1) {
                let there: String =
                    reference.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                if !there.is_empty() {
                    assert!(place(&there) <= place(here), "{file} imports {there}: {line}");
                }
            }
        }
    }
}

#[test]
fn the_rules_are_pure() {
    for (file, source) in sources().iter().filter(|(file, _)| file.starts_with("semantics/")) {
        let source: String =
            library(source).lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for forbidden in ["tokio", "async ", "SystemTime::now", "Instant", "Arc<", "Mutex", "dyn ", "tower"] {
            assert!(!source.contains(forbidden), "{file} has {forbidden:?}");
        }
    }
}

#[test]
fn time_is_read_in_runtime_alone() {
    for (file, source) in sources() {
        let reads = library(&source)
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .any(|line| line.contains("SystemTime::now()") || line.contains("Instant::now()"));
        // The time of day, and how long something takes.
        assert!(!reads || room(&file) == "runtime", "{file} reads the time");
    }
}

#[test]
fn rooms_are_not_crowded() {
    for (file, source) in sources() {
        let lines = library(&source).lines().count();
        assert!(lines <= 600, "{file} has {lines} lines without its tests: is it two rooms?");
    }
}
