//! The library's source as modules and items, for tests that read it. Unit tests, and what only the schedule explorer
//! compiles, are left out.

use std::collections::BTreeMap;
use std::path::Path;

use syn::punctuated::Punctuated;
use syn::{Attribute, Item, Token, UseTree, Visibility};

/// Where a module is: empty for the crate's root, `["semantics", "reuse"]`.
pub type ModulePath = Vec<String>;

pub struct Module {
    /// Below `src`. Modules within a file have that of the file.
    pub file: String,
    pub items: Vec<Item>,
}

pub struct Source {
    pub modules: BTreeMap<ModulePath, Module>,
}

/// One name that a `use` brings in.
pub struct Import {
    /// `["super", "freshness", "lifetime"]`; of a glob, without the glob.
    pub path: Vec<String>,
    /// Under which it is known; `None` of a glob.
    pub name: Option<String>,
}

/// Every file of Rust in `src`, by its path below it.
pub fn files() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

impl Source {
    pub fn read() -> Self {
        let mut source = Self { modules: BTreeMap::new() };
        for (file, text) in files() {
            let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
            let place = file.trim_end_matches(".rs").trim_end_matches("/mod");
            let path =
                if place == "lib" { Vec::new() } else { place.split('/').map(str::to_owned).collect() };
            source.add(path, &file, parsed.items);
        }
        source
    }

    fn add(&mut self, path: ModulePath, file: &str, items: Vec<Item>) {
        let mut kept = Vec::new();
        for item in items.into_iter().filter(|item| is_in_the_library(attributes(item))) {
            match item {
                Item::Mod(mut inner) => {
                    if let Some((_, items)) = inner.content.take() {
                        let mut path = path.clone();
                        path.push(inner.ident.to_string());
                        self.add(path, file, items);
                    }
                    kept.push(Item::Mod(inner));
                }
                // `pin_project! { .. }` around a definition.
                Item::Macro(call) => match syn::parse2::<syn::File>(call.mac.tokens.clone()) {
                    Ok(inner) if call.ident.is_none() => kept.extend(inner.items),
                    _ => kept.push(Item::Macro(call)),
                },
                item => kept.push(item),
            }
        }
        self.modules.insert(path, Module { file: file.to_owned(), items: kept });
    }

    /// The module to which a path leads and what is left of it, for one that stands in `from`; `None` for a path out of the
    /// crate.
    pub fn module_of(&self, from: &ModulePath, path: &[String]) -> Option<(ModulePath, Vec<String>)> {
        let first = path.first()?;
        let (mut module, mut rest) = match first.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (from.clone(), &path[1..]),
            "super" => (from[..from.len().checked_sub(1)?].to_vec(), &path[1..]),
            name if self.has(from, name) => (from.clone(), path),
            _ => return None,
        };
        while let Some(next) = rest.first() {
            if next == "super" {
                module.pop();
            } else if self.has(&module, next) {
                module.push(next.clone());
            } else {
                break;
            }
            rest = &rest[1..];
        }
        Some((module, rest.to_vec()))
    }

    fn has(&self, module: &ModulePath, name: &str) -> bool {
        let mut path = module.clone();
        path.push(name.to_owned());
        self.modules.contains_key(&path)
    }

    /// Where the item to which a path leads is defined, through imports and re-exports, and its name there.
    pub fn definition(&self, from: &ModulePath, path: &[String]) -> Option<(ModulePath, String)> {
        let (module, rest) = match self.module_of(from, path) {
            Some(found) => found,
            None if path.len() == 1 => (from.clone(), path.to_vec()),
            // `module::Item` where the module was imported.
            None => {
                let import = self.imports(from).find(|import| import.name.as_ref() == path.first())?;
                let path: Vec<_> = import.path.iter().chain(&path[1..]).cloned().collect();
                self.module_of(from, &path)?
            }
        };
        let [name] = rest.as_slice() else {
            return None;
        };
        let items = &self.modules.get(&module)?.items;
        if items.iter().any(|item| self::name(item).as_ref() == Some(name)) {
            return Some((module, name.clone()));
        }
        let import = self.imports(&module).find(|import| import.name.as_ref() == Some(name))?;
        // `use x::x` leads nowhere else.
        if import.path == path { None } else { self.definition(&module, &import.path) }
    }

    fn imports(&self, module: &ModulePath) -> impl Iterator<Item = Import> {
        let items = self.modules.get(module).map_or(&[][..], |module| &module.items);
        items.iter().filter_map(|item| if let Item::Use(item) = item { Some(item) } else { None }).flat_map(
            |item| {
                let mut found = Vec::new();
                imports(&item.tree, &[], &mut found);
                found
            },
        )
    }
}

/// The names that a tree of imports brings in.
pub fn imports(tree: &UseTree, before: &[String], found: &mut Vec<Import>) {
    let with = |ident: &syn::Ident| -> Vec<String> {
        before.iter().cloned().chain(Some(ident.to_string())).collect()
    };
    match tree {
        UseTree::Path(tree) => imports(&tree.tree, &with(&tree.ident), found),
        UseTree::Name(tree) if tree.ident == "self" => {
            found.push(Import { path: before.to_vec(), name: before.last().cloned() });
        }
        UseTree::Name(tree) => {
            found.push(Import { path: with(&tree.ident), name: Some(tree.ident.to_string()) });
        }
        UseTree::Rename(tree) if tree.ident == "self" => {
            found.push(Import { path: before.to_vec(), name: Some(tree.rename.to_string()) });
        }
        UseTree::Rename(tree) => {
            found.push(Import { path: with(&tree.ident), name: Some(tree.rename.to_string()) });
        }
        UseTree::Glob(_) => found.push(Import { path: before.to_vec(), name: None }),
        UseTree::Group(tree) => tree.items.iter().for_each(|tree| imports(tree, before, found)),
    }
}

/// What is compiled for use: not for unit tests, and not for the schedule explorer.
fn is_in_the_library(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).all(|attribute| {
        let Ok(list) = attribute.meta.require_list() else {
            return true;
        };
        let condition = list.tokens.to_string();
        // Some features are compiled for unit tests, too.
        condition.starts_with("any (feature") || (!condition.contains("test") && condition != "shuttle")
    })
}

pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The name under which an item is defined.
pub fn name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

pub fn is_public(item: &Item) -> bool {
    let visibility = match item {
        Item::Const(item) => &item.vis,
        Item::Enum(item) => &item.vis,
        Item::Fn(item) => &item.vis,
        Item::Mod(item) => &item.vis,
        Item::Static(item) => &item.vis,
        Item::Struct(item) => &item.vis,
        Item::Trait(item) => &item.vis,
        Item::Type(item) => &item.vis,
        Item::Union(item) => &item.vis,
        Item::Use(item) => &item.vis,
        _ => return false,
    };
    matches!(visibility, Visibility::Public(_))
}

/// What a macro is called with, where that is a list of expressions, as in `assert_eq!` and `format!`.
pub fn arguments(call: &syn::Macro) -> Vec<syn::Expr> {
    call.parse_body_with(Punctuated::<syn::Expr, Token![,]>::parse_terminated)
        .map(|list| list.into_iter().collect())
        .unwrap_or_default()
}

/// The names of a path, without arguments.
pub fn names(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}
