//! The demo, step by step: what is started, submitted, killed, started again and asked.
//!
//! Each step waits for what it needs to see in the log, and not for a time to pass.

use super::report::{Measured, Outputs, Report};
use super::seen::{Seen, tasks_of};
use crate::client::{Client, EventTail, new_request};
use crate::failure::Failure;
use crate::local::cluster::Cluster;
use crate::render::bars::{Board, Narrator};
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

/// How many coordinators there are.
pub const COORDINATORS: usize = 3;
/// How many workers there are from the start.
pub const WORKERS: usize = 2;
/// So many records of metrics after its last checkpoint, a worker is killed.
const RECORDS_TO_LOSE: usize = 2;
/// Between two looks at what was seen.
const LOOK_MS: u64 = 50;
/// Between two looks at the job, for the bars.
const SHOW_MS: u64 = 1_000;
/// A coordinator that does not answer a probe in that time is asked again.
const PROBE_TIMEOUT_MS: u64 = 400;
const PROBE_PAUSE_MS: u64 = 10;
/// Without a leader for so long, there will be none.
const FAILOVER_MS_MAX: u64 = 60_000;
const PATIENCE_MS: u64 = 30_000;
/// What one answer of a coordinator about itself may take.
const STATUS_TIMEOUT_MS: u64 = 2_000;
/// Tasks of the job that are looked at for their outputs.
const TASKS_MAX: u32 = 5_000;

/// Runs the demo on a cluster whose coordinators have been started.
pub async fn run(cluster: &mut Cluster, spec: &JobSpec, json: bool) -> Result<Report, Failure> {
    let client = Arc::new(Client::new(&cluster.urls(), Duration::from_millis(PATIENCE_MS))?);
    let board = if json { Board::of_stderr_always() } else { Board::of_stdout() };
    let style = if json { Style::of_stderr() } else { Style::of_stdout() };
    let narrator = Narrator::new(board, json, style);
    let began = Instant::now();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut story = Story {
        cluster,
        client,
        narrator,
        seen,
        began,
        shown: began,
        job: JobId(0),
        measured: Measured::default(),
        witness: None,
    };
    let told = story.tell(spec).await;
    story.narrator.finish();
    if let Some(witness) = &story.witness {
        witness.abort();
    }
    told
}

struct Story<'a> {
    cluster: &'a mut Cluster,
    client: Arc<Client>,
    narrator: Narrator,
    seen: Arc<Mutex<Seen>>,
    began: Instant,
    shown: Instant,
    job: JobId,
    measured: Measured,
    witness: Option<JoinHandle<()>>,
}

