//! An attempt's way through the agent: taken, queued, started, stopped, fenced, ended, reported.

use super::held::{Attempt, Stage, Stopping};
use super::{Action, Agent};
use muster_protocol::bus::{Launch, Run, Stop};
use muster_protocol::ids::AttemptId;
use muster_protocol::limits::{FENCE_GRACE_MS, QUEUED_PER_WORKER_MAX};
use muster_protocol::outcome::{Outcome, Reason, Succeeded};
use muster_protocol::spec::{OnPartition, Work};
use muster_protocol::worker::{Ended, Report, ReportKind, Started};

/// Attempts that wait at most; what is over it is not taken, and the leader says it again.
const QUEUE_MAX: usize = 2 * QUEUED_PER_WORKER_MAX as usize;
/// With so many reports unacknowledged nothing new is started: a worker that is not heard must not gather
/// without end.
const REPORTS_UNACKED_MAX: usize = 8_192;
/// What a report takes on the wire beside its texts.
const REPORT_BYTES: usize = 64;

/// The report of an end that waits for the attempt's progress.
#[derive(Debug)]
pub struct Deferred {
    /// The progress record that must be acknowledged before.
    after: u64,
    report: Report,
}

/// A loss that is no failure of the task.
pub(super) fn lost(message: &str) -> Outcome {
    Outcome::Lost(Reason { message: message.to_string() })
}

impl Agent {
    pub(super) fn run(&mut self, now_ms: u64, run: Run, out: &mut dyn FnMut(Action)) {
        // Without a lease this worker may be given up for lost already; the leader says it again once it
        // hears a heartbeat.
        if !self.lease.holds(now_ms) {
            return;
        }
        for launch in run.launches {
            let attempt = launch.attempt;
            if self.attempts.contains_key(&attempt)
                || self.ended.contains(&attempt)
                || self.memory.contains(attempt)
            {
                continue;
            }
            if self.drain.is_on() {
                self.report_end(attempt, 0, lost("its worker drains"), 0);
            } else if !self.room.could_fit(&launch) {
                let message = "it asks for more than its worker has".to_string();
                self.report_end(attempt, 0, Outcome::NotStarted(Reason { message }), 0);
            } else if self.queue.len() < QUEUE_MAX {
                self.enqueue(launch);
            }
        }
        self.start_queued(now_ms, out);
    }

    /// What the leader counts as running goes before what it counts as queued: its room is there, or will be
    /// at once.
    fn enqueue(&mut self, launch: Launch) {
        let attempt = launch.attempt;
        if launch.queued {
            self.queue.push_back(attempt);
        } else {
            let waits = |id: &AttemptId| self.attempts.get(id).is_none_or(|held| !held.launch.queued);
            let place = self.queue.iter().take_while(|id| waits(id)).count();
            self.queue.insert(place, attempt);
        }
        self.attempts.insert(
            attempt,
            Attempt {
                launch: Box::new(launch),
                stage: Stage::Queued,
                output: String::new(),
                last_progress: 0,
            },
        );
    }

    /// Starts what waits, in order, as far as there is room.
    pub(super) fn start_queued(&mut self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        while let Some(attempt) = self.queue.front().copied()
            && self.lease.holds(now_ms)
            && self.reports.len() + self.deferred.len() < REPORTS_UNACKED_MAX
        {
            let Some(held) = self.attempts.get_mut(&attempt) else {
                self.queue.pop_front();
                continue;
            };
            if !self.room.take(&held.launch) {
                return;
            }
            self.queue.pop_front();
            match held.launch.work {
                Work::Noop(_) => {
                    self.room.give_back(&held.launch);
                    self.attempts.remove(&attempt);
                    self.report_end(attempt, 0, Outcome::Succeeded(Succeeded::default()), 0);
                }
                Work::Process(_) | Work::Builtin(_) => {
                    held.stage = Stage::Running;
                    out(Action::Start(held.launch.clone()));
                }
            }
        }
    }

    pub(super) fn started(&mut self, attempt: AttemptId, pid: u32) {
        if self.attempts.get(&attempt).is_some_and(Attempt::runs) {
            self.reports.push(Report { attempt, what: ReportKind::Started(Started { pid }) }, REPORT_BYTES);
        }
    }

    pub(super) fn exited(
        &mut self,
        now_ms: u64,
        attempt: AttemptId,
        outcome: Outcome,
        run_ms: u64,
        out: &mut dyn FnMut(Action),
    ) {
        if !self.attempts.get(&attempt).is_some_and(Attempt::runs) {
            return;
        }
        let Some(held) = self.attempts.remove(&attempt) else { return };
        self.room.give_back(&held.launch);
        self.calls.forget(attempt);
        let outcome = match held.stage {
            Stage::Queued | Stage::Running => with_output(outcome, held.output),
            // The log has it that it was stopped, whatever it says when it ends.
            Stage::Stopping(stopping) => stopping.outcome,
        };
        self.report_end(attempt, held.last_progress, outcome, run_ms);
        self.start_queued(now_ms, out);
    }

