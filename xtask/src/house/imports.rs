//! Imports between crates run one way.

use crate::packages::Package;

/// Which of our own packages each may be built with.
const IMPORTS: &[(&str, &[&str])] = &[
    ("muster-protocol", &[]),
    ("muster-host", &[]),
    ("muster-machine", &["muster-protocol"]),
    ("muster-replica", &["muster-protocol", "muster-machine"]),
    ("muster-coordinator", &["muster-protocol", "muster-host", "muster-machine", "muster-replica"]),
    ("muster-attempt", &["muster-protocol", "muster-host"]),
    ("muster-agent", &["muster-protocol", "muster-host", "muster-attempt"]),
    ("muster-data", &["muster-protocol", "muster-host"]),
    ("muster-llm", &["muster-protocol", "muster-host", "muster-data"]),
    ("muster-collective", &["muster-protocol", "muster-host", "muster-data", "muster-llm"]),
    ("muster-annotate", &["muster-protocol", "muster-host", "muster-attempt", "muster-data"]),
    (
        "muster-executors",
        &[
            "muster-protocol",
            "muster-host",
            "muster-attempt",
            "muster-data",
            "muster-llm",
            "muster-collective",
            "muster-annotate",
        ],
    ),
    ("muster-worker", &["muster-agent", "muster-executors"]),
    (
        "muster",
        &[
            "muster-protocol",
            "muster-host",
            "muster-machine",
            "muster-replica",
            "muster-coordinator",
            "muster-attempt",
            "muster-executors",
            "muster-worker",
        ],
    ),
    // No ML: work on coordinators and agents never compiles candle.
    ("muster-tests", &["muster-protocol", "muster-host", "muster-machine", "muster-replica", "muster-agent"]),
    ("xtask", &[]),
];

/// Packages that are built with one of ours that they may not import.
pub fn between_crates(packages: &[Package]) -> Vec<String> {
    let mut violations = Vec::new();
    for package in packages.iter().filter(|package| package.source.is_none()) {
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == package.name) else {
            violations.push(format!("{}: not in xtask/src/house/imports.rs", package.name));
            continue;
        };
        let ours =
            packages.iter().filter(|other| other.source.is_none() && package.needs.contains(&other.name));
        for other in ours.filter(|other| !allowed.contains(&other.name.as_str())) {
            violations.push(format!("{} must not import {}: imports run one way", package.name, other.name));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, needs: &[&str]) -> Package {
        let text = |text: &str| text.to_owned();
        let needs = needs.iter().map(|need| text(need)).collect();
        Package {
            name: text(name),
            version: text("1.0.0"),
            license: String::new(),
            source: None,
            needs,
            targets: Vec::new(),
        }
    }

    #[test]
    fn an_import_against_the_stream_is_found() {
        let packages = [
            package("muster-protocol", &["muster-machine"]),
            package("muster-machine", &["muster-protocol"]),
            package("muster-new", &[]),
        ];
        assert_eq!(
            between_crates(&packages),
            [
                "muster-protocol must not import muster-machine: imports run one way",
                "muster-new: not in xtask/src/house/imports.rs",
            ]
        );
    }
}
