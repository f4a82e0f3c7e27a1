//! What one file may look like: its length, the width of its lines, its first words and its name.

use super::lexer::{self, Kind};
use super::tree::Tree;

/// A longer file has more than one job.
const LINES_MAX: usize = 500;
/// As `rustfmt.toml` says.
const COLUMNS_MAX: usize = 110;

/// Files with more than [`LINES_MAX`] lines.
pub fn sizes(tree: &Tree) -> Vec<String> {
    let counted = tree.sources().map(|(path, text)| (path, text.lines().count()));
    let long = counted.filter(|(_, lines)| *lines > LINES_MAX);
    long.map(|(path, lines)| format!("{path}: {lines} lines; at most {LINES_MAX}: split it by job")).collect()
}

/// Lines over [`COLUMNS_MAX`] columns, unless a string literal makes them long.
pub fn widths(tree: &Tree) -> Vec<String> {
    let mut violations = Vec::new();
    for (path, text) in tree.sources() {
        let kinds = lexer::kinds(text);
        let mut begin = 0;
        for (number, line) in text.split('\n').enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX && !kinds[begin..begin + line.len()].contains(&Kind::Text) {
                let place = format!("{path}:{}", number + 1);
                violations.push(format!("{place}: {columns} columns; at most {COLUMNS_MAX}"));
            }
            begin += line.len() + 1;
        }
    }
    violations
}

/// Files that begin a module or a crate, and do not begin with its doc.
pub fn module_docs(tree: &Tree) -> Vec<String> {
    let begins =
        |path: &str| ["mod.rs", "lib.rs", "main.rs"].contains(&path.rsplit('/').next().unwrap_or(path));
    let bare = tree.sources().filter(|(path, text)| begins(path) && !text.trim_start().starts_with("//!"));
    bare.map(|(path, _)| format!("{path}: must begin with a doc (`//!`) that says its one job")).collect()
}

/// Files of tests that do not lie where tests lie.
pub fn test_layout(tree: &Tree) -> Vec<String> {
    let odd = tree.sources().filter(|(path, _)| path.ends_with("_tests.rs"));
    odd.map(|(path, _)| {
        format!("{path}: unit tests lie in `mod tests`, in the file or in tests.rs beside it")
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_found() {
        let (long, short) = ("\n".repeat(501), "\n".repeat(500));
        let tree = Tree::fake(&[("a/src/long.rs", &long), ("a/src/short.rs", &short)]);
        assert_eq!(sizes(&tree), ["a/src/long.rs: 501 lines; at most 500: split it by job"]);
    }

    #[test]
    fn wide_lines_are_found_unless_a_string_makes_them_wide() {
        let wide = "x".repeat(111);
        let source = format!("// {wide}\n\nlet a = {wide};\nlet b = \"{wide}\";\n\"\n{wide}\n\"\n// short");
        let tree = Tree::fake(&[("a.rs", &source)]);
        assert_eq!(widths(&tree), ["a.rs:1: 114 columns; at most 110", "a.rs:3: 120 columns; at most 110"]);
    }

    #[test]
    fn a_module_without_its_doc_is_found() {
        let tree = Tree::fake(&[("a/mod.rs", "use x;"), ("b/mod.rs", "//! B."), ("c/leaf.rs", "")]);
        assert_eq!(module_docs(&tree), ["a/mod.rs: must begin with a doc (`//!`) that says its one job"]);
    }

    #[test]
    fn tests_in_an_odd_place_are_found() {
        let tree = Tree::fake(&[("a/tree_tests.rs", ""), ("a/tree/tests.rs", ""), ("a/tests.rs", "")]);
        assert_eq!(test_layout(&tree).len(), 1);
    }
}
