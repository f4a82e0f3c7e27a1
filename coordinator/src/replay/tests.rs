//! A real run, folded again: the same state, from the beginning, from a snapshot, and until a moment.

use super::*;
use crate::store::{StoreError, StoreIdentity};
use muster_machine::schedule;
use muster_protocol::codec;
use muster_protocol::command::{Command, RegisterWorker, ReportAttempts, SubmitJob, TakeLeadership};
use muster_protocol::envelope::Envelope;
use muster_protocol::ids::{BootId, RaftId, RequestId, WorkerIdentity};
use muster_protocol::outcome::{Outcome, Succeeded};
use muster_protocol::resources::Resources;
use muster_protocol::spec::{JobSpec, Noop, OnPartition, RetryPolicy, StageSpec, TaskKind, Work};
use muster_protocol::time::{LogMs, WallMs};
use muster_protocol::worker::{Ended, Report, ReportKind, Started, WorkerHello};
use muster_replica::disk::Block;
use protobuf::SingularPtrField;
use raft::eraftpb::{ConfState, HardState, SnapshotMetadata};
use std::collections::BTreeMap;

const TERM: Term = Term(3);
const BOOT: BootId = BootId(9);

/// A coordinator without Raft: entries go to the store, are applied, and their blocks go to the ledger.
struct Run {
    store: Store,
    state: State,
    /// The hash of the state after each index.
    hashes: BTreeMap<u64, String>,
}

impl Run {
    fn new(dir: &Path) -> Run {
        let identity =
            StoreIdentity { cluster: "local".to_string(), name: "c1".to_string(), raft_id: RaftId(1) };
        let mut store = Store::open(dir, &identity).unwrap();
        store.recover().unwrap();
        Run { store, state: State::new("local"), hashes: BTreeMap::new() }
    }

    /// Commits one entry of these commands, half a second after the last. Its block is written only if
    /// `to_ledger`.
    fn commit(&mut self, commands: Vec<Command>, to_ledger: bool) {
        let index = self.state.applied().0 + 1;
        let envelope = |command| Envelope {
            request: RequestId::NIL,
            actor: "alice".to_string(),
            client: "test".to_string(),
            namespace: "default".to_string(),
            trace: String::new(),
            cause: LogIndex(0),
            command,
        };
        let (log_ms, wall_ms) = (LogMs(index * 500), WallMs(1_795_532_400_000 + index * 500));
        let commands = commands.into_iter().map(envelope).collect::<Vec<_>>();
        let data = match commands.is_empty() {
            true => Vec::new(),
            false => Batch { cluster: "local".to_string(), term: TERM, log_ms, wall_ms, commands }.to_bytes(),
        };
        let hard_state = HardState { term: TERM.0, vote: 1, commit: index, ..HardState::default() };
        let entry = Entry { index, term: TERM.0, data: data.into(), ..Entry::default() };
        self.store.append(&hard_state, &voters(), std::slice::from_ref(&entry), true).unwrap();
        let applied = apply::apply_entry(&mut self.state, LogIndex(index), TERM, &entry.data);
        if to_ledger {
            self.store.write_blocks(&[applied.block]).unwrap();
        }
        self.hashes.insert(index, self.state.hash().to_string());
    }

    fn snapshot(&mut self) {
        let conf_state = SingularPtrField::some(voters());
        let metadata = SnapshotMetadata {
            index: self.state.applied().0,
            term: TERM.0,
            conf_state,
            ..SnapshotMetadata::default()
        };
        let data = self.state.to_bytes().into();
        self.store
            .save_snapshot(&Snapshot {
                data,
                metadata: SingularPtrField::some(metadata),
                ..Snapshot::default()
            })
            .unwrap();
    }

