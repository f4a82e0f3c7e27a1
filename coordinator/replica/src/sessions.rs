//! What a leader remembers of each worker's present life: when it was heard, and which of its messages are in
//! the log.
//!
//! None of it is replicated: a new leader starts anew, gives every worker a whole lease, and accepts a
//! worker's messages from the oldest that was never acknowledged.

use super::batch::Life;
use muster_machine::State;
use muster_protocol::command::LoadHint;
use muster_protocol::ids::{AttemptId, BootId, RequestId, WorkerId, WorkerIdentity};
use muster_protocol::worker::Liveness;
use std::collections::{BTreeMap, BTreeSet};

/// Former lives of a worker that are remembered, so that a late message of one changes nothing.
const RETIRED_BOOTS_MAX: usize = 8;

/// Numbered messages of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lane {
    /// The last number that went towards the log.
    accepted: Option<u64>,
    /// The last number that is applied.
    pub applied: u64,
}

/// What becomes of a numbered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Something before it is missing: it will be said again, from there.
    Gap,
    /// All of it is known. It may be acknowledged again.
    Known,
    /// All but the first `skip` are new; the last number is `last`.
    New { skip: usize, last: u64 },
}

impl Lane {
    /// Judges a message of `count` things, the first of which has the number `first_seq`.
    pub(super) fn judge(&self, first_seq: u64, oldest_unacked: u64, count: usize) -> Admission {
        if first_seq == 0 {
            return Admission::Gap;
        }
        let Some(last) = first_seq.checked_add(count as u64).map(|end| end - 1) else {
            return Admission::Gap;
        };
        // Some leader has acknowledged everything before the oldest. It need not have been this one: a late
        // message of before its time may be all that this one has accepted.
        let acknowledged = oldest_unacked.saturating_sub(1);
        let accepted = self.accepted.map_or(acknowledged, |accepted| accepted.max(acknowledged));
        if first_seq > accepted + 1 || count == 0 {
            Admission::Gap
        } else if last <= accepted {
            Admission::Known
        } else {
            Admission::New { skip: (accepted + 1 - first_seq) as usize, last }
        }
    }

    /// It went towards the log.
    pub(super) fn accept(&mut self, last: u64) {
        self.accepted = Some(last);
    }
}

/// One worker's present life.
#[derive(Debug)]
pub(super) struct Session {
    pub worker: WorkerId,
    pub boot: BootId,
    /// When it was last heard of.
    pub heard_ms: u64,
    pub cpu_milli: u32,
    /// Messages that this leader sent to this life.
    pub down_sent: u64,
    pub reports: Lane,
    pub progress: Lane,
    /// A change of its liveness that is on its way. Towards `Lost`, its heartbeats are not acknowledged any
    /// more.
    pub changing: Option<Liveness>,
    /// Its drain is on its way.
    pub draining: bool,
    /// Its calls that are on their way.
    pub calls: BTreeSet<RequestId>,
    /// When it was last told of an attempt.
    pub told_ms: BTreeMap<AttemptId, u64>,
    retired: Vec<BootId>,
}

impl Session {
    fn new(worker: WorkerId, boot: BootId, mono_ms: u64) -> Session {
        Session {
            worker,
            boot,
            heard_ms: mono_ms,
            cpu_milli: 0,
            down_sent: 0,
            reports: Lane::default(),
            progress: Lane::default(),
            changing: None,
            draining: false,
            calls: BTreeSet::new(),
            told_ms: BTreeMap::new(),
            retired: Vec::new(),
        }
    }
}

/// All workers.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_identity: BTreeMap<WorkerIdentity, Session>,
    /// Lives whose registration is on its way.
    pub registering: BTreeMap<WorkerIdentity, BootId>,
}

impl Sessions {
    /// Every worker that is not lost has a whole lease from now on.
    pub(super) fn start(state: &State, mono_ms: u64) -> Sessions {
        let workers = state
            .workers()
            .map(|worker| (worker.hello.identity, Session::new(worker.id, worker.hello.boot, mono_ms)));
        Sessions { by_identity: workers.collect(), registering: BTreeMap::new() }
    }

