//! The attempts that the agent holds: queued, started, stopped, ended, and reported to the leader.
//!
//! **Invariant**: an attempt that ended here never starts again, and its end is reported after its progress.

use super::attempt_state::{AttemptState, HeldAttempt};
use super::free_resources::FreeResources;
use super::input::Action;
use super::recently_ended::RecentlyEnded;
use super::send_window::SendWindow;
use muster_protocol::bus::{Held, Launch, Phase, Stop};
use muster_protocol::ids::AttemptId;
use muster_protocol::limits::{FENCE_GRACE_MS, QUEUED_PER_WORKER_MAX};
use muster_protocol::outcome::{Outcome, Reason, Succeeded};
use muster_protocol::resources::Resources;
use muster_protocol::spec::{OnPartition, Work};
use muster_protocol::worker::{Ended, ProgressRecord, Report, ReportKind, Started};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// At most this many attempts are queued; the leader sends what is refused again.
const QUEUE_MAX: usize = 2 * QUEUED_PER_WORKER_MAX as usize;
/// With this many unacknowledged reports nothing new is started, so that a worker without a leader does not
/// grow without bound.
const REPORTS_UNACKED_MAX: usize = 8_192;
/// What a report takes on the wire beside its texts.
const REPORT_BYTES: usize = 64;
/// What a progress record takes on the wire beside its texts.
const RECORD_BYTES: usize = 96;

#[derive(Debug)]
pub struct AttemptTable {
    held: BTreeMap<AttemptId, HeldAttempt>,
    /// The queued ones, in the order in which they start.
    queue: VecDeque<AttemptId>,
    free: FreeResources,
    /// Ended, but the report is not acknowledged.
    unacked_ends: BTreeSet<AttemptId>,
    recently_ended: RecentlyEnded,
    pub reports: SendWindow<Report>,
    pub progress: SendWindow<ProgressRecord>,
    deferred: VecDeque<DeferredReport>,
}

/// The report of an end that waits until the attempt's progress is acknowledged.
#[derive(Debug)]
struct DeferredReport {
    /// The progress record that must be acknowledged first.
    after: u64,
    report: Report,
}

/// A loss that does not count as a failure of the task.
pub fn lost(message: &str) -> Outcome {
    Outcome::Lost(Reason { message: message.to_string() })
}

