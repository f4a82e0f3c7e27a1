//! Muster's own executors: whether there is such a one, and whether it takes these parameters.

use super::diagnostic::{Wrong, instead};
use super::fields::Fields;
use muster_executors::{EXECUTORS, ParamsError};
use muster_protocol::spec::BuiltinWork;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// Checks the work of a stage, whose table is `stage`, of a job with these parameters.
pub fn check(
    work: &BuiltinWork,
    job: &Fields<'_>,
    job_params: &str,
    stage: &DeTable<'_>,
) -> Result<(), Wrong> {
    let Err(error) = muster_executors::check(&work.executor, job_params, &work.params) else { return Ok(()) };
    let value_of = |key: &str| stage.get(key).map_or(job.place(), |value| value.span());
    Err(match &error {
        ParamsError::Executor { name, .. } => {
            let message = format!(
                "there is no executor `{name}`{}",
                instead(name, EXECUTORS.iter().map(|executor| executor.name))
            );
            Wrong::at(value_of("executor"), message)
        }
        ParamsError::Malformed { of, .. } => Wrong::at(params_of(of, job, stage), format!("cannot {error}")),
        ParamsError::Unknown { of, key, .. } => {
            let known = EXECUTORS
                .iter()
                .filter(|executor| executor.name == work.executor)
                .flat_map(|executor| executor.keys());
            let message = format!(
                "unknown key `{key}` of `params` for `{}`{}",
                work.executor,
                instead(key, known.map(|key| key.name))
            );
            Wrong::at(within(of, key, job, stage, Part::Key), message)
        }
        ParamsError::Value { of, key, expected, found } => {
            let message = format!("`params.{key}` for `{}` is {expected}, not {found}", work.executor);
            Wrong::at(within(of, key, job, stage, Part::Value), message)
        }
        ParamsError::Contradiction(reason) => Wrong::at(params_of("stage", job, stage), reason.clone()),
    })
}

enum Part {
    Key,
    Value,
}

fn params_of(of: &str, job: &Fields<'_>, stage: &DeTable<'_>) -> Range<usize> {
    let stage = stage.get_key_value("params").filter(|_| of == "stage").map(|(key, _)| key.span());
    stage.unwrap_or_else(|| job.key_place("params"))
}

/// Where a parameter stands: in the stage's table or in the job's.
fn within(of: &str, key: &str, job: &Fields<'_>, stage: &DeTable<'_>, part: Part) -> Range<usize> {
    let params = if of == "stage" { stage.get("params") } else { job.get("params") };
    let table = params.and_then(|params| match params.get_ref() {
        DeValue::Table(table) => Some(table),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_) => None,
    });
    let found = table.and_then(|table| table.get_key_value(key)).map(|(key, value)| match part {
        Part::Key => key.span(),
        Part::Value => value.span(),
    });
    found.unwrap_or_else(|| params_of(of, job, stage))
}
