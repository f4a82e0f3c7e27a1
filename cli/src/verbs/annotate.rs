//! `muster annotate`: finds the label server of an annotate stage in the records of its task, and calls it.

use super::connect::client;
use crate::args::{AnnotateArgs, AnnotateVerb, ExportArgs, ServerArgs};
use crate::client::{Client, LabelingClient, LabelingError};
use crate::error::CliError;
use crate::render::{self, annotate, style};
use anyhow::{Context, anyhow};
use muster_attempt::artifacts::Artifacts;
use muster_protocol::ids::{Digest, JobId, TaskId};
use muster_protocol::outcome::Outcome;
use muster_protocol::spec::Work;
use muster_protocol::view::{JobDetail, TaskView};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const EXECUTOR: &str = "data.annotate";
const POLL_INTERVAL_MS: u64 = 200;
/// The most that the label server accepts.
const IMPORT_BYTES_MAX: u64 = 256 << 20;

/// The record in which the stage announces its server.
#[derive(Deserialize)]
struct UrlRecord {
    url: String,
}

/// The output of a stage that has succeeded.
#[derive(Deserialize)]
struct StageOutput {
    labelled: Digest,
}

enum StageStatus {
    /// The URL of its label server.
    Serving(String),
    Ended(Box<TaskView>),
}

/// A stage of `data.annotate`, which has one task.
struct LabelingStage {
    name: String,
    task: TaskId,
}

pub async fn annotate(arguments: AnnotateArgs) -> Result<(), CliError> {
    let (job, stage) = (arguments.job, arguments.stage.as_deref());
    match &arguments.what {
        AnnotateVerb::Open(open) => {
            let session = LabelingSession::new(&open.server, job, stage).await?;
            let url = session.url().await?;
            let (stage, task) = (&session.stage.name, session.stage.task);
            if open.server.json {
                render::json(&json!({ "job": job, "stage": stage, "task": task, "url": url }))
            } else {
                render::line(&url)
            }
        }
        AnnotateVerb::Status(status) => {
            let session = LabelingSession::new(&status.server, job, stage).await?;
            let report: Value = match session.find().await? {
                StageStatus::Serving(_) => {
                    read(&session.ask(async |form| form.get("/status.json").await).await?)?
                }
                StageStatus::Ended(task) => output(&task)?,
            };
            if status.server.json { render::json(&report) } else { render::out(&annotate::status(&report)) }
        }
        AnnotateVerb::Export(export) => {
            let session = LabelingSession::new(&export.server, job, stage).await?;
            let bytes = match session.find().await? {
                StageStatus::Serving(_) => session.ask(async |form| form.get("/items.jsonl").await).await?,
                StageStatus::Ended(task) => labelled_items(&task, export.artifacts.as_deref()).await?,
            };
            write(export, &bytes)
        }
        AnnotateVerb::Import(import) => {
            let lines = labels(&import.file)?;
            let session = LabelingSession::new(&import.server, job, stage).await?;
            let tally: Value =
                read(&session.ask(async |form| form.lines("/labels.jsonl", lines.clone()).await).await?)?;
            if import.server.json { render::json(&tally) } else { render::line(&annotate::tally(&tally)) }
        }
        AnnotateVerb::Close(close) => {
            let session = LabelingSession::new(&close.server, job, stage).await?;
            let body = json!({ "who": close.who });
            session.ask(async |form| form.post("/close", &body).await).await?;
            if close.server.json {
                return render::json(
                    &json!({ "job": job, "stage": session.stage.name, "closed": close.who }),
                );
            }
            render::line(&format!(
                "stage {} of {job} takes no more labels",
                style::sanitize(&session.stage.name)
            ))
        }
    }
}

/// A stage to call, and how long to keep trying.
struct LabelingSession {
    client: std::sync::Arc<Client>,
    stage: LabelingStage,
    patience: Duration,
}

impl LabelingSession {
    async fn new(server: &ServerArgs, job: JobId, stage: Option<&str>) -> Result<LabelingSession, CliError> {
        let client = client(server)?;
        let stage = find_stage(&client.job(job).await?, stage).map_err(CliError::Input)?;
        Ok(LabelingSession { client, stage, patience: Duration::from_millis(server.patience) })
    }

