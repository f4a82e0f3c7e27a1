//! Drops training documents that share a run of words with an evaluation set, so that a score measures what
//! was learnt and not what was seen.
//!
//! A run is 13 words by default, as for GPT-3 (Brown et al. 2020, appendix C), whatever their case and
//! punctuation. An item with fewer words counts as a whole, if it has at least [`WORDS_MIN`]: shorter ones
//! occur everywhere.

use super::Error;
use super::read::{self, Fields, Format};
use super::shingles;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Items with fewer words are skipped.
pub const WORDS_MIN: usize = 8;
/// Most n-grams of all sets together, since they are held in memory.
const RUNS_MAX: usize = 64 << 20;
/// Most evaluation sets.
const SETS_MAX: usize = 1000;

/// An evaluation set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalSet {
    /// Its name in reports.
    pub name: String,
    /// Its file, in any format that can be read.
    pub path: PathBuf,
}

/// Which evaluation sets to keep out of the training data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Decontaminate {
    /// The evaluation sets.
    pub sets: Vec<EvalSet>,
    /// Words per n-gram; GPT-3 used 13.
    pub words: usize,
    /// Which fields of a row hold an item's text.
    pub fields: Fields,
}

impl Default for Decontaminate {
    fn default() -> Self {
        Self { sets: Vec::new(), words: 13, fields: Fields::default() }
    }
}

/// The n-grams of all evaluation sets.
#[derive(Debug, Default)]
pub struct ContaminationIndex {
    names: Vec<String>,
    /// For each n-gram length, the first set that has each n-gram.
    runs: BTreeMap<usize, HashMap<u64, u16>>,
}

impl ContaminationIndex {
    /// Reads the sets.
    ///
    /// # Errors
    /// [`Error::Read`] if a file can't be read; [`Error::Parameters`] if a set has no item with [`WORDS_MIN`]
    /// words, a record is malformed, or there are too many sets or n-grams.
    pub fn read(config: &Decontaminate) -> Result<Self, Error> {
        if config.words < WORDS_MIN {
            return Err(Error::Parameters(format!(
                "runs of {} words are found everywhere; at least {WORDS_MIN} are needed",
                config.words
            )));
        }
        if config.sets.len() > SETS_MAX {
            return Err(Error::Parameters(format!(
                "{} evaluation sets are more than {SETS_MAX}",
                config.sets.len()
            )));
        }
        let mut found = Self::default();
        for (set, number) in config.sets.iter().zip(0u16..) {
            if found.names.contains(&set.name) {
                return Err(Error::Parameters(format!("two evaluation sets are named {:?}", set.name)));
            }
            found.names.push(set.name.clone());
            if found.add(config, set, number)? == 0 {
                return Err(Error::Parameters(format!(
                    "evaluation set {:?}: no item of {} has {WORDS_MIN} words or more",
                    set.name,
                    set.path.display()
                )));
            }
        }
        Ok(found)
    }

    /// Adds a set, and returns the number of items long enough to be found.
    fn add(&mut self, config: &Decontaminate, set: &EvalSet, number: u16) -> Result<usize, Error> {
        let mut items = 0;
        let bytes =
            fs::metadata(&set.path).map_err(|source| Error::Read { path: set.path.clone(), source })?.len();
        for part in read::parts(&set.path, bytes, Format::Auto, u64::MAX)? {
            read::read(&part, &config.fields, u64::MAX, &mut |record| {
                let line = record.line.unwrap_or_default();
                let body = record.raw.body(&config.fields).map_err(|(reason, detail)| {
                    let why = if detail.is_empty() { reason.to_string() } else { detail };
                    Error::Parameters(format!(
                        "evaluation set {:?}: {}:{line}: {why}",
                        set.name,
                        set.path.display()
                    ))
                })?;
                let words = shingles::word_hashes(&body.plain());
                let length = config.words.min(words.len());
                if length >= WORDS_MIN {
                    items += 1;
                    let runs = self.runs.entry(length).or_default();
                    shingles::ngrams(&words, length).for_each(|run| {
                        runs.entry(run).or_insert(number);
                    });
                }
                if self.count() > RUNS_MAX {
                    return Err(Error::Parameters(format!(
                        "the evaluation sets have more than {RUNS_MAX} runs of words, at {:?}",
                        set.name
                    )));
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(items)
    }

    fn count(&self) -> usize {
        self.runs.values().map(HashMap::len).sum()
    }

    /// The first evaluation set, in the order of the parameters, that shares an n-gram with `text`.
    #[must_use]
    pub fn of(&self, text: &str) -> Option<&str> {
        if self.runs.is_empty() {
            return None;
        }
        let words = shingles::word_hashes(text);
        let sets = self.runs.iter().flat_map(|(length, known)| {
            shingles::ngrams(&words, *length).filter_map(|run| known.get(&run).copied())
        });
        sets.min().and_then(|set| self.names.get(usize::from(set))).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(from: usize, count: usize) -> String {
        (from..from + count).map(|number| format!("word{number}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_shared_run_is_found_wherever_it_stands_and_a_shorter_one_is_not() {
        let home = tempfile::tempdir().expect("makes a directory");
        let path = |name: &str| home.path().join(name);
        fs::write(
            path("long.jsonl"),
            format!(
                "{{\"text\":\"{}\"}}\n{{\"prompt\":\"{}\",\"completion\":\"yes\"}}\n",
                words(0, 40),
                words(100, 12)
            ),
        )
        .expect("writes");
        fs::write(path("short.txt"), words(200, 9)).expect("writes");
        let set = |name: &str, file: &str| EvalSet { name: name.to_owned(), path: path(file) };
        let config = Decontaminate {
            sets: vec![set("long", "long.jsonl"), set("short", "short.txt")],
            ..Decontaminate::default()
        };
        let found = ContaminationIndex::read(&config).expect("reads");
        let table = [
            (words(5, 13), Some("long")),
            (words(5, 12), None),
            (format!("before. {}, AFTER", words(20, 13).to_uppercase()), Some("long")),
            (format!("{} other {}", words(0, 12), words(12, 12)), None),
            (format!("{} yes", words(100, 12)), Some("long")),
            (format!("x {} y", words(200, 9)), Some("short")),
            (words(201, 8), None),
            (format!("{} {}", words(200, 9), words(0, 13)), Some("long")),
            (String::new(), None),
        ];
        for (text, expected) in table {
            assert_eq!(found.of(&text), expected, "{text}");
        }
    }

    #[test]
    fn sets_that_can_not_be_used_are_named() {
        let home = tempfile::tempdir().expect("makes a directory");
        let path = home.path().join("set.jsonl");
        let refused = |text: &str, words: usize| {
            fs::write(&path, text).expect("writes");
            let sets = vec![EvalSet { name: "arc".to_owned(), path: path.clone() }];
            ContaminationIndex::read(&Decontaminate { sets, words, ..Decontaminate::default() })
                .expect_err("refused")
                .to_string()
        };
        assert!(refused("{\"text\":\"too short\"}\n", 13).contains("evaluation set \"arc\": no item of"));
        assert!(refused("{\"text\":\"a\"}\n{\"txt\":1}", 13).contains("set.jsonl:2: no `text`"));
        assert!(refused("{}", 3).contains("runs of 3 words are found everywhere"));
        let absent = Decontaminate {
            sets: vec![EvalSet { name: "arc".to_owned(), path: "/no/such/file".into() }],
            ..Decontaminate::default()
        };
        assert!(ContaminationIndex::read(&absent).expect_err("absent").to_string().contains("/no/such/file"));
    }
}
