//! One name, one type: within a crate, and among the types that cross crates. None shadows std's prelude.

use super::modules::{Crate, Resolved};
use super::syntax::ItemKind;
use std::collections::{BTreeMap, BTreeSet};

/// What every module may have: each its own error, and its own result that goes with it.
const SHARED: &[&str] = &["Error", "Result"];
/// A builder is named after what it builds, or is known by its module.
const SHARED_SUFFIX: &str = "Builder";

/// Packages whose public types no other crate uses.
const ENDS: &[&str] = &["muster", "muster-tests", "xtask"];

/// Names that a reader takes for std's.
const STD: &[&str] = &[
    "Add",
    "AddAssign",
    "Any",
    "Arc",
    "AsMut",
    "AsRef",
    "BitAnd",
    "BitOr",
    "BitXor",
    "Borrow",
    "Box",
    "BufRead",
    "Cell",
    "Clone",
    "Copy",
    "Debug",
    "Default",
    "Deref",
    "DerefMut",
    "Display",
    "Div",
    "DoubleEndedIterator",
    "Drop",
    "Duration",
    "Err",
    "ExactSizeIterator",
    "Extend",
    "Fn",
    "FnMut",
    "FnOnce",
    "From",
    "FromIterator",
    "FromStr",
    "Future",
    "Hash",
    "Hasher",
    "Index",
    "IndexMut",
    "Instant",
    "Into",
    "IntoFuture",
    "IntoIterator",
    "Iterator",
    "Mul",
    "Mutex",
    "Neg",
    "None",
    "Not",
    "Ok",
    "Option",
    "Ord",
    "Ordering",
    "PartialEq",
    "PartialOrd",
    "Path",
    "PathBuf",
    "Pin",
    "Rc",
    "Read",
    "RefCell",
    "Rem",
    "RwLock",
    "Seek",
    "Send",
    "Shl",
    "Shr",
    "Sized",
    "Some",
    "String",
    "Sub",
    "Sync",
    "SystemTime",
    "ToOwned",
    "ToString",
    "TryFrom",
    "TryInto",
    "Unpin",
    "Vec",
    "Write",
];

/// Where each name is defined, by file; only the types that exist in every build.
type Definitions = BTreeMap<String, BTreeSet<String>>;

fn is_shared(name: &str) -> bool {
    SHARED.contains(&name) || name.ends_with(SHARED_SUFFIX)
}

/// A reader of an old format keeps the names that its records had: `snapshot/v1.rs`.
fn is_of_old_format(file: &str) -> bool {
    let stem = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".rs");
    stem.strip_prefix('v').is_some_and(|version| version.parse::<u32>().is_ok())
}

fn repeated(definitions: &Definitions) -> impl Iterator<Item = (&str, String)> {
    let many = definitions.iter().filter(|(name, files)| files.len() > 1 && !is_shared(name));
    many.map(|(name, files)| (name.as_str(), files.iter().map(String::as_str).collect::<Vec<_>>().join(", ")))
}

/// Types of one crate with the same name.
pub fn unique_in_crate(crates: &[Crate]) -> Vec<String> {
    let mut violations = BTreeSet::new();
    for krate in crates {
        let mut definitions = Definitions::new();
        for module in krate.modules.iter().filter(|module| !is_of_old_format(&module.file)) {
            for item in module.items.iter().filter(|item| item.kind == ItemKind::Type && !item.is_conditional)
            {
                definitions.entry(item.name.clone()).or_default().insert(module.file.clone());
            }
        }
        let package = &krate.target.package;
        violations.extend(
            repeated(&definitions).map(|(name, files)| format!("{package}: {name} is defined in {files}")),
        );
    }
    violations.into_iter().collect()
}

/// Types that other crates can name, with the same name in two crates.
pub fn unique_across_crates(crates: &[Crate]) -> Vec<String> {
    let mut definitions = Definitions::new();
    for krate in crates
        .iter()
        .filter(|krate| krate.target.is_library && !ENDS.contains(&krate.target.package.as_str()))
    {
        let mut exported = BTreeSet::new();
        export(krate, Crate::ROOT, &mut BTreeSet::new(), &mut exported);
        for (name, file) in exported {
            definitions.entry(name).or_default().insert(file);
        }
    }
    // The same name twice in one crate is the other check's.
    repeated(&definitions)
        .filter(|(_, files)| {
            let rooms: BTreeSet<&str> =
                files.split(", ").filter_map(|file| file.split_once("/src/")).map(|(room, _)| room).collect();
            rooms.len() > 1
        })
        .map(|(name, files)| format!("public type {name} is defined in {files}"))
        .collect()
}

