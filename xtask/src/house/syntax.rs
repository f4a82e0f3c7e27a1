//! What the checks read from Rust syntax: attributes, definitions, imports, and the paths that code names.

use proc_macro2::{Spacing, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree, Visibility};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    Type,
    Macro,
    /// A function, a constant, a static.
    Value,
}

/// One name of a `use` declaration.
#[derive(Clone)]
pub struct Import {
    /// The name that it gets here; `None` for a glob.
    pub name: Option<String>,
    pub path: Vec<String>,
    /// Whether others may name it through this module, in whatever part of the crate.
    pub is_reexport: bool,
    pub is_public: bool,
}

pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        // The enum is open: an item that this version of syn does not know has no attributes that we could
        // read.
        _ => &[],
    }
}

/// The condition of a `#[cfg(..)]`, without spaces.
pub fn condition(attribute: &Attribute) -> Option<String> {
    let list = attribute.meta.require_list().ok().filter(|list| list.path.is_ident("cfg"))?;
    Some(list.tokens.to_string().replace(' ', ""))
}

/// Whether these attributes leave an item to builds of tests.
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    let conditions = attributes.iter().filter_map(condition);
    conditions.into_iter().any(|condition| condition == "test" || condition.starts_with("all(test"))
}

/// Whether an item exists in some builds only.
pub fn is_conditional(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| condition(attribute).is_some())
}

/// The `..` of `#[path = ".."]`.
pub fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    let value = attributes.iter().find_map(|attribute| {
        attribute.meta.require_name_value().ok().filter(|pair| pair.path.is_ident("path"))
    })?;
    match &value.value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

/// Names that an item defines in its module, and whether each is `pub`.
pub fn definitions(item: &Item) -> Vec<(String, ItemKind, bool)> {
    let one = |ident: &syn::Ident, kind, visibility: &Visibility| {
        vec![(ident.to_string(), kind, matches!(visibility, Visibility::Public(_)))]
    };
    match item {
        Item::Const(item) if item.ident != "_" => one(&item.ident, ItemKind::Value, &item.vis),
        Item::Enum(item) => one(&item.ident, ItemKind::Type, &item.vis),
        Item::Fn(item) => one(&item.sig.ident, ItemKind::Value, &item.vis),
        Item::Static(item) => one(&item.ident, ItemKind::Value, &item.vis),
        Item::Struct(item) => one(&item.ident, ItemKind::Type, &item.vis),
        Item::Trait(item) => one(&item.ident, ItemKind::Type, &item.vis),
        Item::Type(item) => one(&item.ident, ItemKind::Type, &item.vis),
        Item::Union(item) => one(&item.ident, ItemKind::Type, &item.vis),
        Item::Macro(item) => match &item.ident {
            Some(name) => vec![(name.to_string(), ItemKind::Macro, false)],
            None => generated(item.mac.tokens.clone()),
        },
        _ => Vec::new(),
    }
}

/// What the arguments of a macro seem to define: names behind a keyword.
fn generated(tokens: TokenStream) -> Vec<(String, ItemKind, bool)> {
    let mut found = Vec::new();
    let (mut kind, mut is_public) = (None, false);
    for token in tokens {
        let TokenTree::Ident(ident) = token else {
            (kind, is_public) = (None, false);
            continue;
        };
        match (ident.to_string().as_str(), kind) {
            ("pub", _) => is_public = true,
            ("struct" | "enum" | "trait" | "type" | "union", None) => kind = Some(ItemKind::Type),
            ("fn" | "const" | "static", None) => kind = Some(ItemKind::Value),
            (name, Some(of)) => {
                found.push((name.to_owned(), of, is_public));
                (kind, is_public) = (None, false);
            }
            _ => is_public = false,
        }
    }
    found
}

/// The names that a `use` declaration brings.
pub fn imports(item: &syn::ItemUse) -> Vec<Import> {
    let mut imports = Vec::new();
    let is_reexport = !matches!(item.vis, Visibility::Inherited);
    let is_public = matches!(item.vis, Visibility::Public(_));
    flatten(&item.tree, &mut Vec::new(), &mut |name, path| {
        imports.push(Import { name, path, is_reexport, is_public });
    });
    imports
}

