//! What a leader remembers of each worker's present incarnation: when it last sent something, and which of
//! its messages are in the log.
//!
//! Nothing here is replicated: a new leader starts with none of it, gives every worker a whole lease, and
//! accepts a worker's messages from the oldest that was never acknowledged.

use crate::seq_window::SeqWindow;
use muster_machine::State;
use muster_protocol::bus::Ack;
use muster_protocol::command::LoadHint;
use muster_protocol::ids::{AttemptId, BootId, RequestId, WorkerId, WorkerIdentity};
use muster_protocol::worker::Liveness;
use std::collections::{BTreeMap, BTreeSet};

/// Former incarnations of a worker that are remembered, so that a late message of one changes nothing.
const RETIRED_BOOTS_MAX: usize = 8;

/// A worker between one start of its process and the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerIncarnation {
    pub identity: WorkerIdentity,
    pub boot: BootId,
}

/// The numbered kinds of messages. Each has a sequence of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbered {
    Reports,
    Progress,
}

#[derive(Debug)]
pub struct Session {
    pub worker: WorkerId,
    pub boot: BootId,
    pub last_heard_ms: u64,
    /// As of its last heartbeat.
    pub cpu_milli: u32,
    /// Messages that this leader sent to this incarnation.
    pub down_sent: u64,
    reports: SeqWindow,
    progress: SeqWindow,
    /// A change of liveness that is proposed and not applied. If it is `Lost`, heartbeats are no longer
    /// acknowledged.
    pub proposed_liveness: Option<Liveness>,
    /// A drain is proposed and not applied.
    pub drain_proposed: bool,
    /// Calls that are proposed and not applied.
    pub calls: BTreeSet<RequestId>,
    /// When each attempt was last sent to the worker.
    pub last_sent_ms: BTreeMap<AttemptId, u64>,
    retired: Vec<BootId>,
}

impl Session {
    fn new(worker: WorkerId, boot: BootId, mono_ms: u64) -> Session {
        Session {
            worker,
            boot,
            last_heard_ms: mono_ms,
            cpu_milli: 0,
            down_sent: 0,
            reports: SeqWindow::default(),
            progress: SeqWindow::default(),
            proposed_liveness: None,
            drain_proposed: false,
            calls: BTreeSet::new(),
            last_sent_ms: BTreeMap::new(),
            retired: Vec::new(),
        }
    }

    pub fn window(&mut self, kind: Numbered) -> &mut SeqWindow {
        match kind {
            Numbered::Reports => &mut self.reports,
            Numbered::Progress => &mut self.progress,
        }
    }

    /// What is applied of both sequences.
    pub fn ack(&self) -> Ack {
        Ack { reports: self.reports.applied, progress: self.progress.applied }
    }
}

/// The sessions of all workers.
#[derive(Debug, Default)]
pub struct Sessions {
    by_identity: BTreeMap<WorkerIdentity, Session>,
    /// Incarnations whose registration is proposed and not applied.
    pub registering: BTreeMap<WorkerIdentity, BootId>,
}

impl Sessions {
    /// A session with a whole lease for every worker in the state.
    pub fn start(state: &State, mono_ms: u64) -> Sessions {
        let workers = state
            .workers()
            .map(|worker| (worker.hello().identity, Session::new(worker.id, worker.hello().boot, mono_ms)));
        Sessions { by_identity: workers.collect(), registering: BTreeMap::new() }
    }

    /// `None` if this is not the worker's present incarnation.
    pub fn get(&mut self, incarnation: WorkerIncarnation) -> Option<&mut Session> {
        self.by_identity.get_mut(&incarnation.identity).filter(|session| session.boot == incarnation.boot)
    }

    /// The session of a worker's present incarnation.
    pub fn present(&mut self, identity: WorkerIdentity) -> Option<&mut Session> {
        self.by_identity.get_mut(&identity)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (WorkerIncarnation, &mut Session)> {
        self.by_identity.iter_mut().map(|(identity, session)| {
            (WorkerIncarnation { identity: *identity, boot: session.boot }, session)
        })
    }

    /// Whether the worker has been registered in a later incarnation.
    pub fn is_retired(&self, incarnation: WorkerIncarnation) -> bool {
        self.by_identity
            .get(&incarnation.identity)
            .is_some_and(|session| session.retired.contains(&incarnation.boot))
    }

    /// A worker was registered, in a new incarnation or again in its present one.
    pub fn registered(&mut self, worker: WorkerId, incarnation: WorkerIncarnation, mono_ms: u64) {
        let session = self
            .by_identity
            .entry(incarnation.identity)
            .or_insert_with(|| Session::new(worker, incarnation.boot, mono_ms));
        if session.boot != incarnation.boot {
            let mut retired = std::mem::take(&mut session.retired);
            retired.retain(|boot| *boot != incarnation.boot);
            retired.push(session.boot);
            if retired.len() > RETIRED_BOOTS_MAX {
                retired.remove(0);
            }
            *session = Session { retired, ..Session::new(worker, incarnation.boot, mono_ms) };
        }
        // A worker that the state had forgotten comes back in the same incarnation under another id.
        session.worker = worker;
        session.last_heard_ms = mono_ms;
        // A registration does not undo a loss that is proposed after it.
        if session.proposed_liveness != Some(Liveness::Lost) {
            session.proposed_liveness = None;
        }
    }

    /// Does not count a pause of the leader itself as silence of the workers.
    pub fn forgive_silence(&mut self, gap_ms: u64) {
        self.by_identity.values_mut().for_each(|session| session.last_heard_ms += gap_ms);
    }

    /// Loads as of the last heartbeats, in the order of worker ids.
    pub fn hints(&self) -> Vec<LoadHint> {
        let loaded = self.by_identity.values().filter(|session| session.cpu_milli > 0);
        let mut hints: Vec<LoadHint> =
            loaded.map(|session| LoadHint { worker: session.worker, cpu_milli: session.cpu_milli }).collect();
        hints.sort_by_key(|hint| hint.worker);
        hints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_worker_is_known_under_its_new_id() {
        let mut sessions = Sessions::default();
        let incarnation = WorkerIncarnation { identity: WorkerIdentity(1), boot: BootId(1) };
        sessions.registered(WorkerId(1), incarnation, 0);
        sessions.registered(WorkerId(7), incarnation, 5);
        let session = sessions.get(incarnation).expect("the same incarnation");
        assert_eq!((session.worker, session.last_heard_ms), (WorkerId(7), 5));
    }

    #[test]
    fn a_former_incarnation_stays_retired() {
        let mut sessions = Sessions::default();
        let incarnation = |boot| WorkerIncarnation { identity: WorkerIdentity(1), boot: BootId(boot) };
        (1..20).for_each(|boot| sessions.registered(WorkerId(1), incarnation(boot), 0));
        assert!(sessions.is_retired(incarnation(18)));
        assert!(!sessions.is_retired(incarnation(19)));
        assert!(!sessions.is_retired(incarnation(2)), "memory is bounded");
        assert!(sessions.get(incarnation(18)).is_none() && sessions.get(incarnation(19)).is_some());
    }
}
