//! Words that only some places may have.

use super::lexer;
use super::tree::Tree;

/// Words that only some places may have.
pub struct Rule {
    /// Matched as whole words, outside comments.
    pub words: &'static [&'static str],
    /// Only files whose paths begin with one of these are looked at.
    pub within: &'static [&'static str],
    /// Files whose paths begin with one of these may have the words.
    pub except: &'static [&'static str],
    pub why: &'static str,
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
        why: "only protocol::codec encodes and decodes",
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
        words: &["#[allow", "#![allow"],
        within: &[""],
        except: &[],
        why: "use #[expect(.., reason = \"..\")]",
    },
    Rule { words: &["#[ignore"], within: &[""], except: &[], why: "an ignored test is never run" },
    Rule {
        words: &["cfg!(test)", "cfg!(not(test))", "#[cfg(not(test))]"],
        within: &[""],
        except: &[],
        why: "tests run the shipped code: what they shrink is a parameter",
    },
];

/// These files name what they look for.
const CHECKS: &str = "xtask/src/house/";

pub fn in_their_places(tree: &Tree) -> Vec<String> {
    against(RULES, tree.sources().filter(|(path, _)| !path.starts_with(CHECKS)))
}

/// Words in `sources`, pairs of path and text, that `rules` forbid there.
pub fn against<'a>(rules: &[Rule], sources: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut violations = Vec::new();
    for (path, text) in sources {
        let begins = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
        let rules: Vec<&Rule> =
            rules.iter().filter(|rule| begins(rule.within) && !begins(rule.except)).collect();
        for (number, line) in lexer::without_comments(text).lines().enumerate() {
            for rule in &rules {
                if let Some(word) = rule.words.iter().find(|word| has_word(line, word)) {
                    violations.push(format!("{path}:{}: {word}: {}", number + 1, rule.why));
                }
            }
        }
    }
    violations
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

    fn found(path: &str, text: &str) -> usize {
        in_their_places(&Tree::fake(&[(path, text)])).len()
    }

    #[test]
    fn words_are_found_where_they_may_not_be() {
        assert_eq!(found("coordinator/src/store/segment.rs", "use sled::Tree;"), 0);
        assert_eq!(found("coordinator/src/process/mod.rs", "use sled::Tree; // sled::Db"), 1);
        assert_eq!(found("coordinator/src/bus/nats.rs", "use async_nats::Client;"), 0);
        assert_eq!(found("worker/executors/src/x.rs", "use async_nats::Client;"), 1);
        assert_eq!(found("protocol/src/bus.rs", "bincode::config::standard()"), 1);
        assert_eq!(found("tests/src/x.rs", "\"muster.a.v1.up.x\""), 1);
        assert_eq!(found("cli/src/render/table.rs", "println!()"), 0);
        assert_eq!(found("cli/src/watch.rs", "println!()"), 1);
        assert_eq!(found("host/src/x.rs", "#[allow(dead_code)]"), 1);
        assert_eq!(found("host/src/x.rs", "#[ignore]"), 1);
        assert_eq!(found("host/src/x.rs", "const N: usize = if cfg!(test) { 1 } else { 2 };"), 1);
        assert_eq!(found("host/src/x.rs", "#[cfg(test)] mod tests;"), 0);
    }

    #[test]
    fn a_word_within_a_longer_one_is_not_found() {
        assert!(has_word("use std::fs;", "std::"));
        assert!(!has_word("let operand = 1;", "rand"));
        assert!(has_word("rand::random()", "rand"));
    }
}