fn flatten(tree: &UseTree, path: &mut Vec<String>, add: &mut impl FnMut(Option<String>, Vec<String>)) {
    let mut leaf = |last: &syn::Ident, name: &syn::Ident| {
        let mut whole = path.clone();
        if last != "self" || whole.is_empty() {
            whole.push(last.to_string());
        }
        let name = if name == "self" { whole.last().cloned() } else { Some(name.to_string()) };
        add(name, whole);
    };
    match tree {
        UseTree::Name(tree) => leaf(&tree.ident, &tree.ident),
        UseTree::Rename(tree) => leaf(&tree.ident, &tree.rename),
        UseTree::Path(tree) => {
            path.push(tree.ident.to_string());
            flatten(&tree.tree, path, add);
            path.pop();
        }
        UseTree::Glob(_) => add(None, path.clone()),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, path, add)),
    }
}

/// Every path that an item names outside tests: in private imports, types, expressions, patterns, and the
/// arguments of macros. A single word counts if it begins with a capital, is called, or names a macro.
pub fn named_paths(item: &Item) -> Vec<Vec<String>> {
    let mut paths = Paths { found: Vec::new() };
    paths.visit_item(item);
    paths.found
}

struct Paths {
    found: Vec<Vec<String>>,
}

fn is_capital(word: &str) -> bool {
    word.starts_with(char::is_uppercase)
}

impl Paths {
    fn add(&mut self, path: Vec<String>, is_called: bool) {
        match path.as_slice() {
            [] => {}
            [word] if word == "Self" || !(is_called || is_capital(word)) => {}
            _ => self.found.push(path),
        }
    }

    /// Words joined by `::`, in whatever groups.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.add(std::mem::take(&mut path), false);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' && colons < 2 => {
                    // `a: b` is no path; `a::b` is.
                    colons += if colons == 1 || mark.spacing() == Spacing::Joint { 1 } else { 3 };
                }
                TokenTree::Punct(mark) => {
                    // `foo!(..)`
                    let is_called = mark.as_char() == '!';
                    self.add(std::mem::take(&mut path), is_called);
                    colons = 0;
                }
                TokenTree::Literal(_) => {
                    self.add(std::mem::take(&mut path), false);
                    colons = 0;
                }
                TokenTree::Group(group) => {
                    let is_called = group.delimiter() == proc_macro2::Delimiter::Parenthesis;
                    self.add(std::mem::take(&mut path), is_called);
                    colons = 0;
                    self.add_tokens(group.stream());
                }
            }
        }
        self.add(path, false);
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        match item {
            Item::Use(import) => {
                let private = imports(import).into_iter().filter(|import| !import.is_reexport);
                // A glob names nothing by itself: the names that it brings are followed one by one.
                self.found.extend(private.filter(|import| import.name.is_some()).map(|import| import.path));
            }
            other => visit::visit_item(self, other),
        }
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let attributes = match item {
            syn::ImplItem::Fn(item) => item.attrs.as_slice(),
            syn::ImplItem::Const(item) => &item.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(path.segments.iter().map(|segment| segment.ident.to_string()).collect(), false);
        visit::visit_path(self, path);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(function) = &*call.func
            && let Some(word) = function.path.get_ident()
        {
            self.add(vec![word.to_string()], true);
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add(call.path.segments.iter().map(|segment| segment.ident.to_string()).collect(), true);
        self.add_tokens(call.tokens.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        let file = syn::parse_file(source).unwrap();
        file.items.iter().flat_map(named_paths).map(|path| path.join("::")).collect()
    }

    #[test]
    fn paths_are_found_wherever_code_names_them() {
        assert_eq!(paths("use a::{b, c as d, e::*};"), ["a::b", "a::c"]);
        assert_eq!(paths("pub use a::b; pub(crate) use a::c;"), [""; 0]);
        assert_eq!(paths("fn f(x: &a::B) -> C { g(x); let y = x; y.h() }"), ["a::B", "C", "g"]);
        assert_eq!(paths("fn f() { assert!(a::b(), \"{}\", C { d: e }); }"), ["assert", "a::b", "C"]);
        assert_eq!(paths("#[cfg(test)] fn f(x: A) {} impl A { #[cfg(test)] fn g(x: B) {} }"), ["A"]);
    }

    #[test]
    fn names_behind_keywords_in_macros_are_definitions() {
        let file = syn::parse_file("made! { /// doc\n pub enum A { 0 = B(C) } struct D }").unwrap();
        let names: Vec<String> = definitions(&file.items[0]).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["A", "D"]);
    }
}
