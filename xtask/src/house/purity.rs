//! The core is pure: no clock, no IO, no thread, no float, no order that differs between runs.

use super::tree::Tree;
use super::words::{self, Rule};

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

pub fn of_the_core(tree: &Tree) -> Vec<String> {
    let mut violations = words::against(RULES, tree);
    for path in NO_STD {
        if !tree.text(path).is_some_and(|text| text.contains("#![no_std]")) {
            violations.push(format!("{path}: must be no_std, so that the compiler keeps clocks and IO out"));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(machine: &str, file: &str) -> Vec<String> {
        of_the_core(&Tree::fake(&[
            ("protocol/src/lib.rs", "#![no_std]"),
            ("coordinator/machine/src/lib.rs", machine),
            ("coordinator/machine/src/state.rs", file),
        ]))
    }

    #[test]
    fn what_is_not_pure_is_found() {
        let clean = "use alloc::vec::Vec; // an f64 would differ\nlet operand = 1;";
        assert_eq!(found("#![no_std]", clean), [""; 0]);
        assert_eq!(found("", clean).len(), 1);
        for impure in
            ["let x: f32 = 0.0;", "use std::fs;", "HashMap::new()", "Instant::now()", "rand::random()"]
        {
            assert_eq!(found("#![no_std]", impure).len(), 1, "{impure}");
        }
    }
}
