//! The house rules that neither the compiler nor clippy knows: who may import whom, who may name what, and
//! how long a file may be.

use crate::cargo;
use crate::packages::Package;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A longer file has more than one job.
const LINES_MAX: usize = 500;

/// Who may be built with whom, of the workspace's own. `muster-tests` may use all but the binary's package.
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

/// A word that only some places may have.
struct Rule {
    /// Any of these, as whole words.
    words: &'static [&'static str],
    /// Only files under these are looked at.
    within: &'static [&'static str],
    /// Files under these may have them.
    except: &'static [&'static str],
    /// Why.
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        words: &["sled::"],
        within: &[""],
        except: &["coordinator/src/store"],
        why: "only the store names sled",
    },
    Rule {
        words: &["async_nats"],
        within: &[""],
        // A log filter names the crate, and uses nothing of it.
        except: &[
            "coordinator/src/bus",
            "worker/agent/src/bus",
            "cli/src/broker/tests.rs",
            "cli/src/logging.rs",
        ],
        why: "only the buses name async-nats",
    },
    Rule {
        words: &["bincode::encode_to_vec", "bincode::decode_from_slice", "bincode::config"],
        within: &[""],
        except: &["protocol/src/codec.rs"],
        why: "bytes are made and read by protocol::codec alone",
    },
    Rule {
        words: &[".v1.up", ".v1.down"],
        within: &[""],
        except: &["protocol/src/subjects.rs", "cli/src/broker/tests.rs"],
        why: "only protocol::subjects knows subjects",
    },
    Rule {
        words: &["println!", "print!", "eprintln!", "eprint!"],
        within: &["protocol/src", "coordinator", "worker", "cli/src"],
        except: &["cli/src/render"],
        why: "only cli/src/render prints",
    },
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
    Rule {
        words: &["#[allow", "#![allow"],
        within: &[""],
        except: &[],
        why: "use #[expect(.., reason = \"..\")]",
    },
    Rule { words: &["#[ignore"], within: &[""], except: &[], why: "a test that is never run is none" },
];

/// What breaks the rules, one line each.
pub fn complaints(packages: &[Package]) -> Result<Vec<String>> {
    let root = cargo::root();
    let mut complaints = imports(packages);
    let mut sources = Vec::new();
    for room in ["protocol", "host", "coordinator", "worker", "cli", "tests", "xtask"] {
        collect(&root.join(room), &mut sources)?;
    }
    sources.sort();
    for path in sources {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let name = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned();
        look(&name, &text, &mut complaints);
    }
    for home in ["protocol/src/lib.rs", "coordinator/machine/src/lib.rs"] {
        if !fs::read_to_string(root.join(home)).is_ok_and(|text| text.contains("#![no_std]")) {
            complaints.push(format!("{home}: must be no_std, so that the compiler keeps clocks and IO out"));
        }
    }
    Ok(complaints)
}

fn imports(packages: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in packages.iter().filter(|package| package.source.is_none()) {
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == package.name) else {
            complaints.push(format!("{}: not in xtask's list of who may import whom", package.name));
            continue;
        };
        let ours =
            packages.iter().filter(|other| other.source.is_none() && package.needs.contains(&other.name));
        for other in ours.filter(|other| !allowed.contains(&other.name.as_str())) {
            complaints.push(format!("{} must not import {}: imports run one way", package.name, other.name));
        }
    }
    complaints
}

fn collect(directory: &Path, sources: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
    Ok(())
}

fn look(name: &str, text: &str, complaints: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > LINES_MAX {
        complaints.push(format!("{name}: {lines} lines; more than {LINES_MAX} are more than one job"));
    }
    if !text.trim_start().starts_with("//!")
        && name.ends_with("/mod.rs") | name.ends_with("/lib.rs") | name.ends_with("/main.rs")
    {
        complaints.push(format!("{name}: a module says first what its one job is"));
    }
    // This file names what it looks for.
    if name == "xtask/src/house.rs" {
        return;
    }
    for rule in RULES {
        let inside = rule.within.iter().any(|within| name.starts_with(within));
        if !inside || rule.except.iter().any(|except| name.starts_with(except)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if let Some(word) = rule.words.iter().find(|word| has_word(code, word)) {
                complaints.push(format!("{name}:{}: {word}: {}", number + 1, rule.why));
            }
        }
    }
}

/// Whether `word` stands in `code` and is not a part of a longer one.
fn has_word(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let bounded = |at: usize| {
        let before = code[..at].chars().next_back().filter(|_| word.starts_with(part));
        let after = code[at + word.len()..].chars().next().filter(|_| word.ends_with(part));
        !before.is_some_and(part) && !after.is_some_and(part)
    };
    code.match_indices(word).any(|(at, _)| bounded(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, text: &str) -> Vec<String> {
        let mut complaints = Vec::new();
        look(name, text, &mut complaints);
        complaints
    }

    #[test]
    fn words_are_found_where_they_may_not_be() {
        assert_eq!(found("coordinator/src/store/segment.rs", "use sled::Tree;").len(), 0);
        assert_eq!(found("coordinator/src/replica/mod.rs", "//! X\nuse sled::Tree;").len(), 1);
        assert_eq!(found("coordinator/machine/src/state.rs", "let x: f64 = 0.0; // f32").len(), 1);
        assert_eq!(
            found("coordinator/machine/src/state.rs", "// an f64 would differ\nlet operand = 1;").len(),
            0
        );
        assert_eq!(found("cli/src/render/table.rs", "println!()").len(), 0);
        assert_eq!(found("cli/src/watch.rs", "println!()").len(), 1);
        assert_eq!(found("worker/src/x.rs", &"\n".repeat(501)).len(), 1);
    }

    #[test]
    fn a_word_within_a_longer_one_is_not_found() {
        assert!(has_word("use std::fs;", "std::"));
        assert!(!has_word("let operand = 1;", "rand"));
        assert!(has_word("rand::random()", "rand"));
    }
}
