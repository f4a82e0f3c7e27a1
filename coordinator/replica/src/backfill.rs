//! The ledger's gaps, filled from other members.
//!
//! A member that installed a snapshot has not applied the entries below it one by one, so its ledger lacks
//! them. It asks for them backwards from what it knows: a block's hash proves everything in the block and the
//! head before it, so that no member needs to be trusted. It asks for one page at a time, and writes what is
//! proven.

use super::Core;
use super::io::{Now, Output};
use super::peer_message::{AskBlocks, BLOCKS_BYTES_MAX, Blocks, PeerMessage};
use crate::disk::{Block, Disk, DiskError};
use muster_protocol::ids::{Digest, LogIndex, RaftId};
use std::collections::VecDeque;

/// An answer that does not come by then is asked of another member.
const ANSWER_MS: u64 = 1_000;
/// A pause after a member that could not help.
const PAUSE_MS: u64 = 200;
/// Blocks in a page at most.
const PAGE_BLOCKS_MAX: u64 = 1024;
/// Requests of other members that wait, at most; they ask again.
const REQUESTS_MAX: usize = 16;
/// Requests that are answered per settling.
const ANSWERS_PER_SETTLE: usize = 2;

#[derive(Clone, Copy, Debug)]
struct Asked {
    of: RaftId,
    from: u64,
    to: u64,
    at_ms: u64,
}

/// What is asked, and what others ask.
#[derive(Debug)]
pub(super) struct Backfill {
    page: u64,
    turn: usize,
    asked: Option<Asked>,
    answer: Option<Blocks>,
    not_before_ms: u64,
    requests: VecDeque<(RaftId, AskBlocks)>,
}

impl Default for Backfill {
    fn default() -> Self {
        Backfill {
            page: PAGE_BLOCKS_MAX,
            turn: 0,
            asked: None,
            answer: None,
            not_before_ms: 0,
            requests: VecDeque::new(),
        }
    }
}

impl Backfill {
    /// Another member wants blocks.
    pub(super) fn request(&mut self, from: RaftId, ask: AskBlocks) {
        if self.requests.len() < REQUESTS_MAX {
            self.requests.push_back((from, ask));
        }
    }

    /// Blocks came; those that were not asked for are dropped.
    pub(super) fn answer(&mut self, from: RaftId, blocks: Blocks) {
        let expected = self.asked.filter(|asked| {
            asked.of == from && blocks.blocks.first().is_none_or(|first| first.index.0 == asked.from)
        });
        if expected.is_some() {
            self.answer = Some(blocks);
        }
    }

    fn pause(&mut self, mono_ms: u64) {
        self.turn += 1;
        self.asked = None;
        self.not_before_ms = mono_ms + PAUSE_MS;
    }
}

/// What the last block of a gap must link to.
enum Anchor {
    /// The block after the gap, which is on the disk.
    Block(Box<Block>),
    /// The replicated chain head itself.
    Head(Digest),
}

impl Anchor {
    fn holds(&self, head: Digest) -> bool {
        match self {
            Anchor::Block(block) => block.follows(head),
            Anchor::Head(hash) => *hash == head,
        }
    }
}

impl Core {
    /// Answers others, takes an answer in, and asks for the next page.
    pub(super) fn fill_ledger(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        out: &mut dyn FnMut(Output),
    ) -> Result<(), DiskError> {
        for _ in 0..ANSWERS_PER_SETTLE {
            let Some((to, ask)) = self.backfill.requests.pop_front() else { break };
            let blocks = blocks_for(disk, ask)?;
            out(Output::Peer { to, message: PeerMessage::Blocks(blocks) });
        }
        let Some((from, to)) = self.gap() else {
            self.backfill.asked = None;
            self.backfill.answer = None;
            return Ok(());
        };
        if let Some(asked) = self.backfill.asked {
            if let Some(blocks) = self.backfill.answer.take() {
                self.take_page(now, disk, asked, from, to, blocks)?;
            } else if now.mono_ms >= asked.at_ms + ANSWER_MS {
                self.backfill.pause(now.mono_ms);
            }
        }
        self.ask_page(now, out);
        Ok(())
    }

