//! `muster logs`: the output of tasks.

use super::connect::client;
use crate::args::{LogSource, LogsArgs};
use crate::client::{Client, LogTail};
use crate::error::CliError;
use crate::render::{self, style};
use anyhow::Context;
use muster_protocol::bus::Stream;
use muster_protocol::ids::{AttemptId, JobId, TaskId};
use muster_protocol::view::{LogView, TaskView};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// `muster logs JOB` shows the output of this many tasks; for others, name the task.
const TASKS_MAX: u32 = 1_000;
/// Streams open at the same time.
const STREAMS_MAX: usize = 32;
/// The poll for new attempts starts at the first interval and doubles up to the second.
const POLL_MS_MIN: u64 = 20;
const POLL_MS_MAX: u64 = 500;
/// Pieces waiting to be printed.
const PIECES_MAX: usize = 256;
/// Longer lines are printed in parts.
const LINE_BYTES_MAX: usize = 64 << 10;

pub async fn logs(arguments: LogsArgs) -> Result<(), CliError> {
    let client = client(&arguments.server)?;
    let stream = if arguments.stderr { Stream::Stderr } else { Stream::Stdout };
    let show = LogPrinter { json: arguments.server.json, stream, follow: arguments.follow };
    if arguments.follow {
        client.learn_members().await;
    }
    match arguments.of {
        LogSource::Attempt(attempt) => show.attempt(&client, attempt).await,
        LogSource::Task(task) => show.task(&client, task).await,
        LogSource::Job(job) => show.job(&client, job).await,
    }
}

/// Prints the output of a job until it has ended.
pub async fn follow_job(client: &Arc<Client>, job: JobId) -> Result<(), CliError> {
    LogPrinter { json: false, stream: Stream::Stdout, follow: true }.job(client, job).await
}

#[derive(Clone, Copy)]
struct LogPrinter {
    json: bool,
    stream: Stream,
    follow: bool,
}

/// Whether the newest attempt has output, or will soon.
fn has_run(task: &TaskView) -> bool {
    task.attempt.is_some() && !["assigned", "queued"].contains(&task.state.as_str())
}

fn has_ended(task: &TaskView) -> bool {
    ["succeeded", "failed", "cancelled"].contains(&task.state.as_str())
}

impl LogPrinter {
    async fn attempt(self, client: &Client, attempt: AttemptId) -> Result<(), CliError> {
        let mut tail = LogTail::new(client, attempt.to_string(), self.stream, self.follow);
        while let Some(piece) = tail.next().await? {
            self.print(&piece)?;
            if !piece.error.is_empty() {
                return Err(CliError::Input(format!(
                    "no output of {attempt}: {}",
                    style::sanitize(&piece.error)
                )));
            }
        }
        Ok(())
    }

    /// The newest attempt; with `--follow`, later ones too.
    async fn task(self, client: &Client, task: TaskId) -> Result<(), CliError> {
        let mut last = None;
        let mut pause = PollBackoff::new();
        loop {
            let view = client
                .task(task)
                .await?
                .ok_or_else(|| CliError::Input(format!("there is no task {task}")))?;
            if let Some(attempt) = view.attempt.filter(|attempt| has_run(&view) && last != Some(*attempt)) {
                self.attempt(client, attempt).await?;
                last = Some(attempt);
                pause = PollBackoff::new();
            } else if !self.follow {
                return match last {
                    Some(_) => Ok(()),
                    None => {
                        Err(CliError::Input(format!("{task} has not started yet: --follow waits for it")))
                    }
                };
            } else if has_ended(&view) {
                return Ok(());
            } else {
                pause.wait().await;
            }
        }
    }

    /// All tasks. Each line carries the name of its task, unless the job has only one.
    async fn job(self, client: &Arc<Client>, job: JobId) -> Result<(), CliError> {
        let detail = client.job(job).await?;
        let one = detail.spec.stages.len() == 1
            && detail.spec.stages.iter().all(|stage| stage.tasks == 1 && !stage.open);
        if one {
            return self.task(client, TaskId { job, index: 0 }).await;
        }
        let (sender, mut pieces) = mpsc::channel(PIECES_MAX);
        let asked = tokio::spawn(self.ask_all(client.clone(), job, sender));
        let mut lines = LineBuffer::default();
        while let Some(piece) = pieces.recv().await {
            if self.json {
                render::json_line(&piece)?;
            } else {
                render::out(&lines.push(&piece))?;
            }
        }
        render::out(&lines.rest())?;
        asked.await.context("ask for all the output")?
    }

