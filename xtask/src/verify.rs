//! Everything that is checked without running the program.

use crate::cargo::{self, PROFILE};
use crate::{house, packages, policy};
use anyhow::Result;
use std::process::Stdio;

/// Runs every check, also after one has failed, and says in the end how it went.
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
    ("house rules", house::house),
    ("dependencies", dependencies),
    ("clippy", clippy),
    ("docs", docs),
];

fn format() -> Result<bool> {
    Ok(cargo::status(&mut cargo::cargo(&["fmt", "--all", "--", "--check"]))?.success())
}

fn clean(complaints: Vec<String>) -> bool {
    for complaint in &complaints {
        println!("{complaint}");
    }
    complaints.is_empty()
}

fn dependencies() -> Result<bool> {
    let own = clean(policy::complaints(&packages::resolved()?)?);
    let installed = cargo::cargo(&["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        println!(
            "cargo-deny is not installed: checked by xtask alone (licences, bans, sources as in deny.toml; no advisories)"
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
    // Private items are documented too, so a link to one leads somewhere.
    Ok(cargo::status(command.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links"))?
        .success())
}
