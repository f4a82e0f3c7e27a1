//! The table of executors: one entry ties a name to a schema and a function.

use crate::error::Error as ExecutorError;
use crate::params::{Error, Parameter, Params, Source, Values, listed, nearest, parameters};
use crate::wait_times::WaitTimes;
use crate::{agent, data, eval, load, train};
use muster_attempt::Attempt;

/// An executor.
pub struct Executor {
    /// Its name in a job file.
    pub name: &'static str,
    /// What it does, in a phrase.
    pub summary: &'static str,
    /// Its parameters, from the schema.
    pub parameters: fn() -> Vec<Parameter>,
    check: fn(&Values) -> Result<(), Error>,
    pub(crate) run: fn(&mut Attempt, &Values, &WaitTimes) -> Result<(), ExecutorError>,
}

/// An entry: name, summary, struct of parameters, function.
macro_rules! executor {
    ($name:literal, $summary:literal, $params:ty, $run:expr) => {
        Executor {
            name: $name,
            summary: $summary,
            parameters: parameters::<$params>,
            check: |values| values.parse::<$params>().map(drop),
            run: |attempt, values, waits| {
                let run: fn(&mut Attempt, &$params, &WaitTimes) -> Result<(), ExecutorError> = $run;
                run(attempt, &values.parse()?, waits)
            },
        }
    };
}

impl Params for muster_annotate::AnnotateParams {}

/// All executors.
pub const EXECUTORS: &[Executor] = &[
    executor!(
        "data.scan",
        "reads and filters one split of the input files",
        data::scan::ScanParams,
        |attempt, params, _| data::scan::run(attempt, params)
    ),
    executor!(
        "data.dedup",
        "finds near duplicates over all splits, in a share of the buckets",
        data::dedup::DedupParams,
        |attempt, params, _| data::dedup::run(attempt, params)
    ),
    executor!(
        "data.choose",
        "keeps one of each set of duplicates",
        data::dedup_select::DedupSelectParams,
        |attempt, params, _| data::dedup_select::run(attempt, params)
    ),
    executor!(
        "data.tokenizer",
        "drops duplicates over all splits, and trains a tokenizer or takes one",
        data::tokenizer::TokenizerParams,
        |attempt, params, _| data::tokenizer::run(attempt, params)
    ),
    executor!(
        "data.pack",
        "tokenizes one split into shards",
        data::pack::PackParams,
        |attempt, params, _| data::pack::run(attempt, params)
    ),
    executor!(
        "data.manifest",
        "joins the shards into a data set, with its account",
        data::manifest::ManifestParams,
        |attempt, params, _| data::manifest::run(attempt, params)
    ),
    executor!(
        "data.annotate",
        "waits for people who label items, and measures how they agree",
        muster_annotate::AnnotateParams,
        |attempt, params, _| Ok(muster_annotate::run(attempt, params)?)
    ),
    executor!(
        "data.load",
        "makes batches for trainers elsewhere, while they train",
        load::LoadParams,
        load::run
    ),
    executor!("train", "trains or tunes a model, alone or as a gang", train::TrainParams, train::run),
    executor!(
        "eval",
        "measures a model on held-out text or answers, and samples from it",
        eval::EvalParams,
        |attempt, params, _| eval::run(attempt, params)
    ),
    executor!(
        "agent.plan",
        "plans the completion of held-out lines; plain code, no model",
        agent::plan::PlanParams,
        |attempt, params, _| agent::plan::run(attempt, params)
    ),
    executor!(
        "agent.complete",
        "samples candidates for one line from the model",
        agent::complete::CompleteParams,
        |attempt, params, _| agent::complete::run(attempt, params)
    ),
    executor!(
        "agent.verify",
        "judges the candidates for one line",
        agent::verify::VerifyParams,
        |attempt, params, _| agent::verify::run(attempt, params)
    ),
    executor!(
        "agent.join",
        "reports one sample against the best of n",
        agent::join::JoinParams,
        |attempt, params, _| agent::join::run(attempt, params)
    ),
];

/// The executor with that name.
pub fn find(name: &str) -> Result<&'static Executor, Error> {
    EXECUTORS.iter().find(|executor| executor.name == name).ok_or_else(|| Error::Executor {
        name: name.to_owned(),
        nearest: nearest(name, EXECUTORS.iter().map(|executor| executor.name)),
        known: listed(EXECUTORS.iter().map(|executor| executor.name)),
    })
}

/// The values that an executor gets from the parameters of a job, a stage and a task: each a JSON object or
/// empty.
pub fn merge(executor: &'static Executor, job: &str, stage: &str, task: &str) -> Result<Values, Error> {
    let elsewhere = |key: &str| {
        EXECUTORS.iter().any(|other| (other.parameters)().iter().any(|parameter| parameter.name == key))
    };
    let texts = [(Source::Job, job), (Source::Stage, stage), (Source::Task, task)];
    let values = Values::read(executor.name, &(executor.parameters)(), &texts, elsewhere)?;
    (executor.check)(&values)?;
    Ok(values)
}

/// Checks the parameters that a stage of a job would give to its tasks, before it is submitted, and gives all
/// values that those would have.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(executor: &str, job: &str, stage: &str) -> Result<Values, Error> {
    merge(find(executor)?, job, stage, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn value(values: &Values, key: &str) -> (Value, Source) {
        let found = values.iter().find(|(name, ..)| *name == key);
        found.map(|(_, value, source)| (value.clone(), source)).unwrap()
    }

    #[test]
    fn later_texts_go_before_earlier_ones() {
        let values = check("train", r#"{"steps": 10, "seed": 3, "lines": 8}"#, r#"{"steps": 20}"#).unwrap();
        assert_eq!(value(&values, "steps"), (json!(20), Source::Stage));
        assert_eq!(value(&values, "seed"), (json!(3), Source::Job));
        assert_eq!(value(&values, "context"), (json!(128), Source::Default));
        let values = merge(
            find("agent.complete").unwrap(),
            "",
            r#"{"temperature": 1}"#,
            r#"{"n": 7, "line": "blake3:x"}"#,
        );
        let params: agent::complete::CompleteParams = values.unwrap().parse().unwrap();
        assert_eq!((params.temperature, params.n, params.line.as_str()), (1.0, 7, "blake3:x"));
        let values = check("data.scan", "", r#"{"roots": ["/a", "/b"]}"#).unwrap();
        assert_eq!(values.parse::<data::scan::ScanParams>().unwrap().roots, ["/a", "/b"]);
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
            ("data.scan", "", r#"{"roots": "/a"}"#, "`roots` is an array of strings"),
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
            let mut stage = serde_json::Map::new();
            for (key, value, source) in check(executor.name, "", "").unwrap().iter() {
                assert_eq!(source, Source::Default);
                stage.insert(key.to_owned(), value.clone());
            }
            // As the job's parameters: a stage may not set one that has no effect.
            check(executor.name, &Value::Object(stage).to_string(), "").unwrap();
            for parameter in (executor.parameters)() {
                assert!(!parameter.about.is_empty(), "{}: {}", executor.name, parameter.name);
                let keys = || (executor.parameters)().into_iter().map(|known| known.name);
                let named = parameter.only_with.iter().map(|(key, _)| key).chain(&parameter.at_most);
                for other in named {
                    assert!(keys().any(|key| key == *other), "{}: {other}", parameter.name);
                }
            }
        }
    }
}
