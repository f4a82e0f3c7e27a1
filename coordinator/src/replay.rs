//! Folds a ledger again: offline from a data directory, or from the reader of a running store.
//!
//! The fold is `State::evolve`, as everywhere; nothing here may know what an event means. The chain is
//! computed again from the blocks, so that a changed, added or missing block is noticed. Verifying decides
//! every command again and compares the events.

mod error;
mod pipeline;
#[cfg(test)]
mod tests;
mod until;

pub use error::ReplayError;
pub use until::{ParseUntilError, Until};

use crate::store::{LedgerReader, Store};
use muster_machine::{Moment, State, is_transition, views};
use muster_protocol::envelope::{Batch, BatchStamp, ChainHead};
use muster_protocol::event::{Event, EventRecord};
use muster_protocol::ids::{LogIndex, Term};
use muster_protocol::view::ReplayView;
use muster_replica::apply;
use muster_replica::disk::Disk;
use pipeline::{PreparedBlock, moment};
use raft::eraftpb::{Entry, Snapshot};
use std::path::Path;
use std::time::Instant;

/// A replay shows this many jobs, the newest.
const JOBS_SHOWN: usize = 1000;

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// `None`: to the end.
    pub until: Option<Until>,
    /// Decide every command again, and compare the events.
    pub verify: bool,
    /// Begin at the newest snapshot even if the ledger is complete.
    pub from_snapshot: bool,
}

/// Replays the data directory of a coordinator that does not run, or a copy of one. Entries that are
/// committed but not yet in the ledger are applied, as the coordinator would at its next start.
///
/// # Errors
/// If the data directory cannot be opened, is damaged, or does not reach back far enough.
pub fn offline(dir: &Path, options: Options) -> Result<ReplayView, ReplayError> {
    let mut store = Store::open_for_reading(dir)?;
    let recovered = store.recover()?;
    let commit = recovered.hard_state.commit;
    let mut tail = recovered.entries;
    tail.retain(|entry| entry.index <= commit);
    let identity = store.identity().clone();
    fold(&identity.name, &identity.cluster, &store.reader(), recovered.snapshot, &tail, options)
}

/// Replays the ledger of a running coordinator.
///
/// # Errors
/// If the ledger is damaged, or does not reach back far enough.
pub fn online(
    coordinator: &str,
    cluster: &str,
    reader: &LedgerReader,
    options: Options,
) -> Result<ReplayView, ReplayError> {
    // Reading a snapshot takes as long as reading many blocks, so do it only if the ledger is not enough.
    let span = reader.span();
    let needed = options.from_snapshot || !span.is_complete() || span.last < reader.snapshot_index()?;
    let snapshot = if needed { reader.snapshot()? } else { None };
    fold(coordinator, cluster, reader, snapshot, &[], options)
}

/// Folds blocks, and then applies the entries of `tail` that come after the last one.
fn fold(
    coordinator: &str,
    cluster: &str,
    reader: &LedgerReader,
    snapshot: Option<Snapshot>,
    tail: &[Entry],
    options: Options,
) -> Result<ReplayView, ReplayError> {
    let started = Instant::now();
    let span = reader.span();
    // A complete ledger may end before the snapshot that a leader has just sent.
    let needed = |snapshot: &Snapshot| {
        options.from_snapshot || !span.is_complete() || span.last < snapshot.get_metadata().index
    };
    let state = match snapshot.filter(needed) {
        Some(snapshot) => State::from_bytes(&snapshot.data).map_err(ReplayError::Snapshot)?,
        None => State::new(cluster),
    };
    let from = state.applied();
    if !span.is_empty() && from.0 + 1 < span.first {
        return Err(ReplayError::Incomplete { first: span.first });
    }
    if let Some(until) = options.until.filter(|until| from.0 > 0 && is_past(*until, state.now(), from)) {
        return Err(ReplayError::TooEarly { from, until });
    }
    let mut fold = Fold { state, options, events: 0, transitions: 0, same: true, ended: false };
    pipeline::each_block(reader, from.0 + 1, fold.state.chain().hash, options.verify, |block| {
        fold.block(block)
    })?;
    for entry in tail {
        if !fold.ended && entry.index == fold.state.applied().0 + 1 {
            fold.apply(entry)?;
        }
    }
    // What it took to read, check and fold; the hash below depends on the state, not on how long the log is.
    let elapsed = started.elapsed();
    let Fold { state, events, transitions, same, .. } = fold;
    Ok(ReplayView {
        coordinator: coordinator.to_string(),
        from: LogIndex(from.0 + 1),
        to: state.applied(),
        state_hash: state.hash(),
        chain: state.chain(),
        events,
        transitions,
        elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        verified: options.verify.then_some(same),
        jobs: views::jobs(&state, None, JOBS_SHOWN),
    })
}

