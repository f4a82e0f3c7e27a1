//! `deny.toml`, where cargo-deny is not installed: licences, bans with double versions, and sources, over
//! what cargo resolved.
//!
//! It reads the same lists as cargo-deny. What it does not do: look into the licence files themselves, and
//! know of advisories.

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

fn named<'a>(waiver: &'a Table, complaints: &mut Vec<String>) -> &'a str {
    let name = waiver.get("crate").and_then(Value::as_str).unwrap_or_default();
    if waiver.get("reason").and_then(Value::as_str).is_none_or(|reason| reason.trim().is_empty()) {
        complaints.push(format!("deny.toml: {name:?} stands there without a reason"));
    }
    name
}

/// What breaks `deny.toml`, one line each.
pub fn complaints(packages: &[Package]) -> Result<Vec<String>> {
    let text = fs::read_to_string(cargo::root().join("deny.toml")).context("read deny.toml")?;
    against(&text.parse().context("read deny.toml as TOML")?, packages)
}

fn against(policy: &Table, packages: &[Package]) -> Result<Vec<String>> {
    let mut complaints = Vec::new();

    let licenses = strings(policy, &["licenses", "allow"]);
    let registries = strings(policy, &["sources", "allow-registry"]);
    if licenses.is_empty()
        || registries.is_empty()
        || at(policy, &["bans", "multiple-versions"]).and_then(Value::as_str) != Some("deny")
    {
        bail!("deny.toml must list allowed licences and registries, and deny double versions");
    }
    for package in packages {
        let name = format!("{} {}", package.name, package.version);
        if !spdx::is_satisfied(&package.license, &|license| licenses.contains(&license)) {
            complaints.push(format!("{name}: licence {:?} is not allowed", package.license));
        }
        if let Some(source) = &package.source
            && !source.strip_prefix("registry+").is_some_and(|registry| registries.contains(&registry))
        {
            complaints.push(format!("{name}: comes from {source}, which is not allowed"));
        }
    }

    for ban in tables(policy, &["bans", "deny"]) {
        let name = named(ban, &mut complaints);
        if packages.iter().any(|package| package.name == name) {
            complaints.push(format!(
                "{name} is banned: {}",
                ban.get("reason").and_then(Value::as_str).unwrap_or_default()
            ));
        }
    }

    let skips: Vec<&str> =
        tables(policy, &["bans", "skip"]).into_iter().map(|skip| named(skip, &mut complaints)).collect();
    for skip in &skips {
        if !packages.iter().any(|package| format!("{}@{}", package.name, package.version) == *skip) {
            complaints.push(format!("deny.toml: {skip} is waived, but not built: take the waiver out"));
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
        complaints.push(format!(
            "{name} is built {} times: {}; waive one in deny.toml, with a reason",
            versions.len(),
            versions.join(", ")
        ));
    }
    Ok(complaints)
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
        let complaints = against(&POLICY.parse().unwrap(), &packages).unwrap();
        let begins = [
            "copyleft 1.0.0: licence \"GPL-3.0\"",
            "stray 1.0.0: comes from registry+https://elsewhere.org",
            "evil is banned: it is",
            "deny.toml: \"odd\" stands there without a reason",
            "deny.toml: gone@1.0.0 is waived, but not built",
            "thrice is built 2 times: 1.0.0, 2.0.0",
        ];
        assert_eq!(complaints.len(), begins.len(), "{complaints:#?}");
        for (complaint, begin) in complaints.iter().zip(begins) {
            assert!(complaint.starts_with(begin), "{complaint} does not begin with {begin}");
        }
    }

    #[test]
    fn a_policy_that_allows_anything_is_none() {
        assert!(against(&Table::new(), &[]).is_err());
    }
}
