//! Checks the resolved packages against `deny.toml` where cargo-deny is not installed: licences, bans,
//! duplicate versions and sources.
//!
//! It reads the same lists as cargo-deny. Unlike cargo-deny it neither reads licence files nor knows
//! advisories.

use crate::packages::Package;
use crate::{cargo, spdx};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use toml::{Table, Value};

fn strings<'a>(table: &'a Table, path: &[&str]) -> Vec<&'a str> {
    at(table, path).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn tables<'a>(table: &'a Table, path: &[&str]) -> Vec<&'a Table> {
    at(table, path).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table).collect()
}

fn at<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(*first)?;
    if rest.is_empty() { Some(value) } else { at(value.as_table()?, rest) }
}

fn checked_name<'a>(waiver: &'a Table, violations: &mut Vec<String>) -> &'a str {
    let name = waiver.get("crate").and_then(Value::as_str).unwrap_or_default();
    if waiver.get("reason").and_then(Value::as_str).is_none_or(|reason| reason.trim().is_empty()) {
        violations.push(format!("deny.toml: {name:?} has no reason"));
    }
    name
}

/// Violations of `deny.toml`, one line each.
pub fn violations(packages: &[Package]) -> Result<Vec<String>> {
    let text = fs::read_to_string(cargo::root().join("deny.toml")).context("read deny.toml")?;
    check(&text.parse().context("read deny.toml as TOML")?, packages)
}

fn check(policy: &Table, packages: &[Package]) -> Result<Vec<String>> {
    let mut violations = Vec::new();

    let licenses = strings(policy, &["licenses", "allow"]);
    let registries = strings(policy, &["sources", "allow-registry"]);
    if licenses.is_empty()
        || registries.is_empty()
        || at(policy, &["bans", "multiple-versions"]).and_then(Value::as_str) != Some("deny")
    {
        bail!("deny.toml must list allowed licences and registries, and deny duplicate versions");
    }
    for package in packages {
        let name = format!("{} {}", package.name, package.version);
        if !spdx::is_satisfied(&package.license, &|license| licenses.contains(&license)) {
            violations.push(format!("{name}: licence {:?} is not allowed", package.license));
        }
        if let Some(source) = &package.source
            && !source.strip_prefix("registry+").is_some_and(|registry| registries.contains(&registry))
        {
            violations.push(format!("{name}: its source {source} is not allowed"));
        }
    }

    for ban in tables(policy, &["bans", "deny"]) {
        let name = checked_name(ban, &mut violations);
        if packages.iter().any(|package| package.name == name) {
            violations.push(format!(
                "{name} is banned: {}",
                ban.get("reason").and_then(Value::as_str).unwrap_or_default()
            ));
        }
    }

    let skips: Vec<&str> = tables(policy, &["bans", "skip"])
        .into_iter()
        .map(|skip| checked_name(skip, &mut violations))
        .collect();
    for skip in &skips {
        if !packages.iter().any(|package| format!("{}@{}", package.name, package.version) == *skip) {
            violations.push(format!("deny.toml: {skip} is skipped but not built: remove the entry"));
        }
    }
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages
        .iter()
        .filter(|package| !skips.contains(&format!("{}@{}", package.name, package.version).as_str()))
    {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    for (name, versions) in versions.into_iter().filter(|(_, versions)| versions.len() > 1) {
        violations.push(format!(
            "{name} is built {} times: {}; skip one in deny.toml, with a reason",
            versions.len(),
            versions.join(", ")
        ));
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        licenses.allow = ["MIT"]
        sources.allow-registry = ["https://example.org/index"]
        [bans]
        multiple-versions = "deny"
        deny = [{ crate = "evil", reason = "it is" }, { crate = "odd" }]
        skip = [{ crate = "twice@1.0.0", reason = "moving" }, { crate = "gone@1.0.0", reason = "was there once" }]
    "#;

    fn package(name: &str, version: &str, license: &str, registry: &str) -> Package {
        let source = Some(format!("registry+https://{registry}/index"));
        Package {
            name: name.to_string(),
            version: version.to_string(),
            license: license.to_string(),
            source,
            needs: Vec::new(),
            targets: Vec::new(),
        }
    }

    #[test]
    fn each_list_is_checked() {
        let packages = [
            package("good", "1.0.0", "MIT OR GPL-3.0", "example.org"),
            package("copyleft", "1.0.0", "GPL-3.0", "example.org"),
            package("stray", "1.0.0", "MIT", "elsewhere.org"),
            package("evil", "1.0.0", "MIT", "example.org"),
            package("twice", "1.0.0", "MIT", "example.org"),
            package("twice", "2.0.0", "MIT", "example.org"),
            package("thrice", "1.0.0", "MIT", "example.org"),
            package("thrice", "2.0.0", "MIT", "example.org"),
        ];
        let violations = check(&POLICY.parse().unwrap(), &packages).unwrap();
        let begins = [
            "copyleft 1.0.0: licence \"GPL-3.0\"",
            "stray 1.0.0: its source registry+https://elsewhere.org",
            "evil is banned: it is",
            "deny.toml: \"odd\" has no reason",
            "deny.toml: gone@1.0.0 is skipped but not built",
            "thrice is built 2 times: 1.0.0, 2.0.0",
        ];
        assert_eq!(violations.len(), begins.len(), "{violations:#?}");
        for (violation, begin) in violations.iter().zip(begins) {
            assert!(violation.starts_with(begin), "{violation} does not begin with {begin}");
        }
    }

    #[test]
    fn a_policy_without_limits_is_refused() {
        assert!(check(&Table::new(), &[]).is_err());
    }
}