    /// The newest gap of the ledger, half open.
    fn gap(&self) -> Option<(u64, u64)> {
        let applied = self.state.applied().0;
        if self.ledger.last < applied {
            Some((self.ledger.last + 1, applied + 1))
        } else {
            self.ledger.missing.last().copied()
        }
    }

    fn ask_page(&mut self, now: Now, out: &mut dyn FnMut(Output)) {
        let Some((from, to)) = self.gap() else { return };
        if self.backfill.asked.is_some() || now.mono_ms < self.backfill.not_before_ms {
            return;
        }
        let others: Vec<RaftId> = self.others().collect();
        if others.is_empty() {
            return;
        }
        let of = others[self.backfill.turn % others.len()];
        let from = from.max(to.saturating_sub(self.backfill.page));
        self.backfill.asked = Some(Asked { of, from, to, at_ms: now.mono_ms });
        out(Output::Peer {
            to: of,
            message: PeerMessage::AskBlocks(AskBlocks { from: LogIndex(from), to: LogIndex(to) }),
        });
    }

    fn take_page(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        asked: Asked,
        from: u64,
        to: u64,
        page: Blocks,
    ) -> Result<(), DiskError> {
        let whole = page.blocks.last().is_some_and(|last| last.index.0 + 1 == asked.to);
        if asked.to != to || page.blocks.is_empty() {
            self.backfill.pause(now.mono_ms);
            return Ok(());
        }
        if !whole {
            // It did not fit into one message: the next page is a smaller one, and ends where it must.
            self.backfill.page = (page.blocks.len() as u64).clamp(1, PAGE_BLOCKS_MAX);
            self.backfill.asked = None;
            return Ok(());
        }
        let anchor = if self.ledger.last < self.state.applied().0 {
            Some(Anchor::Head(self.state.chain().hash))
        } else {
            disk.read_blocks(to, 1)?.into_iter().next().map(|block| Anchor::Block(Box::new(block)))
        };
        let before = if from == 1 {
            Some(Digest::default())
        } else {
            disk.read_blocks(from - 1, 1)?
                .first()
                .filter(|block| block.index.0 == from - 1)
                .map(|block| block.head)
        };
        let proven = anchor.is_some_and(|anchor| is_proven(&page, asked.from, &anchor))
            && (asked.from > from || before == Some(page.previous));
        if !proven {
            tracing::error!(of = %asked.of, from = asked.from, to, "blocks of another member's ledger do not link to the chain");
            self.backfill.pause(now.mono_ms);
            return Ok(());
        }
        disk.write_blocks(&page.blocks)?;
        if asked.from == from {
            disk.sync_ledger()?;
        }
        self.ledger = disk.ledger();
        self.backfill.asked = None;
        self.backfill.page = (self.backfill.page * 2).min(PAGE_BLOCKS_MAX);
        Ok(())
    }
}

/// Whether the blocks follow each other from `first` on, up to the anchor.
fn is_proven(page: &Blocks, first: u64, anchor: &Anchor) -> bool {
    let mut head = page.previous;
    for (index, block) in (first..).zip(&page.blocks) {
        if block.index.0 != index || !block.follows(head) {
            return false;
        }
        head = block.head;
    }
    anchor.holds(head)
}

/// The blocks that another member wants, with the head before them; none if this ledger does not hold them.
fn blocks_for(disk: &dyn Disk, ask: AskBlocks) -> Result<Blocks, DiskError> {
    let none = Blocks { previous: Digest::default(), blocks: Vec::new() };
    let (from, to) = (ask.from.0, ask.to.0);
    if from == 0 || from >= to {
        return Ok(none);
    }
    let previous = if from == 1 {
        Digest::default()
    } else {
        match disk.read_blocks(from - 1, 1)?.first() {
            Some(block) if block.index.0 == from - 1 => block.head,
            Some(_) | None => return Ok(none),
        }
    };
    let mut blocks = disk.read_blocks(from, BLOCKS_BYTES_MAX)?;
    blocks.retain(|block| block.index.0 < to);
    Ok(Blocks { previous, blocks })
}
