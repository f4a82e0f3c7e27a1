//! Parameters: the job's, the stage's and the task's own, laid over each other and checked against the
//! executor's list of keys.
//!
//! A job's parameters go to all of its tasks, so a key there need only be known to some executor; elsewhere
//! it must be this one's.

use super::catalogue::{EXECUTORS, Executor, Key, Kind};
use super::rules;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// How like a key must be to be named as the one that was meant.
const LIKENESS_MIN: f64 = 0.6;

/// A parameter is not right.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// There is no such executor.
    #[error("find the executor `{name}`{nearest}; there are {known}")]
    Executor {
        /// The name given.
        name: String,
        /// `; did you mean …?`, or nothing.
        nearest: String,
        /// All names.
        known: String,
    },
    /// The text is no JSON object.
    #[error("read the parameters of the {of}: {reason}")]
    Malformed {
        /// The job, the stage or the task.
        of: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The key means nothing.
    #[error("use the parameters of the {of}: unknown key `{key}`{nearest}; `{executor}` has {known}")]
    Unknown {
        /// The job, the stage or the task.
        of: &'static str,
        /// The key given.
        key: String,
        /// `; did you mean …?`, or nothing.
        nearest: String,
        /// The executor.
        executor: &'static str,
        /// All its keys.
        known: String,
    },
    /// The value is none that the key may have.
    #[error("use the parameters of the {of}: `{key}` is {expected}, not {found}")]
    Value {
        /// The job, the stage or the task.
        of: &'static str,
        /// The key.
        key: &'static str,
        /// What it may be.
        expected: String,
        /// The value given.
        found: String,
    },
    /// Two values do not go together.
    #[error("use the parameters together: {0}")]
    Contradiction(String),
}

/// Checked parameters: one value for each key of the executor.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    values: BTreeMap<&'static str, Value>,
}

/// Checks the parameters that a stage of a job would give to its tasks, before it is submitted.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(executor: &str, job: &str, stage: &str) -> Result<(), Error> {
    Params::read(executor, job, stage, "").map(drop)
}

impl Params {
    /// Reads the three texts, each a JSON object or empty; a later one's values go before an earlier one's.
    pub fn read(executor: &str, job: &str, stage: &str, child: &str) -> Result<Params, Error> {
        let executor = find(executor)?;
        let mut given = BTreeSet::new();
        let mut values: BTreeMap<&str, Value> =
            executor.keys().map(|key| (key.name, key.kind.default())).collect();
        for (of, text) in [("job", job), ("stage", stage), ("task", child)] {
            for (name, value) in object(of, text)? {
                let Some(key) = executor.keys().find(|key| key.name == name) else {
                    if of == "job" && EXECUTORS.iter().any(|other| other.keys().any(|key| key.name == name)) {
                        continue;
                    }
                    return Err(unknown(of, &name, executor));
                };
                if !key.kind.accepts(&value) {
                    return Err(Error::Value {
                        of,
                        key: key.name,
                        expected: key.kind.to_string(),
                        found: value.to_string(),
                    });
                }
                values.insert(key.name, value);
                if of != "job" {
                    given.insert(key.name);
                }
            }
        }
        if executor.name == "train" {
            rules::train(&values, &given).map_err(Error::Contradiction)?;
        }
        Ok(Params { values })
    }
}

impl Params {
    /// The whole number of a key.
    pub fn whole(&self, key: &'static str) -> u64 {
        self.value(key).as_u64().unwrap_or_else(|| panic!("`{key}` is in the list as a whole number"))
    }

    /// The same as a size.
    pub fn size(&self, key: &'static str) -> usize {
        usize::try_from(self.whole(key)).unwrap_or(usize::MAX)
    }

    /// The number of a key.
    pub fn number(&self, key: &'static str) -> f64 {
        self.value(key).as_f64().unwrap_or_else(|| panic!("`{key}` is in the list as a number"))
    }

    /// The text of a key.
    pub fn text(&self, key: &'static str) -> &str {
        self.value(key).as_str().unwrap_or_else(|| panic!("`{key}` is in the list as a text"))
    }

    /// The texts of a key.
    pub fn texts(&self, key: &'static str) -> Vec<String> {
        let list = self.value(key).as_array().unwrap_or_else(|| panic!("`{key}` is in the list as texts"));
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Whether a key is set.
    pub fn flag(&self, key: &'static str) -> bool {
        self.value(key).as_bool().unwrap_or_else(|| panic!("`{key}` is in the list as true or false"))
    }

    fn value(&self, key: &'static str) -> &Value {
        self.values.get(key).unwrap_or_else(|| panic!("`{key}` is in the executor's list"))
    }
}

fn find(name: &str) -> Result<&'static Executor, Error> {
    EXECUTORS.iter().find(|executor| executor.name == name).ok_or_else(|| Error::Executor {
        name: name.to_owned(),
        nearest: nearest(name, EXECUTORS.iter().map(|executor| executor.name)),
        known: listed(EXECUTORS.iter().map(|executor| executor.name)),
    })
}

