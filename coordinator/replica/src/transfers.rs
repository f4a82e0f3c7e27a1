//! Snapshots on their way between members, in chunks that no queue is too short for.
//!
//! The sender gives out a few chunks per tick. A lost chunk ends the transfer: the sender notices that the
//! receiver did not catch up, tells Raft so, and Raft begins again. The receiver takes chunks in any order,
//! and memory only for bytes that came.

use super::peer_message::{CHUNK_BYTES_MAX, PeerMessage, SnapshotChunk};
use muster_protocol::ids::RaftId;
use std::collections::BTreeMap;

/// Chunks to one member per tick.
const CHUNKS_PER_TICK: usize = 4;
/// The receiver has so long to install the snapshot after the last chunk was sent.
const INSTALL_MS: u64 = 3_000;
/// A half transfer is forgotten after so long without a new chunk.
const SILENT_MS: u64 = 10_000;
/// One snapshot at most.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug)]
struct Sending {
    transfer: u64,
    bytes: Vec<u8>,
    crc: u32,
    sent: usize,
    done_ms: Option<u64>,
}

/// Snapshots that this member sends, one per receiver.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    sending: BTreeMap<RaftId, Sending>,
    last_transfer: u64,
}

impl Outgoing {
    /// Begins to send a Raft message that carries a snapshot; an older transfer to the same member ends.
    pub(super) fn start(&mut self, to: RaftId, bytes: Vec<u8>) {
        self.last_transfer += 1;
        let crc = crc32fast::hash(&bytes);
        self.sending.insert(to, Sending { transfer: self.last_transfer, bytes, crc, sent: 0, done_ms: None });
    }

    /// The transfer to that member ended, one way or the other.
    pub(super) fn end(&mut self, to: RaftId) -> bool {
        self.sending.remove(&to).is_some()
    }

    pub(super) fn receivers(&self) -> Vec<RaftId> {
        self.sending.keys().copied().collect()
    }

    /// The next chunks. Gives the members whose transfer took too long.
    pub(super) fn tick(&mut self, mono_ms: u64, mut send: impl FnMut(RaftId, PeerMessage)) -> Vec<RaftId> {
        let mut failed = Vec::new();
        for (to, sending) in &mut self.sending {
            if let Some(done_ms) = sending.done_ms {
                if mono_ms >= done_ms + INSTALL_MS {
                    failed.push(*to);
                }
                continue;
            }
            for _ in 0..CHUNKS_PER_TICK {
                let end = sending.bytes.len().min(sending.sent + CHUNK_BYTES_MAX);
                let chunk = SnapshotChunk {
                    transfer: sending.transfer,
                    offset: sending.sent as u64,
                    total: sending.bytes.len() as u64,
                    crc: sending.crc,
                    bytes: sending.bytes[sending.sent..end].to_vec(),
                };
                send(*to, PeerMessage::SnapshotChunk(chunk));
                sending.sent = end;
                if end == sending.bytes.len() {
                    sending.done_ms = Some(mono_ms);
                    break;
                }
            }
        }
        failed.iter().for_each(|to| {
            self.sending.remove(to);
        });
        failed
    }
}

#[derive(Debug)]
struct Receiving {
    transfer: u64,
    total: u64,
    crc: u32,
    chunks: BTreeMap<u64, Vec<u8>>,
    bytes: u64,
    heard_ms: u64,
}

/// Snapshots that this member receives, one per sender.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    receiving: BTreeMap<RaftId, Receiving>,
}

