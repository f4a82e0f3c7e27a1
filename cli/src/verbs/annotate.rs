//! `muster annotate`: finds the form of a stage that waits for people, through the task's records, and asks
//! it.

use super::client;
use crate::args::{AnnotateArgs, AnnotateVerb, ExportArgs, ServerArgs};
use crate::client::{Client, Form, FormError};
use crate::failure::Failure;
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

/// The executor that serves a form.
const EXECUTOR: &str = "data.annotate";
/// Between two looks for a form that is not there yet.
const LOOK_MS: u64 = 200;
/// A file of labels at most: what the form takes.
const IMPORT_BYTES_MAX: u64 = 256 << 20;

/// What the form of a stage records of itself.
#[derive(Deserialize)]
struct Announced {
    url: String,
}

/// What the stage leaves at its end.
#[derive(Deserialize)]
struct Ended {
    labelled: Digest,
}

/// How a stage is found.
enum Found {
    /// Its form is served there.
    Open(String),
    /// It has ended so.
    Ended(Box<TaskView>),
}

/// A stage that waits for people.
struct Stage {
    name: String,
    task: TaskId,
}

/// Asks the form of a stage.
pub async fn annotate(arguments: AnnotateArgs) -> Result<(), Failure> {
    let (job, stage) = (arguments.job, arguments.stage.as_deref());
    match &arguments.what {
        AnnotateVerb::Open(open) => {
            let asking = Asking::new(&open.server, job, stage).await?;
            let url = asking.url().await?;
            let (stage, task) = (&asking.stage.name, asking.stage.task);
            if open.server.json {
                render::json(&json!({ "job": job, "stage": stage, "task": task, "url": url }))
            } else {
                render::line(&url)
            }
        }
        AnnotateVerb::Status(status) => {
            let asking = Asking::new(&status.server, job, stage).await?;
            let report: Value = match asking.find().await? {
                Found::Open(_) => read(&asking.ask(async |form| form.get("/status.json").await).await?)?,
                Found::Ended(task) => output(&task)?,
            };
            if status.server.json { render::json(&report) } else { render::out(&annotate::status(&report)) }
        }
        AnnotateVerb::Export(export) => {
            let asking = Asking::new(&export.server, job, stage).await?;
            let bytes = match asking.find().await? {
                Found::Open(_) => asking.ask(async |form| form.get("/items.jsonl").await).await?,
                Found::Ended(task) => kept(&task, export.artifacts.as_deref()).await?,
            };
            write(export, &bytes)
        }
        AnnotateVerb::Import(import) => {
            let lines = labels(&import.file)?;
            let asking = Asking::new(&import.server, job, stage).await?;
            let tally: Value =
                read(&asking.ask(async |form| form.lines("/labels.jsonl", lines.clone()).await).await?)?;
            if import.server.json { render::json(&tally) } else { render::line(&annotate::tally(&tally)) }
        }
        AnnotateVerb::Close(close) => {
            let asking = Asking::new(&close.server, job, stage).await?;
            let body = json!({ "who": close.who });
            asking.ask(async |form| form.post("/close", &body).await).await?;
            if close.server.json {
                return render::json(&json!({ "job": job, "stage": asking.stage.name, "closed": close.who }));
            }
            render::line(&format!(
                "stage {} of {job} takes no more labels",
                style::harmless(&asking.stage.name)
            ))
        }
    }
}

/// A question to a stage.
struct Asking {
    client: std::sync::Arc<Client>,
    stage: Stage,
    patience: Duration,
}

impl Asking {
    async fn new(server: &ServerArgs, job: JobId, stage: Option<&str>) -> Result<Asking, Failure> {
        let client = client(server)?;
        let stage = choose(&client.job(job).await?, stage).map_err(Failure::Input)?;
        Ok(Asking { client, stage, patience: Duration::from_millis(server.patience) })
    }

