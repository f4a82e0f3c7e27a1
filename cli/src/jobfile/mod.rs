//! Job files: TOML in, the job as the API takes it out, or an error with its new_index.
//!
//! Its one job is to read the format of `docs/job-file.md`. It sends nothing and prints nothing.
//!
//! - [`fields`]: typed access to a table.
//! - [`stage`]: one `[[stage]]`.
//! - [`executor`]: parameters of the built-in executors.
//! - [`topology`]: sorts stages by their needs.
//! - [`diagnostic`]: errors with their new_index.

mod diagnostic;
mod executor;
mod fields;
mod stage;
mod topology;

use diagnostic::{Diagnostic, SpannedError, suggestion};
use fields::{Fields, check_name, type_error};
use muster_protocol::ids::StageIndex;
use muster_protocol::limits;
use muster_protocol::spec::{JobSpec, StageSpec, Work};
use stage::ParsedStage;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fs, io};
use toml::de::{DeTable, DeValue};

const JOB_KEYS: &[&str] = &["name", "priority", "params", "stage"];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is larger than {} KiB, the limit for a job file: put larger inputs into files that tasks read", path.display(), limits::JOB_FILE_BYTES_MAX >> 10)]
    TooLarge { path: PathBuf },
    /// Not UTF-8.
    #[error("{}:{line}: not UTF-8, as a job file must be", path.display())]
    NotText {
        path: PathBuf,
        /// The line of the first invalid byte.
        line: usize,
    },
    #[error("{0}")]
    Invalid(Diagnostic),
}

pub fn read(path: &Path) -> Result<JobSpec, Error> {
    let failed = |source| Error::Read { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    let limit = limits::JOB_FILE_BYTES_MAX as u64;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limits::JOB_FILE_BYTES_MAX {
        return Err(Error::TooLarge { path: path.to_path_buf() });
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::NotText { path: path.to_path_buf(), line }
    })?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    parse(text, directory)
        .map_err(|wrong| Error::Invalid(Diagnostic::new(&path.display().to_string(), text, wrong)))
}

/// Parses a job file that is built into this program; `name` stands for its path in messages.
pub fn read_text(name: &str, text: &str) -> Result<JobSpec, Error> {
    parse(text, Path::new(".")).map_err(|wrong| Error::Invalid(Diagnostic::new(name, text, wrong)))
}

/// Parses a job file; relative paths start at `directory`.
pub fn parse(text: &str, directory: &Path) -> Result<JobSpec, SpannedError> {
    let document = DeTable::parse(text).map_err(|error| {
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        SpannedError::at(error.span().unwrap_or(0..0), message)
    })?;
    let job = Fields::new("the job", document.get_ref(), 0..0, JOB_KEYS)?;
    let (name, name_at) = job.text("name")?.ok_or_else(|| job.missing("name"))?;
    check_name("name", &name, name_at)?;
    let priority = job.integer("priority", i32::MIN.into()..=i32::MAX.into())?;
    let params = job.json("params", limits::PARAMS_BYTES_MAX)?;
    let stages = in_order(stages(&job, &params, directory)?)?;
    let tasks: u64 = stages.iter().map(|stage| u64::from(stage.tasks)).sum();
    if tasks > limits::TASKS_PER_JOB_MAX.into() {
        let message = format!("the job has {tasks} tasks; at most {} are allowed", limits::TASKS_PER_JOB_MAX);
        return Err(SpannedError::at(job.key_span("stage"), message));
    }
    let priority = priority.and_then(|(priority, _)| i32::try_from(priority).ok()).unwrap_or(0);
    Ok(JobSpec { name, priority, params, stages })
}

fn stages(job: &Fields<'_>, job_params: &str, directory: &Path) -> Result<Vec<ParsedStage>, SpannedError> {
    let value = job.get("stage").ok_or_else(|| {
        SpannedError::at(job.span(), "missing key `stage` of the job: it needs at least one `[[stage]]`")
    })?;
    let array = value
        .get_ref()
        .as_array()
        .ok_or_else(|| type_error("stage", "an array of tables, each begun with `[[stage]]`", value))?;
    if array.is_empty() || array.len() > limits::STAGES_MAX {
        let message =
            format!("a job has 1 to {} stages, but this one has {}", limits::STAGES_MAX, array.len());
        return Err(SpannedError::at(job.key_span("stage"), message));
    }
    let mut stages: Vec<ParsedStage> = Vec::with_capacity(array.len());
    for value in array.iter() {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(type_error("stage", "an array of tables", value));
        };
        let stage = ParsedStage::read(table, value.span(), directory)?;
        if let Work::Builtin(work) = &stage.spec.work {
            executor::check(work, job, job_params, table)?;
        }
        if stages.iter().any(|earlier| earlier.spec.name == stage.spec.name) {
            return Err(SpannedError::at(
                stage.name_at,
                format!("there is another stage named `{}`: names are unique in a job", stage.spec.name),
            ));
        }
        stages.push(stage);
    }
    Ok(stages)
}

/// Resolves the names in `needs` and sorts the stages so that each follows those it needs.
fn in_order(stages: Vec<ParsedStage>) -> Result<Vec<StageSpec>, SpannedError> {
    let find = |name: &str| stages.iter().position(|stage| stage.spec.name == name);
    let mut needs = Vec::with_capacity(stages.len());
    for stage in &stages {
        let mut positions = Vec::with_capacity(stage.needs.len());
        for (name, at) in &stage.needs {
            let others =
                stages.iter().map(|stage| stage.spec.name.as_str()).filter(|other| *other != stage.spec.name);
            let unknown = || {
                let message = format!(
                    "`needs` of stage `{}` names `{name}`, which is not a stage{}",
                    stage.spec.name,
                    suggestion(name, others)
                );
                SpannedError::at(at.clone(), message)
            };
            let position = find(name).ok_or_else(unknown)?;
            if positions.contains(&position) {
                return Err(SpannedError::at(
                    at.clone(),
                    format!("`needs` of stage `{}` names `{name}` twice", stage.spec.name),
                ));
            }
            positions.push(position);
        }
        needs.push(positions);
    }
    let order = topology::sort(&needs).map_err(|cycle| {
        let names: Vec<&str> = cycle.iter().map(|at| stages[*at].spec.name.as_str()).collect();
        let first = cycle.first().map(|at| &stages[*at]);
        let at = first
            .and_then(|stage| stage.needs.iter().find(|(need, _)| Some(&need.as_str()) == names.get(1)))
            .map(|(_, at)| at.clone());
        SpannedError::at(at.unwrap_or(0..0), format!("`needs` form a cycle: {}", names.join(" needs ")))
    })?;
    let mut new_index = vec![StageIndex(0); order.len()];
    for (new, old) in order.iter().enumerate() {
        new_index[*old] = StageIndex(u16::try_from(new).unwrap_or(u16::MAX));
    }
    let mut stages: Vec<Option<StageSpec>> = stages.into_iter().map(|stage| Some(stage.spec)).collect();
    let taken = order.into_iter().filter_map(|old| {
        let mut spec = stages[old].take()?;
        spec.needs = needs[old].iter().map(|need| new_index[*need]).collect();
        spec.needs.sort();
        Some(spec)
    });
    Ok(taken.collect())
}