    /// Waits while the stage is starting.
    async fn find(&self) -> Result<StageStatus, CliError> {
        let began = Instant::now();
        loop {
            let task = self.client.task(self.stage.task).await?;
            let task =
                task.ok_or_else(|| CliError::Input(format!("there is no task {} yet", self.stage.task)))?;
            if ["succeeded", "failed", "cancelled"].contains(&task.state.as_str()) {
                return Ok(StageStatus::Ended(Box::new(task)));
            }
            // An older record is of an attempt that has ended: its server is gone.
            let epoch = task.attempt.map_or(0, |attempt| u64::from(attempt.epoch));
            if let Some(record) =
                task.progress.get("url").filter(|record| record.seq == epoch && task.state == "running")
            {
                let announced: UrlRecord = read(record.body.as_bytes())?;
                return Ok(StageStatus::Serving(announced.url));
            }
            if began.elapsed() > self.patience {
                let (name, id, state) =
                    (style::sanitize(&self.stage.name), self.stage.task, style::sanitize(&task.state));
                return Err(CliError::Input(format!(
                    "stage {name} ({id}) is {state}, and does not serve a form yet; try again when it runs"
                )));
            }
            tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
        }
    }

    async fn url(&self) -> Result<String, CliError> {
        match self.find().await? {
            StageStatus::Serving(url) => Ok(url),
            StageStatus::Ended(task) => Err(CliError::Input(ended_message(&task))),
        }
    }

    /// Calls the label server, again and at its new place if it moves: every call can be repeated safely.
    async fn ask(
        &self,
        ask: impl AsyncFn(&LabelingClient) -> Result<Vec<u8>, LabelingError>,
    ) -> Result<Vec<u8>, CliError> {
        let began = Instant::now();
        loop {
            let url = self.url().await?;
            let asked = match LabelingClient::new(&url) {
                Ok(form) => ask(&form).await,
                Err(error) => Err(error),
            };
            match asked {
                Ok(bytes) => return Ok(bytes),
                Err(LabelingError::Refused(why)) => return Err(CliError::Input(sanitize_lines(&why))),
                Err(LabelingError::Unreachable(_) | LabelingError::Unavailable(_))
                    if began.elapsed() < self.patience =>
                {
                    tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
                }
                Err(LabelingError::Unreachable(why)) => {
                    let hint = "the worker that runs the stage serves it: is that address reachable from here? The stage's `bind` sets it";
                    return Err(CliError::Unreachable(format!(
                        "the form at {url} does not answer ({why}); {hint}"
                    )));
                }
                Err(LabelingError::Unavailable(why)) => {
                    return Err(CliError::Unreachable(sanitize_lines(&why)));
                }
            }
        }
    }
}

fn sanitize_lines(text: &str) -> String {
    text.lines().map(style::sanitize).collect::<Vec<_>>().join("\n")
}

/// The annotate stage of this name, or the only one.
fn find_stage(detail: &JobDetail, name: Option<&str>) -> Result<LabelingStage, String> {
    let job = detail.job.id;
    let mut first = 0;
    let mut found = Vec::new();
    for stage in &detail.spec.stages {
        if matches!(&stage.work, Work::Builtin(work) if work.executor == EXECUTOR) {
            found.push(LabelingStage { name: stage.name.clone(), task: TaskId { job, index: first } });
        }
        first += stage.tasks;
    }
    let names = found.iter().map(|stage| style::sanitize(&stage.name)).collect::<Vec<_>>().join(", ");
    if let Some(name) = name {
        let there = if names.is_empty() { "it has none".to_string() } else { format!("there is {names}") };
        let unknown = || format!("{job} has no stage {name:?} that people label; {there}");
        return found.into_iter().find(|stage| stage.name == name).ok_or_else(unknown);
    }
    match (found.pop(), found.len()) {
        (None, _) => Err(format!("{job} has no stage that people label (`executor = \"{EXECUTOR}\"`)")),
        (Some(only), 0) => Ok(only),
        (Some(_), others) => {
            Err(format!("{job} has {} stages that people label: name one of {names}", others + 1))
        }
    }
}

/// The message for a stage that has ended and no longer serves.
fn ended_message(task: &TaskView) -> String {
    let why = task.outcome.as_ref().map(Outcome::message).filter(|why| !why.is_empty());
    let why = why.map_or(String::new(), |why| format!(" ({})", style::sanitize(why)));
    format!(
        "stage {} has {}{why}: it no longer serves a form",
        style::sanitize(&task.stage),
        style::sanitize(&task.state)
    )
}

