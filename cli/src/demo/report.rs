//! The report of a demo: figures, and checks that decide whether it passed.

use super::observed::Observed;
use muster_protocol::ids::{Digest, JobId, LogIndex};
use muster_protocol::outcome::Terminal;
use muster_protocol::view::ReplayView;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Coordinators of the demo's cluster; the report expects a ledger from each.
pub const COORDINATORS: usize = 3;
/// The model's bits per byte must be at most this fraction of the unigram's.
const UNIGRAM_SHARE_MAX: f64 = 0.85;

/// One condition of success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The condition.
    pub what: String,
    pub ok: bool,
    /// What was found instead, or as proof.
    pub found: String,
}

/// The replay of one coordinator's ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LedgerReplay {
    pub coordinator: String,
    /// The last index.
    pub to: LogIndex,
    /// At that index.
    pub state_hash: Digest,
    /// Whether deciding every command again gave the same events.
    pub verified: Option<bool>,
    pub transitions_per_s: u64,
    pub events: u64,
}

/// Measured by the scenario.
#[derive(Clone, Debug, Default)]
pub struct Measurements {
    pub leader_killed: String,
    pub leader_new: String,
    /// From the kill to the next commit.
    pub new_leader_ms: u64,
    /// Attempts that the change of leaders lost.
    pub restarted_by_failover: u64,
    pub worker_killed: String,
    /// From the kill until its tasks ran again.
    pub worker_lost_ms: u64,
    /// Acknowledged submits.
    pub acknowledged: Vec<JobId>,
    /// Acknowledged jobs that the cluster does not know or that did not succeed.
    pub missing: Vec<JobId>,
    pub total_ms: u64,
}

/// The document of `muster demo --json`; see `docs/cli.md`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DemoReport {
    /// All checks passed.
    pub ok: bool,
    pub seconds: u64,
    /// `nats-server` or the embedded broker.
    pub broker: String,
    pub job: JobId,
    /// Step and loss, in nats per token.
    pub loss_curve: Vec<(u64, f64)>,
    /// The median over the training.
    pub tokens_per_s: f64,
    /// Output of `data.manifest`.
    pub data: Value,
    /// Output of `train`.
    pub train: Value,
    /// Output of `eval`.
    pub eval: Value,
    /// Output of `agent.join`.
    pub agent: Value,
    /// Recorded by the agent.
    pub model_calls: u64,
    /// The leader that was killed, and its successor.
    pub leaders: [String; 2],
    /// From the kill to the next commit.
    pub new_leader_ms: u64,
    /// By the change of leaders.
    pub restarted_attempts: u64,
    /// From the worker's kill until its tasks ran again.
    pub worker_lost_ms: u64,
    /// Training steps that were done again.
    pub steps_redone: u64,
    /// Training steps in all.
    pub steps: u64,
    pub acknowledged_submits: usize,
    pub lost_submits: usize,
    /// One per coordinator.
    pub replays: Vec<LedgerReplay>,
    pub checks: Vec<Check>,
}

/// Outputs of the stages that the report quotes, named by executor.
#[derive(Clone, Debug, Default)]
pub struct StageOutputs {
    /// `data.manifest`.
    pub data: Value,
    /// `train`, rank 0.
    pub train: Value,
    /// `eval`.
    pub eval: Value,
    /// `agent.join`.
    pub agent: Value,
}

impl DemoReport {
    /// Assembles the report and checks it.
    pub fn new(
        broker: &str,
        observed: &Observed,
        measured: &Measurements,
        outputs: StageOutputs,
        replays: &[ReplayView],
    ) -> DemoReport {
        let checks = checks(observed, measured, &outputs, replays);
        let steps = observed.metrics.iter().map(|metrics| metrics.step).max().unwrap_or(0);
        DemoReport {
            ok: checks.iter().all(|check| check.ok),
            seconds: measured.total_ms / 1000,
            broker: broker.to_string(),
            job: observed.job,
            loss_curve: observed.curve(),
            tokens_per_s: observed.tokens_per_s(),
            data: outputs.data,
            train: outputs.train,
            eval: outputs.eval,
            agent: outputs.agent,
            model_calls: observed.calls,
            leaders: [measured.leader_killed.clone(), measured.leader_new.clone()],
            new_leader_ms: measured.new_leader_ms,
            restarted_attempts: measured.restarted_by_failover,
            worker_lost_ms: measured.worker_lost_ms,
            steps_redone: observed.steps_redone(),
            steps,
            acknowledged_submits: measured.acknowledged.len(),
            lost_submits: measured.missing.len(),
            replays: replays.iter().map(ledger_replay).collect(),
            checks,
        }
    }
}

