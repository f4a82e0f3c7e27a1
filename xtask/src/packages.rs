//! The packages of the workspace and of its dependencies, as cargo resolves them for the served platform.

use crate::cargo;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;

/// The only platform that is built here.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

#[derive(Debug)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// An SPDX expression; empty if it names no licence.
    pub license: String,
    /// `None` for packages of the workspace.
    pub source: Option<String>,
    /// The names of its dependencies, without those of its tests.
    pub needs: Vec<String>,
    /// The names of its targets: library, programs, examples, tests.
    pub targets: Vec<String>,
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_string()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// All packages, including the workspace's own.
pub fn resolved() -> Result<Vec<Package>> {
    let output =
        cargo::cargo(&["metadata", "--format-version", "1", "--locked", "--filter-platform", PLATFORM])
            .output()?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("read the output of cargo metadata")?;
    let packages = list(&metadata, "packages");
    let names: BTreeMap<String, String> =
        packages.iter().map(|package| (text(package, "id"), text(package, "name"))).collect();
    let nodes = list(metadata.get("resolve").unwrap_or(&Value::Null), "nodes");
    let mut needs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in nodes {
        let built_with = list(node, "deps").iter().filter(|dependency| {
            let kinds = list(dependency, "dep_kinds");
            kinds.iter().any(|kind| kind.get("kind").is_none_or(|kind| kind.as_str() != Some("dev")))
        });
        needs.insert(
            text(node, "id"),
            built_with.filter_map(|dependency| names.get(&text(dependency, "pkg")).cloned()).collect(),
        );
    }
    // A package that is not a node is not built on this platform.
    let mut resolved = Vec::new();
    for package in packages {
        if let Some(needs) = needs.remove(&text(package, "id")) {
            resolved.push(Package {
                name: text(package, "name"),
                version: text(package, "version"),
                license: text(package, "license"),
                source: package.get("source").and_then(Value::as_str).map(str::to_string),
                needs,
                targets: list(package, "targets").iter().map(|target| text(target, "name")).collect(),
            });
        }
    }
    Ok(resolved)
}
