//! The modules of a crate, and which names which.
//!
//! An edge leads from a module to the module that *defines* what it names: `use crate::Error`, re-exported by the root
//! from `error`, is an edge to `error`. A module that only re-exports its children (`pub use child::Thing`) is a
//! façade and depends on nothing. Test code is left out.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemUse, Macro, UseTree, VisRestricted, Visibility};

use super::source::{File, Member};

/// A module's path from its crate's root; the root is empty.
pub type ModulePath = Vec<String>;

#[derive(Debug, Default)]
pub struct Module {
    children: BTreeSet<String>,
    /// Names that `use` brings in, and the path as written.
    imports: BTreeMap<String, Vec<String>>,
    /// Paths that the code names, as written.
    named: BTreeSet<Vec<String>>,
}

/// Every module that is not test code, by path. Binaries beside a library are roots of their own and stay out.
pub fn modules(member: &Member) -> BTreeMap<ModulePath, Module> {
    let mut modules = BTreeMap::new();
    let root = ["src/lib.rs", "src/main.rs"].into_iter().find_map(|path| file(member, path));
    if let Some(root) = root {
        collect(member, &root.syntax.items, Vec::new(), &mut modules);
    }
    modules
}

/// Which modules each module depends on.
pub fn edges(modules: &BTreeMap<ModulePath, Module>) -> BTreeMap<&ModulePath, BTreeSet<&ModulePath>> {
    modules
        .iter()
        .map(|(path, module)| {
            let targets = module.named.iter().filter_map(|named| resolve(modules, path, named, 0));
            (path, targets.filter(|target| *target != path).collect())
        })
        .collect()
}

fn file<'a>(member: &'a Member, path: &str) -> Option<&'a File> {
    member.files.iter().find(|file| file.path == path)
}

fn collect(member: &Member, items: &[Item], path: ModulePath, modules: &mut BTreeMap<ModulePath, Module>) {
    let mut reader = Reader { path: path.clone(), ..Reader::default() };
    for item in items {
        match item {
            Item::Mod(inner) if is_test(&inner.attrs) => {}
            Item::Mod(inner) => {
                let name = inner.ident.to_string();
                reader.module.children.insert(name.clone());
                let mut child = path.clone();
                child.push(name);
                match &inner.content {
                    Some((_, items)) => collect(member, items, child, modules),
                    None => {
                        if let Some(file) = module_file(member, &child) {
                            collect(member, &file.syntax.items, child, modules);
                        }
                    }
                }
            }
            item => reader.visit_item(item),
        }
    }
    modules.insert(path, reader.module);
}

fn module_file<'a>(member: &'a Member, path: &[String]) -> Option<&'a File> {
    let base = format!("src/{}", path.join("/"));
    file(member, &format!("{base}.rs")).or_else(|| file(member, &format!("{base}/mod.rs")))
}

/// `#[cfg(test)]`, also in combination (`all(test, ..)`), and `#[test]` itself.
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) => list.path.is_ident("cfg") && names_test(list.tokens.clone()),
        syn::Meta::NameValue(_) => false,
    })
}

fn names_test(tokens: TokenStream) -> bool {
    let mut negated = false;
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => {
            negated = ident == "not";
            ident == "test"
        }
        TokenTree::Group(group) => !negated && names_test(group.stream()),
        _ => false,
    })
}

/// Reads one module's own items.
#[derive(Default)]
struct Reader {
    path: ModulePath,
    module: Module,
}