    /// Takes over, registers a worker, submits a job of `tasks` tasks, and runs it to its end.
    fn job(&mut self, tasks: u32, to_ledger: bool) {
        self.commit(vec![], to_ledger);
        self.commit(
            vec![Command::TakeLeadership(TakeLeadership {
                leader: RaftId(1),
                name: "c1".into(),
                term: TERM,
            })],
            to_ledger,
        );
        self.commit(vec![register(), Command::SubmitJob(SubmitJob { spec: spec(tasks) })], to_ledger);
        while let Some(assign) = schedule(&self.state, &[]) {
            let attempts: Vec<_> =
                assign.assignments.iter().map(|assignment| (assignment.attempt, assignment.worker)).collect();
            self.commit(vec![Command::Assign(assign)], to_ledger);
            let worker = attempts[0].1;
            let started = |&(attempt, _)| Report { attempt, what: ReportKind::Started(Started { pid: 1 }) };
            let ended = |&(attempt, _)| {
                let outcome = Outcome::Succeeded(Succeeded { output: "fine".to_string() });
                Report { attempt, what: ReportKind::Ended(Ended { outcome, run_ms: 3 }) }
            };
            for reports in [attempts.iter().map(started).collect(), attempts.iter().map(ended).collect()] {
                self.commit(
                    vec![Command::ReportAttempts(ReportAttempts { worker, boot: BOOT, reports })],
                    to_ledger,
                );
            }
        }
        self.commit(vec![], to_ledger);
    }

    fn online(&self, options: Options) -> Result<ReplayView, ReplayError> {
        online("c1", "local", &self.store.reader(), options)
    }

    fn last(&self) -> u64 {
        self.state.applied().0
    }

    #[track_caller]
    fn assert_at(&self, view: &ReplayView, from: u64, to: u64) {
        assert_eq!((view.from.0, view.to.0), (from, to));
        assert_eq!(view.state_hash.to_string(), self.hashes[&to]);
    }
}

fn voters() -> ConfState {
    ConfState { voters: vec![1], ..ConfState::default() }
}

fn register() -> Command {
    let hello = WorkerHello {
        identity: WorkerIdentity(5),
        boot: BOOT,
        name: "w1".into(),
        address: "10.0.0.1".into(),
        rendezvous_port_first: 7000,
        rendezvous_ports: 2,
        capacity: Resources { cpu_milli: 64_000, memory_mib: 64_000, ..Resources::default() },
        gpus: Vec::new(),
        labels: BTreeMap::new(),
        queue: 1000,
        version: "0.1.0".into(),
    };
    Command::RegisterWorker(RegisterWorker { hello })
}

fn spec(tasks: u32) -> JobSpec {
    let stage = StageSpec {
        name: "one".into(),
        needs: Vec::new(),
        tasks,
        array_first: 0,
        array_step: 1,
        work: Work::Noop(Noop {}),
        request: Resources { cpu_milli: 100, ..Resources::default() },
        gang: false,
        open: false,
        kind: TaskKind::Batch,
        retry: RetryPolicy::default(),
        timeout_ms: 0,
        grace_ms: 100,
        on_partition: OnPartition::Stop,
    };
    JobSpec { name: "replayed".into(), priority: 0, params: String::new(), stages: vec![stage] }
}

fn verify() -> Options {
    Options { verify: true, ..Options::default() }
}

#[test]
fn a_replay_reaches_the_live_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::new(dir.path());
    run.job(300, true);
    for options in [Options::default(), verify()] {
        let view = run.online(options).unwrap();
        run.assert_at(&view, 1, run.last());
        assert_eq!(view.chain, run.state.chain());
        assert_eq!(view.verified, options.verify.then_some(true));
        // Assigned, started, attempt ended, task ended.
        assert!(
            view.transitions >= 4 * 300 && view.events > view.transitions,
            "{} of {}",
            view.transitions,
            view.events
        );
        assert_eq!(view.jobs.len(), 1);
        assert_eq!(view.jobs[0].tasks.succeeded, 300);
    }
}

#[test]
fn a_replay_stops_where_it_should() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::new(dir.path());
    run.job(3, true);
    let last = run.last();
    for (until, expected) in [
        ("2", 2),
        ("1499ms", 2),
        ("1500ms", 3),
        ("2026-11-24T15:00:01.400Z", 2),
        ("2026-11-24T15:00:01.500Z", 3),
        ("2099-01-01T00:00:00Z", last),
        ("100000", last),
    ] {
        for verify in [false, true] {
            let view = run
                .online(Options { until: Some(until.parse().unwrap()), verify, from_snapshot: false })
                .unwrap();
            run.assert_at(&view, 1, expected);
            assert_eq!(view.jobs.len(), usize::from(expected >= 3), "until {until}");
        }
    }
}

