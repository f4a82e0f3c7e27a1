//! Reads ahead: one thread reads blocks, checks their chain and decodes their events, while the caller folds
//! earlier ones.

use super::error::ReplayError;
use crate::store::LedgerReader;
use muster_machine::Moment;
use muster_protocol::codec::{self, CodecError};
use muster_protocol::envelope::BatchStamp;
use muster_protocol::event::EventRecord;
use muster_protocol::ids::{Digest, LogIndex, Term};
use muster_replica::disk::Block;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

/// Blocks are read in chunks of about this many bytes.
const READ_BYTES: usize = 1 << 20;
/// Chunks read ahead, which bounds memory.
const CHUNKS_AHEAD: usize = 4;

/// The events of one block.
const EVENTS_BYTES_MAX: usize = 256 << 20;

/// A block, ready to be folded.
pub struct PreparedBlock {
    pub index: LogIndex,
    pub term: Term,
    /// The chain head after it.
    pub head: Digest,
    /// `None` if the entry was refused, and not even log time moved.
    pub moment: Option<Moment>,
    pub records: Vec<EventRecord>,
    /// The bytes of the entry, if its commands are to be decided again.
    pub entry: Option<Vec<u8>>,
}

type Chunk = Result<Vec<PreparedBlock>, ReplayError>;

/// Calls `visit` with each block from `from` on until it returns `false`.
pub fn each_block(
    reader: &LedgerReader,
    from: u64,
    previous: Digest,
    with_entries: bool,
    mut visit: impl FnMut(PreparedBlock) -> Result<bool, ReplayError>,
) -> Result<(), ReplayError> {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(CHUNKS_AHEAD);
        scope.spawn(move || read(reader, from, previous, with_entries, &sender));
        for chunk in receiver {
            for block in chunk? {
                if !visit(block)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    })
}

fn read(
    reader: &LedgerReader,
    mut next: u64,
    mut previous: Digest,
    with_entries: bool,
    sender: &SyncSender<Chunk>,
) {
    loop {
        let chunk = match reader.read_blocks(next, READ_BYTES) {
            Ok(blocks) if blocks.is_empty() => return,
            Ok(blocks) => {
                next += blocks.len() as u64;
                prepare(blocks, &mut previous, with_entries)
            }
            Err(error) => Err(error.into()),
        };
        let failed = chunk.is_err();
        // The receiver is dropped when the caller has what it wanted.
        if sender.send(chunk).is_err() || failed {
            return;
        }
    }
}

fn prepare(blocks: Vec<Block>, previous: &mut Digest, with_entries: bool) -> Chunk {
    let prepare = |block: Block| {
        if !block.follows(*previous) {
            return Err(ReplayError::Chain { index: block.index });
        }
        *previous = block.head;
        let (moment, records) = read_block(&block)
            .map_err(|error| ReplayError::Malformed { index: block.index, what: error.to_string() })?;
        let Block { index, term, entry, head, .. } = block;
        Ok(PreparedBlock { index, term, head, moment, records, entry: with_entries.then_some(entry) })
    };
    blocks.into_iter().map(prepare).collect()
}

pub fn moment(index: LogIndex, term: Term, stamp: &BatchStamp) -> Moment {
    Moment { index, term, log_ms: stamp.log_ms, wall_ms: stamp.wall_ms }
}

/// The moment and the events of a block.
fn read_block(block: &Block) -> Result<(Option<Moment>, Vec<EventRecord>), CodecError> {
    if block.events.is_empty() {
        return Ok((None, Vec::new()));
    }
    let stamp = BatchStamp::from_bytes(&block.entry)?;
    let records = codec::decode(&block.events, EVENTS_BYTES_MAX)?;
    Ok((Some(moment(block.index, block.term, &stamp)), records))
}
