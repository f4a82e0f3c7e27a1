//! Jobs, stages and tasks as tables.

use super::style::{Style, truncate};
use super::table::{Table, TableCell};
use super::time;
use muster_protocol::view::{JobDetail, JobView, ProgressView, TaskCounts, TaskPage, TaskView};

const NAME_CHARS_MAX: usize = 32;
const REASON_CHARS_MAX: usize = 72;

pub fn total(counts: &TaskCounts) -> u64 {
    counts.pending + counts.assigned + counts.running + counts.succeeded + counts.failed + counts.cancelled
}

/// `5/12`.
pub fn done(counts: &TaskCounts) -> String {
    format!("{}/{}", counts.succeeded, total(counts))
}

/// `5/12 succeeded, 2 running, 1 failed`.
pub fn counted(counts: &TaskCounts) -> String {
    let mut text = format!("{} succeeded", done(counts));
    let others = [
        (counts.running, "running"),
        (counts.assigned, "assigned"),
        (counts.pending, "pending"),
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
    ];
    for (count, word) in others.iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {word}"));
    }
    text
}

fn took(job: &JobView) -> String {
    job.ended_ms.map_or(String::new(), |ended| time::between(job.submitted_ms, ended))
}

pub fn list(jobs: &[JobView], style: Style) -> String {
    if jobs.is_empty() {
        return "no jobs\n".to_string();
    }
    let mut table = Table::new(
        &["JOB", "NAME", "STATE", ">DONE", ">RUNNING", "SUBMITTED (UTC)", ">TOOK", "BY", "REASON"],
        style,
    );
    for job in jobs {
        let running = if job.tasks.running > 0 { job.tasks.running.to_string() } else { String::new() };
        table.row([
            job.id.to_string().into(),
            truncate(&job.name, NAME_CHARS_MAX).into(),
            TableCell::state(&job.state, style),
            done(&job.tasks).into(),
            running.into(),
            time::moment(job.submitted_wall_ms).into(),
            took(job).into(),
            truncate(&job.actor, NAME_CHARS_MAX).into(),
            truncate(&job.reason, REASON_CHARS_MAX).into(),
        ]);
    }
    table.render()
}

/// One line: `job-42 code-model failed after 23.4 s: job-42.7 failed`.
pub fn outcome(job: &JobView, style: Style) -> String {
    let mut text = format!("{} {} {}", job.id, truncate(&job.name, NAME_CHARS_MAX), style.state(&job.state));
    if job.ended_ms.is_some() {
        text.push_str(&format!(" after {}", took(job)));
    } else {
        text.push_str(&format!(", {}", counted(&job.tasks)));
    }
    if !job.reason.is_empty() {
        text.push_str(&format!(": {}", truncate(&job.reason, 4 * REASON_CHARS_MAX)));
    }
    text
}

pub fn show(detail: &JobDetail, style: Style) -> String {
    let job = &detail.job;
    let mut text =
        format!("{} {}\n", style.bold(&job.id.to_string()), style.bold(&truncate(&job.name, NAME_CHARS_MAX)));
    let mut state = style.state(&job.state);
    if !job.reason.is_empty() {
        state.push_str(&format!(": {}", truncate(&job.reason, 4 * REASON_CHARS_MAX)));
    }
    let mut rows = vec![
        ("state", state),
        ("tasks", counted(&job.tasks)),
        (
            "submitted",
            format!(
                "{} UTC by {}",
                time::moment(job.submitted_wall_ms),
                truncate(&job.actor, NAME_CHARS_MAX)
            ),
        ),
    ];
    if job.ended_ms.is_some() {
        rows.push(("took", took(job)));
    }
    if job.priority != 0 {
        rows.push(("priority", job.priority.to_string()));
    }
    if !detail.spec.params.is_empty() {
        rows.push(("params", truncate(&detail.spec.params, 4 * REASON_CHARS_MAX)));
    }
    for (name, value) in rows {
        text.push_str(&format!("  {name:<10} {value}\n"));
    }
    text.push('\n');
    let mut table = Table::new(&["STAGE", "STATE", ">DONE", ">RUNNING", ">FAILED", "NEEDS", ""], style);
    for stage in &detail.stages {
        let some = |count: u64| if count > 0 { count.to_string() } else { String::new() };
        let mut notes = Vec::new();
        if stage.gang {
            notes.push(match stage.formations {
                0 | 1 => "gang".to_string(),
                times => format!("gang, formed {times} times"),
            });
        }
        if !stage.sealed {
            notes.push("open".to_string());
        }
        table.row([
            truncate(&stage.name, NAME_CHARS_MAX).into(),
            TableCell::state(&stage.state, style),
            done(&stage.tasks).into(),
            some(stage.tasks.running).into(),
            some(stage.tasks.failed).into(),
            truncate(&stage.needs.join(", "), REASON_CHARS_MAX).into(),
            notes.join(", ").into(),
        ]);
    }
    text + &table.render()
}

pub fn tasks(page: &TaskPage, style: Style) -> String {
    if page.tasks.is_empty() {
        return "no tasks\n".to_string();
    }
    let mut table =
        Table::new(&["TASK", "STAGE", "STATE", ">ATTEMPT", "WORKER", ">TOOK", ">RETRIES", "NOTE"], style);
    for task in &page.tasks {
        let took = match (task.started_ms, task.ended_ms) {
            (Some(started), Some(ended)) => time::between(started, ended),
            (Some(_), None) | (None, Some(_)) | (None, None) => String::new(),
        };
        table.row([
            task.id.to_string().into(),
            truncate(&task.stage, NAME_CHARS_MAX).into(),
            TableCell::state(&task.state, style),
            task.attempt.map_or(String::new(), |attempt| format!("#{}", attempt.epoch)).into(),
            truncate(task.worker_name.as_deref().unwrap_or_default(), NAME_CHARS_MAX).into(),
            took.into(),
            if task.retries > 0 { task.retries.to_string() } else { String::new() }.into(),
            truncate(&note(task), REASON_CHARS_MAX).into(),
        ]);
    }
    let mut text = table.render();
    if let Some(next) = page.next {
        text.push_str(&style.dim(&format!("there are more: --from {next}")));
        text.push('\n');
    }
    text
}

/// The last column: a task's progress, or why its last attempt failed.
fn note(task: &TaskView) -> String {
    if task.state == "running" && !task.progress.is_empty() {
        return progress(task);
    }
    let bad =
        task.outcome.as_ref().filter(|outcome| outcome.word() != "succeeded" && task.state != "succeeded");
    if let Some(outcome) = bad {
        return match outcome.message() {
            "" => outcome.word().to_string(),
            message => format!("{}: {message}", outcome.word()),
        };
    }
    progress(task)
}

/// The progress that a task reports. Keys with a `/` are records of single calls, too many to show.
pub fn progress(task: &TaskView) -> String {
    let progress = task.progress.iter().filter(|(key, _)| !key.contains('/'));
    progress.map(|(key, progress)| format!("{key} {}", progressed(progress))).collect::<Vec<_>>().join("; ")
}

/// `300 loss=3.2`: the sequence number and the scalar fields of the record.
fn progressed(progress: &ProgressView) -> String {
    let flat: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(&progress.body).ok();
    let fields = flat.iter().flatten().filter(|(_, value)| value.is_number() || value.is_boolean());
    let fields: Vec<String> = fields.map(|(name, value)| format!("{name}={value}")).collect();
    if fields.is_empty() {
        progress.seq.to_string()
    } else {
        format!("{} {}", progress.seq, fields.join(" "))
    }
}
