//! Parameters: the job's, the stage's and the task's own, laid over each other and checked against the schema
//! of the executor.
//!
//! The schema is a struct of the executor, as `schemars` describes it: serde gives the keys and the defaults,
//! doc comments the meaning, and `range` the numbers that a key may have. Two extensions say what else is
//! checked here: `x-only-with` names other keys and what they must be for this one to have an effect (a list
//! of words, or whether they must be set at all), and `x-at-most` a key that this one may not exceed. They
//! bind a stage's own parameters. A job's parameters go to all of its stages, so a key there may have no
//! effect in one of them.
//!
//! Nothing here knows an executor.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// How similar a known name must be to be suggested, from 0 to 1.
const SIMILARITY_MIN: f64 = 0.6;

/// The parameters of an executor.
pub trait Params: Default + Serialize + DeserializeOwned + JsonSchema {
    /// Checks for values that contradict each other, which the schema can't express.
    fn contradiction(&self) -> Option<String> {
        None
    }
}

/// Where a value was given; a later one is laid over an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nowhere: the default.
    Default,
    /// In `params` of the job.
    Job,
    /// In `params` of the stage.
    Stage,
    /// By the task that added this one.
    Task,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Default => "default",
            Source::Job => "job",
            Source::Stage => "stage",
            Source::Task => "task",
        })
    }
}

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
    /// The text is not a JSON object.
    #[error("read the parameters of the {source_of}: {reason}")]
    Malformed {
        /// Whose parameters.
        source_of: Source,
        /// What is wrong.
        reason: String,
    },
    /// The key means nothing to the executor.
    #[error("use the parameters of the {source_of}: unknown key `{key}`{nearest}; `{executor}` has {known}")]
    Unknown {
        /// Whose parameters.
        source_of: Source,
        /// The key given.
        key: String,
        /// `; did you mean …?`, or nothing.
        nearest: String,
        /// The executor.
        executor: &'static str,
        /// All its keys.
        known: String,
    },
    /// The key can't have this value.
    #[error("use the parameters of the {source_of}: `{key}` is {expected}, not {found}")]
    Value {
        /// Whose parameters.
        source_of: Source,
        /// The key.
        key: String,
        /// What it may be.
        expected: String,
        /// The value given.
        found: String,
    },
    /// Two values contradict each other.
    #[error("use the parameters together: {0}")]
    Contradiction(String),
}

/// What a parameter may be.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueType {
    /// A whole number in a range, both ends included.
    Integer(u64, u64),
    /// A number in a range, both ends included.
    Number(f64, f64),
    String,
    Strings,
    /// One of some words.
    OneOf(Vec<String>),
    Flag,
}

impl ValueType {
    fn of(schema: &Map<String, Value>) -> ValueType {
        let words = |list: &Value, word: fn(&Value) -> Option<&str>| -> Vec<String> {
            list.as_array().into_iter().flatten().filter_map(word).map(str::to_owned).collect()
        };
        if let Some(list) = schema.get("enum") {
            return ValueType::OneOf(words(list, Value::as_str));
        }
        if let Some(list) = schema.get("oneOf") {
            return ValueType::OneOf(words(list, |one| one.get("const")?.as_str()));
        }
        let bound = |key: &str| schema.get(key);
        match schema.get("type").and_then(Value::as_str) {
            Some("integer") => ValueType::Integer(
                bound("minimum").and_then(Value::as_u64).unwrap_or(0),
                bound("maximum").and_then(Value::as_u64).unwrap_or(u64::MAX),
            ),
            Some("number") => ValueType::Number(
                bound("minimum").and_then(Value::as_f64).unwrap_or(f64::MIN),
                bound("maximum").and_then(Value::as_f64).unwrap_or(f64::MAX),
            ),
            Some("string") => ValueType::String,
            Some("array") => ValueType::Strings,
            Some("boolean") => ValueType::Flag,
            other => unreachable!("parameters of type {other:?} have no kind"),
        }
    }

    fn accepts(&self, value: &Value) -> bool {
        match self {
            ValueType::Integer(min, max) => {
                value.as_u64().is_some_and(|number| (*min..=*max).contains(&number))
            }
            ValueType::Number(min, max) => {
                value.as_f64().is_some_and(|number| (*min..=*max).contains(&number))
            }
            ValueType::String => value.is_string(),
            ValueType::Strings => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
            ValueType::OneOf(words) => {
                value.as_str().is_some_and(|word| words.iter().any(|known| known == word))
            }
            ValueType::Flag => value.is_boolean(),
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueType::Integer(min, max) => write!(f, "a whole number from {min} to {max}"),
            ValueType::Number(min, max) => write!(f, "a number from {min} to {max}"),
            ValueType::String => f.write_str("a string"),
            ValueType::Strings => f.write_str("an array of strings"),
            ValueType::OneOf(words) => {
                let (last, others) = words.split_last().map_or(("", &[][..]), |(last, all)| (last, all));
                write!(f, "{} or {last}", others.join(", "))
            }
            ValueType::Flag => f.write_str("true or false"),
        }
    }
}

/// A parameter of an executor.
#[derive(Clone, Debug)]
pub struct Parameter {
    pub name: String,
    pub kind: ValueType,
    pub default: Value,
    /// What it is for.
    pub about: String,
    /// Other keys and what they must be for this one to have an effect.
    pub only_with: Vec<(String, Condition)>,
    /// A key whose value this one may not exceed.
    pub at_most: Option<String>,
}

/// What another key must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    OneOf(Vec<String>),
    /// Not empty.
    Set,
    /// Empty.
    Unset,
}

