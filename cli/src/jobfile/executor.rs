//! Checks `executor` and `params` of a stage against the built-in executors, and gives errors their place.

use super::diagnostic::{SpannedError, suggestion};
use super::fields::Fields;
use muster_executors::{EXECUTORS, ParamsError, Source};
use muster_protocol::spec::BuiltinWork;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// Checks the work of the stage in the table `stage`, with the job's parameters below its own.
pub fn check(
    work: &BuiltinWork,
    job: &Fields<'_>,
    job_params: &str,
    stage: &DeTable<'_>,
) -> Result<(), SpannedError> {
    let Err(error) = muster_executors::check(&work.executor, job_params, &work.params) else { return Ok(()) };
    let value_of = |key: &str| stage.get(key).map_or(job.span(), |value| value.span());
    Err(match &error {
        ParamsError::Executor { name, .. } => {
            let message = format!(
                "there is no executor `{name}`{}",
                suggestion(name, EXECUTORS.iter().map(|executor| executor.name))
            );
            SpannedError::at(value_of("executor"), message)
        }
        ParamsError::Malformed { source_of, .. } => {
            SpannedError::at(span_of_params(*source_of, job, stage), format!("cannot {error}"))
        }
        ParamsError::Unknown { source_of, key, .. } => {
            let executor = EXECUTORS.iter().find(|executor| executor.name == work.executor);
            let known = executor.map(|executor| (executor.parameters)()).unwrap_or_default();
            let message = format!(
                "unknown key `{key}` of `params` for `{}`{}",
                work.executor,
                suggestion(key, known.iter().map(|parameter| parameter.name.as_str()))
            );
            SpannedError::at(span_of_param(*source_of, key, job, stage, Half::Key), message)
        }
        ParamsError::Value { source_of, key, expected, found } => {
            let message = format!("`params.{key}` for `{}` is {expected}, not {found}", work.executor);
            SpannedError::at(span_of_param(*source_of, key, job, stage, Half::Value), message)
        }
        ParamsError::Contradiction(reason) => {
            SpannedError::at(span_of_params(Source::Stage, job, stage), reason.clone())
        }
    })
}

enum Half {
    Key,
    Value,
}

fn span_of_params(of: Source, job: &Fields<'_>, stage: &DeTable<'_>) -> Range<usize> {
    let stage = stage.get_key_value("params").filter(|_| of == Source::Stage).map(|(key, _)| key.span());
    stage.unwrap_or_else(|| job.key_span("params"))
}

/// The span of a parameter, in the stage's table or in the job's.
fn span_of_param(of: Source, key: &str, job: &Fields<'_>, stage: &DeTable<'_>, part: Half) -> Range<usize> {
    let params = if of == Source::Stage { stage.get("params") } else { job.get("params") };
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
        Half::Key => key.span(),
        Half::Value => value.span(),
    });
    found.unwrap_or_else(|| span_of_params(of, job, stage))
}
