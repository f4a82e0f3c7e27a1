//! Fills gaps of the ledger from other members.
//!
//! A member that installed a snapshot has not applied the entries below it one by one, so its ledger lacks
//! their blocks. It asks for them backwards from what it knows: a block's hash proves the whole block and the
//! head before it, so no member needs to be trusted. It asks for one page at a time, and writes only what is
//! proven.

use crate::disk::{Block, Disk, DiskError, LedgerSpan};
use crate::io::{Now, Output};
use crate::peer_message::{AskBlocks, BLOCKS_BYTES_MAX, Blocks, PeerMessage};
use muster_protocol::envelope::ChainHead;
use muster_protocol::ids::{Digest, LogIndex, RaftId};
use std::collections::VecDeque;

/// After this time without an answer, another member is asked.
const ANSWER_MS: u64 = 1_000;
/// The pause after a member that could not help.
const PAUSE_MS: u64 = 200;
const PAGE_BLOCKS_MAX: u64 = 1024;
/// Requests of other members that may wait; the rest are dropped, and asked again.
const REQUESTS_MAX: usize = 16;
/// Requests that are answered per [`Backfill::advance`].
const ANSWERS_PER_SETTLE: usize = 2;

#[derive(Clone, Copy, Debug)]
struct PageRequest {
    to_member: RaftId,
    from: u64,
    to: u64,
    sent_ms: u64,
}

/// The ledger's gaps, the page that is asked for, and what other members ask for.
#[derive(Debug)]
pub struct Backfill {
    /// What the ledger holds.
    held: LedgerSpan,
    /// Blocks per page; adapts to how many fit into one message.
    page: u64,
    /// Chooses the member that is asked.
    turn: usize,
    asked: Option<PageRequest>,
    answer: Option<Blocks>,
    not_before_ms: u64,
    requests: VecDeque<(RaftId, AskBlocks)>,
}

/// What the last block of a gap must lead to.
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

impl Backfill {
    pub fn new(held: LedgerSpan) -> Backfill {
        Backfill {
            held,
            page: PAGE_BLOCKS_MAX,
            turn: 0,
            asked: None,
            answer: None,
            not_before_ms: 0,
            requests: VecDeque::new(),
        }
    }

    pub fn held(&self) -> &LedgerSpan {
        &self.held
    }

    pub fn set_held(&mut self, held: LedgerSpan) {
        self.held = held;
    }

    /// Queues a request of another member.
    pub fn request(&mut self, from: RaftId, ask: AskBlocks) {
        if self.requests.len() < REQUESTS_MAX {
            self.requests.push_back((from, ask));
        }
    }

    /// Takes blocks from another member; those that were not asked for are dropped.
    pub fn answer(&mut self, from: RaftId, blocks: Blocks) {
        let expected = self.asked.filter(|asked| {
            asked.to_member == from && blocks.blocks.first().is_none_or(|first| first.index.0 == asked.from)
        });
        if expected.is_some() {
            self.answer = Some(blocks);
        }
    }

    /// Answers other members, writes a page that has come, and asks for the next one. `head` is the
    /// replicated chain head, at the last applied index.
    pub fn advance(
        &mut self,
        now: Now,
        head: ChainHead,
        others: &[RaftId],
        disk: &mut dyn Disk,
        out: &mut dyn FnMut(Output),
    ) -> Result<(), DiskError> {
        for _ in 0..ANSWERS_PER_SETTLE {
            let Some((to, ask)) = self.requests.pop_front() else { break };
            let blocks = blocks_for(disk, ask)?;
            out(Output::Peer { to, message: PeerMessage::Blocks(blocks) });
        }
        let Some((from, to)) = self.gap(head) else {
            self.asked = None;
            self.answer = None;
            return Ok(());
        };
        if let Some(asked) = self.asked {
            if let Some(blocks) = self.answer.take() {
                self.take_page(now, head, disk, asked, from, to, blocks)?;
            } else if now.mono_ms >= asked.sent_ms + ANSWER_MS {
                self.pause(now);
            }
        }
        self.ask_page(now, head, others, out);
        Ok(())
    }

    fn pause(&mut self, now: Now) {
        self.turn += 1;
        self.asked = None;
        self.not_before_ms = now.mono_ms + PAUSE_MS;
    }

    /// The newest gap of the ledger, half open.
    fn gap(&self, head: ChainHead) -> Option<(u64, u64)> {
        if self.held.last < head.index.0 {
            Some((self.held.last + 1, head.index.0 + 1))
        } else {
            self.held.missing.last().copied()
        }
    }

    fn ask_page(&mut self, now: Now, head: ChainHead, others: &[RaftId], out: &mut dyn FnMut(Output)) {
        let Some((from, to)) = self.gap(head) else { return };
        if self.asked.is_some() || now.mono_ms < self.not_before_ms || others.is_empty() {
            return;
        }
        let to_member = others[self.turn % others.len()];
        let from = from.max(to.saturating_sub(self.page));
        self.asked = Some(PageRequest { to_member, from, to, sent_ms: now.mono_ms });
        out(Output::Peer {
            to: to_member,
            message: PeerMessage::AskBlocks(AskBlocks { from: LogIndex(from), to: LogIndex(to) }),
        });
    }

    #[expect(clippy::too_many_arguments, reason = "the gap, the page for it, and what proves it")]
    fn take_page(
        &mut self,
        now: Now,
        head: ChainHead,
        disk: &mut dyn Disk,
        asked: PageRequest,
        from: u64,
        to: u64,
        page: Blocks,
    ) -> Result<(), DiskError> {
        let whole = page.blocks.last().is_some_and(|last| last.index.0 + 1 == asked.to);
        if asked.to != to || page.blocks.is_empty() {
            self.pause(now);
            return Ok(());
        }
        if !whole {
            // It did not fit into one message: ask for a smaller page, which ends where it must.
            self.page = (page.blocks.len() as u64).clamp(1, PAGE_BLOCKS_MAX);
            self.asked = None;
            return Ok(());
        }
        let anchor = if self.held.last < head.index.0 {
            Some(Anchor::Head(head.hash))
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
            tracing::error!(member = %asked.to_member, from = asked.from, to, "ledger blocks from another member do not fit the chain");
            self.pause(now);
            return Ok(());
        }
        disk.write_blocks(&page.blocks)?;
        if asked.from == from {
            disk.sync_ledger()?;
        }
        self.held = disk.ledger();
        self.asked = None;
        self.page = (self.page * 2).min(PAGE_BLOCKS_MAX);
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

/// The blocks that another member asks for, with the head before them; empty if this ledger lacks them.
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