fn ledger_replay(replay: &ReplayView) -> LedgerReplay {
    LedgerReplay {
        coordinator: replay.coordinator.clone(),
        to: replay.to,
        state_hash: replay.state_hash,
        verified: replay.verified,
        transitions_per_s: crate::render::replay::per_second(replay),
        events: replay.events,
    }
}

fn checks(
    observed: &Observed,
    measured: &Measurements,
    outputs: &StageOutputs,
    replays: &[ReplayView],
) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut check =
        |what: &str, ok: bool, found: String| checks.push(Check { what: what.to_string(), ok, found });
    let ended = observed.ended.map_or("still open".to_string(), |terminal| terminal.word().to_string());
    let why = observed.last_failure.clone().filter(|_| observed.ended != Some(Terminal::Succeeded));
    check(
        "the job finished",
        observed.ended == Some(Terminal::Succeeded),
        why.map_or(ended.clone(), |why| format!("{ended}; {why}")),
    );
    let readers = observed.workers_that_read();
    check("both workers read the input", readers >= 2, format!("{readers} did"));
    let curve = observed.curve();
    let (first, last) =
        (curve.first().map_or(f64::NAN, |point| point.1), curve.last().map_or(f64::NAN, |point| point.1));
    check("the loss fell", last < first, format!("{first:.3} → {last:.3} nats per token"));
    let took = crate::render::time::duration;
    let led = !measured.leader_new.is_empty() && measured.leader_new != measured.leader_killed;
    let change =
        format!("{} → {} in {}", measured.leader_killed, measured.leader_new, took(measured.new_leader_ms));
    check("another leader took over after the kill during the training", led, change);
    let restarted = measured.restarted_by_failover;
    check(
        "running attempts survived the loss of the leader",
        restarted == 0,
        format!("{restarted} attempts restarted"),
    );
    let resumed = observed.resumes.iter().find(|resume| resume.formation > 1);
    let from = resumed.map_or("it did not".to_string(), |resume| {
        format!("from step {} of {}", resume.step, resume.reached)
    });
    let went_on = resumed.is_some_and(|resume| resume.step > 0);
    check("the training continued from its checkpoint after a worker was killed", went_on, from);
    let (acknowledged, missing) = (measured.acknowledged.len(), measured.missing.len());
    check(
        "every acknowledged submit succeeded",
        missing == 0 && acknowledged > 0,
        format!("{} of {acknowledged}", acknowledged - missing),
    );
    let bits = |key: &str| outputs.eval.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let (model, unigram) = (bits("model_bits_per_byte"), bits("unigram_bits_per_byte"));
    let better = format!("{model:.3} against {unigram:.3} bits per byte");
    check("the model is clearly better than a unigram", model <= unigram * UNIGRAM_SHARE_MAX, better);
    let lines = outputs.agent.get("lines").and_then(Value::as_u64).unwrap_or(0);
    check(
        "the agent completed its lines",
        lines > 0 && observed.calls > 0,
        format!("{lines} lines, {} model calls recorded", observed.calls),
    );
    let same = replays.iter().all(|replay| {
        Some((replay.state_hash, replay.to)) == replays.first().map(|first| (first.state_hash, first.to))
    });
    let verified = replays.iter().all(|replay| replay.verified == Some(true) && replay.from == LogIndex(1));
    let three = replays.len() == COORDINATORS;
    let found = match (three, same, verified) {
        (false, _, _) => format!("{} ledgers", replays.len()),
        (true, false, _) => "the states differ".to_string(),
        (true, true, false) => "equal, but not verified from the first entry".to_string(),
        (true, true, true) => "all three are equal, and every command was decided again".to_string(),
    };
    check(
        "every coordinator's log replays from the first entry to the same state",
        three && same && verified,
        found,
    );
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_found_is_not_well() {
        let report = DemoReport::new(
            "none",
            &Observed::default(),
            &Measurements::default(),
            StageOutputs::default(),
            &[],
        );
        assert!(!report.ok);
        let ok: Vec<&str> =
            report.checks.iter().filter(|check| check.ok).map(|check| check.what.as_str()).collect();
        assert_eq!(ok, ["running attempts survived the loss of the leader"]);
    }
}
