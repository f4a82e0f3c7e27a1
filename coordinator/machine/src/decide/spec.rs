//! Checks that a submitted job can run. A rejection names the field by its path.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use muster_protocol::rejection::{Invalid, Rejection};
use muster_protocol::resources::Resources;
use muster_protocol::spec::{JobSpec, StageSpec, Work};
use muster_protocol::{codec, limits};

/// Named counters in one request at most.
const COUNTERS_MAX: usize = 64;
/// A command has at most this many arguments, and as many environment variables.
const WORDS_MAX: usize = 4096;
/// What a stage's tasks do, encoded, at most: half of a message on the bus.
const WORK_BYTES_MAX: usize = limits::BUS_MESSAGE_BYTES_MAX / 2;
/// From SIGTERM to SIGKILL at most.
const GRACE_MS_MAX: u64 = 3_600_000;

type Checked = Result<(), String>;

/// Checks a job without looking at any state. A client may do so before it submits the job; the cluster does
/// it again.
///
/// # Errors
/// [`Rejection::Invalid`], with the path of the first field that is wrong.
pub fn check_spec(spec: &JobSpec) -> Result<(), Rejection> {
    at("name", check_name(&spec.name))?;
    at("params", check_params(&spec.params))?;
    let count = spec.stages.len();
    if count == 0 || count > limits::STAGES_MAX {
        return at("stages", Err(format!("{count} stages; at least 1 and at most {}", limits::STAGES_MAX)));
    }
    let mut names = BTreeSet::new();
    let mut tasks: u64 = 0;
    for (index, stage) in spec.stages.iter().enumerate() {
        let place = format!("stages[{index}]");
        check_stage(&place, index, stage)?;
        if !names.insert(stage.name.as_str()) {
            return at(
                &format!("{place}.name"),
                Err(format!("`{}` is another stage's name already", stage.name)),
            );
        }
        tasks += u64::from(stage.tasks);
    }
    if tasks > u64::from(limits::TASKS_PER_JOB_MAX) {
        return at("stages", Err(format!("{tasks} tasks; at most {}", limits::TASKS_PER_JOB_MAX)));
    }
    if !spec.stages.iter().any(|stage| stage.needs.is_empty() && stage.tasks > 0) {
        return at("stages", Err("no task could start: a stage that needs no other must have tasks".into()));
    }
    Ok(())
}

fn at(field: &str, checked: Checked) -> Result<(), Rejection> {
    checked.map_err(|message| Rejection::Invalid(Invalid { field: field.into(), message }))
}

fn check_stage(place: &str, index: usize, stage: &StageSpec) -> Result<(), Rejection> {
    let field = |name: &str| format!("{place}.{name}");
    at(&field("name"), check_name(&stage.name))?;
    at(&field("needs"), check_needs(index, stage))?;
    at(&field("tasks"), check_tasks(stage))?;
    at(&field("array_step"), check_array(stage))?;
    at(&field("request"), check_request(&stage.request))?;
    if stage.gang && stage.open {
        return at(&field("open"), Err("a gang starts as a whole, so no tasks can join it".into()));
    }
    if stage.grace_ms > GRACE_MS_MAX {
        return at(&field("grace_ms"), Err(format!("{} ms; at most {GRACE_MS_MAX}", stage.grace_ms)));
    }
    // What is launched must fit into one message on the bus, with the job's and a child's parameters.
    let work_bytes = codec::encode(&stage.work).len();
    if work_bytes > WORK_BYTES_MAX {
        return at(&field("work"), Err(format!("{work_bytes} bytes; at most {WORK_BYTES_MAX}")));
    }
    match &stage.work {
        Work::Noop(_) => Ok(()),
        Work::Process(process) => {
            let program = process.argv.first().is_some_and(|program| !program.is_empty());
            let nul = process.argv.iter().chain([&process.cwd]).any(|word| word.contains('\0'));
            if !program || nul || process.argv.len() > WORDS_MAX {
                return at(
                    &field("work.argv"),
                    Err(format!("a program and at most {WORDS_MAX} arguments, without NUL")),
                );
            }
            let odd = |(name, value): &(String, String)| {
                name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
            };
            if process.env.len() > WORDS_MAX || process.env.iter().any(odd) {
                return at(
                    &field("work.env"),
                    Err(format!("at most {WORDS_MAX} names without `=`, and values, without NUL")),
                );
            }
            Ok(())
        }
        Work::Builtin(builtin) => {
            at(&field("work.executor"), check_name(&builtin.executor))?;
            at(&field("work.params"), check_params(&builtin.params))
        }
    }
}

fn check_name(name: &str) -> Checked {
    match name {
        "" => Err("a name is missing".into()),
        name if name.len() > limits::NAME_BYTES_MAX => {
            Err(format!("{} bytes; at most {}", name.len(), limits::NAME_BYTES_MAX))
        }
        name if name.chars().any(char::is_control) => Err("no control characters in a name".into()),
        name if name.trim() != name => Err("no space at the ends of a name".into()),
        _ => Ok(()),
    }
}

/// Parameters are a JSON object or empty. What the object holds is checked by the executor.
pub(super) fn check_params(params: &str) -> Checked {
    let text = params.trim();
    if params.len() > limits::PARAMS_BYTES_MAX {
        return Err(format!("{} bytes; at most {}", params.len(), limits::PARAMS_BYTES_MAX));
    }
    let is_object = text.len() >= 2 && text.starts_with('{') && text.ends_with('}');
    if !params.is_empty() && !is_object {
        return Err("not a JSON object: it begins with `{` and ends with `}`".into());
    }
    Ok(())
}

fn check_needs(index: usize, stage: &StageSpec) -> Checked {
    let mut seen = BTreeSet::new();
    for need in &stage.needs {
        if usize::from(need.0) >= index {
            return Err(format!("stage {} does not stand before stage {index}", need.0));
        }
        if !seen.insert(need) {
            return Err(format!("stage {} twice", need.0));
        }
    }
    Ok(())
}

fn check_tasks(stage: &StageSpec) -> Checked {
    if stage.tasks == 0 && !stage.open {
        return Err("no tasks: only an open stage may start with none".into());
    }
    if stage.gang && stage.tasks > limits::GANG_TASKS_MAX {
        return Err(format!("{} ranks; at most {}", stage.tasks, limits::GANG_TASKS_MAX));
    }
    Ok(())
}

fn check_array(stage: &StageSpec) -> Checked {
    if stage.array_step == 0 && stage.tasks > 1 {
        return Err("a step of 0 gives every task the same index".into());
    }
    let last = u64::from(stage.tasks.saturating_sub(1)).checked_mul(u64::from(stage.array_step));
    match last.and_then(|last| stage.array_first.checked_add(last)) {
        Some(_) => Ok(()),
        None => Err("the last index is too large".into()),
    }
}

fn check_request(request: &Resources) -> Checked {
    if request.counters.len() > COUNTERS_MAX {
        return Err(format!("{} counters; at most {COUNTERS_MAX}", request.counters.len()));
    }
    request.counters.keys().try_for_each(|name| check_name(name))
}
