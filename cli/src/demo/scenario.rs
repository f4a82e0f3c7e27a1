//! The steps of the demo: what is started, submitted, killed, restarted and asked.
//!
//! Each step waits for an event in the log, never for a fixed time.

use super::observed::{Observed, tasks_of};
use super::report::{COORDINATORS, DemoReport, Measurements, StageOutputs};
use crate::client::{Client, EventTail, new_request};
use crate::error::CliError;
use crate::local::cluster::Cluster;
use crate::render::progress::{DemoConsole, ProgressDisplay};
use crate::render::style::Style;
use crate::render::time;
use anyhow::{Context, anyhow};
use muster_protocol::ids::{JobId, LogIndex, TaskId};
use muster_protocol::outcome::{Outcome, Terminal};
use muster_protocol::spec::{JobSpec, Work};
use muster_protocol::view::{AcceptedView, JobDetail, ReplayView, TaskView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Workers at the start.
pub const WORKERS: usize = 2;
/// A worker is killed after this many `train` records since the last checkpoint, so that steps are lost.
const RECORDS_TO_LOSE: usize = 2;
const POLL_INTERVAL_MS: u64 = 50;
/// How often the job is fetched for the bars.
const SHOW_MS: u64 = 1_000;
/// A probe that is not answered in this time is sent again.
const PROBE_TIMEOUT_MS: u64 = 400;
const PROBE_PAUSE_MS: u64 = 10;
/// Without a leader for this long, the demo fails.
const FAILOVER_MS_MAX: u64 = 60_000;
const PATIENCE_MS: u64 = 30_000;
const STATUS_TIMEOUT_MS: u64 = 2_000;
/// Only this many tasks are searched for outputs.
const TASKS_MAX: u32 = 5_000;

/// Runs the demo on a cluster whose coordinators run already.
pub async fn run(cluster: &mut Cluster, spec: &JobSpec, json: bool) -> Result<DemoReport, CliError> {
    let client = Arc::new(Client::new(&cluster.urls(), Duration::from_millis(PATIENCE_MS))?);
    let board = if json { ProgressDisplay::of_stderr_always() } else { ProgressDisplay::of_stdout() };
    let style = if json { Style::of_stderr() } else { Style::of_stdout() };
    let narrator = DemoConsole::new(board, json, style);
    let began = Instant::now();
    let observed = Arc::new(Mutex::new(Observed::default()));
    let mut scenario = Scenario {
        cluster,
        client,
        narrator,
        observed,
        began,
        shown: began,
        job: JobId(0),
        measured: Measurements::default(),
        watcher: None,
    };
    let report = scenario.play(spec).await;
    scenario.narrator.finish();
    if let Some(watcher) = &scenario.watcher {
        watcher.abort();
    }
    report
}

struct Scenario<'a> {
    cluster: &'a mut Cluster,
    client: Arc<Client>,
    narrator: DemoConsole,
    observed: Arc<Mutex<Observed>>,
    began: Instant,
    shown: Instant,
    job: JobId,
    measured: Measurements,
    watcher: Option<JoinHandle<()>>,
}

