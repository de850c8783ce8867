//! The documents agree with the code and with each other: ids, names of tests, tables, links.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use larder::KeyError;
use larder::semantics::cache_status::Detail;
use larder::semantics::reuse::Forward;
use larder::semantics::storing::NotStored;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a folder with this ending, in a fixed order.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![root().join(folder)], BTreeSet::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                files.insert(path);
            }
        }
    }
    files.into_iter().collect()
}

fn code() -> String {
    ["src", "tests"].iter().flat_map(|folder| files(folder, "rs")).map(read).collect()
}

/// The names of all functions in `src` and `tests`.
fn functions(code: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = code.split("fn ").skip(1).map(|after| after.split(|c| !is_name(c)).next().unwrap());
    names.filter(|name| !name.is_empty()).collect()
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
        ("CF", 15),
        ("FA", 13),
        ("FE", 1),
        ("KX", 11),
        ("A", 41),
        ("F", 18),
        ("B", 20),
    ];
    let single = ["QY", "CL", "DC", "EH"].map(str::to_owned);
    let numbered =
        numbered.iter().flat_map(|(name, last)| (1..=*last).map(move |number| format!("{name}{number}")));
    numbered.chain(single).collect()
}

/// How the names of a row's tests begin: `a07_` for A7, `st1_` for ST1, `qy_` for QY.
fn prefix(id: &str) -> String {
    let (letters, number) = id.split_at(id.find(|c: char| c.is_ascii_digit()).unwrap_or(id.len()));
    let letters_in_tests = letters.to_lowercase();
    match number.parse::<u32>() {
        Ok(number) if letters.len() == 1 => format!("{letters_in_tests}{number:02}_"),
        _ => format!("{letters_in_tests}{number}_"),
    }
}

/// A row of the conformance table.
struct Row {
    state: String,
    /// The tests that it names, because they carry another id or none.
    shown_by: Vec<String>,
}

fn rows() -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for line in read("docs/CONFORMANCE.md").lines() {
        let cells: Vec<_> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if cells.len() != 4 || !ids().iter().any(|id| id == cells[0]) {
            continue;
        }
        let named = cells[3].split("Shown by ").nth(1).unwrap_or_default();
        let shown_by = named.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let row = rows.insert(cells[0].to_owned(), Row { state: cells[2].to_owned(), shown_by });
        assert!(row.is_none(), "{} has two rows", cells[0]);
    }
    rows
}

#[test]
fn every_id_has_a_row_and_every_row_that_is_built_has_a_test() {
    let (rows, code) = (rows(), code());
    let functions = functions(&code);
    for id in ids() {
        let Row { state, shown_by } =
            rows.get(&id).unwrap_or_else(|| panic!("{id} has no row in docs/CONFORMANCE.md"));
        assert!(["built", "partly", "not yet", "deviates"].contains(&state.as_str()), "{id}: {state:?}");
        for test in shown_by {
            assert!(functions.contains(test.as_str()), "{id}: there is no test {test}");
        }
        let prefix = prefix(&id);
        let is_shown = !shown_by.is_empty() || functions.iter().any(|name| name.starts_with(&prefix));
        assert!(state != "built" || is_shown, "{id} is built, and no test is named {prefix}...");
    }
}

#[test]
fn every_test_that_the_architecture_names_exists() {
    let (document, code) = (read("docs/ARCHITECTURE.md"), code());
    let functions = functions(&code);
    let invariants = document.split("\n## Invariants\n").nth(1).expect("a section of invariants");
    let invariants = invariants.split("\n## ").next().unwrap();
    // Names of three words and more are tests; what is shorter may be anything.
    let names: Vec<_> =
        invariants.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() >= 2).collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        assert!(functions.contains(name), "docs/ARCHITECTURE.md names a test {name}, which does not exist");
    }
}

/// The words of `Cache-Status`: each string that an `as_str` returns, and those by which this crate's own policies bypass and
/// refuse.
fn words() -> BTreeSet<String> {
    let strings = |text: &str| text.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let of_policies = read("src/policy/words.rs");
    let constants = of_policies.lines().filter(|line| line.contains(": &str = "));
    let mut words: BTreeSet<_> = constants.flat_map(strings).collect();
    // Words for counting and drawing, of which no field says anything.
    let (kinds, admin) = (root().join("src/semantics/outcome_kind.rs"), root().join("src/admin"));
    let is_elsewhere = |file: &PathBuf| *file == kinds || file.starts_with(&admin);
    for file in files("src", "rs").into_iter().filter(|file| !is_elsewhere(file)) {
        for body in read(file).split("fn as_str(").skip(1) {
            words.extend(strings(body.split("\n    }\n").next().unwrap()));
        }
    }
    words
}

/// Those that say why a request was forwarded.
pub fn forwards() -> BTreeSet<String> {
    Forward::ALL.iter().map(|forward| forward.as_str().to_owned()).collect()
}

/// Those that are a `detail`.
pub fn details() -> BTreeSet<String> {
    let forwards = forwards();
    // `method` and `partial` are both.
    let both = NotStored::ALL.iter().map(|reason| reason.as_str().to_owned());
    let details = words().into_iter().filter(|word| !forwards.contains(word)).chain(both);
    details.chain(["only-if-cached".to_owned()]).collect()
}

