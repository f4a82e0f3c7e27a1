//! The house rules: what neither the compiler nor clippy checks.
//!
//! Its one job is to list and run the checks; each lies in a file of its own, with a planted violation that
//! it must find. A check must read only the tree that it is given.

mod circles;
mod docs;
mod files;
mod imports;
mod lexer;
mod modules;
mod names;
mod purity;
mod syntax;
mod tree;
mod words;

use crate::cargo;
use crate::packages;
use anyhow::Result;
use tree::Tree;

/// Prints every violation; returns whether there was none.
pub fn run() -> Result<bool> {
    let packages = packages::resolved()?;
    let tree = Tree::read(&cargo::root())?;
    let crates = modules::crates(&tree)?;
    let checks = [
        ("imports between crates", imports::between_crates(&packages)),
        ("words out of place", words::in_their_places(&tree)),
        ("purity of the core", purity::of_the_core(&tree, &crates)),
        ("circles between files", circles::circles(&crates)),
        ("file sizes", files::sizes(&tree)),
        ("line widths", files::widths(&tree)),
        ("module docs", files::module_docs(&tree)),
        ("test layout", files::test_layout(&tree)),
        ("type names in a crate", names::unique_in_crate(&crates)),
        ("type names across crates", names::unique_across_crates(&crates)),
        ("names of std's", names::shadows(&crates)),
        ("paths in documents", docs::paths(&tree, &crates)),
    ];
    for (name, violations) in checks.iter().filter(|(_, violations)| !violations.is_empty()) {
        println!("-- {name}: {}", violations.len());
        for violation in violations {
            println!("{violation}");
        }
    }
    let violations: usize = checks.iter().map(|(_, violations)| violations.len()).sum();
    println!("house: {} checks, {violations} violations", checks.len());
    Ok(violations == 0)
}
