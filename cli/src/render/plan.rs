//! The plan of a job that has not been submitted.

use super::style::{Style, truncate};
use super::table::Table;
use super::{cluster, time};
use muster_protocol::resources::Resources;
use muster_protocol::spec::{JobSpec, OnPartition, StageSpec, TaskKind, Work};

const WORK_CHARS_MAX: usize = 60;
const NAME_CHARS_MAX: usize = 32;

pub fn plan(spec: &JobSpec, style: Style) -> String {
    let tasks: u64 = spec.stages.iter().map(|stage| u64::from(stage.tasks)).sum();
    let open = spec.stages.iter().any(|stage| stage.open);
    let mut text = format!("{}: ", style.bold(&truncate(&spec.name, NAME_CHARS_MAX)));
    text.push_str(&format!("{}, {}", count(spec.stages.len() as u64, "stage"), count(tasks, "task")));
    if open {
        text.push_str(", and more that tasks add");
    }
    if spec.priority != 0 {
        text.push_str(&format!(", priority {}", spec.priority));
    }
    text.push_str("\n\n");
    let mut table = Table::new(&[">", "STAGE", ">TASKS", "EACH HOLDS", "AFTER", "RULES", "DOES"], style);
    for (index, stage) in spec.stages.iter().enumerate() {
        let needs: Vec<&str> = stage
            .needs
            .iter()
            .filter_map(|need| spec.stages.get(usize::from(need.0)))
            .map(|need| need.name.as_str())
            .collect();
        table.row([
            (index + 1).to_string().into(),
            truncate(&stage.name, NAME_CHARS_MAX).into(),
            (if stage.open { format!("{}+", stage.tasks) } else { stage.tasks.to_string() }).into(),
            holds(&stage.request).into(),
            truncate(&needs.join(", "), WORK_CHARS_MAX).into(),
            rules(stage).into(),
            // Scripts of several lines are joined.
            truncate(&does(&stage.work).split_whitespace().collect::<Vec<_>>().join(" "), WORK_CHARS_MAX)
                .into(),
        ]);
    }
    text + &table.render()
}

/// Every parameter of the stages that run an executor, with the value that their tasks will find.
pub fn parameters(spec: &JobSpec, style: Style) -> String {
    let mut table = Table::new(&["STAGE", "PARAMETER", "VALUE", "FROM"], style);
    let mut any = false;
    for stage in &spec.stages {
        let Work::Builtin(builtin) = &stage.work else { continue };
        // A job file was checked before; a job that another program wrote may have anything here.
        let Ok(values) = muster_executors::check(&builtin.executor, &spec.params, &builtin.params) else {
            continue;
        };
        for (key, value, source) in values.iter() {
            any = true;
            let (value, source) = (truncate(&value.to_string(), WORK_CHARS_MAX), source.to_string());
            table.row([
                truncate(&stage.name, NAME_CHARS_MAX).into(),
                key.to_string().into(),
                value.into(),
                source.into(),
            ]);
        }
    }
    if any { format!("\n{}", table.render()) } else { String::new() }
}

fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn holds(request: &Resources) -> String {
    let mut parts = Vec::new();
    if request.cpu_milli > 0 {
        parts.push(format!("{} cpu", cluster::cpus(request.cpu_milli)));
    }
    if request.memory_mib > 0 {
        parts.push(cluster::memory(request.memory_mib));
    }
    if request.gpus > 0 {
        parts.push(format!("{} gpu", request.gpus));
    }
    parts.extend(
        request.counters.iter().map(|(name, amount)| format!("{amount} {}", truncate(name, NAME_CHARS_MAX))),
    );
    if parts.is_empty() { "nothing".to_string() } else { parts.join(", ") }
}

fn rules(stage: &StageSpec) -> String {
    let mut parts = Vec::new();
    if stage.gang {
        parts.push("gang".to_string());
    }
    if stage.open {
        parts.push("open".to_string());
    }
    if stage.kind == TaskKind::Service {
        parts.push("service".to_string());
    }
    if stage.array_first != 0 || stage.array_step != 1 {
        let last = stage
            .array_first
            .saturating_add(u64::from(stage.tasks.saturating_sub(1)) * u64::from(stage.array_step));
        parts.push(format!("array {}-{last}:{}", stage.array_first, stage.array_step));
    }
    match stage.retry.retries {
        0 => {}
        1 => parts.push("1 retry".to_string()),
        retries => parts.push(format!("{retries} retries")),
    }
    if stage.timeout_ms > 0 {
        parts.push(format!("at most {}", time::duration(stage.timeout_ms)));
    }
    if stage.on_partition == OnPartition::Continue {
        parts.push("continues in a partition".to_string());
    }
    parts.join(", ")
}

fn does(work: &Work) -> String {
    match work {
        Work::Noop(_) => "nothing".to_string(),
        Work::Process(process) => {
            process.argv.iter().map(|argument| quoted(argument)).collect::<Vec<_>>().join(" ")
        }
        Work::Builtin(builtin) => format!("[{}] {}", builtin.executor, builtin.params),
    }
}

/// An argument quoted for a shell.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_string()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}