/// Whether a moment is later than what was asked for.
fn is_past(until: Until, moment: &Moment, index: LogIndex) -> bool {
    match until {
        Until::Index(last) => index > last,
        Until::LogMs(last) => moment.log_ms > last,
        Until::WallMs(last) => moment.wall_ms > last,
    }
}

/// A fold in progress.
struct Fold {
    state: State,
    options: Options,
    events: u64,
    transitions: u64,
    /// Every decision so far came out the same.
    same: bool,
    /// What was asked for has been reached.
    ended: bool,
}

impl Fold {
    /// Folds one block. Returns whether to go on.
    fn block(&mut self, block: PreparedBlock) -> Result<bool, ReplayError> {
        let PreparedBlock { index, term, head, moment, records, entry } = block;
        if self.is_end(index, moment.as_ref()) {
            return Ok(false);
        }
        if let Some(moment) = &moment {
            self.state.begin(moment);
        }
        match entry {
            None => records.iter().for_each(|record| self.evolve(&record.event)),
            Some(entry) => self.verify(index, term, moment.is_some(), &entry, &records),
        }
        self.state.seal(ChainHead { index, hash: head });
        Ok(true)
    }

    /// Applies an entry that no block holds yet.
    fn apply(&mut self, entry: &Entry) -> Result<(), ReplayError> {
        let (index, term) = (LogIndex(entry.index), Term(entry.term));
        let moment = BatchStamp::from_bytes(&entry.data).ok().map(|stamp| moment(index, term, &stamp));
        if self.is_end(index, moment.as_ref()) {
            return Ok(());
        }
        let applied = apply::apply_entry(&mut self.state, index, term, &entry.data);
        self.events += applied.records.len() as u64;
        self.transitions +=
            applied.records.iter().filter(|record| is_transition(&record.event)).count() as u64;
        Ok(())
    }

    fn is_end(&mut self, index: LogIndex, moment: Option<&Moment>) -> bool {
        let now = *self.state.now();
        self.ended = self.options.until.is_some_and(|until| is_past(until, moment.unwrap_or(&now), index));
        self.ended
    }

    fn evolve(&mut self, event: &Event) {
        self.state.evolve(event);
        self.events += 1;
        self.transitions += u64::from(is_transition(event));
    }

    /// Decides the commands of a block again, each before its own events are folded. The fold goes on with
    /// the ledger's events either way.
    fn verify(&mut self, index: LogIndex, term: Term, moved: bool, entry: &[u8], records: &[EventRecord]) {
        let batch = Batch::from_bytes(entry)
            .ok()
            .filter(|batch| batch.cluster == self.state.cluster() && batch.term == term);
        let mut same = batch.is_some() == moved;
        let mut rest = records;
        for (command, envelope) in (0..).zip(batch.iter().flat_map(|batch| &batch.commands)) {
            let decision = apply::rehearse_guarded(&mut self.state, envelope);
            let count = rest.iter().take_while(|record| record.command == command).count();
            let (held, after) = rest.split_at(count);
            same &= decision.events.iter().eq(held.iter().map(|record| &record.event));
            held.iter().for_each(|record| self.evolve(&record.event));
            rest = after;
        }
        same &= rest.is_empty();
        rest.iter().for_each(|record| self.evolve(&record.event));
        if !same {
            tracing::error!(%index, "deciding the commands of this entry again gave other events");
            self.same = false;
        }
    }
}