impl Scenario<'_> {
    async fn play(&mut self, spec: &JobSpec) -> Result<DemoReport, CliError> {
        self.start().await?;
        self.submit(spec).await?;
        self.until("the first checkpoint", |observed| {
            observed.last_checkpoint() > 0 && observed.all_ranks_run(1)
        })
        .await?;
        self.kill_the_leader().await?;
        let at = self.observed().last_checkpoint();
        self.until("the next checkpoint, under the new leader", move |observed| {
            observed.last_checkpoint() > at
        })
        .await?;
        self.judge_the_failover();
        // Killed right after a checkpoint, the training would have no step to do again.
        self.until("steps beyond that checkpoint", |observed| {
            observed.records_since_checkpoint() >= RECORDS_TO_LOSE
        })
        .await?;
        self.kill_a_worker().await?;
        self.until("the end of the job", |observed| observed.ended.is_some()).await?;
        let detail = self.client.job(self.job).await?;
        self.narrator.show(&detail, &BTreeMap::new())?;
        self.account_for_submits().await?;
        let outputs = self.outputs(spec).await?;
        let replays = self.replay().await?;
        self.measured.total_ms = ms(self.began);
        let observed = self.observed();
        Ok(DemoReport::new(self.cluster.bus.name(), &observed, &self.measured, outputs, &replays))
    }

    fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn say(&self, text: &str) -> Result<(), CliError> {
        self.narrator.say(&format!("[{:>4}s] {text}", self.began.elapsed().as_secs()))
    }

    /// Starts the workers and waits for them.
    async fn start(&mut self) -> Result<(), CliError> {
        let carried = self.cluster.bus.name();
        self.say(&format!(
            "{COORDINATORS} coordinators and {WORKERS} workers, each a process of its own, with {carried}"
        ))?;
        for index in 0..WORKERS {
            self.cluster.start_worker(index)?;
        }
        loop {
            if let Some(exited) = self.cluster.unexpected_exit() {
                return Err(CliError::Other(anyhow!(exited)));
            }
            let workers = self.client.workers().await?;
            if workers.iter().filter(|worker| worker.liveness.word() == "alive").count() >= WORKERS {
                return self.say("there is a leader, and both workers are registered");
            }
            tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
        }
    }

    async fn submit(&mut self, spec: &JobSpec) -> Result<(), CliError> {
        let accepted = self.client.submit(spec).await?;
        self.job = accepted.job.context("read the id of the accepted job")?;
        self.measured.acknowledged.push(self.job);
        {
            let ranks = tasks_of(spec, "train").context("find a stage that trains in the job")?;
            let readers = tasks_of(spec, "data.scan").unwrap_or_default();
            let mut observed = self.observed();
            (observed.job, observed.ranks, observed.readers) = (self.job, ranks, readers);
        }
        let (client, observed) = (self.client.clone(), self.observed.clone());
        self.watcher = Some(tokio::spawn(async move {
            let mut tail = EventTail::new(&client, 1, None);
            // `until` notices that this task has ended.
            while let Ok(event) = tail.next().await {
                observed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take(&event);
            }
        }));
        self.say(&format!("submitted {} as {}", spec.name, self.job))
    }

    /// Waits until `observed` holds, and shows the job's progress meanwhile.
    async fn until(&mut self, what: &str, observed: impl Fn(&Observed) -> bool) -> Result<(), CliError> {
        loop {
            let (there, ended) = {
                let now = self.observed();
                (observed(&now), now.ended)
            };
            if there {
                return Ok(());
            }
            if let Some(exited) = self.cluster.unexpected_exit() {
                return Err(CliError::Other(anyhow!(exited)));
            }
            if let Some(ended) = ended {
                let last = self.observed().last_failure.clone().unwrap_or_default();
                return Err(CliError::Other(anyhow!("the job {ended} before {what}: {last}")));
            }
            if self.watcher.as_ref().is_some_and(JoinHandle::is_finished) {
                return Err(CliError::Unreachable("the event stream is no longer available".to_string()));
            }
            if self.shown.elapsed() > Duration::from_millis(SHOW_MS) {
                self.shown = Instant::now();
                let detail = self.client.job(self.job).await?;
                let notes = self.notes(&detail);
                self.narrator.show(&detail, &notes)?;
            }
            tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
        }
    }

    fn notes(&self, detail: &JobDetail) -> BTreeMap<String, String> {
        let observed = self.observed();
        let training = detail
            .spec
            .stages
            .iter()
            .find(|stage| matches!(&stage.work, Work::Builtin(work) if work.executor == "train"));
        let note = observed.metrics.last().map(|last| {
            format!("step {}, loss {:.3}, {:.0} tokens/s", last.step, last.loss, last.tokens_per_s)
        });
        training.zip(note).map(|(stage, note)| (stage.name.clone(), note)).into_iter().collect()
    }

    async fn kill_the_leader(&mut self) -> Result<(), CliError> {
        let name = self.leader().await?;
        let index = (0..COORDINATORS).find(|index| Cluster::coordinator_name(*index) == name);
        let index = index.with_context(|| format!("find the leader {name:?} among the coordinators"))?;
        let leaders = self.observed().leaders.len();
        let step = self.observed().metrics.last().map_or(0, |metrics| metrics.step);
        self.say(&format!("killing the leader {name} with SIGKILL, at step {step}"))?;
        let killed = Instant::now();
        if let Some(child) = self.cluster.coordinators[index].take() {
            drop(child);
        }
        self.measured.leader_killed = name;
        let probe = self.probe(index, killed).await?;
        self.measured.new_leader_ms = ms(killed);
        self.measured.acknowledged.push(probe);
        self.until("the new leader", move |observed| observed.leaders.len() > leaders).await?;
        let name = self.observed().leaders.last().cloned().unwrap_or_default();
        self.measured.leader_new = name;
        let took = time::duration(self.measured.new_leader_ms);
        self.say(&format!(
            "{} leads: the next command was committed {took} after the kill",
            self.measured.leader_new
        ))
    }

    /// Waits until some coordinator knows the leader.
    async fn leader(&self) -> Result<String, CliError> {
        loop {
            let leader = self.client.status().await?.leader;
            if !leader.is_empty() {
                return Ok(leader);
            }
            tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
        }
    }

    /// Submits a small job under one request id, to whichever coordinator takes it first.
    async fn probe(&self, killed: usize, since: Instant) -> Result<JobId, CliError> {
        let body =
            json!({"name": "probe", "stages": [{"name": "probe", "tasks": 1, "work": {"type": "noop"}}]});
        let id = new_request();
        while since.elapsed() < Duration::from_millis(FAILOVER_MS_MAX) {
            for index in (0..COORDINATORS).filter(|index| *index != killed) {
                let timeout = Duration::from_millis(PROBE_TIMEOUT_MS);
                let answer: Result<AcceptedView, _> =
                    self.client.post_of(&self.cluster.url(index), "/v1/jobs", &body, id, timeout).await;
                if let Ok(AcceptedView { job: Some(job), .. }) = answer {
                    return Ok(job);
                }
            }
            tokio::time::sleep(Duration::from_millis(PROBE_PAUSE_MS)).await;
        }
        Err(CliError::Unreachable(format!(
            "no leader for {} after one was killed",
            time::duration(FAILOVER_MS_MAX)
        )))
    }

    /// Counts the attempts that the change of leaders lost; there must be none.
    fn judge_the_failover(&mut self) {
        let lost = self.observed().lost.len() as u64;
        self.measured.restarted_by_failover = lost;
    }

    async fn kill_a_worker(&mut self) -> Result<(), CliError> {
        let (rank, epoch) = {
            let observed = self.observed();
            (observed.ranks.start, observed.newest_epoch())
        };
        let task = self
            .client
            .task(TaskId { job: self.job, index: rank })
            .await?
            .context("find rank 0 of the training")?;
        let name = task.worker_name.context("find the worker of rank 0")?;
        let index = self
            .cluster
            .workers
            .iter()
            .position(|worker| worker.as_ref().is_some_and(|worker| worker.name == name));
        let index = index.with_context(|| format!("find the worker {name:?}"))?;
        self.say(&format!(
            "killing the worker {name} and everything that runs on it with SIGKILL, and starting another one"
        ))?;
        let killed = Instant::now();
        drop(self.cluster.workers[index].take());
        self.measured.worker_killed = name;
        self.cluster.start_worker(self.cluster.workers.len())?;
        self.until("all ranks to run again", move |observed| observed.all_ranks_run(epoch + 1)).await?;
        self.measured.worker_lost_ms = ms(killed);
        self.say(&format!(
            "all ranks run again, {} after the kill",
            time::duration(self.measured.worker_lost_ms)
        ))?;
        self.until("the training to continue", |observed| {
            observed.resumes.iter().any(|resume| resume.formation > 1)
        })
        .await?;
        let redone = self.observed().steps_redone();
        self.say(&format!("the training continues from its checkpoint and repeats {redone} steps"))?;
        let index = self
            .cluster
            .coordinators
            .iter()
            .position(Option::is_none)
            .context("find the coordinator that was killed")?;
        self.say(&format!(
            "starting the coordinator {} again; it has to catch up",
            Cluster::coordinator_name(index)
        ))?;
        Ok(self.cluster.start_coordinator(index)?)
    }

    /// Every acknowledged submit must exist and have succeeded.
    async fn account_for_submits(&mut self) -> Result<(), CliError> {
        for job in self.measured.acknowledged.clone() {
            let found = self.client.job(job).await;
            if !found.is_ok_and(|detail| detail.job.terminal == Some(Terminal::Succeeded)) {
                self.measured.missing.push(job);
            }
        }
        Ok(())
    }

    async fn outputs(&self, spec: &JobSpec) -> Result<StageOutputs, CliError> {
        let tasks = self.client.tasks(self.job, 0, TASKS_MAX).await?.tasks;
        let of = |executor: &str| {
            let stage = spec
                .stages
                .iter()
                .find(|stage| matches!(&stage.work, Work::Builtin(work) if work.executor == executor));
            let task = stage.and_then(|stage| tasks.iter().find(|task| task.stage == stage.name));
            task.map_or(Value::Null, output)
        };
        Ok(StageOutputs {
            data: of("data.manifest"),
            train: of("train"),
            eval: of("eval"),
            agent: of("agent.join"),
        })
    }

    /// Each coordinator replays its own ledger from the first entry to the same index.
    async fn replay(&self) -> Result<Vec<ReplayView>, CliError> {
        let mut until = LogIndex(0);
        for index in 0..COORDINATORS {
            let status = self
                .client
                .status_of(&self.cluster.url(index), Duration::from_millis(STATUS_TIMEOUT_MS))
                .await;
            until = status.map_or(until, |status| until.max(status.applied));
        }
        self.say(&format!(
            "each coordinator folds its log from zero, up to index {until}, and decides every command again"
        ))?;
        let mut replays = Vec::new();
        for index in 0..COORDINATORS {
            let url = self.cluster.url(index);
            let began = Instant::now();
            // The coordinator that was killed may still be catching up.
            loop {
                let status = self.client.status_of(&url, Duration::from_millis(STATUS_TIMEOUT_MS)).await;
                if status.is_ok_and(|status| status.applied >= until && status.ledger_first.0 == 1) {
                    break;
                }
                if began.elapsed() > Duration::from_millis(FAILOVER_MS_MAX) {
                    return Err(CliError::Other(anyhow!(
                        "{} has not caught up",
                        Cluster::coordinator_name(index)
                    )));
                }
                tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
            }
            replays.push(self.client.replay(&url, Some(&until.to_string()), true, false).await?);
        }
        Ok(replays)
    }
}

fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A task's output.
fn output(task: &TaskView) -> Value {
    match &task.outcome {
        Some(Outcome::Succeeded(succeeded)) => serde_json::from_str(&succeeded.output).unwrap_or(Value::Null),
        Some(_) | None => Value::Null,
    }
}