fn unknown(of: &'static str, key: &str, executor: &'static Executor) -> Error {
    let names = || executor.keys().map(|key: &Key| key.name);
    Error::Unknown {
        of,
        key: key.to_owned(),
        nearest: nearest(key, names()),
        executor: executor.name,
        known: listed(names()),
    }
}

fn object(of: &'static str, text: &str) -> Result<Map<String, Value>, Error> {
    if text.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(text).map_err(|e| Error::Malformed { of, reason: format!("not a JSON object: {e}") })
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let likeness = known.map(|other| (strsim::jaro_winkler(name, other), other));
    match likeness.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(likeness, _)| *likeness >= LIKENESS_MIN) {
        Some((_, other)) => format!("; did you mean `{other}`?"),
        None => String::new(),
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl Kind {
    fn default(&self) -> Value {
        match self {
            Kind::Whole { default, .. } => Value::from(*default),
            Kind::Number { default, .. } => Value::from(*default),
            Kind::Text { default } => Value::from(*default),
            Kind::Texts => Value::Array(Vec::new()),
            Kind::OneOf { words } => Value::from(words.first().copied().unwrap_or_default()),
            Kind::Flag => Value::Bool(false),
        }
    }

    fn accepts(&self, value: &Value) -> bool {
        match self {
            Kind::Whole { min, max, .. } => {
                value.as_u64().is_some_and(|number| (*min..=*max).contains(&number))
            }
            Kind::Number { min, max, .. } => {
                value.as_f64().is_some_and(|number| (*min..=*max).contains(&number))
            }
            Kind::Text { .. } => value.is_string(),
            Kind::Texts => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
            Kind::OneOf { words } => value.as_str().is_some_and(|word| words.contains(&word)),
            Kind::Flag => value.is_boolean(),
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Whole { min, max, .. } => write!(f, "a whole number from {min} to {max}"),
            Kind::Number { min, max, .. } => write!(f, "a number from {min} to {max}"),
            Kind::Text { .. } => f.write_str("a text"),
            Kind::Texts => f.write_str("a list of texts"),
            Kind::OneOf { words } => {
                let (last, others) = words.split_last().unwrap_or((&"", &[]));
                write!(f, "{} or {last}", others.join(", "))
            }
            Kind::Flag => f.write_str("true or false"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_texts_go_before_earlier_ones() {
        let params =
            Params::read("train", r#"{"steps": 10, "seed": 3, "lines": 8}"#, r#"{"steps": 20}"#, "").unwrap();
        assert_eq!((params.size("steps"), params.whole("seed")), (20, 3));
        let params =
            Params::read("agent.complete", "", r#"{"temperature": 1}"#, r#"{"n": 7, "line": "blake3:x"}"#)
                .unwrap();
        assert_eq!(
            (params.number("temperature"), params.whole("n"), params.text("line")),
            (1.0, 7, "blake3:x")
        );
        let params = Params::read("data.scan", "", r#"{"roots": ["/a", "/b"]}"#, "").unwrap();
        assert_eq!(params.texts("roots"), ["/a", "/b"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        let table = [
            ("trian", "", "", "find the executor `trian`; did you mean `train`?"),
            ("train", "", r#"{"stpes": 1}"#, "stage: unknown key `stpes`; did you mean `steps`?"),
            ("train", r#"{"stpes": 1}"#, "", "job: unknown key `stpes`"),
            ("train", "", r#"{"lines": 8}"#, "stage: unknown key `lines`"),
            (
                "train",
                r#"{"steps": "ten"}"#,
                "",
                r#"job: `steps` is a whole number from 1 to 10000000, not "ten""#,
            ),
            ("train", "", r#"{"steps": 0}"#, "`steps` is a whole number from 1"),
            ("train", "", r#"{"learning_rate": 7}"#, "`learning_rate` is a number from 0 to 1, not 7"),
            ("data.scan", "", r#"{"roots": "/a"}"#, "`roots` is a list of texts"),
            ("data.annotate", "", r#"{"adjudicate": 1}"#, "`adjudicate` is true or false, not 1"),
            ("data.scan", "", "[]", "read the parameters of the stage: not a JSON object"),
            ("data.scan", "{", "", "read the parameters of the job: not a JSON object"),
        ];
        for (executor, job, stage, expected) in table {
            let message = check(executor, job, stage).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn every_default_is_a_value_that_its_key_may_have() {
        for executor in EXECUTORS {
            let mut names = Vec::new();
            for key in executor.keys() {
                assert!(key.kind.accepts(&key.kind.default()), "{} {}", executor.name, key.name);
                assert!(!names.contains(&key.name), "{} {} twice", executor.name, key.name);
                names.push(key.name);
            }
            check(executor.name, "", "").unwrap();
        }
    }
}