impl Reader {
    fn import(&mut self, tree: &UseTree, prefix: &mut Vec<String>, facade: bool) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.import(&path.tree, prefix, facade);
                prefix.pop();
            }
            UseTree::Name(name) => {
                self.import_name(&name.ident.to_string(), &name.ident.to_string(), prefix, facade)
            }
            UseTree::Rename(name) => {
                self.import_name(&name.ident.to_string(), &name.rename.to_string(), prefix, facade);
            }
            UseTree::Glob(_) => self.name_path(prefix.clone(), facade),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.import(item, prefix, facade)),
        }
    }

    fn import_name(&mut self, name: &str, known_as: &str, prefix: &[String], facade: bool) {
        let mut whole = prefix.to_vec();
        if name != "self" {
            whole.push(name.to_owned());
        }
        let known_as =
            if known_as == "self" { whole.last().cloned().unwrap_or_default() } else { known_as.to_owned() };
        self.module.imports.insert(known_as, whole.clone());
        self.name_path(whole, facade);
    }

    /// What is re-exported from a child is not a dependency on it.
    fn name_path(&mut self, path: Vec<String>, facade: bool) {
        let from_child = match path.first().map(String::as_str) {
            Some("self") => true,
            Some("crate") => path.len() > self.path.len() + 1 && path[1..=self.path.len()] == self.path[..],
            Some("super") => false,
            _ => true,
        };
        if !(facade && from_child) {
            self.module.named.insert(path);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Const(item) => &item.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let facade = !matches!(item.vis, Visibility::Inherited);
        self.import(&item.tree, &mut Vec::new(), facade);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.module.named.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    /// `pub(in path)` names no dependency.
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}

    fn visit_macro(&mut self, invocation: &'ast Macro) {
        self.visit_path(&invocation.path);
        let mut paths = Vec::new();
        paths_in(invocation.tokens.clone(), &mut paths);
        self.module.named.extend(paths);
    }
}

/// Paths such as `crate::a::b` in a macro's tokens, which syn does not parse.
fn paths_in(tokens: TokenStream, paths: &mut Vec<Vec<String>>) {
    let mut path: Vec<String> = Vec::new();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                if colons != 2 {
                    paths.push(std::mem::take(&mut path));
                }
                path.push(ident.to_string());
                colons = 0;
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            other => {
                paths.push(std::mem::take(&mut path));
                colons = 0;
                if let TokenTree::Group(group) = other {
                    paths_in(group.stream(), paths);
                }
            }
        }
    }
    paths.push(path);
    paths.retain(|path| path.len() > 1);
}

/// Re-exports of re-exports are followed this far.
const MAX_HOPS: usize = 8;

/// The module that defines what `named` means inside `from`; `None` for what is not of this crate.
fn resolve<'a>(
    modules: &'a BTreeMap<ModulePath, Module>,
    from: &ModulePath,
    named: &[String],
    hops: usize,
) -> Option<&'a ModulePath> {
    let (start, rest) = anchor(modules, from, named)?;
    let mut at = start;
    let mut rest = rest;
    while let Some((first, more)) = rest.split_first() {
        if !modules.get(&at)?.children.contains(first) {
            break;
        }
        at.push(first.clone());
        rest = more;
    }
    let (path, module) = modules.get_key_value(&at)?;
    let import = rest.first().and_then(|name| module.imports.get(name));
    match import {
        Some(import) if hops < MAX_HOPS => {
            let mut whole = import.clone();
            whole.extend_from_slice(&rest[1..]);
            // An import from outside the crate makes no edge to whoever imported it first.
            resolve(modules, path, &whole, hops + 1)
        }
        _ => Some(path),
    }
}

/// Where a path starts, and what is left of it.
fn anchor<'a>(
    modules: &BTreeMap<ModulePath, Module>,
    from: &ModulePath,
    named: &'a [String],
) -> Option<(ModulePath, &'a [String])> {
    let (first, rest) = named.split_first()?;
    match first.as_str() {
        "crate" => Some((Vec::new(), rest)),
        "self" => Some((from.clone(), rest)),
        "super" => {
            let mut parent = from.clone();
            parent.pop()?;
            let mut rest = rest;
            while rest.first().is_some_and(|segment| segment == "super") {
                parent.pop()?;
                rest = &rest[1..];
            }
            Some((parent, rest))
        }
        // A path of several segments that starts at a child.
        child if modules.get(from)?.children.contains(child) => Some((from.clone(), named)),
        _ => None,
    }
}
