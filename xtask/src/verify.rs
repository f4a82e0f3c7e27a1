//! `cargo xtask verify`: every check that does not run the program.

use crate::cargo::{self, PROFILE};
use crate::{deny, house, packages};
use anyhow::Result;
use std::process::Stdio;

/// Runs every check, even after one has failed, and prints a summary.
pub fn verify() -> Result<bool> {
    let mut failed = Vec::new();
    let mut passed = 0;
    for (name, check) in CHECKS {
        println!("== {name}");
        if check()? {
            passed += 1;
        } else {
            failed.push(*name);
        }
    }
    println!(
        "verify: {passed} passed, {} failed{}{}",
        failed.len(),
        if failed.is_empty() { "" } else { ": " },
        failed.join(", ")
    );
    Ok(failed.is_empty())
}

type Check = fn() -> Result<bool>;

const CHECKS: &[(&str, Check)] = &[
    ("format", format),
    ("house rules", house::run),
    ("dependencies", dependencies),
    ("clippy", clippy),
    ("docs", docs),
];

fn format() -> Result<bool> {
    Ok(cargo::status(&mut cargo::cargo(&["fmt", "--all", "--", "--check"]))?.success())
}

/// Prints the violations; returns whether there are none.
fn is_clean(violations: &[String]) -> bool {
    violations.iter().for_each(|violation| println!("{violation}"));
    violations.is_empty()
}

fn dependencies() -> Result<bool> {
    let own = is_clean(&deny::violations(&packages::resolved()?)?);
    let installed = cargo::cargo(&["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        println!(
            "cargo-deny is not installed: xtask checked licences, bans and sources; advisories were not checked"
        );
        return Ok(own);
    }
    Ok(cargo::status(&mut cargo::cargo(&["deny", "check", "bans", "licenses", "sources"]))?.success() && own)
}

fn clippy() -> Result<bool> {
    let arguments =
        ["clippy", "--workspace", "--all-targets", "--profile", PROFILE, "--locked", "--", "-D", "warnings"];
    Ok(cargo::status(&mut cargo::cargo(&arguments))?.success())
}

fn docs() -> Result<bool> {
    let mut command = cargo::cargo(&[
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--profile",
        PROFILE,
        "--locked",
    ]);
    // Private items are documented too, so links to them work.
    Ok(cargo::status(command.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links"))?
        .success())
}