    /// The session of this life; none if it is not the worker's present one.
    pub(super) fn get(&mut self, life: Life) -> Option<&mut Session> {
        self.by_identity.get_mut(&life.identity).filter(|session| session.boot == life.boot)
    }

    /// The session of a worker's present life.
    pub(super) fn of(&mut self, identity: WorkerIdentity) -> Option<&mut Session> {
        self.by_identity.get_mut(&identity)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Life, &mut Session)> {
        self.by_identity
            .iter_mut()
            .map(|(identity, session)| (Life { identity: *identity, boot: session.boot }, session))
    }

    /// Whether this is a life that the worker has left behind.
    pub(super) fn is_retired(&self, life: Life) -> bool {
        self.by_identity.get(&life.identity).is_some_and(|session| session.retired.contains(&life.boot))
    }

    /// A worker was registered, in a new life or again in its present one.
    pub(super) fn registered(&mut self, worker: WorkerId, life: Life, mono_ms: u64) {
        let session =
            self.by_identity.entry(life.identity).or_insert_with(|| Session::new(worker, life.boot, mono_ms));
        if session.boot != life.boot {
            let mut retired = std::mem::take(&mut session.retired);
            retired.retain(|boot| *boot != life.boot);
            retired.push(session.boot);
            if retired.len() > RETIRED_BOOTS_MAX {
                retired.remove(0);
            }
            *session = Session { retired, ..Session::new(worker, life.boot, mono_ms) };
        }
        // A worker that was forgotten meanwhile comes back in the same life, under another id.
        session.worker = worker;
        session.heard_ms = mono_ms;
        // A loss that follows in the log is not undone by a registration before it.
        if session.changing != Some(Liveness::Lost) {
            session.changing = None;
        }
    }

    /// The leader itself stood still for so long: nobody is to blame for the silence.
    pub(super) fn excuse(&mut self, gap_ms: u64) {
        self.by_identity.values_mut().for_each(|session| session.heard_ms += gap_ms);
    }

    /// Loads as the heartbeats gave them, in the order of workers.
    pub(super) fn hints(&self) -> Vec<LoadHint> {
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
    fn numbered_messages_enter_once_and_in_order() {
        // (accepted, first, oldest, count) and what becomes of it.
        let table = [
            (None, 5, 5, 3, Admission::New { skip: 0, last: 7 }),
            (None, 6, 5, 2, Admission::Gap),
            (None, 5, 5, 0, Admission::Gap),
            (Some(7), 8, 5, 1, Admission::New { skip: 0, last: 8 }),
            (Some(7), 5, 5, 5, Admission::New { skip: 3, last: 9 }),
            (Some(7), 5, 5, 3, Admission::Known),
            (Some(7), 10, 9, 1, Admission::Gap),
            (Some(3), 9, 9, 2, Admission::New { skip: 0, last: 10 }),
            (Some(7), 0, 0, 1, Admission::Gap),
            (Some(7), u64::MAX, 1, 2, Admission::Gap),
        ];
        for (accepted, first, oldest, count, expected) in table {
            let lane = Lane { accepted, applied: 0 };
            assert_eq!(lane.judge(first, oldest, count), expected, "{accepted:?} {first} {oldest} {count}");
        }
    }

    #[test]
    fn a_forgotten_worker_is_known_under_its_new_id() {
        let mut sessions = Sessions::default();
        let life = Life { identity: WorkerIdentity(1), boot: BootId(1) };
        sessions.registered(WorkerId(1), life, 0);
        sessions.registered(WorkerId(7), life, 5);
        let session = sessions.get(life).expect("the same life");
        assert_eq!((session.worker, session.heard_ms), (WorkerId(7), 5));
    }

    #[test]
    fn a_former_life_stays_retired() {
        let mut sessions = Sessions::default();
        let life = |boot| Life { identity: WorkerIdentity(1), boot: BootId(boot) };
        (1..20).for_each(|boot| sessions.registered(WorkerId(1), life(boot), 0));
        assert!(sessions.is_retired(life(18)));
        assert!(!sessions.is_retired(life(19)));
        assert!(!sessions.is_retired(life(2)), "memory is bounded");
        assert!(sessions.get(life(18)).is_none() && sessions.get(life(19)).is_some());
    }
}
