//! `muster watch`: follows a job live, from its first record to its end.
//!
//! It reads the job's events from the log, so a late watcher sees the whole loss curve, and one whose
//! coordinator goes away misses nothing.

use super::connect::client;
use super::wait::{POLL_MS_MAX, POLL_MS_MIN, notes, verdict};
use crate::args::JobArgs;
use crate::client::{Client, EventTail};
use crate::error::CliError;
use crate::render::progress::ProgressDisplay;
use crate::render::style::Style;
use crate::render::training::TrainingView;
use crate::render::{self, jobs};
use muster_protocol::event::Event;
use muster_protocol::ids::JobId;
use muster_protocol::view::JobView;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Shows bars on a terminal and lines in a pipe.
pub async fn watch(arguments: JobArgs) -> Result<(), CliError> {
    let client = client(&arguments.server)?;
    client.learn_members().await;
    if arguments.server.json {
        let view = follow(&client, arguments.job, &mut ProgressDisplay::json()).await?;
        return verdict([&view]);
    }
    let view = follow(&client, arguments.job, &mut ProgressDisplay::of_stdout()).await?;
    render::line(&jobs::outcome(&view, Style::of_stdout()))?;
    verdict([&view])
}

/// Shows every record and the job's progress until the job has ended and all its events have been shown.
async fn follow(client: &Client, job: JobId, board: &mut ProgressDisplay) -> Result<JobView, CliError> {
    let mut detail = client.job(job).await?;
    let mut training = TrainingView::of(&detail.spec);
    let mut tail = EventTail::new(client, 1, Some(job));
    loop {
        let notes = if board.wants_notes() { notes(client, &detail).await? } else { BTreeMap::new() };
        board.show(&detail, &notes)?;
        board.train(&detail, &training);
        let (mut any_event, mut ended) = (false, false);
        let began = Instant::now();
        let (earliest, mut until) =
            (began + Duration::from_millis(POLL_MS_MIN), began + Duration::from_millis(POLL_MS_MAX));
        while let Ok(event) = timeout_at(until, tail.next()).await {
            let event = event?;
            let line = training.take(&event);
            board.record(&event, line.as_deref())?;
            any_event = true;
            if matches!(event.event, Event::JobEnded(_)) {
                ended = true;
                break;
            }
            until = until.min(Instant::now() + Duration::from_millis(POLL_MS_MIN)).max(earliest);
        }
        detail = client.job(job).await?;
        // A retried job has an earlier end in its events; a job that has ended shows all its events first.
        if detail.job.terminal.is_some() && (ended || !any_event) {
            board.show(&detail, &BTreeMap::new())?;
            board.finish();
            return Ok(detail.job);
        }
    }
}