impl Story<'_> {
    async fn tell(&mut self, spec: &JobSpec) -> Result<Report, Failure> {
        self.start().await?;
        self.submit(spec).await?;
        self.until("the first checkpoint", |seen| seen.last_checkpoint() > 0 && seen.all_ranks_run(1))
            .await?;
        self.kill_the_leader().await?;
        let at = self.seen().last_checkpoint();
        self.until("the next checkpoint, under the new leader", move |seen| seen.last_checkpoint() > at)
            .await?;
        self.judge_the_failover();
        // Killed right at a checkpoint, there would be nothing to do again.
        self.until("steps beyond that checkpoint", |seen| seen.records_since_checkpoint() >= RECORDS_TO_LOSE)
            .await?;
        self.kill_a_worker().await?;
        self.until("the end of the job", |seen| seen.ended.is_some()).await?;
        let detail = self.client.job(self.job).await?;
        self.narrator.show(&detail, &BTreeMap::new())?;
        self.account_for_submits().await?;
        let outputs = self.outputs(spec).await?;
        let replays = self.replay().await?;
        self.measured.total_ms = ms(self.began);
        let seen = self.seen();
        Ok(Report::new(self.cluster.bus.name(), &seen, &self.measured, outputs, &replays))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        self.narrator.say(&format!("[{:>4}s] {text}", self.began.elapsed().as_secs()))
    }

    /// Workers, too; and waits until all of them are there.
    async fn start(&mut self) -> Result<(), Failure> {
        let carried = self.cluster.bus.name();
        self.say(&format!(
            "{COORDINATORS} coordinators and {WORKERS} workers, each a process of its own, with {carried}"
        ))?;
        for place in 0..WORKERS {
            self.cluster.start_worker(place)?;
        }
        loop {
            if let Some(fallen) = self.cluster.fallen() {
                return Err(Failure::Broken(anyhow!(fallen)));
            }
            let workers = self.client.workers().await?;
            if workers.iter().filter(|worker| worker.liveness.word() == "alive").count() >= WORKERS {
                return self.say("there is a leader, and both workers are registered");
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }

    async fn submit(&mut self, spec: &JobSpec) -> Result<(), Failure> {
        let accepted = self.client.submit(spec).await?;
        self.job = accepted.job.context("hear under which id the job was accepted")?;
        self.measured.acknowledged.push(self.job);
        {
            let ranks = tasks_of(spec, "train").context("find a stage that trains in the job")?;
            let readers = tasks_of(spec, "data.scan").unwrap_or_default();
            let mut seen = self.seen();
            (seen.job, seen.ranks, seen.readers) = (self.job, ranks, readers);
        }
        let (client, seen) = (self.client.clone(), self.seen.clone());
        self.witness = Some(tokio::spawn(async move {
            let mut tail = EventTail::new(&client, 1, None);
            // A stream that cannot be had is seen by those who wait for what it would tell.
            while let Ok(event) = tail.next().await {
                seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take(&event);
            }
        }));
        self.say(&format!("submitted {} as {}", spec.name, self.job))
    }

    /// Waits until something was seen; shows on the way how the job stands.
    async fn until(&mut self, what: &str, seen: impl Fn(&Seen) -> bool) -> Result<(), Failure> {
        loop {
            let (there, ended) = {
                let now = self.seen();
                (seen(&now), now.ended)
            };
            if there {
                return Ok(());
            }
            if let Some(fallen) = self.cluster.fallen() {
                return Err(Failure::Broken(anyhow!(fallen)));
            }
            if let Some(ended) = ended {
                let last = self.seen().last_failure.clone().unwrap_or_default();
                return Err(Failure::Broken(anyhow!("the job {ended} before {what} was seen: {last}")));
            }
            if self.witness.as_ref().is_some_and(JoinHandle::is_finished) {
                return Err(Failure::Unreachable("the stream of events cannot be had any more".to_string()));
            }
            if self.shown.elapsed() > Duration::from_millis(SHOW_MS) {
                self.shown = Instant::now();
                let detail = self.client.job(self.job).await?;
                let notes = self.notes(&detail);
                self.narrator.show(&detail, &notes)?;
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }

    fn notes(&self, detail: &JobDetail) -> BTreeMap<String, String> {
        let seen = self.seen();
        let training = detail
            .spec
            .stages
            .iter()
            .find(|stage| matches!(&stage.work, Work::Builtin(work) if work.executor == "train"));
        let note = seen.metrics.last().map(|last| {
            format!("step {}, loss {:.3}, {:.0} tokens/s", last.step, last.loss, last.tokens_per_s)
        });
        training.zip(note).map(|(stage, note)| (stage.name.clone(), note)).into_iter().collect()
    }

    async fn kill_the_leader(&mut self) -> Result<(), Failure> {
        let name = self.leader().await?;
        let place = (0..COORDINATORS).find(|place| Cluster::coordinator_name(*place) == name);
        let place = place.with_context(|| format!("find the leader {name:?} among the coordinators"))?;
        let leaders = self.seen().leaders.len();
        let step = self.seen().metrics.last().map_or(0, |metrics| metrics.step);
        self.say(&format!("killing the leader {name} with SIGKILL, at step {step}"))?;
        let killed = Instant::now();
        if let Some(child) = self.cluster.coordinators[place].take() {
            drop(child);
        }
        self.measured.leader_killed = name;
        let probe = self.probe(place, killed).await?;
        self.measured.new_leader_ms = ms(killed);
        self.measured.acknowledged.push(probe);
        self.until("the new leader", move |seen| seen.leaders.len() > leaders).await?;
        let name = self.seen().leaders.last().cloned().unwrap_or_default();
        self.measured.leader_new = name;
        let took = time::duration(self.measured.new_leader_ms);
        self.say(&format!(
            "{} leads: the next command was committed {took} after the kill",
            self.measured.leader_new
        ))
    }

    /// The leader's name, once somebody knows it.
    async fn leader(&self) -> Result<String, Failure> {
        loop {
            let leader = self.client.status().await?.leader;
            if !leader.is_empty() {
                return Ok(leader);
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }

    /// Submits a small job, under one id, to whoever takes it first.
    async fn probe(&self, killed: usize, since: Instant) -> Result<JobId, Failure> {
        let body =
            json!({"name": "probe", "stages": [{"name": "probe", "tasks": 1, "work": {"type": "noop"}}]});
        let id = new_request();
        while since.elapsed() < Duration::from_millis(FAILOVER_MS_MAX) {
            for place in (0..COORDINATORS).filter(|place| *place != killed) {
                let timeout = Duration::from_millis(PROBE_TIMEOUT_MS);
                let answer: Result<AcceptedView, _> =
                    self.client.post_of(&self.cluster.url(place), "/v1/jobs", &body, id, timeout).await;
                if let Ok(AcceptedView { job: Some(job), .. }) = answer {
                    return Ok(job);
                }
            }
            tokio::time::sleep(Duration::from_millis(PROBE_PAUSE_MS)).await;
        }
        Err(Failure::Unreachable(format!(
            "no leader for {} after one was killed",
            time::duration(FAILOVER_MS_MAX)
        )))
    }

    /// Nothing that ran may have been lost by the change of leaders.
    fn judge_the_failover(&mut self) {
        let lost = self.seen().lost.len() as u64;
        self.measured.restarted_by_failover = lost;
    }

    async fn kill_a_worker(&mut self) -> Result<(), Failure> {
        let (rank, epoch) = {
            let seen = self.seen();
            (seen.ranks.start, seen.newest_epoch())
        };
        let task = self
            .client
            .task(TaskId { job: self.job, index: rank })
            .await?
            .context("find rank 0 of the training")?;
        let name = task.worker_name.context("find the worker of rank 0")?;
        let place = self
            .cluster
            .workers
            .iter()
            .position(|worker| worker.as_ref().is_some_and(|worker| worker.name == name));
        let place = place.with_context(|| format!("find the worker {name:?}"))?;
        self.say(&format!(
            "killing the worker {name} with SIGKILL, and all that runs on it, and starting another"
        ))?;
        let killed = Instant::now();
        drop(self.cluster.workers[place].take());
        self.measured.worker_killed = name;
        self.cluster.start_worker(self.cluster.workers.len())?;
        self.until("all ranks running again", move |seen| seen.all_ranks_run(epoch + 1)).await?;
        self.measured.worker_lost_ms = ms(killed);
        self.say(&format!(
            "all ranks run again, {} after the kill",
            time::duration(self.measured.worker_lost_ms)
        ))?;
        self.until("the training going on", |seen| seen.resumes.iter().any(|resume| resume.formation > 1))
            .await?;
        let redone = self.seen().steps_redone();
        self.say(&format!("the training goes on from its checkpoint: {redone} steps are done again"))?;
        let fallen = self
            .cluster
            .coordinators
            .iter()
            .position(Option::is_none)
            .context("find the coordinator that was killed")?;
        self.say(&format!(
            "starting the coordinator {} again: it has to catch up",
            Cluster::coordinator_name(fallen)
        ))?;
        Ok(self.cluster.start_coordinator(fallen)?)
    }

    /// Every submit that was acknowledged is there, and succeeded.
    async fn account_for_submits(&mut self) -> Result<(), Failure> {
        for job in self.measured.acknowledged.clone() {
            let found = self.client.job(job).await;
            if !found.is_ok_and(|detail| detail.job.terminal == Some(Terminal::Succeeded)) {
                self.measured.missing.push(job);
            }
        }
        Ok(())
    }

    async fn outputs(&self, spec: &JobSpec) -> Result<Outputs, Failure> {
        let tasks = self.client.tasks(self.job, 0, TASKS_MAX).await?.tasks;
        let of = |executor: &str| {
            let stage = spec
                .stages
                .iter()
                .find(|stage| matches!(&stage.work, Work::Builtin(work) if work.executor == executor));
            let task = stage.and_then(|stage| tasks.iter().find(|task| task.stage == stage.name));
            task.map_or(Value::Null, output)
        };
        Ok(Outputs {
            data: of("data.manifest"),
            train: of("train"),
            eval: of("eval"),
            agent: of("agent.join"),
        })
    }

    /// Each coordinator folds its own ledger from zero, up to the same index.
    async fn replay(&self) -> Result<Vec<ReplayView>, Failure> {
        let mut until = LogIndex(0);
        for place in 0..COORDINATORS {
            let status = self
                .client
                .status_of(&self.cluster.url(place), Duration::from_millis(STATUS_TIMEOUT_MS))
                .await;
            until = status.map_or(until, |status| until.max(status.applied));
        }
        self.say(&format!(
            "each coordinator folds its log from zero, up to index {until}, and decides every command again"
        ))?;
        let mut replays = Vec::new();
        for place in 0..COORDINATORS {
            let url = self.cluster.url(place);
            let began = Instant::now();
            // The one that was killed may still be catching up.
            loop {
                let status = self.client.status_of(&url, Duration::from_millis(STATUS_TIMEOUT_MS)).await;
                if status.is_ok_and(|status| status.applied >= until && status.ledger_first.0 == 1) {
                    break;
                }
                if began.elapsed() > Duration::from_millis(FAILOVER_MS_MAX) {
                    return Err(Failure::Broken(anyhow!(
                        "{} has not caught up",
                        Cluster::coordinator_name(place)
                    )));
                }
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            }
            replays.push(self.client.replay(&url, Some(&until.to_string()), true, false).await?);
        }
        Ok(replays)
    }
}

fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// What a task left for others.
fn output(task: &TaskView) -> Value {
    match &task.outcome {
        Some(Outcome::Succeeded(succeeded)) => serde_json::from_str(&succeeded.output).unwrap_or(Value::Null),
        Some(_) | None => Value::Null,
    }
}
