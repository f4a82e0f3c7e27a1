//! Random commands, stale, repeated and senseless ones among them. After each of them every invariant holds.
//! Each is rehearsed and undone before it is decided, and the state is still the one of a shadow that was
//! read back from a snapshot and that folds every other command from its events alone.

mod generator;
mod oracle;

use generator::Generator;
use muster_machine::{Decision, Moment, State, decide, invariants, is_transition, rehearse, schedule, views};
use muster_protocol::codec;
use muster_protocol::command::{Command, SetLiveness};
use muster_protocol::envelope::{Answer, ChainHead, Envelope};
use muster_protocol::event::Event;
use muster_protocol::ids::{Digest, LogIndex, Term};
use muster_protocol::time::{LogMs, WallMs};
use muster_protocol::worker::{Ended, Liveness, Report, ReportKind, Started};
use oracle::Oracle;
use std::collections::BTreeMap;

const SEEDS: u64 = 12;
const STEPS: u64 = 2_500;
/// A snapshot is taken, read back, and followed so often.
const SNAPSHOT_STEPS: u64 = 60;

struct Run {
    state: State,
    /// What was read back from the last snapshot. It decides every other command, and folds the events of the
    /// others.
    shadow: State,
    oracle: Oracle,
    index: u64,
    log_ms: u64,
    transitions: u64,
}

impl Run {
    fn new() -> Self {
        let state = State::new("random");
        Run { shadow: state.clone(), state, oracle: Oracle::default(), index: 0, log_ms: 0, transitions: 0 }
    }

    fn apply(&mut self, envelope: &Envelope) -> Decision {
        self.index += 1;
        let index = LogIndex(self.index);
        let moment = Moment {
            index,
            term: Term(1),
            log_ms: LogMs(self.log_ms),
            wall_ms: WallMs(1_000_000 + self.log_ms),
        };
        self.state.begin(&moment);
        self.shadow.begin(&moment);
        let rehearsed = rehearse(&mut self.state, envelope);
        let decision = decide(&mut self.state, envelope);
        assert_eq!(decision, rehearsed, "a state that was rolled back decides otherwise: {envelope:?}");
        if self.index.is_multiple_of(2) {
            assert_eq!(
                decision,
                decide(&mut self.shadow, envelope),
                "a state that was read back decides otherwise: {envelope:?}"
            );
        } else {
            decision.events.iter().for_each(|event| self.shadow.evolve(event));
        }
        for event in &decision.events {
            let bytes = codec::encode(event);
            assert_eq!(codec::decode(&bytes, usize::MAX).as_ref(), Ok(event));
            self.transitions += u64::from(is_transition(event));
            self.oracle.see(event);
        }
        let head = ChainHead { index, hash: Digest::of(&self.index.to_le_bytes()) };
        self.state.seal(head);
        self.shadow.seal(head);
        // What was rejected was undone.
        if matches!(decision.answer, Answer::Rejected(_)) {
            assert_eq!(self.state.hash(), self.shadow.hash(), "not everything was undone: {envelope:?}");
        }
        let broken = invariants::check(&self.state);
        assert!(broken.is_empty(), "after {:?}\n{:#?}\n{broken:#?}", envelope.command, decision.events);
        decision
    }

    fn snapshot(&mut self) {
        let bytes = self.state.to_bytes();
        assert_eq!(Digest::of(&bytes), self.shadow.hash(), "the state that was read back went another way");
        self.shadow = State::from_bytes(&bytes).unwrap();
        assert_eq!(self.shadow.to_bytes(), bytes);
    }
}

fn internal(command: Command) -> Envelope {
    Generator::envelope(Default::default(), command)
}

/// All workers are heard of again, and every attempt is started and succeeds: every job comes to an end.
fn heal(run: &mut Run) {
    let workers: Vec<_> =
        run.state.workers().map(|worker| (worker.id, worker.hello().boot, worker.is_draining())).collect();
    for (worker, boot, _) in &workers {
        run.apply(&internal(Command::SetLiveness(SetLiveness {
            worker: *worker,
            boot: *boot,
            liveness: Liveness::Alive,
        })));
        let undrain = muster_protocol::command::DrainWorker { worker: *worker, drain: false };
        run.apply(&internal(Command::DrainWorker(undrain)));
    }
    for job in views::jobs(&run.state, None, usize::MAX) {
        let detail = views::detail(&run.state, job.id).unwrap();
        if job.terminal.is_none()
            && detail.spec.stages.iter().any(|stage| !Generator::fits_somewhere(&run.state, stage))
        {
            let reason = "it fits nowhere".into();
            run.apply(&internal(Command::CancelJob(muster_protocol::command::CancelJob {
                job: job.id,
                reason,
            })));
        }
    }
    for _ in 0..3_000 {
        if views::open_jobs(&run.state) == 0 {
            return;
        }
        run.log_ms = run.state.next_timer().map_or(run.log_ms + 1, |at| at.0.max(run.log_ms));
        run.apply(&internal(Command::AdvanceTime(Default::default())));
        if let Some(assign) = schedule(&run.state, &[]) {
            let assigned = run.apply(&internal(Command::Assign(assign.clone())));
            let formed = |event: &&Event| event.name() == "GangFormed";
            let count = assigned.events.iter().filter(|event| !formed(event)).count();
            assert_eq!(
                count,
                assign.assignments.len(),
                "the scheduler proposes what does not hold: {assign:#?}"
            );
        }
        for (worker, boot, _) in &workers {
            let held: Vec<_> = run.state.worker(*worker).unwrap().held().collect();
            let report = |attempt, what| Report { attempt, what };
            let starts = held.iter().map(|attempt| report(*attempt, ReportKind::Started(Started { pid: 7 })));
            let outcome = muster_protocol::outcome::Outcome::Succeeded(Default::default());
            let ends = held.iter().map(|attempt| {
                report(*attempt, ReportKind::Ended(Ended { outcome: outcome.clone(), run_ms: 5 }))
            });
            let reports = starts.chain(ends).collect();
            let command = muster_protocol::command::ReportAttempts { worker: *worker, boot: *boot, reports };
            run.apply(&internal(Command::ReportAttempts(command)));
        }
    }
    let open = views::jobs(&run.state, None, usize::MAX).into_iter().filter(|job| job.terminal.is_none());
    panic!("these never end: {:#?}", open.map(|job| views::detail(&run.state, job.id)).collect::<Vec<_>>());
}

#[test]
fn random_commands_break_nothing() {
    let mut transitions = 0;
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut generator = Generator::new(seed);
        let mut run = Run::new();
        for step in 0..STEPS {
            run.log_ms += generator.below(40);
            let envelope = generator.command(&run.state);
            let decision = run.apply(&envelope);
            generator.note(&envelope, &decision);
            if step % SNAPSHOT_STEPS == 0 {
                run.snapshot();
            }
        }
        heal(&mut run);
        run.snapshot();
        transitions += run.transitions;
        run.oracle.kinds.into_iter().for_each(|(kind, count)| *kinds.entry(kind).or_insert(0) += count);
    }
    // What no command of this test leads to.
    let absent = ["CommandFaulted", "VersionRaised", "HintsUsed"];
    for (_, kind) in Event::TAGS.iter().filter(|(_, kind)| !absent.contains(kind)) {
        let count = kinds.get(kind).copied().unwrap_or(0);
        assert!(count >= SEEDS, "{kind} happened only {count} times: {kinds:#?}");
    }
    assert!(transitions > SEEDS * STEPS, "too little happened: {transitions} transitions");
}
