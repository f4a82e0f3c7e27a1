//! Snapshots of older layouts still open, as the states that the events of that time lead to.
//!
//! `fixtures/state-v1.bin` was written by a build that wrote the first layout; `fixtures/state-v1.events` are
//! the events that led to it: for each entry log time, wall time and its events.

use muster_machine::{Moment, State, decide, invariants, views};
use muster_protocol::codec::{self, CodecError};
use muster_protocol::command::Command;
use muster_protocol::envelope::{ChainHead, Envelope};
use muster_protocol::event::Event;
use muster_protocol::ids::{Digest, LogIndex, RequestId, Term};
use muster_protocol::time::{LogMs, WallMs};
use std::collections::BTreeSet;

const STATE: &[u8] = include_bytes!("fixtures/state-v1.bin");
const EVENTS: &[u8] = include_bytes!("fixtures/state-v1.events");

fn folded() -> State {
    let entries: Vec<(u64, u64, Vec<Event>)> = codec::decode(EVENTS, usize::MAX).unwrap();
    let mut state = State::new("fixture");
    for (step, (log_ms, wall_ms, events)) in (1_u64..).zip(&entries) {
        let index = LogIndex(step);
        state.begin(&Moment { index, term: Term(1), log_ms: LogMs(*log_ms), wall_ms: WallMs(*wall_ms) });
        events.iter().for_each(|event| state.evolve(event));
        state.seal(ChainHead { index, hash: Digest::of(&step.to_le_bytes()) });
    }
    state
}

#[test]
fn the_first_layout_opens_as_what_its_events_lead_to() {
    let opened = State::from_bytes(STATE).unwrap();
    assert_eq!(invariants::check(&opened), Vec::<String>::new());
    assert_eq!(opened.hash(), folded().hash());
    assert_eq!(views::workers(&opened), views::workers(&folded()));
    let words: BTreeSet<String> = views::jobs(&opened, None, usize::MAX)
        .iter()
        .flat_map(|job| views::tasks(&opened, job.id, 0, u32::MAX).unwrap().tasks)
        .map(|task| task.state)
        .collect();
    let expected =
        ["assigned", "backoff", "cancelled", "failed", "queued", "ready", "running", "stopping", "succeeded"];
    for word in expected {
        assert!(words.contains(word), "the fixture has no task that is {word}: {words:?}");
    }
}

#[test]
fn a_state_of_the_first_layout_goes_on() {
    let mut opened = State::from_bytes(STATE).unwrap();
    let (mut folded, index) = (folded(), LogIndex(opened.applied().0 + 1));
    let (text, now) = (String::from, *opened.now());
    let moment = Moment { index, log_ms: now.log_ms.plus_ms(1_000_000), ..now };
    opened.begin(&moment);
    folded.begin(&moment);
    let envelope = Envelope {
        request: RequestId(7),
        actor: text("alice"),
        client: text("test"),
        namespace: text("default"),
        trace: String::new(),
        cause: LogIndex(0),
        command: Command::AdvanceTime(Default::default()),
    };
    let decision = decide(&mut opened, &envelope);
    assert!(decision.events.len() > 1, "timers fire: {decision:?}");
    assert_eq!(decision, decide(&mut folded, &envelope));
    assert_eq!(opened.hash(), folded.hash());
    assert_eq!(invariants::check(&opened), Vec::<String>::new());
}

#[test]
fn a_snapshot_of_this_layout_comes_back_and_others_are_refused() {
    let state = folded();
    let bytes = state.to_bytes();
    assert_eq!(State::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    let mut unknown = bytes.clone();
    unknown[0] = 3;
    assert_eq!(State::from_bytes(&unknown).unwrap_err(), CodecError::Version { found: 3 });
    for end in (0..STATE.len()).step_by(97) {
        assert!(State::from_bytes(&STATE[..end]).is_err());
    }
}
