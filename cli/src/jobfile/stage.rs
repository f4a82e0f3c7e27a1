//! One `[[stage]]` of a job file.

use super::diagnostic::{SpannedError, suggestion};
use super::fields::{Fields, Located, check_name};
use crate::quantities;
use muster_protocol::limits;
use muster_protocol::resources::Resources;
use muster_protocol::spec::{
    BuiltinWork, Noop, OnPartition, ProcessWork, RetryPolicy, StageSpec, TaskKind, Work,
};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use toml::de::DeTable;

const STAGE_KEYS: &[&str] = &[
    "name",
    "needs",
    "tasks",
    "array",
    "command",
    "env",
    "cwd",
    "executor",
    "params",
    "noop",
    "cpus",
    "memory",
    "gpus",
    "counters",
    "gang",
    "open",
    "kind",
    "retries",
    "backoff",
    "backoff_max",
    "timeout",
    "grace",
    "on_partition",
];

/// A stage whose `needs` are still names.
pub struct ParsedStage {
    /// `needs` is empty: see [`ParsedStage::needs`].
    pub spec: StageSpec,
    pub name_at: Range<usize>,
    pub needs: Vec<Located<String>>,
}

impl ParsedStage {
    /// Reads one `[[stage]]`; relative paths start at `directory`.
    pub fn read(
        table: &DeTable<'_>,
        at: Range<usize>,
        directory: &Path,
    ) -> Result<ParsedStage, SpannedError> {
        let fields = Fields::new("a stage", table, at, STAGE_KEYS)?;
        let (name, name_at) = fields.text("name")?.ok_or_else(|| fields.missing("name"))?;
        check_name("name", &name, name_at.clone())?;
        let needs = fields.texts("needs")?.map(|(needs, _)| needs).unwrap_or_default();
        let work = work(&fields, directory)?;
        let open = flag(&fields, "open")?;
        let indices = indices(&fields, open)?;
        let (gang, kind) = (flag(&fields, "gang")?, word(&fields, "kind", TaskKind::WORDS, TaskKind::Batch)?);
        check_gang(&fields, gang, open, kind, indices.tasks)?;
        let spec = StageSpec {
            name,
            needs: Vec::new(),
            tasks: indices.tasks,
            array_first: indices.first,
            array_step: indices.step,
            request: request(&fields, &work)?,
            work,
            gang,
            open,
            kind,
            retry: retry(&fields)?,
            timeout_ms: duration(&fields, "timeout")?.unwrap_or(0),
            grace_ms: duration(&fields, "grace")?.unwrap_or(limits::KILL_GRACE_MS_DEFAULT),
            on_partition: word(&fields, "on_partition", OnPartition::WORDS, OnPartition::Stop)?,
        };
        Ok(ParsedStage { spec, name_at, needs })
    }
}

fn flag(fields: &Fields<'_>, key: &str) -> Result<bool, SpannedError> {
    Ok(fields.boolean(key)?.is_some_and(|(truth, _)| truth))
}

fn duration(fields: &Fields<'_>, key: &str) -> Result<Option<u64>, SpannedError> {
    let Some((text, at)) = fields.text_as(key, "a duration in quotes, such as \"90s\"")? else {
        return Ok(None);
    };
    quantities::duration_ms(&text)
        .map(Some)
        .map_err(|error| SpannedError::at(at, format!("`{key}`: {error}")))
}

/// One of a fixed set of words.
fn word<T: FromStr>(fields: &Fields<'_>, key: &str, words: &[&str], default: T) -> Result<T, SpannedError> {
    let Some((text, at)) = fields.text(key)? else { return Ok(default) };
    let wrong = || {
        SpannedError::at(
            at,
            format!("`{key}` cannot be `{text}`{}", suggestion(&text, words.iter().copied())),
        )
    };
    text.parse().map_err(|_| wrong())
}

fn indices(fields: &Fields<'_>, open: bool) -> Result<quantities::IndexRange, SpannedError> {
    let tasks_max = limits::TASKS_PER_JOB_MAX;
    let min = i64::from(!open);
    let tasks = fields.integer("tasks", min..=tasks_max.into())?;
    let array = fields.text_as("array", "a range in quotes, such as \"0-99\"")?;
    match (tasks, array) {
        (Some(_), Some((_, at))) => {
            Err(SpannedError::at(at, "`array` says how many tasks there are; `tasks` must not say it too"))
        }
        (None, Some((text, at))) => quantities::index_range(&text, tasks_max)
            .map_err(|error| SpannedError::at(at, format!("`array`: {error}"))),
        (tasks, None) => {
            let tasks = tasks.and_then(|(tasks, _)| u32::try_from(tasks).ok()).unwrap_or(u32::from(!open));
            Ok(quantities::IndexRange { first: 0, step: 1, tasks })
        }
    }
}

fn check_gang(
    fields: &Fields<'_>,
    gang: bool,
    open: bool,
    kind: TaskKind,
    tasks: u32,
) -> Result<(), SpannedError> {
    let at = fields.key_span("gang");
    if gang && open {
        return Err(SpannedError::at(
            at,
            "a `gang` starts as a whole: its stage cannot be `open` to more tasks",
        ));
    }
    if gang && kind == TaskKind::Service {
        return Err(SpannedError::at(at, "a `gang` ends: its `kind` cannot be `service`"));
    }
    if gang && tasks > limits::GANG_TASKS_MAX {
        return Err(SpannedError::at(
            at,
            format!("a `gang` has at most {} tasks, but this one has {tasks}", limits::GANG_TASKS_MAX),
        ));
    }
    Ok(())
}

