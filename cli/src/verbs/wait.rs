//! `muster wait`: blocks until jobs have ended.

use super::connect::client;
use crate::args::WaitArgs;
use crate::client::{Client, EventTail};
use crate::error::CliError;
use crate::render::progress::ProgressDisplay;
use crate::render::style::Style;
use crate::render::{self, jobs};
use muster_protocol::event::Event;
use muster_protocol::ids::{JobId, TaskId};
use muster_protocol::outcome::Terminal;
use muster_protocol::view::{JobDetail, JobView};
use std::collections::BTreeMap;
use std::time::Duration;

/// The job is fetched at least this often, whatever the events say.
pub const POLL_MS_MAX: u64 = 2_000;
/// And at most this often, however many events arrive.
pub const POLL_MS_MIN: u64 = 100;

pub async fn wait(arguments: WaitArgs) -> Result<(), CliError> {
    let client = client(&arguments.server)?;
    if !arguments.server.json {
        return wait_for(&client, &arguments.jobs).await;
    }
    client.learn_members().await;
    let mut ended = Vec::new();
    for job in arguments.jobs {
        ended.push(until_ended(&client, job, &mut ProgressDisplay::silent()).await?);
    }
    render::json(&ended)?;
    verdict(&ended)
}

/// Waits for jobs, with bars on a terminal, and prints how each ended.
pub async fn wait_for(client: &Client, jobs: &[JobId]) -> Result<(), CliError> {
    client.learn_members().await;
    let mut ended = Vec::new();
    for job in jobs {
        let view = until_ended(client, *job, &mut ProgressDisplay::of_stderr()).await?;
        render::line(&jobs::outcome(&view, Style::of_stdout()))?;
        ended.push(view);
    }
    verdict(&ended)
}

/// Waits for a job whose output is on standard output, so how it ended goes to standard error.
pub async fn wait_for_quietly(client: &Client, job: JobId) -> Result<(), CliError> {
    let view = until_ended(client, job, &mut ProgressDisplay::silent()).await?;
    render::note(&jobs::outcome(&view, Style::PLAIN));
    verdict([&view])
}

/// Fails unless all jobs succeeded.
pub fn verdict<'a>(jobs: impl IntoIterator<Item = &'a JobView>) -> Result<(), CliError> {
    let good = jobs.into_iter().all(|job| job.terminal == Some(Terminal::Succeeded));
    if good { Ok(()) } else { Err(CliError::JobFailed) }
}

/// Waits until a job has ended and shows its progress meanwhile.
pub async fn until_ended(
    client: &Client,
    job: JobId,
    board: &mut ProgressDisplay,
) -> Result<JobView, CliError> {
    // Entries that this coordinator has not applied yet will arrive as events; the leader has applied the
    // others.
    let from = client.status().await?.applied.0 + 1;
    let mut tail = EventTail::new(client, from, Some(job));
    loop {
        let detail = client.job(job).await?;
        let notes = if board.wants_notes() { notes(client, &detail).await? } else { BTreeMap::new() };
        board.show(&detail, &notes)?;
        if detail.job.terminal.is_some() {
            board.finish();
            return Ok(detail.job);
        }
        until_something_happens(&mut tail).await?;
    }
}

/// Returns at once when the job ends; otherwise shortly after an event, or at the latest after `POLL_MS_MAX`.
async fn until_something_happens(tail: &mut EventTail<'_>) -> Result<(), CliError> {
    let began = tokio::time::Instant::now();
    let mut until = began + Duration::from_millis(POLL_MS_MAX);
    while let Ok(event) = tokio::time::timeout_at(until, tail.next()).await {
        if matches!(event?.event, Event::JobEnded(_)) {
            return Ok(());
        }
        until = until
            .min(tokio::time::Instant::now() + Duration::from_millis(POLL_MS_MIN))
            .max(began + Duration::from_millis(POLL_MS_MIN));
    }
    Ok(())
}

/// For each running stage, the progress that its first task reports.
pub async fn notes(client: &Client, detail: &JobDetail) -> Result<BTreeMap<String, String>, CliError> {
    let mut notes = BTreeMap::new();
    let mut first = 0u32;
    for (stage, spec) in detail.stages.iter().zip(&detail.spec.stages) {
        if stage.state == "running" && spec.tasks > 0 {
            let task = client.task(TaskId { job: detail.job.id, index: first }).await?;
            let note = task.map(|task| jobs::progress(&task)).unwrap_or_default();
            notes.insert(stage.name.clone(), note);
        }
        first = first.saturating_add(spec.tasks);
    }
    Ok(notes)
}