impl Condition {
    fn of(value: &Value) -> Condition {
        match value {
            Value::Bool(true) => Condition::Set,
            Value::Bool(false) => Condition::Unset,
            words => Condition::OneOf(
                words.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
            ),
        }
    }

    fn holds(&self, value: &str) -> bool {
        match self {
            Condition::OneOf(words) => words.iter().any(|word| word == value),
            Condition::Set => !value.is_empty(),
            Condition::Unset => value.is_empty(),
        }
    }

    /// The condition in words, of the key `of`.
    pub fn describe(&self, of: &str) -> String {
        match self {
            Condition::OneOf(words) => format!("with `{of}` = {}", words.join(" or ")),
            Condition::Set => format!("with `{of}`"),
            Condition::Unset => format!("without `{of}`"),
        }
    }
}

/// The parameters of an executor, in order of name.
pub fn parameters<P: Params>() -> Vec<Parameter> {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<P>();
    let properties = schema.get("properties").and_then(Value::as_object);
    let fields =
        properties.into_iter().flatten().filter_map(|(name, field)| Some((name, field.as_object()?)));
    let parameter = |(name, field): (&String, &Map<String, Value>)| {
        let about = field.get("description").and_then(Value::as_str).unwrap_or_default();
        let only_with = field.get("x-only-with").and_then(Value::as_object);
        Parameter {
            name: name.clone(),
            kind: ValueType::of(field),
            default: field.get("default").cloned().unwrap_or_default(),
            about: about.split_whitespace().collect::<Vec<_>>().join(" "),
            only_with: only_with
                .into_iter()
                .flatten()
                .map(|(of, value)| (of.clone(), Condition::of(value)))
                .collect(),
            at_most: field.get("x-at-most").and_then(Value::as_str).map(str::to_owned),
        }
    };
    fields.map(parameter).collect()
}

/// Values for all parameters of an executor, each of which fits; and where they are from.
#[derive(Clone, Debug)]
pub struct Values(BTreeMap<String, (Value, Source)>);

impl Values {
    /// Reads the texts, each a JSON object or empty. `elsewhere` says whether another executor knows a key.
    pub fn read(
        executor: &'static str,
        parameters: &[Parameter],
        texts: &[(Source, &str)],
        elsewhere: impl Fn(&str) -> bool,
    ) -> Result<Values, Error> {
        let defaults =
            parameters.iter().map(|known| (known.name.clone(), (known.default.clone(), Source::Default)));
        let mut values: BTreeMap<String, (Value, Source)> = defaults.collect();
        for (source, text) in texts {
            for (key, value) in object(*source, text)? {
                let Some(known) = parameters.iter().find(|known| known.name == key) else {
                    if *source == Source::Job && elsewhere(&key) {
                        continue;
                    }
                    let names = || parameters.iter().map(|known| known.name.as_str());
                    let (nearest, known) = (nearest(&key, names()), listed(names()));
                    return Err(Error::Unknown { source_of: *source, key, nearest, executor, known });
                };
                if !known.kind.accepts(&value) {
                    let (expected, found) = (known.kind.to_string(), value.to_string());
                    return Err(Error::Value { source_of: *source, key, expected, found });
                }
                values.insert(key, (value, *source));
            }
        }
        let values = Values(values);
        let wrong = parameters
            .iter()
            .filter(|known| values.0.get(&known.name).is_some_and(|(_, source)| *source >= Source::Stage))
            .find_map(|given| values.misplaced(given));
        wrong.map_or(Ok(values), |why| Err(Error::Contradiction(why)))
    }

    /// Why a parameter that was given means nothing beside the others.
    fn misplaced(&self, given: &Parameter) -> Option<String> {
        let name = &given.name;
        let value = |key: &str| self.0.get(key).map(|(value, _)| value);
        for (of, condition) in &given.only_with {
            let now = value(of).and_then(Value::as_str).unwrap_or_default();
            if !condition.holds(now) {
                let now = if now.is_empty() { String::new() } else { format!(", and `{of}` is {now}") };
                return Some(format!("`{name}` means something only {}{now}", condition.describe(of)));
            }
        }
        let limit = given.at_most.as_ref()?;
        let (number, most) = (value(name)?.as_f64()?, value(limit)?.as_f64()?);
        (number > most).then(|| format!("`{name}` = {number} must fit into `{limit}` = {most}"))
    }

    /// The executor's struct.
    pub fn parse<P: Params>(&self) -> Result<P, Error> {
        let object = self.0.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect();
        let params: P = serde_json::from_value(Value::Object(object))
            .map_err(|e| Error::Malformed { source_of: Source::Stage, reason: e.to_string() })?;
        match params.contradiction() {
            Some(why) => Err(Error::Contradiction(why)),
            None => Ok(params),
        }
    }

    /// All values in order of their keys, and where each was given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value, Source)> {
        self.0.iter().map(|(key, (value, source))| (key.as_str(), value, *source))
    }
}

fn object(source: Source, text: &str) -> Result<Map<String, Value>, Error> {
    if text.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(text)
        .map_err(|e| Error::Malformed { source_of: source, reason: format!("not a JSON object: {e}") })
}

/// `; did you mean …?` with the most similar name, or nothing.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let similar = known.map(|other| (strsim::jaro_winkler(name, other), other));
    match similar.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(similarity, _)| *similarity >= SIMILARITY_MIN) {
        Some((_, other)) => format!("; did you mean `{other}`?"),
        None => String::new(),
    }
}

/// Names in backticks, with commas between them.
pub fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
