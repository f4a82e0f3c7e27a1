//! The core is pure: no clock, no IO, no thread, no float, no order that differs between runs.
//!
//! Only files that a library is built from are checked: its tests may use the standard library.

use super::modules::Crate;
use super::tree::Tree;
use super::words::{self, Rule};
use std::collections::BTreeSet;

const RULES: &[Rule] = &[
    Rule {
        words: &["HashMap", "HashSet", "f32", "f64", "Instant", "SystemTime", "std::", "thread", "rand"],
        within: &["coordinator/machine/src"],
        except: &[],
        why: "the pure core has no clock, no float, no order that differs between runs",
    },
    Rule {
        words: &["HashMap", "Instant", "SystemTime"],
        within: &["protocol/src"],
        except: &[],
        why: "the vocabulary is plain data",
    },
];

/// Crates whose code the compiler keeps from clocks and IO.
const NO_STD: &[&str] = &["protocol/src/lib.rs", "coordinator/machine/src/lib.rs"];

/// What says so; unit tests are built with the standard library either way.
const DECLARATIONS: &[&str] = &["#![no_std]", "#![cfg_attr(not(test), no_std)]"];

pub fn of_the_core(tree: &Tree, crates: &[Crate]) -> Vec<String> {
    let libraries = crates.iter().filter(|krate| krate.target.is_library);
    let built: BTreeSet<&str> =
        libraries.flat_map(|krate| &krate.modules).map(|module| module.file.as_str()).collect();
    let mut violations = words::against(RULES, tree.sources().filter(|(path, _)| built.contains(path)));
    for path in NO_STD {
        let text = tree.text(path).unwrap_or_default();
        if !DECLARATIONS.iter().any(|declaration| text.contains(declaration)) {
            violations.push(format!("{path}: must be no_std, so that the compiler keeps clocks and IO out"));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::modules;
    use super::*;

    fn found(machine: &str, file: &str) -> Vec<String> {
        let machine = format!("{machine} mod state; #[cfg(test)] mod faults;");
        let tree = Tree::fake(&[
            ("protocol/Cargo.toml", "[package]\nname = \"muster-protocol\""),
            ("protocol/src/lib.rs", "#![no_std]"),
            ("coordinator/machine/Cargo.toml", "[package]\nname = \"muster-machine\""),
            ("coordinator/machine/src/lib.rs", &machine),
            ("coordinator/machine/src/state.rs", file),
            ("coordinator/machine/src/faults.rs", "use std::thread;"),
        ]);
        of_the_core(&tree, &modules::crates(&tree).unwrap())
    }

    #[test]
    fn what_is_not_pure_is_found() {
        let clean = "use alloc::vec::Vec; // an f64 would differ\nconst OPERAND: u32 = 1;";
        assert_eq!(found("#![no_std]", clean), [""; 0]);
        assert_eq!(found("#![cfg_attr(not(test), no_std)]", clean), [""; 0]);
        assert_eq!(found("", clean).len(), 1);
        for impure in [
            "const X: f32 = 0.0;",
            "use std::fs;",
            "fn f() { HashMap::new() }",
            "fn f() { Instant::now() }",
            "fn f() { rand::random() }",
        ] {
            assert_eq!(found("#![no_std]", impure).len(), 1, "{impure}");
        }
    }
}
