//! The modules of a crate, as `mod` declarations make them: which file each lies in, what it defines, what it
//! imports, and what a path leads to.
//!
//! Its one job is to resolve paths well enough for the checks; it is no compiler. Code under `#[cfg(test)]`
//! is left out. Items that a macro makes are seen if its arguments have them behind their keyword (`pub enum
//! Command`); any other name that is looked up in a module and not found there counts as defined in its file.

use super::syntax::{self, Import, ItemKind};
use super::tree::{Target, Tree};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};

/// One target with its modules; the first is the root.
pub struct Crate {
    pub target: Target,
    pub modules: Vec<Module>,
    /// The files that define each macro of `macro_rules!`, which are found by name anywhere in the crate.
    macros: BTreeMap<String, String>,
}

pub struct Module {
    pub parent: Option<usize>,
    pub file: String,
    pub children: BTreeMap<String, usize>,
    pub is_public: bool,
    /// Whether it or a module above it exists in some builds only.
    pub is_conditional: bool,
    pub items: Vec<Item>,
    pub imports: Vec<Import>,
    /// What it consists of, except its child modules.
    pub syntax: Vec<syn::Item>,
}

pub struct Item {
    pub name: String,
    pub kind: ItemKind,
    pub is_public: bool,
    pub is_conditional: bool,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Resolved {
    Module(usize),
    Item {
        file: String,
        name: String,
        /// The name was not found, but the module that should define it was.
        guessed: bool,
    },
}

/// Every target of the tree.
pub fn crates(tree: &Tree) -> Result<Vec<Crate>> {
    tree.targets().into_iter().map(|target| Crate::read(tree, target)).collect()
}

/// Where the next module is looked for.
struct Place {
    parent: Option<usize>,
    file: String,
    /// The folder that its child modules lie in, which ends with `/`.
    folder: String,
    is_public: bool,
    is_conditional: bool,
}

impl Crate {
    pub const ROOT: usize = 0;

    fn read(tree: &Tree, target: Target) -> Result<Self> {
        let folder = target.root.rsplit_once('/').map_or("", |(folder, _)| folder);
        let place = Place {
            parent: None,
            file: target.root.clone(),
            folder: format!("{folder}/"),
            is_public: true,
            is_conditional: false,
        };
        let mut krate = Self { target, modules: Vec::new(), macros: BTreeMap::new() };
        let syntax = parse(tree, &place.file)?;
        krate.add(tree, place, syntax)?;
        Ok(krate)
    }

    fn add(&mut self, tree: &Tree, place: Place, content: Vec<syn::Item>) -> Result<usize> {
        let id = self.modules.len();
        self.modules.push(Module {
            parent: place.parent,
            file: place.file.clone(),
            children: BTreeMap::new(),
            is_public: place.is_public,
            is_conditional: place.is_conditional,
            items: Vec::new(),
            imports: Vec::new(),
            syntax: Vec::new(),
        });
        for item in content {
            if syntax::is_for_tests(syntax::attributes(&item)) {
                continue;
            }
            let syn::Item::Mod(module) = item else {
                self.add_item(id, item);
                continue;
            };
            let name = module.ident.to_string();
            let is_conditional = place.is_conditional || syntax::is_conditional(&module.attrs);
            let inner = Place {
                parent: Some(id),
                file: place.file.clone(),
                folder: format!("{}{name}/", place.folder),
                is_public: matches!(module.vis, syn::Visibility::Public(_)),
                is_conditional,
            };
            let child = match module.content {
                Some((_, content)) => self.add(tree, inner, content)?,
                None => {
                    let file = match syntax::path_attribute(&module.attrs) {
                        Some(path) => {
                            format!("{}/{path}", place.file.rsplit_once('/').map_or("", |(at, _)| at))
                        }
                        None => [format!("{}{name}.rs", place.folder), format!("{}mod.rs", inner.folder)]
                            .into_iter()
                            .find(|file| tree.text(file).is_some())
                            .with_context(|| format!("find the file of `mod {name}` in {}", place.file))?,
                    };
                    let content = parse(tree, &file)?;
                    self.add(tree, Place { file, ..inner }, content)?
                }
            };
            self.modules[id].children.insert(name, child);
        }
        Ok(id)
    }