impl AttemptTable {
    pub fn new(capacity: Resources) -> AttemptTable {
        AttemptTable {
            held: BTreeMap::new(),
            queue: VecDeque::new(),
            free: FreeResources::new(capacity),
            unacked_ends: BTreeSet::new(),
            recently_ended: RecentlyEnded::default(),
            reports: SendWindow::new(),
            progress: SendWindow::new(),
            deferred: VecDeque::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn contains(&self, attempt: AttemptId) -> bool {
        self.held.contains_key(&attempt)
    }

    /// For heartbeats: the attempts that are held, and those whose end is not acknowledged.
    pub fn held(&self) -> Vec<Held> {
        let held = self.held.iter().map(|(attempt, held)| Held { attempt: *attempt, phase: held.phase() });
        let ended = self.unacked_ends.iter().map(|attempt| Held { attempt: *attempt, phase: Phase::Ended });
        held.chain(ended).collect()
    }

    /// An attempt that runs or is being ended.
    pub fn running(&mut self, attempt: AttemptId) -> Option<&mut HeldAttempt> {
        self.held.get_mut(&attempt).filter(|held| held.has_processes())
    }

    /// Whether everything that was reported is acknowledged.
    pub fn is_flushed(&self) -> bool {
        self.reports.len() == 0 && self.deferred.is_empty() && self.progress.len() == 0
    }

    /// Queues launches; a repeat changes nothing.
    pub fn enqueue_new(&mut self, launches: Vec<Launch>, draining: bool) {
        for launch in launches {
            let attempt = launch.attempt;
            if self.contains(attempt) || self.has_ended(attempt) {
                continue;
            }
            if draining {
                self.report_end(attempt, 0, lost("its worker drains"), 0);
            } else if !self.free.fits_when_idle(&launch) {
                let message = "it asks for more than its worker has".to_string();
                self.report_end(attempt, 0, Outcome::NotStarted(Reason { message }), 0);
            } else if self.queue.len() < QUEUE_MAX {
                self.enqueue(launch);
            }
        }
    }

    /// What the leader counts as running goes before what it counts as queued: its resources are free, or
    /// will be in a moment.
    fn enqueue(&mut self, launch: Launch) {
        let attempt = launch.attempt;
        if launch.queued {
            self.queue.push_back(attempt);
        } else {
            let goes_first = |id: &AttemptId| self.held.get(id).is_none_or(|held| !held.launch.queued);
            let place = self.queue.iter().take_while(|id| goes_first(id)).count();
            self.queue.insert(place, attempt);
        }
        self.held.insert(attempt, HeldAttempt::queued(launch));
    }

    /// Starts queued attempts, in order, while their resources are free.
    pub fn start_queued(&mut self, lease_holds: bool, out: &mut dyn FnMut(Action)) {
        while let Some(attempt) = self.queue.front().copied()
            && lease_holds
            && self.reports.len() + self.deferred.len() < REPORTS_UNACKED_MAX
        {
            let Some(held) = self.held.get_mut(&attempt) else {
                self.queue.pop_front();
                continue;
            };
            if !self.free.take(&held.launch) {
                return;
            }
            self.queue.pop_front();
            match held.launch.work {
                Work::Noop(_) => {
                    self.free.release(&held.launch);
                    self.held.remove(&attempt);
                    self.report_end(attempt, 0, Outcome::Succeeded(Succeeded::default()), 0);
                }
                Work::Process(_) | Work::Builtin(_) => {
                    held.state = AttemptState::Running;
                    out(Action::Start(held.launch.clone()));
                }
            }
        }
    }

    pub fn started(&mut self, attempt: AttemptId, pid: u32) {
        if self.running(attempt).is_some() {
            self.reports.push(Report { attempt, what: ReportKind::Started(Started { pid }) }, REPORT_BYTES);
        }
    }

    /// Takes an attempt out of the table and reports its end; false if it was not running here.
    pub fn exited(&mut self, attempt: AttemptId, outcome: Outcome, run_ms: u64) -> bool {
        if self.running(attempt).is_none() {
            return false;
        }
        let Some(held) = self.held.remove(&attempt) else { return false };
        self.free.release(&held.launch);
        let outcome = match held.state {
            AttemptState::Queued | AttemptState::Running => with_output(outcome, held.output),
            // The leader, or this agent, has decided how it ends, however the process ended.
            AttemptState::Stopping(stopping) => stopping.outcome,
        };
        self.report_end(attempt, held.last_progress, outcome, run_ms);
        true
    }

    /// Ends an attempt for the leader. Returns whether a queued one was removed: others may start now.
    pub fn stop(&mut self, now_ms: u64, stop: Stop, out: &mut dyn FnMut(Action)) -> bool {
        let Some(held) = self.held.get_mut(&stop.attempt) else {
            // The order to run it was lost, or comes later: it ends here without having begun.
            if !self.has_ended(stop.attempt) {
                self.report_end(stop.attempt, 0, stop.outcome, 0);
            }
            return false;
        };
        if held.has_processes() {
            held.end(now_ms, stop.outcome, true, stop.grace_ms, out);
            return false;
        }
        self.queue.retain(|queued| *queued != stop.attempt);
        self.held.remove(&stop.attempt);
        self.report_end(stop.attempt, 0, stop.outcome, 0);
        true
    }

    /// Ends queued attempts without starting them.
    pub fn end_queued(&mut self, outcome: &Outcome) {
        for attempt in std::mem::take(&mut self.queue) {
            if self.held.remove(&attempt).is_some() {
                self.report_end(attempt, 0, outcome.clone(), 0);
            }
        }
    }

    /// Ends running attempts for the agent's own reasons, each with the grace that `grace_ms` gives it.
    pub fn end_running(
        &mut self,
        now_ms: u64,
        outcome: &Outcome,
        grace_ms: impl Fn(&Launch) -> u64,
        out: &mut dyn FnMut(Action),
    ) {
        for held in self.held.values_mut().filter(|held| held.has_processes()) {
            let grace_ms = grace_ms(&held.launch);
            held.end(now_ms, outcome.clone(), false, grace_ms, out);
        }
    }

    /// The lease has expired: ends what must not run without one.
    pub fn fence(&mut self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        if self.held.is_empty() {
            return;
        }
        let outcome = lost("its worker heard from no leader and ended it");
        self.end_queued(&outcome);
        for held in self.held.values_mut() {
            match held.launch.on_partition {
                OnPartition::Stop => held.end(now_ms, outcome.clone(), false, FENCE_GRACE_MS, out),
                OnPartition::Continue => {}
            }
        }
    }

    /// Adds a progress record, and returns its number.
    pub fn push_progress(&mut self, record: ProgressRecord) -> u64 {
        let (attempt, bytes) = (record.attempt, RECORD_BYTES + record.key.len() + record.body.len());
        let number = self.progress.push(record, bytes);
        if let Some(held) = self.held.get_mut(&attempt) {
            held.last_progress = number;
        }
        number
    }

    pub fn ack_reports(&mut self, now_ms: u64, last: u64) {
        for report in self.reports.ack(now_ms, last) {
            match report.what {
                ReportKind::Started(_) => {}
                ReportKind::Ended(_) => {
                    self.unacked_ends.remove(&report.attempt);
                }
            }
        }
    }

    /// Reports the ends whose progress is acknowledged by now.
    pub fn report_deferred(&mut self) {
        let (ready, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.deferred).into_iter().partition(|d| self.progress.is_acked(d.after));
        self.deferred = waiting.into();
        ready.into_iter().for_each(|deferred| self.push_end(deferred.report));
    }

    fn has_ended(&self, attempt: AttemptId) -> bool {
        self.unacked_ends.contains(&attempt) || self.recently_ended.contains(attempt)
    }

    /// Reports an end once the progress record `after` is acknowledged: after its end, the leader would
    /// refuse an attempt's progress as stale.
    fn report_end(&mut self, attempt: AttemptId, after: u64, outcome: Outcome, run_ms: u64) {
        self.recently_ended.insert(attempt);
        self.unacked_ends.insert(attempt);
        let report = Report { attempt, what: ReportKind::Ended(Ended { outcome, run_ms }) };
        if self.progress.is_acked(after) {
            self.push_end(report);
        } else {
            self.deferred.push_back(DeferredReport { after, report });
        }
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