/// Adds each public type, with its file, that is reached from `module`.
fn export(krate: &Crate, id: usize, seen: &mut BTreeSet<usize>, exported: &mut BTreeSet<(String, String)>) {
    if !seen.insert(id) {
        return;
    }
    let module = &krate.modules[id];
    let types = module.items.iter().filter(|item| item.kind == ItemKind::Type && item.is_public);
    exported.extend(types.map(|item| (item.name.clone(), module.file.clone())));
    for child in module.children.values().filter(|child| krate.modules[**child].is_public) {
        export(krate, *child, seen, exported);
    }
    for import in module.imports.iter().filter(|import| import.is_public) {
        match krate.resolve(id, &import.path) {
            Some(Resolved::Module(module)) => export(krate, module, seen, exported),
            Some(Resolved::Item { file, name, .. }) => {
                let is_type = |item: &super::modules::Item| item.name == name && item.kind == ItemKind::Type;
                let defining = krate.modules.iter().filter(|module| module.file == file);
                if defining.flat_map(|module| &module.items).any(is_type) {
                    exported.insert((name, file));
                }
            }
            None => {}
        }
    }
}

/// Types with a name of std's.
pub fn shadows(crates: &[Crate]) -> Vec<String> {
    let mut violations = BTreeSet::new();
    for module in crates.iter().flat_map(|krate| &krate.modules) {
        let types = module.items.iter().filter(|item| item.kind == ItemKind::Type);
        let shadowing = types.filter(|item| STD.contains(&item.name.as_str()));
        violations.extend(shadowing.map(|item| format!("{}: {} shadows std's", module.file, item.name)));
    }
    violations.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::{modules, tree::Tree};
    use super::*;

    fn crates(files: &[(&str, &str)]) -> Vec<Crate> {
        let manifests =
            [("a/Cargo.toml", "[package]\nname = \"a\""), ("b/Cargo.toml", "[package]\nname = \"b\"")];
        modules::crates(&Tree::fake(&[manifests.as_slice(), files].concat())).unwrap()
    }

    #[test]
    fn two_types_of_one_name_in_a_crate_are_found() {
        let crates = crates(&[
            ("a/src/lib.rs", "mod v1; mod x; mod y; struct Error;"),
            ("a/src/v1.rs", "struct Twice; struct Once;"),
            ("a/src/x.rs", "struct Twice; struct Error; #[cfg(test)] mod tests { struct Once; }"),
            (
                "a/src/y.rs",
                "enum Twice {} struct Once; #[cfg(feature = \"f\")] struct Cuda; fn f() { struct Once; }",
            ),
            ("a/tests/whole.rs", "struct Once;"),
        ]);
        assert_eq!(unique_in_crate(&crates), ["a: Twice is defined in a/src/x.rs, a/src/y.rs"]);
    }

    #[test]
    fn two_public_types_of_one_name_are_found() {
        let crates = crates(&[
            ("a/src/lib.rs", "pub mod x; mod y; pub use y::{Shown, f}; pub struct Error;"),
            ("a/src/x.rs", "pub struct Open; struct Private;"),
            ("a/src/y.rs", "pub struct Shown; pub struct Hidden; pub fn f() {}"),
            (
                "b/src/lib.rs",
                "pub struct Open; pub struct Shown; pub struct Hidden; pub struct Private; pub struct Error;",
            ),
        ]);
        assert_eq!(
            unique_across_crates(&crates),
            [
                "public type Open is defined in a/src/x.rs, b/src/lib.rs",
                "public type Shown is defined in a/src/y.rs, b/src/lib.rs",
            ]
        );
    }

    #[test]
    fn a_type_that_shadows_std_is_found() {
        let crates =
            crates(&[("a/src/lib.rs", "enum Sync { A } struct Synced; type Result<T> = Option<T>;")]);
        assert_eq!(shadows(&crates), ["a/src/lib.rs: Sync shadows std's"]);
    }
}