#[test]
fn every_word_of_cache_status_is_in_a_list() {
    let own =
        Detail::PLAIN.iter().map(Detail::as_str).chain(KeyError::ALL.iter().map(|error| error.as_str()));
    let listed: BTreeSet<_> =
        own.chain(NotStored::ALL.iter().map(|reason| reason.as_str())).map(str::to_owned).collect();
    let of_policies = read("src/policy/words.rs");
    for word in words() {
        let is_listed = listed.contains(&word) || of_policies.contains(&format!("\"{word}\""));
        assert!(is_listed || forwards().contains(&word), "{word:?} is in no list of the crate");
    }
}

#[test]
fn the_words_of_policies_of_this_crate_are_in_one_place() {
    for file in files("src", "rs") {
        let source = read(&file);
        let library = source.split("#[cfg(test)]\nmod tests").next().unwrap();
        for line in library.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let says = line.contains("bypass(\"") || line.contains("refuse(\"");
            assert!(!says, "{}: the word belongs into src/policy/words.rs: {line}", file.display());
        }
    }
}

#[test]
fn every_reason_has_a_row_that_says_what_to_do_and_every_row_is_of_a_reason() {
    let (page, forwards, details) = (read("docs/WHY.md"), forwards(), details());
    assert!(forwards.len() >= 8 && details.len() > 40, "{forwards:?} {details:?}");
    let tables = page.split("\n## Why it was forwarded").nth(1).expect("the tables");
    let rows = tables.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: Vec<_> = rows.map(|row| row.split('`').next().unwrap().to_owned()).collect();
    let once: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(rows.len(), once.len(), "a word of docs/WHY.md has two rows: {rows:?}");
    let reasons = forwards.iter().map(|word| format!("fwd={word}")).chain(details);
    assert_eq!(once, reasons.collect(), "the rows of docs/WHY.md, and the words of Cache-Status");
}

#[test]
fn the_guide_has_every_switch_of_the_standard_policy() {
    let guide = read("docs/GUIDE.md");
    let policy: String = files("src/policy/standard", "rs").into_iter().map(read).collect();
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let methods = policy.split("pub fn ").skip(1);
    let switches = methods.filter(|method| method.contains("(mut self"));
    let switches: BTreeSet<_> =
        switches.map(|method| method.split(|c| !is_name(c)).next().unwrap()).collect();
    assert!(switches.len() > 15, "{switches:?}");
    for switch in switches {
        assert!(guide.contains(&format!("| `{switch}(")), "docs/GUIDE.md has no row for the switch {switch}");
    }
}

#[test]
fn the_guide_has_every_option_of_the_builder() {
    let (guide, layer) = (read("docs/GUIDE.md"), read("src/layer.rs"));
    let builder = layer.split("impl<S: Store> CacheBuilder<S> {").nth(1).expect("the options");
    let builder = builder.split("\n}\n").next().unwrap();
    let options: Vec<_> =
        builder.split("pub fn ").skip(1).map(|after| after.split(['(', '<']).next().unwrap()).collect();
    assert!(options.len() > 10, "{options:?}");
    for option in options.into_iter().filter(|option| *option != "build") {
        assert!(guide.contains(&format!("`{option}(")), "docs/GUIDE.md does not explain the option {option}");
    }
}

#[test]
fn the_page_about_watching_has_every_event() {
    let (page, events) = (read("docs/WATCHING.md"), read("src/observe/event.rs"));
    let events = events.split("pub enum Event<").nth(1).expect("the events").split("\n}\n").next().unwrap();
    // A variant stands four blanks deep, and has fields.
    let is_variant =
        |line: &&str| line.starts_with("    ") && line.ends_with(" {") && !line.starts_with("     ");
    let names: Vec<_> =
        events.lines().filter(is_variant).map(|line| line.trim().trim_end_matches(" {")).collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        assert!(
            page.contains(&format!("| `Event::{name}` |")),
            "docs/WATCHING.md has no row for Event::{name}"
        );
    }
}

/// How GitHub names the anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

/// The text of a document without its blocks of code.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let mut documents = files("docs", "md");
    documents.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name)));
    let mut links = 0;
    for document in &documents {
        let text = prose(&read(document));
        for link in text.split("](").skip(1).map(|after| after.split(')').next().unwrap()) {
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", document.display());
            if !heading.is_empty() {
                let target = prose(&read(target));
                let mut headings = target.lines().filter(|line| line.starts_with('#'));
                let is_there = headings.any(|line| anchor(line.trim_start_matches('#')) == heading);
                assert!(is_there, "{}: {link} names a heading that is not there", document.display());
            }
        }
    }
    assert!(links > 50, "{links}");
}

#[test]
fn the_design_index_lists_every_question() {
    let index = read("docs/DESIGN.md");
    for page in files("docs/design", "md") {
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        for question in read(&page).lines().filter_map(|line| line.strip_prefix("## ")) {
            let link = format!("(design/{name}#{})", anchor(question));
            assert!(index.contains(&link), "docs/DESIGN.md does not list {question:?} of {name}: {link}");
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
