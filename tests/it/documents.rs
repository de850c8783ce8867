//! The documents say what is so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn code() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = vec![root.join("src"), root.join("tests")];
    let mut code = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                code.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    code
}

/// Every id of the checklists.
fn ids() -> Vec<String> {
    let numbered = [
        ("ST", 11),
        ("FR", 6),
        ("RE", 6),
        ("VA", 5),
        ("VL", 6),
        ("RA", 4),
        ("IN", 2),
        ("TC", 2),
        ("CS", 2),
        ("CF", 7),
        ("FA", 8),
        ("FE", 1),
        ("A", 39),
        ("F", 18),
        ("B", 20),
    ];
    let single = ["QY", "CL", "DC", "EH"].map(str::to_owned);
    let numbered =
        numbered.iter().flat_map(|(name, last)| (1..=*last).map(move |number| format!("{name}{number}")));
    numbered.chain(single).collect()
}

/// The rows of the conformance table: id to (state, tests).
fn rows() -> BTreeMap<String, (String, Vec<String>)> {
    let mut rows = BTreeMap::new();
    for line in read("docs/CONFORMANCE.md").lines() {
        let cells: Vec<_> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if cells.len() < 5 || !ids().iter().any(|id| id == cells[0]) {
            continue;
        }
        let tests = cells[3].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let row = rows.insert(cells[0].to_owned(), (cells[2].to_owned(), tests));
        assert!(row.is_none(), "{} has two rows", cells[0]);
    }
    rows
}

#[test]
fn every_id_has_a_row_and_every_test_named_there_exists() {
    let (rows, code) = (rows(), code());
    for id in ids() {
        let (state, tests) =
            rows.get(&id).unwrap_or_else(|| panic!("{id} has no row in docs/CONFORMANCE.md"));
        assert!(["built", "partly", "not yet", "deviates"].contains(&state.as_str()), "{id}: {state:?}");
        assert!(state != "built" || !tests.is_empty(), "{id} is built, and no test shows it");
        for test in tests {
            let found = ["(", "<"].iter().any(|after| code.contains(&format!("fn {test}{after}")));
            assert!(found, "{id}: there is no test {test}");
        }
    }
}

#[test]
fn every_feature_is_in_the_readme_or_the_crate_documentation() {
    let manifest = read("Cargo.toml");
    let features = manifest.split("[features]").nth(1).unwrap().split("\n[").next().unwrap();
    for line in features.lines().filter(|line| line.contains('=') && !line.starts_with("default")) {
        let name = line.split('=').next().unwrap().trim();
        assert!(read("src/lib.rs").contains(&format!("`{name}`")), "the feature {name} is not documented");
    }
}
