//! What workers tell of their attempts: starts, ends, and progress.

use super::draft::Draft;
use crate::outcomes;
use crate::state::{Step, Usage, Worker};
use alloc::collections::{BTreeMap, BTreeSet};
use muster_protocol::command::{RecordProgress, ReportAttempts};
use muster_protocol::event::{AttemptStarted, Event};
use muster_protocol::ids::AttemptId;
use muster_protocol::limits;
use muster_protocol::rejection::Rejection;
use muster_protocol::worker::{ProgressRecord, ReportKind};

impl<'a> Draft<'a> {
    /// Reports of attempts that no longer count are left out: what is told of the others still counts.
    pub fn report_attempts(&mut self, report: &ReportAttempts) -> Result<(), Rejection> {
        let worker = self.worker_in(report.worker, report.boot)?;
        let mut running = Running { worker, usage: worker.running.clone(), started: BTreeSet::new() };
        for report in &report.reports {
            match &report.what {
                ReportKind::Started(started) => {
                    self.report_started(&mut running, report.attempt, started.pid)
                }
                ReportKind::Ended(ended) => {
                    let Some((stage, live, _)) =
                        self.live(report.attempt).filter(|(_, live, _)| live.worker == worker.id)
                    else {
                        continue;
                    };
                    let spec = self.stored(report.attempt.task.job).stage_spec(stage);
                    if matches!(live.step, Step::Running { .. }) || running.started.remove(&report.attempt) {
                        running.usage.take(&spec.request);
                    }
                    self.end_attempt(
                        report.attempt,
                        outcomes::heard(&ended.outcome, spec.kind),
                        ended.run_ms,
                    );
                }
            }
        }
        Ok(())
    }

    fn report_started(&mut self, running: &mut Running<'a>, attempt: AttemptId, pid: u32) {
        let Some((stage, live, _)) =
            self.live(attempt).filter(|(_, live, _)| live.worker == running.worker.id)
        else {
            return;
        };
        if matches!(live.step, Step::Running { .. }) || running.started.contains(&attempt) {
            return;
        }
        let request = &self.stored(attempt.task.job).stage_spec(stage).request;
        // More than there is cannot run: such a start is not believed. Its end will be.
        if !running.usage.leaves_room(&running.worker.hello.capacity, request) {
            return;
        }
        running.usage.add(request);
        running.started.insert(attempt);
        self.events.push(Event::AttemptStarted(AttemptStarted { attempt, pid }));
    }

    /// Records that are stale, not newer, or over a limit are left out.
    pub fn record_progress(&mut self, progress: &RecordProgress) -> Result<(), Rejection> {
        let worker = self.worker_in(progress.worker, progress.boot)?;
        let mut newest: BTreeMap<(AttemptId, &str), u64> = BTreeMap::new();
        let mut added: BTreeMap<AttemptId, usize> = BTreeMap::new();
        for record in &progress.records {
            if !is_within_limits(record)
                || self.live(record.attempt).is_none_or(|(_, live, _)| live.worker != worker.id)
            {
                continue;
            }
            let Some((_, task)) = self.state.task(record.attempt.task) else { continue };
            let stored = task.progress.get(&record.key).map(|have| have.seq);
            let seen = newest.get(&(record.attempt, record.key.as_str())).copied().or(stored);
            if seen.is_some_and(|seen| record.seq <= seen) {
                continue;
            }
            if seen.is_none() {
                let added = added.entry(record.attempt).or_insert(0);
                if task.progress.len() + *added >= limits::PROGRESS_KEYS_PER_TASK_MAX {
                    continue;
                }
                *added += 1;
            }
            newest.insert((record.attempt, record.key.as_str()), record.seq);
            self.events.push(Event::ProgressRecorded(record.clone()));
        }
        Ok(())
    }
}

/// What runs at a worker, as the reports go on.
struct Running<'a> {
    worker: &'a Worker,
    usage: Usage,
    started: BTreeSet<AttemptId>,
}

fn is_within_limits(record: &ProgressRecord) -> bool {
    !record.key.is_empty()
        && record.key.len() <= limits::NAME_BYTES_MAX
        && record.body.len() <= limits::PROGRESS_BODY_BYTES_MAX
}