    /// Streams the output of one attempt after another, a bounded number at a time.
    async fn ask_all(
        self,
        client: Arc<Client>,
        job: JobId,
        sender: mpsc::Sender<LogView>,
    ) -> Result<(), CliError> {
        let mut seen: BTreeSet<AttemptId> = BTreeSet::new();
        let mut open: JoinSet<Result<(), CliError>> = JoinSet::new();
        let mut pause = PollBackoff::new();
        // Without --follow, the output appears task by task.
        let streams_max = if self.follow { STREAMS_MAX } else { 1 };
        loop {
            // Read before the tasks: if the job has ended by now, the list below has all its attempts.
            let ended = client.job(job).await?.job.terminal.is_some();
            let page = client.tasks(job, 0, TASKS_MAX).await?;
            if page.next.is_some() && seen.is_empty() {
                render::note(&format!("only the first {TASKS_MAX} tasks of {job} are shown"));
            }
            for attempt in page.tasks.iter().filter(|task| has_run(task)).filter_map(|task| task.attempt) {
                if !seen.insert(attempt) {
                    continue;
                }
                while open.len() >= streams_max {
                    joined(open.join_next().await)?;
                }
                pause = PollBackoff::new();
                open.spawn(self.ask(client.clone(), attempt, sender.clone()));
            }
            if ended || !self.follow {
                while let Some(next) = open.join_next().await {
                    joined(Some(next))?;
                }
                return Ok(());
            }
            while let Some(next) = open.try_join_next() {
                joined(Some(next))?;
            }
            pause.wait().await;
        }
    }

    async fn ask(
        self,
        client: Arc<Client>,
        attempt: AttemptId,
        sender: mpsc::Sender<LogView>,
    ) -> Result<(), CliError> {
        let mut tail = LogTail::new(&client, attempt.to_string(), self.stream, self.follow);
        while let Some(piece) = tail.next().await? {
            if sender.send(piece).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn print(self, piece: &LogView) -> Result<(), CliError> {
        if self.json { render::json_line(piece) } else { render::out(&piece.text) }
    }
}

/// Starts short: most attempts start and end soon.
struct PollBackoff {
    ms: u64,
}

impl PollBackoff {
    fn new() -> PollBackoff {
        PollBackoff { ms: POLL_MS_MIN }
    }

    async fn wait(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.ms)).await;
        self.ms = (self.ms * 2).min(POLL_MS_MAX);
    }
}

fn joined(next: Option<Result<Result<(), CliError>, tokio::task::JoinError>>) -> Result<(), CliError> {
    match next {
        Some(ended) => ended.context("read the output of an attempt")?,
        None => Ok(()),
    }
}

/// Assembles the pieces of many attempts into whole lines, each prefixed with its task.
#[derive(Default)]
struct LineBuffer {
    begun: BTreeMap<AttemptId, String>,
}

impl LineBuffer {
    fn push(&mut self, piece: &LogView) -> String {
        let begun = self.begun.entry(piece.attempt).or_default();
        begun.push_str(&piece.text);
        if !piece.error.is_empty() {
            begun.push_str(&format!("(no output: {})", style::sanitize(&piece.error)));
        }
        let last = piece.end || !piece.error.is_empty() || begun.len() > LINE_BYTES_MAX;
        let end = if last { begun.len() } else { begun.rfind('\n').map_or(0, |newline| newline + 1) };
        let whole: String = begun.drain(..end).collect();
        whole.lines().map(|line| format!("{} | {line}\n", piece.attempt.task)).collect()
    }

    fn rest(&mut self) -> String {
        let rest = std::mem::take(&mut self.begun);
        let lines = rest.iter().flat_map(|(attempt, text)| text.lines().map(move |line| (attempt, line)));
        lines.map(|(attempt, line)| format!("{} | {line}\n", attempt.task)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_two_tasks_become_whole_lines() {
        let piece = |index, text: &str, end| LogView {
            attempt: AttemptId { task: TaskId { job: JobId(1), index }, epoch: 1 },
            stream: Stream::Stdout,
            offset: 0,
            next: 0,
            text: text.to_string(),
            end,
            error: String::new(),
        };
        let mut lines = LineBuffer::default();
        assert_eq!(lines.push(&piece(0, "a", false)), "");
        assert_eq!(lines.push(&piece(1, "x\ny", false)), "job-1.1 | x\n");
        assert_eq!(lines.push(&piece(0, "b\n", false)), "job-1.0 | ab\n");
        assert_eq!(lines.push(&piece(1, "z", true)), "job-1.1 | yz\n");
        assert_eq!(lines.push(&piece(0, "last", false)), "");
        assert_eq!(lines.rest(), "job-1.0 | last\n");
    }
}