    /// Where its form is, or how it has ended. A stage that is only just starting is waited for.
    async fn find(&self) -> Result<Found, Failure> {
        let began = Instant::now();
        loop {
            let task = self.client.task(self.stage.task).await?;
            let task =
                task.ok_or_else(|| Failure::Input(format!("there is no task {} yet", self.stage.task)))?;
            if ["succeeded", "failed", "cancelled"].contains(&task.state.as_str()) {
                return Ok(Found::Ended(Box::new(task)));
            }
            // The record may be of an attempt that has ended: only one of this attempt is where the form is.
            let epoch = task.attempt.map_or(0, |attempt| u64::from(attempt.epoch));
            if let Some(record) =
                task.progress.get("url").filter(|record| record.seq == epoch && task.state == "running")
            {
                let announced: Announced = read(record.body.as_bytes())?;
                return Ok(Found::Open(announced.url));
            }
            if began.elapsed() > self.patience {
                let (name, id, state) =
                    (style::harmless(&self.stage.name), self.stage.task, style::harmless(&task.state));
                return Err(Failure::Input(format!(
                    "stage {name} ({id}) is {state}, and serves no form yet; try again when it runs"
                )));
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }

    async fn url(&self) -> Result<String, Failure> {
        match self.find().await? {
            Found::Open(url) => Ok(url),
            Found::Ended(task) => Err(Failure::Input(over(&task))),
        }
    }

    /// Asks the form, and where it is then if it moves: the same again does no harm.
    async fn ask(&self, ask: impl AsyncFn(&Form) -> Result<Vec<u8>, FormError>) -> Result<Vec<u8>, Failure> {
        let began = Instant::now();
        loop {
            let url = self.url().await?;
            let asked = match Form::new(&url) {
                Ok(form) => ask(&form).await,
                Err(error) => Err(error),
            };
            match asked {
                Ok(bytes) => return Ok(bytes),
                Err(FormError::Refused(why)) => return Err(Failure::Input(harmless_lines(&why))),
                Err(FormError::Silent(_) | FormError::Unknown(_)) if began.elapsed() < self.patience => {
                    tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
                }
                Err(FormError::Silent(why)) => {
                    let hint = "it is served by the worker that runs the stage: is that address reachable from here? The stage's `bind` sets it";
                    return Err(Failure::Unreachable(format!(
                        "the form at {url} does not answer ({why}); {hint}"
                    )));
                }
                Err(FormError::Unknown(why)) => return Err(Failure::Unreachable(harmless_lines(&why))),
            }
        }
    }
}

/// What the form says, line by line.
fn harmless_lines(text: &str) -> String {
    text.lines().map(style::harmless).collect::<Vec<_>>().join("\n")
}

/// The stage by its name, or the only one that waits for people.
fn choose(detail: &JobDetail, name: Option<&str>) -> Result<Stage, String> {
    let job = detail.job.id;
    let mut first = 0;
    let mut found = Vec::new();
    for stage in &detail.spec.stages {
        if matches!(&stage.work, Work::Builtin(work) if work.executor == EXECUTOR) {
            found.push(Stage { name: stage.name.clone(), task: TaskId { job, index: first } });
        }
        first += stage.tasks;
    }
    let names = found.iter().map(|stage| style::harmless(&stage.name)).collect::<Vec<_>>().join(", ");
    if let Some(name) = name {
        let there = if names.is_empty() { "it has none".to_string() } else { format!("there is {names}") };
        let unknown = || format!("{job} has no stage {name:?} that waits for people; {there}");
        return found.into_iter().find(|stage| stage.name == name).ok_or_else(unknown);
    }
    match (found.pop(), found.len()) {
        (None, _) => Err(format!("{job} has no stage that waits for people (`executor = \"{EXECUTOR}\"`)")),
        (Some(only), 0) => Ok(only),
        (Some(_), others) => {
            Err(format!("{job} has {} stages that wait for people: say which of {names}", others + 1))
        }
    }
}

/// That a stage has ended, for those who wanted it open.
fn over(task: &TaskView) -> String {
    let why = task.outcome.as_ref().map(Outcome::message).filter(|why| !why.is_empty());
    let why = why.map_or(String::new(), |why| format!(" ({})", style::harmless(why)));
    format!(
        "stage {} has {}{why}: it serves no form any more",
        style::harmless(&task.stage),
        style::harmless(&task.state)
    )
}

fn output(task: &TaskView) -> Result<Value, Failure> {
    match &task.outcome {
        Some(Outcome::Succeeded(succeeded)) => read(succeeded.output.as_bytes()),
        Some(_) | None => Err(Failure::Input(over(task))),
    }
}

/// The labelled items of a stage that has ended.
async fn kept(task: &TaskView, artifacts: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let Ended { labelled } = serde_json::from_value(output(task)?).context("read the output of the stage")?;
    let Some(directory) = artifacts.map(Path::to_path_buf) else {
        let over = over(task);
        return Err(Failure::Input(format!(
            "{over}; its labelled items are artifact {labelled}: give the workers' --artifacts"
        )));
    };
    if !directory.is_dir() {
        return Err(Failure::Input(format!(
            "--artifacts {}: there is no such directory",
            directory.display()
        )));
    }
    let read = tokio::task::spawn_blocking(move || {
        Artifacts::open(&directory).and_then(|artifacts| artifacts.get(labelled))
    });
    read.await.context("read an artifact")?.map_err(|error| Failure::Input(format!("cannot {error}")))
}

fn labels(file: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |why: String| Failure::Input(format!("{}: {why}", file.display()));
    let length = fs::metadata(file).map_err(|error| wrong(error.to_string()))?.len();
    if length > IMPORT_BYTES_MAX {
        return Err(wrong(format!("it has {length} bytes; at most {IMPORT_BYTES_MAX} are taken at once")));
    }
    fs::read(file).map_err(|error| wrong(error.to_string()))
}

fn write(arguments: &ExportArgs, bytes: &[u8]) -> Result<(), Failure> {
    let Some(file) = &arguments.output else { return render::out(&String::from_utf8_lossy(bytes)) };
    fs::write(file, bytes).map_err(|error| Failure::Broken(anyhow!("write {}: {error}", file.display())))?;
    let items = bytes.iter().filter(|byte| **byte == b'\n').count();
    if arguments.server.json {
        return render::json(
            &json!({ "file": file.display().to_string(), "items": items, "bytes": bytes.len() }),
        );
    }
    render::line(&format!("{items} items in {}", file.display()))
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    Ok(serde_json::from_slice(bytes).context("read what the stage says")?)
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
        assert_eq!(choose(&one, None).map(|stage| stage.task), Ok(task));
        assert_eq!(choose(&one, Some("label")).map(|stage| stage.task), Ok(task));
        let message = |detail: &JobDetail, name| choose(detail, name).map(|stage| stage.name).unwrap_err();
        assert!(message(&one, Some("scan")).contains("there is label"), "{}", message(&one, Some("scan")));
        assert!(
            message(&detail(&[("scan", "data.scan", 1)]), None).contains("no stage that waits for people")
        );
        let two = detail(&[("a", EXECUTOR, 1), ("b", EXECUTOR, 1)]);
        assert!(message(&two, None).contains("say which of a, b"));
    }
}
