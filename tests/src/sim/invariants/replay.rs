//! Replay equals live: folding a coordinator's ledger gives its live state, and deciding every command again
//! gives the recorded events.

use super::{InvariantResult, violated};
use muster_machine::{Moment, State};
use muster_protocol::codec;
use muster_protocol::envelope::{Batch, ChainHead};
use muster_protocol::event::EventRecord;
use muster_replica::Replica;
use muster_replica::apply;
use muster_replica::disk::{Block, Disk};

const READ_BYTES: usize = 1 << 20;
const EVENTS_BYTES_MAX: usize = 1 << 30;

pub fn replay_equals_live(name: &str, replica: &Replica, disk: &dyn Disk) -> InvariantResult {
    let applied = replica.applied().0;
    let (mut folded, mut decided) =
        (State::new(replica.state().cluster()), State::new(replica.state().cluster()));
    while folded.applied().0 < applied {
        let from = folded.applied().0 + 1;
        let blocks = match disk.read_blocks(from, READ_BYTES) {
            Ok(blocks) if blocks.is_empty() => {
                return violated(
                    "replay",
                    format!("{name}'s ledger ends before {from}, but {applied} is applied"),
                );
            }
            Ok(blocks) => blocks,
            Err(error) => return violated("replay", format!("{name}: {error}")),
        };
        for block in blocks.into_iter().take_while(|block| block.index.0 <= applied) {
            if let Err(what) = fold(&mut folded, &block) {
                return violated("replay", format!("{name} at {}: {what}", block.index));
            }
            let again = apply::apply_entry(&mut decided, block.index, block.term, &block.entry);
            if again.block != block {
                return violated(
                    "replay",
                    format!(
                        "{name} at {}: deciding again gives other events: {:?}",
                        block.index, again.records
                    ),
                );
            }
        }
    }
    let (live, replayed) = (replica.state().hash(), folded.hash());
    if live == replayed {
        Ok(())
    } else {
        violated(
            "replay",
            format!("{name} at {applied}: the ledger folds to {replayed}, the live state is {live}"),
        )
    }
}

fn fold(state: &mut State, block: &Block) -> Result<(), String> {
    if !block.follows(state.chain().hash) {
        return Err("the block does not follow the chain".to_string());
    }
    if !block.events.is_empty() {
        let batch = Batch::from_bytes(&block.entry).map_err(|error| error.to_string())?;
        state.begin(&Moment {
            index: block.index,
            term: block.term,
            log_ms: batch.log_ms,
            wall_ms: batch.wall_ms,
        });
        let records: Vec<EventRecord> =
            codec::decode(&block.events, EVENTS_BYTES_MAX).map_err(|error| error.to_string())?;
        records.iter().for_each(|record| state.evolve(&record.event));
    }
    state.seal(ChainHead { index: block.index, hash: block.head });
    Ok(())
}