    fn add_item(&mut self, id: usize, item: syn::Item) {
        let is_conditional =
            self.modules[id].is_conditional || syntax::is_conditional(syntax::attributes(&item));
        for (name, kind, is_public) in syntax::definitions(&item) {
            if kind == ItemKind::Macro {
                self.macros.insert(name.clone(), self.modules[id].file.clone());
            }
            self.modules[id].items.push(Item { name, kind, is_public, is_conditional });
        }
        if let syn::Item::Use(import) = &item {
            self.modules[id].imports.extend(syntax::imports(import));
        }
        self.modules[id].syntax.push(item);
    }

    /// What `path`, written in `module`, leads to within this crate.
    pub fn resolve(&self, module: usize, path: &[String]) -> Option<Resolved> {
        self.walk(module, path, &mut BTreeSet::new())
    }

    fn walk(&self, module: usize, path: &[String], seen: &mut BTreeSet<(usize, String)>) -> Option<Resolved> {
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Resolved::Module(Self::ROOT),
            "self" => Resolved::Module(module),
            "super" => Resolved::Module(self.modules[module].parent?),
            name => self.look_up(module, name, seen)?,
        };
        while let (Resolved::Module(module), Some((next, after))) = (&at, rest.split_first()) {
            at = match next.as_str() {
                "super" => Resolved::Module(self.modules[*module].parent?),
                "self" => Resolved::Module(*module),
                name => self.look_up(*module, name, seen).unwrap_or_else(|| Resolved::Item {
                    file: self.modules[*module].file.clone(),
                    name: name.to_owned(),
                    guessed: true,
                }),
            };
            rest = after;
        }
        Some(at)
    }

    fn look_up(&self, id: usize, name: &str, seen: &mut BTreeSet<(usize, String)>) -> Option<Resolved> {
        if !seen.insert((id, name.to_owned())) {
            return None;
        }
        let module = &self.modules[id];
        let of = |file: &str| Resolved::Item { file: file.to_owned(), name: name.to_owned(), guessed: false };
        if module.items.iter().any(|item| item.name == name) {
            return Some(of(&module.file));
        }
        if let Some(child) = module.children.get(name) {
            return Some(Resolved::Module(*child));
        }
        // `use foo::bar` where `foo` is no name of ours is another crate's.
        let named = module.imports.iter().filter(|import| import.name.as_deref() == Some(name));
        let globs = module.imports.iter().filter(|import| import.name.is_none());
        named
            .filter_map(|import| self.walk(id, &import.path, seen))
            .next()
            .or_else(|| {
                let modules = globs.filter_map(|import| match self.walk(id, &import.path, seen) {
                    Some(Resolved::Module(module)) => Some(module),
                    _ => None,
                });
                let modules: Vec<usize> = modules.collect();
                modules.into_iter().find_map(|module| self.look_up(module, name, seen))
            })
            .or_else(|| self.macros.get(name).map(|file| of(file)))
    }
}

fn parse(tree: &Tree, file: &str) -> Result<Vec<syn::Item>> {
    let text = tree.text(file).with_context(|| format!("read {file}"))?;
    Ok(syn::parse_file(text).with_context(|| format!("parse {file}"))?.items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(tree: &Tree, path: &str) -> Option<Resolved> {
        let path: Vec<String> = path.split("::").map(str::to_owned).collect();
        crates(tree).unwrap()[0].resolve(Crate::ROOT, &path)
    }

    #[test]
    fn paths_lead_through_reexports_and_globs_to_the_defining_file() {
        let tree = Tree::fake(&[
            ("a/Cargo.toml", "[package]\nname = \"a\""),
            (
                "a/src/lib.rs",
                "mod b; pub use b::*; pub use b::c::Deep as Alias; mod inline { pub fn f() {} }",
            ),
            ("a/src/b/mod.rs", "pub mod c; tagged! { pub enum Made { 0 = A } } use std::fs;"),
            ("a/src/b/c.rs", "pub struct Deep; #[cfg(test)] mod tests;"),
        ]);
        let item = |file: &str, name: &str, guessed| {
            Some(Resolved::Item { file: file.to_owned(), name: name.to_owned(), guessed })
        };
        assert_eq!(resolve(&tree, "Alias"), item("a/src/b/c.rs", "Deep", false));
        assert_eq!(resolve(&tree, "c::Deep::new"), item("a/src/b/c.rs", "Deep", false));
        assert_eq!(resolve(&tree, "crate::Made"), item("a/src/b/mod.rs", "Made", false));
        assert_eq!(resolve(&tree, "b::c::Unseen"), item("a/src/b/c.rs", "Unseen", true));
        assert_eq!(resolve(&tree, "inline::f"), item("a/src/lib.rs", "f", false));
        assert_eq!(resolve(&tree, "std::fs"), None);
    }
}