fn request(fields: &Fields<'_>, work: &Work) -> Result<Resources, SpannedError> {
    let cpu_milli = match fields.number("cpus")? {
        Some((cpus, at)) => quantities::cpus_to_milli(cpus).ok_or_else(|| {
            SpannedError::at(at, format!("`cpus` must be from 0 to 1000000, but is {cpus}"))
        })?,
        None if matches!(work, Work::Noop(_)) => 0,
        None => 1000,
    };
    let memory_mib = match fields.text_as("memory", "a size in quotes, such as \"2GiB\"")? {
        Some((text, at)) => {
            quantities::size_mib(&text).map_err(|error| SpannedError::at(at, format!("`memory`: {error}")))?
        }
        None => 0,
    };
    let gpus = fields
        .integer("gpus", 0..=u16::MAX.into())?
        .and_then(|(gpus, _)| u16::try_from(gpus).ok())
        .unwrap_or(0);
    let counters = fields.table_of_amounts("counters")?.into_iter().collect();
    Ok(Resources { cpu_milli, memory_mib, gpus, counters })
}

fn retry(fields: &Fields<'_>) -> Result<RetryPolicy, SpannedError> {
    let default = RetryPolicy::default();
    let retries =
        fields.integer("retries", 0..=u32::MAX.into())?.and_then(|(retries, _)| u32::try_from(retries).ok());
    let backoff_ms = duration(fields, "backoff")?.unwrap_or(default.backoff_ms);
    let max_ms = duration(fields, "backoff_max")?;
    if max_ms.is_some_and(|max_ms| max_ms < backoff_ms) {
        return Err(SpannedError::at(fields.key_span("backoff_max"), "`backoff_max` is less than `backoff`"));
    }
    let backoff_ms_max = max_ms.unwrap_or(default.backoff_ms_max.max(backoff_ms));
    Ok(RetryPolicy { retries: retries.unwrap_or(default.retries), backoff_ms, backoff_ms_max })
}

fn work(fields: &Fields<'_>, directory: &Path) -> Result<Work, SpannedError> {
    let noop = flag(fields, "noop")?;
    let named: Vec<&str> = ["command", "executor"]
        .into_iter()
        .filter(|key| fields.get(key).is_some())
        .chain(noop.then_some("noop"))
        .collect();
    match named.as_slice() {
        [_] => {}
        [] => {
            let message =
                "missing key `command` of a stage: one of `command`, `executor` and `noop` says what it does";
            return Err(SpannedError::at(fields.span(), message));
        }
        [first, second, ..] => {
            let message = format!("`{second}` and `{first}` in one stage: it can have only one of them");
            return Err(SpannedError::at(fields.key_span(second), message));
        }
    }
    for (key, partner) in [("env", "command"), ("cwd", "command"), ("params", "executor")] {
        if fields.get(key).is_some() && !named.contains(&partner) {
            return Err(SpannedError::at(
                fields.key_span(key),
                format!("`{key}` of a stage goes with `{partner}`, not with `{}`", named[0]),
            ));
        }
    }
    let params = fields.json("params", limits::PARAMS_BYTES_MAX)?;
    if let Some((executor, at)) = fields.text("executor")? {
        check_name("executor", &executor, at)?;
        return Ok(Work::Builtin(BuiltinWork { executor, params }));
    }
    if noop {
        return Ok(Work::Noop(Noop {}));
    }
    Ok(Work::Process(process(fields, directory)?))
}

fn process(fields: &Fields<'_>, directory: &Path) -> Result<ProcessWork, SpannedError> {
    let (command, at) = fields.texts("command")?.ok_or_else(|| fields.missing("command"))?;
    let mut argv: Vec<String> = Vec::with_capacity(command.len());
    for (argument, at) in &command {
        if argument.contains('\0') {
            return Err(SpannedError::at(at.clone(), "`command`: an argument cannot contain a zero byte"));
        }
        argv.push(argument.clone());
    }
    let Some((program, program_at)) = command.first().filter(|(program, _)| !program.is_empty()) else {
        return Err(SpannedError::at(at, "`command` must begin with a program"));
    };
    if program.starts_with("./") || program.starts_with("../") {
        let path = present(directory, program)
            .map_err(|why| SpannedError::at(program_at.clone(), format!("`command`: {why}")))?;
        if path.is_dir() {
            return Err(SpannedError::at(
                program_at.clone(),
                format!("`command`: {} is a directory", path.display()),
            ));
        }
        argv[0] = path.display().to_string();
    }
    let cwd = match fields.text("cwd")? {
        Some((cwd, at)) if Path::new(&cwd).is_relative() => {
            let path = present(directory, &cwd)
                .map_err(|why| SpannedError::at(at.clone(), format!("`cwd`: {why}")))?;
            if !path.is_dir() {
                return Err(SpannedError::at(at, format!("`cwd`: {} is not a directory", path.display())));
            }
            path.display().to_string()
        }
        Some((cwd, _)) => cwd,
        None => String::new(),
    };
    let env = fields.table_of_texts("env")?;
    if let Some((name, _)) =
        env.iter().find(|(name, text)| name.is_empty() || name.contains(['=', '\0']) || text.contains('\0'))
    {
        return Err(SpannedError::at(
            fields.key_span("env"),
            format!("`env.{name}` is not a valid environment variable"),
        ));
    }
    Ok(ProcessWork { argv, env, cwd })
}

/// The absolute path of a file that the job file names; it must exist.
fn present(directory: &Path, name: &str) -> Result<PathBuf, String> {
    // In messages, the path is as the user wrote it.
    let path = if directory == Path::new(".") { PathBuf::from(name) } else { directory.join(name) };
    fs::canonicalize(&path).map_err(|error| format!("{}: {error}", path.display()))
}
