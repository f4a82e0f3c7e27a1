//! The paths that documents name must exist: files, and modules and items of our own crates.

use super::modules::{Crate, Resolved};
use super::tree::Tree;

/// The documents that name places.
const DOCUMENTS: &[&str] = &["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/glossary.md"];

pub fn paths(tree: &Tree, crates: &[Crate]) -> Vec<String> {
    let mut violations = Vec::new();
    for document in DOCUMENTS {
        let Some(text) = tree.text(document) else {
            violations.push(format!("{document}: is missing"));
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let place = format!("{document}:{}", number + 1);
            for path in file_paths(line).filter(|path| !exists(tree, document, path)) {
                violations.push(format!("{place}: {path} does not exist"));
            }
            for path in rust_paths(line).filter(|path| is_unknown(crates, path)) {
                violations.push(format!("{place}: `{path}` does not exist"));
            }
        }
    }
    violations
}

/// Words with a `/` that look like the path of a file or a folder.
fn file_paths(line: &str) -> impl Iterator<Item = &str> {
    let part = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let words = line.split(move |c: char| !part(c) && !"{}*<>:$~".contains(c));
    // A pattern or a variable part names no single file: `a/{b,c}`, `a/*.rs`, `http://`.
    words
        .filter(move |word| word.contains('/') && word.chars().all(part))
        .map(|word| word.trim_end_matches('.'))
}

/// A path is from the root, or, in a link, from the document's folder. What begins with nothing that the root
/// has is no path of ours, unless it names a Rust file.
fn exists(tree: &Tree, document: &str, path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    let is_ours = !first.is_empty() && (tree.has(first) && first != "." || path.ends_with(".rs"));
    let beside = document.rsplit_once('/').map_or(path.to_owned(), |(folder, _)| format!("{folder}/{path}"));
    !is_ours || tree.has(path) || tree.has(&beside)
}

/// What stands in backticks and looks like `room::module::Item`.
fn rust_paths(line: &str) -> impl Iterator<Item = &str> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter(move |word| word.contains("::") && word.chars().all(part))
}

/// Whether `path` begins with one of our libraries and leads nowhere in it.
fn is_unknown(crates: &[Crate], path: &str) -> bool {
    let segments: Vec<String> = path.split("::").map(str::to_owned).collect();
    let Some((first, rest)) = segments.split_first() else { return false };
    let is_named = |name: &str| {
        name.replace('-', "_").trim_start_matches("muster_") == first.trim_start_matches("muster_")
    };
    let Some(krate) = crates.iter().find(|krate| krate.target.is_library && is_named(&krate.target.package))
    else {
        return false;
    };
    // What follows an item is one of its members, which are not looked at.
    !matches!(
        krate.resolve(Crate::ROOT, rest),
        Some(Resolved::Module(_) | Resolved::Item { guessed: false, .. })
    )
}

#[cfg(test)]
mod tests {
    use super::super::modules;
    use super::*;

    #[test]
    fn stale_paths_are_found() {
        let tree = Tree::fake(&[
            (
                "ARCHITECTURE.md",
                "see `a/src/lib.rs`, a/src/{x,y}.rs, /dev/null, http://a/b\n`a/src/gone`, gone/far.rs",
            ),
            (
                "CONTRIBUTING.md",
                "`a::b::Thing`, `a::b`, `std::fs`, `a::b::Thing::new`\n`a::b::Gone` and `muster_a::c`",
            ),
            ("docs/glossary.md", "[up](api.md) docs/api.md"),
            ("docs/api.md", ""),
            ("a/Cargo.toml", "[package]\nname = \"muster-a\""),
            ("a/src/lib.rs", "pub mod b { pub struct Thing; }"),
        ]);
        let crates = modules::crates(&tree).unwrap();
        assert_eq!(
            paths(&tree, &crates),
            [
                "ARCHITECTURE.md:2: a/src/gone does not exist",
                "ARCHITECTURE.md:2: gone/far.rs does not exist",
                "CONTRIBUTING.md:2: `a::b::Gone` does not exist",
                "CONTRIBUTING.md:2: `muster_a::c` does not exist",
            ]
        );
    }

    #[test]
    fn a_missing_document_is_found() {
        assert_eq!(paths(&Tree::default(), &[]).len(), DOCUMENTS.len());
    }
}
