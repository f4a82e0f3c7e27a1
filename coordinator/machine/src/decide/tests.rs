//! A panic in a fold, planted at one change after the other, leaves the state as it was.

#[expect(dead_code, reason = "shared with the random tests, which use all of it")]
#[path = "../../tests/random/generator.rs"]
mod generator;

use super::{Decision, decide, fault, rehearse, rehearse_fault};
use crate::faults;
use crate::state::{Indexes, Moment, State};
use generator::Generator;
use muster_protocol::command::{Command, DrainWorker, LoadHint, RaiseVersion};
use muster_protocol::envelope::{ChainHead, Envelope};
use muster_protocol::event::Event;
use muster_protocol::ids::{Digest, LogIndex, Term, WorkerId};
use muster_protocol::limits::DECIDE_VERSION;
use muster_protocol::time::{LogMs, WallMs};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

const SEEDS: u64 = 3;
const STEPS: u64 = 500;
/// Commands with more points than this are tried at some of them, other ones each time.
const TRIES: u64 = 8;

type Decide = fn(&mut State, &Envelope) -> Decision;

/// Panics in `decide` and looks at what is left. Counts the events in whose fold it did.
fn panic_everywhere(
    state: &mut State,
    envelope: &Envelope,
    (decide, rehearse): (Decide, Decide),
    step: u64,
    panics: &mut BTreeMap<&'static str, u64>,
) -> Decision {
    let before = state.hash();
    faults::panic_at(None);
    let decision = rehearse(state, envelope);
    let points = faults::points_passed();
    assert_eq!(state.hash(), before);
    let stride = (points / TRIES).max(1);
    for n in (step % stride..points).step_by(stride as usize) {
        faults::panic_at(Some(n));
        assert!(catch_unwind(AssertUnwindSafe(|| decide(state, envelope))).is_err());
        let event = faults::last_folded();
        assert_eq!(state.hash(), before, "after a panic in {event}: {envelope:?}");
        assert!(state.index == Indexes::of(&state.records), "after a panic in {event}: {envelope:?}");
        *panics.entry(event).or_insert(0) += 1;
    }
    decision
}

fn command(generator: &mut Generator, state: &State, step: u64) -> Envelope {
    let mut envelope = generator.command(state);
    // What the generator does too seldom, or never.
    match step % 100 {
        0 => envelope.command = Command::RaiseVersion(RaiseVersion { version: DECIDE_VERSION + step as u32 }),
        drain @ (30 | 31) => {
            let worker = WorkerId(1 + (step / 100) as u32 % 2);
            envelope.command = Command::DrainWorker(DrainWorker { worker, drain: drain == 30 });
        }
        _ => {}
    }
    if let Command::Assign(assign) = &mut envelope.command {
        assign.hints = vec![LoadHint { worker: WorkerId(1), cpu_milli: 5 }];
    }
    envelope
}

#[test]
fn a_panic_in_any_fold_changes_nothing() {
    let mut panics = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut generator = Generator::new(seed);
        let mut state = State::new("panics");
        for step in 1..=STEPS {
            let index = LogIndex(step);
            let log_ms = LogMs(step * 20);
            state.begin(&Moment { index, term: Term(1), log_ms, wall_ms: WallMs(log_ms.0) });
            let envelope = command(&mut generator, &state, step);
            panic_everywhere(&mut state, &envelope, (fault, rehearse_fault), step, &mut panics);
            let expected = panic_everywhere(&mut state, &envelope, (decide, rehearse), step, &mut panics);
            let decision = decide(&mut state, &envelope);
            assert_eq!(decision, expected, "a state that was rolled back decides otherwise");
            generator.note(&envelope, &decision);
            state.seal(ChainHead { index, hash: Digest::default() });
        }
    }
    for (_, event) in Event::TAGS {
        assert!(panics.contains_key(event), "no panic in the fold of {event}: {panics:#?}");
    }
}