impl Incoming {
    /// Takes a chunk. Gives all bytes once they are there and whole.
    pub(super) fn take(&mut self, mono_ms: u64, from: RaftId, chunk: SnapshotChunk) -> Option<Vec<u8>> {
        let whole = CHUNK_BYTES_MAX as u64;
        let expected = chunk.total.checked_sub(chunk.offset)?.min(whole);
        if chunk.total > SNAPSHOT_BYTES_MAX
            || !chunk.offset.is_multiple_of(whole)
            || expected == 0
            || chunk.bytes.len() as u64 != expected
        {
            tracing::warn!(%from, "a snapshot's chunk does not fit its own description");
            return None;
        }
        let fresh = || Receiving {
            transfer: chunk.transfer,
            total: chunk.total,
            crc: chunk.crc,
            chunks: BTreeMap::new(),
            bytes: 0,
            heard_ms: mono_ms,
        };
        let receiving = self.receiving.entry(from).or_insert_with(fresh);
        if (receiving.transfer, receiving.total, receiving.crc) != (chunk.transfer, chunk.total, chunk.crc) {
            // A sender that was restarted counts from one again, so "another" is all that can be said.
            *receiving = fresh();
        }
        receiving.heard_ms = mono_ms;
        if receiving.chunks.insert(chunk.offset, chunk.bytes).is_none() {
            receiving.bytes += expected;
        }
        if receiving.bytes < receiving.total {
            return None;
        }
        let receiving = self.receiving.remove(&from)?;
        let bytes: Vec<u8> = receiving.chunks.into_values().flatten().collect();
        if crc32fast::hash(&bytes) != receiving.crc {
            tracing::warn!(%from, "a snapshot's bytes do not match their checksum");
            return None;
        }
        Some(bytes)
    }

    /// Forgets transfers that do not go on.
    pub(super) fn expire(&mut self, mono_ms: u64) {
        self.receiving.retain(|_, receiving| mono_ms < receiving.heard_ms + SILENT_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(outgoing: &mut Outgoing) -> Vec<SnapshotChunk> {
        let mut chunks = Vec::new();
        for _ in 0..10 {
            outgoing.tick(0, |_, message| {
                if let PeerMessage::SnapshotChunk(chunk) = message {
                    chunks.push(chunk);
                }
            });
        }
        chunks
    }

    #[test]
    fn chunks_in_any_order_and_repeated_make_the_whole() {
        let bytes: Vec<u8> = (0..CHUNK_BYTES_MAX * 5 + 7).map(|n| n as u8).collect();
        let mut outgoing = Outgoing::default();
        outgoing.start(RaftId(2), bytes.clone());
        let mut chunks = chunks(&mut outgoing);
        assert_eq!(chunks.len(), 6);
        chunks.reverse();
        chunks.insert(1, chunks[0].clone());
        let mut incoming = Incoming::default();
        let last = chunks.pop().unwrap();
        assert!(chunks.into_iter().all(|chunk| incoming.take(0, RaftId(1), chunk).is_none()));
        assert_eq!(incoming.take(0, RaftId(1), last), Some(bytes));
        assert_eq!(outgoing.tick(INSTALL_MS - 1, |_, _| ()), []);
        assert_eq!(outgoing.tick(INSTALL_MS, |_, _| ()), [RaftId(2)]);
        assert_eq!(outgoing.receivers(), []);
    }

    #[test]
    fn damage_and_lies_are_refused_without_taking_memory() {
        let mut outgoing = Outgoing::default();
        outgoing.start(RaftId(2), vec![7; 100]);
        let good = chunks(&mut outgoing).remove(0);
        let bad = |change: fn(&mut SnapshotChunk)| {
            let mut chunk = good.clone();
            change(&mut chunk);
            Incoming::default().take(0, RaftId(1), chunk)
        };
        assert!(bad(|_| ()).is_some());
        assert!(bad(|chunk| chunk.bytes[3] = 0).is_none());
        assert!(bad(|chunk| chunk.total = u64::MAX).is_none());
        assert!(bad(|chunk| chunk.offset = 1).is_none());
        assert!(bad(|chunk| chunk.offset = 101).is_none());
        assert!(bad(|chunk| chunk.bytes.push(1)).is_none());
        assert!(
            bad(|chunk| {
                chunk.total = 0;
                chunk.bytes.clear();
            })
            .is_none()
        );
    }
}