fn output(task: &TaskView) -> Result<Value, CliError> {
    match &task.outcome {
        Some(Outcome::Succeeded(succeeded)) => read(succeeded.output.as_bytes()),
        Some(_) | None => Err(CliError::Input(ended_message(task))),
    }
}

/// The labelled items of a stage that has ended, from the workers' artifacts.
async fn labelled_items(task: &TaskView, artifacts: Option<&Path>) -> Result<Vec<u8>, CliError> {
    let StageOutput { labelled } =
        serde_json::from_value(output(task)?).context("read the output of the stage")?;
    let Some(directory) = artifacts.map(Path::to_path_buf) else {
        let over = ended_message(task);
        return Err(CliError::Input(format!(
            "{over}; its labelled items are artifact {labelled}: pass the workers' artifact directory with --artifacts"
        )));
    };
    if !directory.is_dir() {
        return Err(CliError::Input(format!(
            "--artifacts {}: there is no such directory",
            directory.display()
        )));
    }
    let read = tokio::task::spawn_blocking(move || {
        Artifacts::open(&directory).and_then(|artifacts| artifacts.get(labelled))
    });
    read.await.context("read an artifact")?.map_err(|error| CliError::Input(format!("cannot {error}")))
}

fn labels(file: &Path) -> Result<Vec<u8>, CliError> {
    let wrong = |why: String| CliError::Input(format!("{}: {why}", file.display()));
    let length = fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if length > IMPORT_BYTES_MAX {
        return Err(wrong(format!("it has {length} bytes; one import takes at most {IMPORT_BYTES_MAX}")));
    }
    fs::read(file).map_err(|error| wrong(error.to_string()))
}

fn write(arguments: &ExportArgs, bytes: &[u8]) -> Result<(), CliError> {
    let Some(file) = &arguments.output else { return render::out(&String::from_utf8_lossy(bytes)) };
    fs::write(file, bytes).map_err(|error| CliError::Other(anyhow!("write {}: {error}", file.display())))?;
    let items = bytes.iter().filter(|byte| **byte == b'\n').count();
    if arguments.server.json {
        return render::json(
            &json!({ "file": file.display().to_string(), "items": items, "bytes": bytes.len() }),
        );
    }
    render::line(&format!("{items} items in {}", file.display()))
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, CliError> {
    Ok(serde_json::from_slice(bytes).context("read the answer of the stage")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(stages: &[(&str, &str, u32)]) -> JobDetail {
        let stages: Vec<Value> = stages
            .iter()
            .map(|(name, executor, tasks)| json!({"name": name, "tasks": tasks, "work": {"type": "builtin", "executor": executor}}))
            .collect();
        let counts =
            json!({"pending": 0, "assigned": 0, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 0});
        let job = json!({"id": "job-3", "name": "n", "actor": "a", "namespace": "", "state": "running", "terminal": null, "reason": "",
            "tasks": counts, "submitted_wall_ms": 0, "submitted_ms": 0, "ended_ms": null, "priority": 0});
        serde_json::from_value(json!({"job": job, "spec": {"name": "n", "stages": stages}, "stages": []}))
            .unwrap()
    }

    #[test]
    fn the_stage_that_waits_is_found() {
        let one = detail(&[("scan", "data.scan", 4), ("label", EXECUTOR, 1)]);
        let task = TaskId { job: JobId(3), index: 4 };
        assert_eq!(find_stage(&one, None).map(|stage| stage.task), Ok(task));
        assert_eq!(find_stage(&one, Some("label")).map(|stage| stage.task), Ok(task));
        let message =
            |detail: &JobDetail, name| find_stage(detail, name).map(|stage| stage.name).unwrap_err();
        assert!(message(&one, Some("scan")).contains("there is label"), "{}", message(&one, Some("scan")));
        assert!(message(&detail(&[("scan", "data.scan", 1)]), None).contains("no stage that people label"));
        let two = detail(&[("a", EXECUTOR, 1), ("b", EXECUTOR, 1)]);
        assert!(message(&two, None).contains("name one of a, b"));
    }
}
