//! Applies one committed entry: decides, folds and chains it, with the same result on every replica.
//!
//! Live apply, restart, the simulator and verifying replays all use it. It never fails: an entry that cannot
//! be read changes nothing but the chain, and a panic in `decide` becomes an event.

use crate::disk::Block;
use muster_machine::{Decision, Moment, State};
use muster_protocol::codec;
use muster_protocol::envelope::{Answer, Batch, ChainHead, Envelope};
use muster_protocol::event::EventRecord;
use muster_protocol::ids::{LogIndex, Term};
use std::panic::{AssertUnwindSafe, catch_unwind};

#[derive(Clone, Debug)]
pub struct Applied {
    /// For the ledger.
    pub block: Block,
    pub records: Vec<EventRecord>,
    /// The answer to each command, in order.
    pub answers: Vec<Answer>,
    /// `None` for Raft's own entries and for entries that cannot be read.
    pub batch: Option<Batch>,
}

/// Applies an entry. Bytes that do not decode, or that were stamped by another cluster or in another term,
/// change nothing but the chain, not even log time.
pub fn apply_entry(state: &mut State, index: LogIndex, term: Term, bytes: &[u8]) -> Applied {
    let mut records = Vec::new();
    let mut answers = Vec::new();
    let mut events = Vec::new();
    let batch = acceptable(state, term, bytes);
    if let Some(batch) = &batch {
        state.begin(&Moment { index, term, log_ms: batch.log_ms, wall_ms: batch.wall_ms });
        for (command, envelope) in (0..).zip(&batch.commands) {
            // Every coordinator joins the trace of the caller.
            let (name, request, trace) = (envelope.command.name(), envelope.request, envelope.trace.as_str());
            let span = tracing::debug_span!("command", name, %request, trace, %index, command);
            let _applying = span.enter();
            let decision = decide_guarded(state, envelope);
            records.extend(decision.events.into_iter().map(|event| EventRecord { command, event }));
            tracing::trace!(answer = ?decision.answer, "applied");
            answers.push(decision.answer);
        }
        events = codec::encode(&records);
    }
    let head = Block::chain(state.chain().hash, index, term, bytes, &events);
    state.seal(ChainHead { index, hash: head });
    Applied { block: Block { index, term, entry: bytes.to_vec(), events, head }, records, answers, batch }
}

/// Decides a command, and folds its events. A panic, which is a bug, changes nothing and becomes a
/// `CommandFaulted` event: all replicas panic alike, and none of them may stop at the same poisonous entry
/// again and again.
pub fn decide_guarded(state: &mut State, envelope: &Envelope) -> Decision {
    guarded(state, envelope, muster_machine::decide, muster_machine::fault)
}

/// What [`decide_guarded`] would do. Changes nothing.
pub fn rehearse_guarded(state: &mut State, envelope: &Envelope) -> Decision {
    guarded(state, envelope, muster_machine::rehearse, muster_machine::rehearse_fault)
}

type Decide = fn(&mut State, &Envelope) -> Decision;

/// The machine undoes what it has changed when it panics, so the state is whole either way.
fn guarded(state: &mut State, envelope: &Envelope, decide: Decide, fault: Decide) -> Decision {
    let decided = catch_unwind(AssertUnwindSafe(|| {
        #[cfg(test)]
        assert_ne!(envelope.client, POISON, "a planted bug");
        decide(state, envelope)
    }));
    decided.unwrap_or_else(|_| {
        tracing::error!(command = envelope.command.name(), index = %state.now().index, "deciding a command panicked; it changes nothing");
        fault(state, envelope)
    })
}

/// In tests, deciding a command of this client panics.
#[cfg(test)]
pub(crate) const POISON: &str = "poison";

fn acceptable(state: &State, term: Term, bytes: &[u8]) -> Option<Batch> {
    if bytes.is_empty() {
        return None;
    }
    let refused = match Batch::from_bytes(bytes) {
        Ok(batch) if batch.cluster != state.cluster() => format!("it is of cluster {:?}", batch.cluster),
        Ok(batch) if batch.term != term => format!("it was stamped in term {}", batch.term),
        Ok(batch) => return Some(batch),
        Err(error) => error.to_string(),
    };
    tracing::error!(%term, refused, "an entry changes nothing");
    None
}