#[test]
fn offline_continues_after_the_ledger_with_committed_entries() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::new(dir.path());
    run.job(20, true);
    let in_ledger = run.last();
    run.commit(vec![Command::SubmitJob(SubmitJob { spec: spec(5) })], false);
    assert!(matches!(
        offline(dir.path(), Options::default()),
        Err(ReplayError::Store(StoreError::InUse { .. }))
    ));
    let Run { store, state, hashes } = run;
    drop(store);
    let run = Run { store: Store::open_for_reading(dir.path()).unwrap(), state, hashes };
    assert_eq!(run.online(Options::default()).unwrap().to.0, in_ledger);
    let Run { store, state, hashes } = run;
    drop(store);
    for options in [Options::default(), verify()] {
        let view = offline(dir.path(), options).unwrap();
        assert_eq!((view.coordinator.as_str(), view.to), ("c1", state.applied()));
        assert_eq!(view.state_hash.to_string(), hashes[&view.to.0]);
        assert_eq!(view.jobs.len(), 2);
    }
}

#[test]
fn an_incomplete_ledger_is_folded_from_its_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::new(dir.path());
    run.job(5, false);
    run.snapshot();
    let from = run.last();
    // No block follows it yet.
    run.assert_at(&run.online(Options::default()).unwrap(), from + 1, from);
    run.job(7, true);
    for options in [Options::default(), verify()] {
        run.assert_at(&run.online(options).unwrap(), from + 1, run.last());
    }
    let error =
        run.online(Options { until: Some(Until::Index(LogIndex(2))), ..Options::default() }).unwrap_err();
    assert!(matches!(error, ReplayError::TooEarly { .. }), "{error}");
    drop(run.store);
    let view = offline(dir.path(), Options::default()).unwrap();
    assert_eq!((view.from.0, view.state_hash.to_string()), (from + 1, run.hashes[&view.to.0].clone()));
}

#[test]
fn a_complete_ledger_may_be_folded_from_a_snapshot_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::new(dir.path());
    run.job(5, true);
    run.snapshot();
    let from = run.last();
    run.job(7, true);
    run.assert_at(
        &run.online(Options { from_snapshot: true, ..Options::default() }).unwrap(),
        from + 1,
        run.last(),
    );
    run.assert_at(&run.online(Options::default()).unwrap(), 1, run.last());
}

#[test]
fn a_ledger_without_beginning_and_snapshot_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::new(dir.path());
    run.job(2, false);
    run.job(2, true);
    let error = run.online(Options::default()).unwrap_err();
    assert!(matches!(error, ReplayError::Incomplete { first } if first > 1), "{error}");
}

/// Writes changed blocks, with a chain that fits them.
fn forge(change: impl Fn(&mut Block)) -> ReplayView {
    let (dir, forged) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut run = Run::new(dir.path());
    run.job(2, true);
    let mut blocks = run.store.read_blocks(1, usize::MAX).unwrap();
    let mut head = Default::default();
    for block in &mut blocks {
        change(block);
        head = Block::chain(head, block.index, block.term, &block.entry, &block.events);
        block.head = head;
    }
    let mut forger = Run::new(forged.path());
    forger.store.write_blocks(&blocks).unwrap();
    let view = forger.online(verify()).unwrap();
    assert_eq!(view.to.0, run.last());
    view
}

#[test]
fn verifying_finds_events_that_decide_does_not_give() {
    assert_eq!(forge(|_| ()).verified, Some(true));
    let without_last = |block: &mut Block| {
        if block.index.0 == 3 {
            let mut records: Vec<EventRecord> = codec::decode(&block.events, 1 << 20).unwrap();
            records.pop();
            block.events = codec::encode(&records);
        }
    };
    assert_eq!(forge(without_last).verified, Some(false));
    // The block claims that the entry was refused.
    let silent = |block: &mut Block| {
        if block.index.0 >= 2 {
            block.events.clear();
        }
    };
    assert_eq!(forge(silent).verified, Some(false));
}

#[test]
fn a_changed_block_breaks_the_chain() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut run = Run::new(dir.path());
    run.job(2, true);
    let mut blocks = run.store.read_blocks(1, usize::MAX).unwrap();
    blocks[2].term = Term(4);
    let mut changed = Run::new(other.path());
    changed.store.write_blocks(&blocks).unwrap();
    let error = changed.online(Options::default()).unwrap_err();
    assert!(matches!(error, ReplayError::Chain { index: LogIndex(3) }), "{error}");
}
