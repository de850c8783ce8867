//! Rules about the source, read from the source: imports, purity, time, and the length of files.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use crate::support::source::{ModulePath, Source, arguments, files as sources, imports, names};

/// The part of a file that is compiled into the library.
fn library(source: &str) -> &str {
    source.split("#[cfg(test)]\nmod tests").next().unwrap()
}

/// The room of a file: `store/memory.rs` and `store/mod.rs` are `store`.
fn room(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

/// From the bottom to the top. A room imports from those that stand before it, so there is no circle.
const ROOMS: [&str; 23] = [
    "semantics",
    "error",
    "runtime",
    "entry",
    "limits",
    "store",
    "policy",
    "body",
    "observe",
    "error_pages",
    "query_layer",
    "slice",
    "viewer",
    "collapse",
    "shared",
    "respond",
    "fetch",
    "service",
    "handle",
    "admin",
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
fn rooms_import_only_from_rooms_below() {
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

/// Rooms whose files import each other in a circle: to be untangled.
const TANGLED: [&str; 3] = ["body", "entry", "store"];

/// Which files of `src` each file takes something from, by an import or a path. What comes by way of a re-export comes from
/// the file that defines it; a re-export itself takes nothing, unless its file uses the name.
fn references() -> BTreeMap<String, BTreeSet<String>> {
    let source = Source::read();
    let mut references: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, module) in &source.modules {
        let mut visitor = References::default();
        module.items.iter().for_each(|item| visitor.visit_item(item));
        let References { mut paths, reexports, names } = visitor;
        paths.extend(reexports.into_iter().filter(|(name, _)| names.contains(name)).map(|(_, path)| path));
        let found = paths.iter().filter_map(|named| defined_in(&source, path, named));
        references.entry(module.file.clone()).or_default().extend(found.filter(|file| *file != module.file));
    }
    references
}

/// The file that defines what a path leads to.
fn defined_in(source: &Source, from: &ModulePath, path: &[String]) -> Option<String> {
    let definition = source.definition(from, path).map(|(module, _)| module);
    let module = definition.or_else(|| Some(source.module_of(from, path)?.0))?;
    Some(source.modules[&module].file.clone())
}

/// What a file names.
#[derive(Default)]
struct References {
    paths: Vec<Vec<String>>,
    reexports: Vec<(String, Vec<String>)>,
    /// Names that stand alone: of variables, and of what was imported.
    names: BTreeSet<String>,
}

impl<'ast> Visit<'ast> for References {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut found = Vec::new();
        imports(&item.tree, &[], &mut found);
        for import in found {
            match (&item.vis, import.name) {
                (syn::Visibility::Inherited, _) | (_, None) => self.paths.push(import.path),
                (_, Some(name)) => self.reexports.push((name, import.path)),
            }
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        arguments(call).iter().for_each(|argument| self.visit_expr(argument));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = names(path);
        self.names.extend(names.first().cloned());
        if names.len() > 1 {
            self.paths.push(names);
        }
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

/// All that can be reached from a file, itself left out unless a circle leads back to it.
fn reached<'a>(from: &str, references: &'a BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = references[from].iter().map(String::as_str).collect();
    while let Some(file) = open.pop() {
        if reached.insert(file) {
            open.extend(references[file].iter().map(String::as_str));
        }
    }
    reached
}

#[test]
fn no_two_files_import_each_other_in_a_circle() {
    let references = references();
    let reached: BTreeMap<_, _> =
        references.keys().map(|file| (file.as_str(), reached(file, &references))).collect();
    let mut circles: BTreeMap<&str, BTreeSet<Vec<&str>>> = BTreeMap::new();
    for (&file, others) in reached.iter().filter(|(file, others)| others.contains(*file)) {
        let circle = others.iter().copied().filter(|other| reached[other].contains(file)).collect();
        circles.entry(room(file)).or_default().insert(circle);
    }
    for (room, circles) in &circles {
        assert!(TANGLED.contains(room), "files of {room} import each other in a circle: {circles:?}");
    }
    for room in TANGLED {
        assert!(circles.contains_key(room), "{room} is untangled: take it off the list");
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
fn no_file_has_more_than_600_lines_without_tests() {
    for (file, source) in sources() {
        let lines = library(&source).lines().count();
        assert!(lines <= 600, "{file} has {lines} lines without its tests: is it two rooms?");
    }
}
