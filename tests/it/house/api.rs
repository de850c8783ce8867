//! The public API is the list in `docs/api.txt`, one item a line.
//!
//! The list is made from the source, so that it needs no nightly toolchain: from `lib.rs` on, what is `pub` in modules that
//! are, or re-exported from modules that are not, with the inherent methods and the trait implementations of each type. Types
//! are spelled as in the source. What it does not see: auto traits, blanket implementations, and the values of constants.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Fields, ImplItem, Item, TraitItem, Type, Visibility};

use crate::support::source::{self, ModulePath, Source, attributes, is_public, name, names};

const LIST: &str = "docs/api.txt";

#[test]
fn the_public_api_is_the_committed_list() {
    let found = Api::of(&Source::read()).lines();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(LIST);
    if std::env::var_os("LARDER_BLESS").is_some() {
        std::fs::write(&path, found.join("\n") + "\n").unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let committed: Vec<_> = committed.lines().collect();
    let mut changes = Vec::new();
    changes.extend(
        committed.iter().filter(|line| !found.iter().any(|new| new == *line)).map(|line| format!("- {line}")),
    );
    changes.extend(
        found.iter().filter(|line| !committed.contains(&line.as_str())).map(|line| format!("+ {line}")),
    );
    assert!(
        changes.is_empty(),
        "the public API has changed. If that is meant, say so in CHANGELOG.md, and accept it: \
         LARDER_BLESS=1 cargo test --all-features --test it -- house::api\n{}",
        changes.join("\n")
    );
    assert_eq!(committed, found, "{LIST} is not in order");
}

#[test]
fn every_struct_and_enum_of_the_api_can_grow_or_says_that_it_does_not() {
    let source = Source::read();
    let mut wrong = Vec::new();
    for (shown, module, item) in Api::of(&source).items {
        let (is_open, documentation) = match item {
            Item::Enum(item) => (true, documentation(&item.attrs)),
            Item::Struct(item) => {
                let fields: Vec<_> = item.fields.iter().collect();
                let is_open = !fields.is_empty() && fields.iter().all(|field| is_pub(&field.vis));
                (is_open, documentation(&item.attrs))
            }
            _ => continue,
        };
        let can_grow = attributes(item).iter().any(|attribute| attribute.path().is_ident("non_exhaustive"));
        let is_decided = !is_open || can_grow || documentation.contains("xhaustive on purpose");
        // `#[expect(clippy::exhaustive_enums, reason = "..")]` says it, too.
        let is_decided = is_decided
            || attributes(item).iter().any(|attribute| {
                let text = attribute.meta.require_list().map(|list| list.tokens.to_string());
                attribute.path().is_ident("expect") && text.is_ok_and(|text| text.contains("exhaustive_"))
            });
        if !is_decided {
            wrong.push(format!("{shown} in {module:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "these are neither #[non_exhaustive] nor documented to be exhaustive on purpose: {wrong:#?}"
    );
}

/// The path from outside of each item that has one, by where it is defined.
type Public = BTreeMap<(ModulePath, String), String>;

/// What can be named from outside the crate.
struct Api<'a> {
    source: &'a Source,
    /// By the path from outside, and the module in which it is defined.
    items: Vec<(String, ModulePath, &'a Item)>,
    lines: BTreeSet<String>,
}

impl<'a> Api<'a> {
    fn of(source: &'a Source) -> Self {
        let mut api = Self { source, items: Vec::new(), lines: BTreeSet::new() };
        api.walk(&Vec::new(), "larder");
        api
    }

    fn walk(&mut self, module: &ModulePath, shown: &str) {
        let items = &self.source.modules[module].items;
        for item in items.iter().filter(|item| is_public(item)) {
            match item {
                Item::Mod(inner) => {
                    let (shown, mut path) = (format!("{shown}::{}", inner.ident), module.clone());
                    path.push(inner.ident.to_string());
                    self.line(&shown, &format!("pub mod {}", inner.ident));
                    self.walk(&path, &shown);
                }
                Item::Use(inner) => {
                    let mut imports = Vec::new();
                    source::imports(&inner.tree, &[], &mut imports);
                    for import in imports {
                        let name = import.name.expect("a glob re-exports what nobody lists");
                        let shown = format!("{shown}::{name}");
                        match self.source.definition(module, &import.path) {
                            Some((module, name)) => self.add(shown, &module, &name),
                            None => self.line(&shown, &format!("pub use {}", import.path.join("::"))),
                        }
                    }
                }
                item => {
                    if let Some(name) = name(item) {
                        self.add(format!("{shown}::{name}"), module, &name);
                    }
                }
            }
        }
    }

    fn add(&mut self, shown: String, module: &ModulePath, defined: &str) {
        let items = &self.source.modules[module].items;
        let item = items.iter().find(|item| name(item).is_some_and(|name| name == defined));
        let item = item.unwrap_or_else(|| panic!("{shown} is not found in {module:?}"));
        assert!(is_public(item), "{shown} is re-exported and not public");
        self.items.push((shown, module.clone(), item));
    }

    fn line(&mut self, shown: &str, text: &str) {
        self.lines.insert(format!("{shown}: {text}"));
    }

    fn lines(mut self) -> Vec<String> {
        // What has several paths is listed under the shortest.
        let mut public = Public::new();
        for (shown, module, item) in &self.items {
            let known =
                public.entry((module.clone(), name(item).expect("a name"))).or_insert_with(|| shown.clone());
            if shown.split("::").count() < known.split("::").count() {
                known.clone_from(shown);
            }
        }
        for (shown, module, item) in std::mem::take(&mut self.items) {
            let known = &public[&(module, name(item).expect("a name"))];
            if *known == shown {
                self.item(&shown, item);
            } else {
                self.line(&shown, &format!("pub use {known}"));
            }
        }
        for (module, found) in &self.source.modules {
            for item in &found.items {
                if let Item::Impl(item) = item
                    && let Some(shown) = self.public(module, &item.self_ty, &public)
                {
                    self.implementation(&shown, module, item, &public);
                }
            }
        }
        self.lines.into_iter().collect()
    }

    /// Under which path the type of an `impl` is known outside.
    fn public(&self, module: &ModulePath, of: &Type, public: &Public) -> Option<String> {
        let Type::Path(of) = of else { return None };
        public.get(&self.source.definition(module, &names(&of.path))?).cloned()
    }

    fn item(&mut self, shown: &str, item: &Item) {
        let item = with_plain_attributes(item.clone());
        match item {
            Item::Const(mut item) => {
                item.expr = Box::new(syn::parse_quote!(_));
                self.line(shown, &text(Item::Const(item)));
            }
            Item::Enum(mut item) => {
                for variant in std::mem::take(&mut item.variants) {
                    let mut one = item.clone();
                    let path = format!("{shown}::{}", variant.ident);
                    one.attrs.clear();
                    one.variants.push(variant);
                    let text = text(Item::Enum(one));
                    let variant = text.split_once('{').unwrap().1.strip_suffix('}').unwrap().trim();
                    self.line(&path, variant.trim_end_matches(','));
                }
                self.line(shown, text(Item::Enum(item)).trim_end_matches([' ', '{', '}']));
            }
            Item::Fn(mut item) => {
                item.block.stmts.clear();
                self.line(shown, text(Item::Fn(item)).trim_end_matches([' ', '{', '}']));
            }
            Item::Static(mut item) => {
                item.expr = Box::new(syn::parse_quote!(_));
                self.line(shown, &text(Item::Static(item)));
            }
            Item::Struct(mut item) => {
                if let Fields::Named(fields) = &mut item.fields {
                    let all = std::mem::take(&mut fields.named);
                    let is_closed = all.iter().any(|field| !is_pub(&field.vis));
                    for field in all.iter().filter(|field| is_pub(&field.vis)) {
                        let (ident, kind) = (field.ident.as_ref().unwrap(), one_line_type(&field.ty));
                        self.line(&format!("{shown}::{ident}"), &format!("pub {ident}: {kind}"));
                    }
                    let head = text(Item::Struct(item));
                    let rest = if is_closed { " { .. }" } else { "" };
                    self.line(shown, &format!("{}{rest}", head.trim_end_matches([' ', '{', '}'])));
                } else {
                    for field in item.fields.iter_mut().filter(|field| !is_pub(&field.vis)) {
                        field.ty = syn::parse_quote!(_);
                    }
                    self.line(shown, &text(Item::Struct(item)));
                }
            }
            Item::Trait(mut item) => {
                for part in std::mem::take(&mut item.items) {
                    let mut one = item.clone();
                    let (ident, part, is_provided) = trait_item(part);
                    one.items.push(part);
                    let text = text(Item::Trait(one));
                    let part = text.split_once('{').unwrap().1.trim_end_matches([' ', ';', '{', '}']).trim();
                    let provided = if is_provided { " { .. }" } else { "" };
                    self.line(&format!("{shown}::{ident}"), &format!("{part}{provided}"));
                }
                self.line(shown, text(Item::Trait(item)).trim_end_matches([' ', '{', '}']));
            }
            item => self.line(shown, &text(item)),
        }
    }

    fn implementation(&mut self, shown: &str, module: &ModulePath, item: &syn::ItemImpl, public: &Public) {
        let mut head = item.clone();
        head.attrs.retain(is_plain);
        head.items.clear();
        if let Some((of, _)) = &item.trait_ {
            let mut locals = Locals { api: self, module, public, has_private: false };
            locals.visit_path(of);
            if locals.has_private {
                return; // of use within the crate only
            }
            head.items.extend(item.items.iter().filter(|item| matches!(item, ImplItem::Type(_))).cloned());
            self.line(shown, text(Item::Impl(head)).trim_end_matches(" {}"));
            return;
        }
        for part in &item.items {
            let (ident, part) = match part {
                ImplItem::Fn(part) if is_pub(&part.vis) => {
                    let mut part = part.clone();
                    part.attrs.retain(is_plain);
                    part.block.stmts.clear();
                    (part.sig.ident.clone(), ImplItem::Fn(part))
                }
                ImplItem::Const(part) if is_pub(&part.vis) => {
                    let mut part = part.clone();
                    part.attrs.retain(is_plain);
                    part.expr = syn::parse_quote!(_);
                    (part.ident.clone(), ImplItem::Const(part))
                }
                _ => continue,
            };
            let mut one = head.clone();
            one.items.push(part);
            let text = text(Item::Impl(one)).replace(" {} }", " }").replace("(mut self", "(self");
            let text = if head.generics.params.is_empty() {
                text.split_once('{').unwrap().1.trim_end_matches(['}', ' ']).trim()
            } else {
                &text
            };
            self.line(&format!("{shown}::{ident}"), text);
        }
    }
}

/// Looks for types and traits of the crate that cannot be named outside.
struct Locals<'a, 'b> {
    api: &'a Api<'b>,
    module: &'a ModulePath,
    public: &'a Public,
    has_private: bool,
}

impl<'ast> Visit<'ast> for Locals<'_, '_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let own = self.api.source.definition(self.module, &names(path));
        self.has_private |= own.is_some_and(|own| !self.public.contains_key(&own));
        visit::visit_path(self, path);
    }
}

/// The name of a part of a trait, the part without its body, and whether it has one.
fn trait_item(part: TraitItem) -> (syn::Ident, TraitItem, bool) {
    match part {
        TraitItem::Const(mut part) => {
            part.attrs.retain(is_plain);
            let is_provided = part.default.take().is_some();
            (part.ident.clone(), TraitItem::Const(part), is_provided)
        }
        TraitItem::Fn(mut part) => {
            part.attrs.retain(is_plain);
            let is_provided = part.default.take().is_some();
            (part.sig.ident.clone(), TraitItem::Fn(part), is_provided)
        }
        TraitItem::Type(mut part) => {
            part.attrs.retain(is_plain);
            (part.ident.clone(), TraitItem::Type(part), false)
        }
        part => {
            panic!("a trait has a part of a kind that is not listed: {part:?}", part = text_of_part(&part))
        }
    }
}

fn text_of_part(part: &TraitItem) -> &'static str {
    match part {
        TraitItem::Macro(_) => "macro",
        _ => "unknown",
    }
}

fn is_pub(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn documentation(attributes: &[Attribute]) -> String {
    let lines =
        attributes.iter().filter(|attribute| attribute.path().is_ident("doc")).filter_map(|attribute| {
            match &attribute.meta.require_name_value().ok()?.value {
                syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
                _ => None,
            }
        });
    lines.collect::<Vec<_>>().join(" ")
}

/// Attributes that users of an item notice.
fn is_plain(attribute: &Attribute) -> bool {
    ["cfg", "deprecated", "derive", "non_exhaustive"].iter().any(|name| attribute.path().is_ident(name))
}

fn with_plain_attributes(mut item: Item) -> Item {
    match &mut item {
        Item::Const(item) => item.attrs.retain(is_plain),
        Item::Enum(item) => {
            item.attrs.retain(is_plain);
            for variant in &mut item.variants {
                variant.attrs.retain(is_plain);
                variant.fields.iter_mut().for_each(|field| field.attrs.retain(is_plain));
            }
        }
        Item::Fn(item) => item.attrs.retain(is_plain),
        Item::Static(item) => item.attrs.retain(is_plain),
        Item::Struct(item) => {
            item.attrs.retain(is_plain);
            item.fields.iter_mut().for_each(|field| field.attrs.retain(is_plain));
        }
        Item::Trait(item) => item.attrs.retain(is_plain),
        Item::Type(item) => item.attrs.retain(is_plain),
        _ => {}
    }
    item
}

/// An item in one line.
fn text(item: Item) -> String {
    let text = prettyplease::unparse(&syn::File {
        shebang: None,
        frontmatter: None,
        attrs: Vec::new(),
        items: vec![item],
    });
    one_line(&text)
}

fn one_line_type(kind: &Type) -> String {
    let alias: syn::ItemType = syn::parse_quote!(type X = #kind;);
    text(Item::Type(alias)).trim_start_matches("type X = ").trim_end_matches(';').to_owned()
}

fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    let mut line = words.join(" ");
    for (from, to) in [("( ", "("), (", )", ")"), ("< ", "<"), (", >", ">"), (", {", " {"), (" )", ")")] {
        line = line.replace(from, to);
    }
    line
}
