//! Reading ahead: one thread reads blocks, checks their chain and decodes their events, while the caller's
//! folds those before.

use super::{ReplayError, read_block};
use crate::store::LedgerReader;
use muster_machine::Moment;
use muster_protocol::event::EventRecord;
use muster_protocol::ids::{Digest, LogIndex, Term};
use muster_replica::disk::Block;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

/// Blocks are read in pieces of about so many bytes.
const READ_BYTES: usize = 1 << 20;
/// Pieces read ahead at most: memory is bounded by them.
const PIECES_AHEAD: usize = 4;

/// A block, ready to be folded.
pub struct Prepared {
    /// Its index.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// The chain's head after it.
    pub head: Digest,
    /// When it was; `None`: not even time moved.
    pub moment: Option<Moment>,
    /// Its events.
    pub records: Vec<EventRecord>,
    /// The entry's bytes, if its commands are to be decided again.
    pub entry: Option<Vec<u8>>,
}

type Piece = Result<Vec<Prepared>, ReplayError>;

/// Calls `visit` with each block from `from` on, until there are no more or it says `false`.
pub fn each_block(
    reader: &LedgerReader,
    from: u64,
    previous: Digest,
    with_entries: bool,
    mut visit: impl FnMut(Prepared) -> Result<bool, ReplayError>,
) -> Result<(), ReplayError> {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(PIECES_AHEAD);
        scope.spawn(move || read(reader, from, previous, with_entries, &sender));
        for piece in receiver {
            for block in piece? {
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
    sender: &SyncSender<Piece>,
) {
    loop {
        let piece = match reader.read_blocks(next, READ_BYTES) {
            Ok(blocks) if blocks.is_empty() => return,
            Ok(blocks) => {
                next += blocks.len() as u64;
                prepare(blocks, &mut previous, with_entries)
            }
            Err(error) => Err(error.into()),
        };
        let failed = piece.is_err();
        // The other end goes away when it has what it wanted.
        if sender.send(piece).is_err() || failed {
            return;
        }
    }
}

fn prepare(blocks: Vec<Block>, previous: &mut Digest, with_entries: bool) -> Piece {
    let prepare = |block: Block| {
        if !block.follows(*previous) {
            return Err(ReplayError::Chain { index: block.index });
        }
        *previous = block.head;
        let (moment, records) = read_block(&block)
            .map_err(|error| ReplayError::Malformed { index: block.index, what: error.to_string() })?;
        let Block { index, term, entry, head, .. } = block;
        Ok(Prepared { index, term, head, moment, records, entry: with_entries.then_some(entry) })
    };
    blocks.into_iter().map(prepare).collect()
}