    pub(super) fn stop(&mut self, now_ms: u64, stop: Stop, out: &mut dyn FnMut(Action)) {
        let Some(held) = self.attempts.get_mut(&stop.attempt) else {
            // The order to run it was lost, or comes later: it ends here without having begun.
            if !self.ended.contains(&stop.attempt) && !self.memory.contains(stop.attempt) {
                self.report_end(stop.attempt, 0, stop.outcome, 0);
            }
            return;
        };
        if held.runs() {
            end_running(now_ms, held, stop.outcome, true, stop.grace_ms, out);
        } else {
            self.drop_queued(stop.attempt, stop.outcome);
            // It may have been the one that the others wait behind.
            self.start_queued(now_ms, out);
        }
    }

    /// Ends what waits, without starting it.
    pub(super) fn drop_all_queued(&mut self, outcome: &Outcome) {
        for attempt in std::mem::take(&mut self.queue) {
            if self.attempts.remove(&attempt).is_some() {
                self.report_end(attempt, 0, outcome.clone(), 0);
            }
        }
    }

    fn drop_queued(&mut self, attempt: AttemptId, outcome: Outcome) {
        self.queue.retain(|queued| *queued != attempt);
        self.attempts.remove(&attempt);
        self.report_end(attempt, 0, outcome, 0);
    }

    /// The lease has ended: so does what must not run without one.
    pub(super) fn fence(&mut self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        if self.lease.holds(now_ms) || self.attempts.is_empty() {
            return;
        }
        let outcome = lost("its worker heard from no leader and ended it");
        self.drop_all_queued(&outcome);
        for held in self.attempts.values_mut() {
            match held.launch.on_partition {
                OnPartition::Stop => end_running(now_ms, held, outcome.clone(), false, FENCE_GRACE_MS, out),
                OnPartition::Continue => {}
            }
        }
    }

    /// Ends all that runs, for the agent's own reasons; `grace_ms` gives each its time.
    pub(super) fn end_all(
        &mut self,
        now_ms: u64,
        outcome: &Outcome,
        grace_ms: impl Fn(&Launch) -> u64,
        out: &mut dyn FnMut(Action),
    ) {
        for held in self.attempts.values_mut().filter(|held| held.runs()) {
            let grace_ms = grace_ms(&held.launch);
            end_running(now_ms, held, outcome.clone(), false, grace_ms, out);
        }
    }

    /// Reports an end, once the attempt's progress up to that number is acknowledged: after its end it would
    /// be turned away as stale.
    pub(super) fn report_end(&mut self, attempt: AttemptId, after: u64, outcome: Outcome, run_ms: u64) {
        self.memory.insert(attempt);
        self.ended.insert(attempt);
        let report = Report { attempt, what: ReportKind::Ended(Ended { outcome, run_ms }) };
        if self.progress.is_acked(after) {
            self.push_end(report);
        } else {
            self.deferred.push_back(Deferred { after, report });
        }
    }

    pub(super) fn report_deferred(&mut self) {
        let (ready, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.deferred).into_iter().partition(|d| self.progress.is_acked(d.after));
        self.deferred = waiting.into();
        ready.into_iter().for_each(|deferred| self.push_end(deferred.report));
    }

    fn push_end(&mut self, report: Report) {
        let bytes = match &report.what {
            ReportKind::Ended(Ended { outcome: Outcome::Succeeded(succeeded), .. }) => succeeded.output.len(),
            ReportKind::Ended(ended) => ended.outcome.message().len(),
            ReportKind::Started(_) => 0,
        };
        self.reports.push(report, REPORT_BYTES + bytes);
    }
}

fn with_output(outcome: Outcome, output: String) -> Outcome {
    match outcome {
        Outcome::Succeeded(_) => Outcome::Succeeded(Succeeded { output }),
        other => other,
    }
}

/// Ends a running attempt, or hastens its end.
fn end_running(
    now_ms: u64,
    held: &mut Attempt,
    outcome: Outcome,
    by_leader: bool,
    grace_ms: u64,
    out: &mut dyn FnMut(Action),
) {
    let attempt = held.launch.attempt;
    let kill_at = now_ms.saturating_add(grace_ms);
    match &mut held.stage {
        Stage::Queued => {}
        Stage::Running => {
            held.stage = Stage::Stopping(Stopping { outcome, by_leader, kill_at });
            out(Action::Signal { attempt, grace_ms });
        }
        Stage::Stopping(stopping) => {
            if by_leader && !stopping.by_leader {
                stopping.outcome = outcome;
                stopping.by_leader = true;
            }
            if kill_at < stopping.kill_at {
                stopping.kill_at = kill_at;
                out(Action::Signal { attempt, grace_ms });
            }
        }
    }
}
