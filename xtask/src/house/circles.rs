//! No circles between the files of a crate.
//!
//! File A depends on file B if code of A outside tests names something that B defines. A re-export is
//! followed to the file that defines the item; `mod x;` and `pub use` themselves name nothing. A glob import
//! names what the file takes from it, not all that it could. A method called on a value names nothing.

use super::modules::{Crate, Resolved};
use super::syntax;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// For each file, the files that it depends on and the items that make it so.
type Edges = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

pub fn circles(crates: &[Crate]) -> Vec<String> {
    crates.iter().flat_map(of_crate).collect()
}

/// One violation for each group of files that all depend on each other, shortest circle first.
fn of_crate(krate: &Crate) -> Vec<String> {
    let edges = edges(krate);
    let mut groups: Vec<(Vec<String>, BTreeSet<String>)> =
        groups(&edges).into_iter().filter_map(|group| Some((shortest(&edges, &group)?, group))).collect();
    groups.sort_by_key(|(circle, group)| (circle.len(), group.len()));
    groups.iter().map(|(circle, group)| describe(krate, &edges, circle, group)).collect()
}

fn edges(krate: &Crate) -> Edges {
    let mut edges = Edges::new();
    for (id, module) in krate.modules.iter().enumerate() {
        edges.entry(module.file.clone()).or_default();
        for path in module.syntax.iter().flat_map(syntax::named_paths) {
            if let Some(Resolved::Item { file, name, .. }) = krate.resolve(id, &path)
                && file != module.file
            {
                edges.entry(module.file.clone()).or_default().entry(file).or_default().insert(name);
            }
        }
    }
    edges
}

/// The sets of two files or more in which each can be reached from each.
fn groups(edges: &Edges) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<String>> =
        edges.keys().map(|file| (file, reach(edges, file))).collect();
    let mut groups: BTreeSet<BTreeSet<String>> = BTreeSet::new();
    for (file, there) in &reached {
        let back = there.iter().filter(|other| reached.get(other).is_some_and(|back| back.contains(*file)));
        let group: BTreeSet<String> = back.cloned().collect();
        if group.len() > 1 {
            groups.insert(group);
        }
    }
    groups.into_iter().collect()
}

/// What `file` depends on, however many steps away; itself only if it is in a circle.
fn reach(edges: &Edges, file: &str) -> BTreeSet<String> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![file]);
    while let Some(file) = next.pop() {
        for target in edges.get(file).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(target.clone()) {
                next.push(target);
            }
        }
    }
    reached
}

/// A shortest circle within `group`, beginning with its first file.
fn shortest(edges: &Edges, group: &BTreeSet<String>) -> Option<Vec<String>> {
    let circles = group.iter().filter_map(|start| {
        let mut from: BTreeMap<&String, &String> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(file) = queue.pop_front() {
            for target in edges.get(file)?.keys().filter(|target| group.contains(*target)) {
                if target == start {
                    let mut circle = vec![file.clone()];
                    while let Some(before) = from.get(circle.last()?) {
                        circle.push((*before).clone());
                    }
                    circle.reverse();
                    return Some(circle);
                }
                if !from.contains_key(target) {
                    from.insert(target, file);
                    queue.push_back(target);
                }
            }
        }
        None
    });
    circles.min_by_key(Vec::len)
}

fn describe(krate: &Crate, edges: &Edges, circle: &[String], group: &BTreeSet<String>) -> String {
    let source = krate.target.root.rsplit_once('/').map_or("", |(folder, _)| folder);
    let short = |file: &str| file.strip_prefix(source).unwrap_or(file).trim_start_matches('/').to_owned();
    let edge = |from: &str, to: &str| -> Option<String> {
        let items: Vec<&str> = edges.get(from)?.get(to)?.iter().map(String::as_str).collect();
        Some(format!("    {} -> {}: {}", short(from), short(to), items.join(", ")))
    };
    let in_circle: Vec<(&String, &String)> = circle.iter().zip(circle.iter().cycle().skip(1)).collect();
    let mut lines =
        vec![format!("{source}: a circle of {} files, in a group of {}", circle.len(), group.len())];
    lines.extend(in_circle.iter().filter_map(|(from, to)| edge(from, to)));
    let mut others = Vec::new();
    for from in group {
        for to in edges.get(from).into_iter().flat_map(BTreeMap::keys).filter(|to| group.contains(*to)) {
            if !in_circle.contains(&(from, to)) {
                others.extend(edge(from, to));
            }
        }
    }
    if !others.is_empty() {
        lines.push("  and within the group".to_owned());
        lines.extend(others);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::{modules, tree::Tree};
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let manifest = ("a/Cargo.toml", "[package]\nname = \"a\"");
        let tree = Tree::fake(&[[manifest].as_slice(), files].concat());
        circles(&modules::crates(&tree).unwrap())
    }

    #[test]
    fn a_circle_is_found_with_the_items_that_make_it() {
        let violations = found(&[
            ("a/src/lib.rs", "mod x; mod y; mod z; pub use x::X;"),
            ("a/src/x.rs", "use crate::y::{Y, other}; pub struct X(Y);"),
            ("a/src/y.rs", "pub struct Y; pub fn other() { crate::z::z() }"),
            ("a/src/z.rs", "pub fn z() { let x = crate::X; }"),
        ]);
        assert_eq!(
            violations,
            [
                "a/src: a circle of 3 files, in a group of 3\n    x.rs -> y.rs: Y, other\n    y.rs -> z.rs: z\n    z.rs -> x.rs: X"
            ]
        );
    }

    #[test]
    fn the_shortest_circle_of_a_group_comes_first() {
        let violations = found(&[
            ("a/src/lib.rs", "mod x; mod y; mod z; pub struct Root;"),
            ("a/src/x.rs", "use super::y::Y; pub struct X;"),
            ("a/src/y.rs", "use super::z::Z; use super::x::X; pub struct Y;"),
            ("a/src/z.rs", "use super::x::X; pub struct Z;"),
        ]);
        assert_eq!(
            violations,
            [
                "a/src: a circle of 2 files, in a group of 3\n    x.rs -> y.rs: Y\n    y.rs -> x.rs: X\n  and within the group\n    y.rs -> z.rs: Z\n    z.rs -> x.rs: X"
            ]
        );
    }

    #[test]
    fn a_glob_and_a_macro_name_what_is_taken_from_them() {
        let violations = found(&[
            ("a/src/lib.rs", "mod x; pub struct Used; pub struct Unused; fn f() { x::g() }"),
            ("a/src/x.rs", "use super::*; pub fn g() { assert_eq!(Used, Used); }"),
        ]);
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert!(
            violations[0].contains("x.rs -> lib.rs: Used\n")
                || violations[0].ends_with("x.rs -> lib.rs: Used")
        );
    }

    #[test]
    fn declarations_reexports_and_tests_make_no_circle() {
        let violations = found(&[
            ("a/src/lib.rs", "mod x; mod y; pub use x::X; pub(crate) use y::Y; pub struct Root;"),
            ("a/src/x.rs", "use crate::Root; pub struct X; #[cfg(test)] mod tests { use crate::Y; }"),
            ("a/src/y.rs", "use crate::X; pub struct Y(X); #[cfg(test)] fn f(x: crate::x::X) {}"),
        ]);
        assert_eq!(violations, [""; 0]);
    }
}
