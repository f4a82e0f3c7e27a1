//! Values of flags and arguments: ids and quantities.

use crate::quantities;
use muster_protocol::ids::{AttemptId, JobId, TaskId};

/// `job-42` or `42`.
pub fn job_id(text: &str) -> Result<JobId, String> {
    let number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let full = if number { format!("job-{text}") } else { text.to_string() };
    full.parse().map_err(|_| format!("{text:?} is not a job: jobs are job-1, job-2, …"))
}

/// Whose output to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    Job(JobId),
    /// The newest attempt of a task.
    Task(TaskId),
    Attempt(AttemptId),
}

/// `job-42`, `job-42.7` or `job-42.7#2`; `job-` may be left out.
pub fn log_source(text: &str) -> Result<LogSource, String> {
    let full =
        if text.starts_with(|c: char| c.is_ascii_digit()) { format!("job-{text}") } else { text.to_string() };
    let attempt = full.parse().map(LogSource::Attempt);
    let task = || full.parse().map(LogSource::Task);
    let job = || full.parse().map(LogSource::Job);
    attempt.or_else(|_| task()).or_else(|_| job()).map_err(|_| {
        format!("{text:?} is not a job, task or attempt, such as job-42, job-42.7 or job-42.7#2")
    })
}

pub fn duration_ms(text: &str) -> Result<u64, String> {
    quantities::duration_ms(text).map_err(|error| error.to_string())
}

pub fn size_mib(text: &str) -> Result<u32, String> {
    quantities::size_mib(text).map_err(|error| error.to_string())
}

pub fn cpus(text: &str) -> Result<f64, String> {
    quantities::cpu_milli(text).map(|milli| f64::from(milli) / 1000.0).map_err(|error| error.to_string())
}

pub fn name_and_value(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_string(), value.to_string()))
        .ok_or_else(|| format!("{text:?} is not NAME=VALUE"))
}

pub fn name_and_number(text: &str) -> Result<(String, u32), String> {
    let (name, number) = name_and_value(text)?;
    Ok((name, number.parse().map_err(|_| format!("{text:?} is not NAME=NUMBER"))?))
}

pub fn cpu_milli(text: &str) -> Result<u32, String> {
    quantities::cpu_milli(text).map_err(|error| error.to_string())
}
