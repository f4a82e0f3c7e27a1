//! Transfers snapshots between members in chunks small enough for the queues between them.
//!
//! The sender sends a few chunks per tick. A lost chunk fails the transfer: the sender notices that the
//! receiver did not catch up and tells Raft, which begins again. The receiver takes chunks in any order, and
//! allocates only for bytes that arrived.

use crate::peer_message::{CHUNK_BYTES_MAX, PeerMessage, SnapshotChunk};
use muster_protocol::ids::RaftId;
use std::collections::BTreeMap;

const CHUNKS_PER_TICK: usize = 4;
/// The time that the receiver has to install the snapshot after the last chunk was sent.
const INSTALL_MS: u64 = 3_000;
/// After this time without a new chunk, the receiver drops what it has.
const IDLE_MS: u64 = 10_000;
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug)]
struct Sending {
    transfer: u64,
    bytes: Vec<u8>,
    crc: u32,
    sent: usize,
    all_sent_ms: Option<u64>,
}

/// Sends at most one snapshot per receiver.
#[derive(Debug, Default)]
pub struct SnapshotSender {
    sending: BTreeMap<RaftId, Sending>,
    last_transfer: u64,
}

impl SnapshotSender {
    /// Begins to send a Raft message that carries a snapshot, instead of an older one to the same member.
    pub fn start(&mut self, to: RaftId, bytes: Vec<u8>) {
        self.last_transfer += 1;
        let crc = crc32fast::hash(&bytes);
        self.sending
            .insert(to, Sending { transfer: self.last_transfer, bytes, crc, sent: 0, all_sent_ms: None });
    }

    /// Ends the transfer to that member. `false` if there was none.
    pub fn end(&mut self, to: RaftId) -> bool {
        self.sending.remove(&to).is_some()
    }

    pub fn receivers(&self) -> Vec<RaftId> {
        self.sending.keys().copied().collect()
    }

    /// Sends the next chunks. Returns the members whose transfer failed.
    pub fn tick(&mut self, mono_ms: u64, mut send: impl FnMut(RaftId, PeerMessage)) -> Vec<RaftId> {
        let mut failed = Vec::new();
        for (to, sending) in &mut self.sending {
            if let Some(all_sent_ms) = sending.all_sent_ms {
                if mono_ms >= all_sent_ms + INSTALL_MS {
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
                    sending.all_sent_ms = Some(mono_ms);
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
    received_ms: u64,
}

/// Receives at most one snapshot per sender.
#[derive(Debug, Default)]
pub struct SnapshotReceiver {
    receiving: BTreeMap<RaftId, Receiving>,
}

impl SnapshotReceiver {
    /// Takes a chunk. Returns all bytes once they are complete and match their checksum.
    pub fn take(&mut self, mono_ms: u64, from: RaftId, chunk: SnapshotChunk) -> Option<Vec<u8>> {
        let whole = CHUNK_BYTES_MAX as u64;
        let expected = chunk.total.checked_sub(chunk.offset)?.min(whole);
        if chunk.total > SNAPSHOT_BYTES_MAX
            || !chunk.offset.is_multiple_of(whole)
            || expected == 0
            || chunk.bytes.len() as u64 != expected
        {
            tracing::warn!(%from, "a snapshot chunk contradicts its own header");
            return None;
        }
        let fresh = || Receiving {
            transfer: chunk.transfer,
            total: chunk.total,
            crc: chunk.crc,
            chunks: BTreeMap::new(),
            bytes: 0,
            received_ms: mono_ms,
        };
        let receiving = self.receiving.entry(from).or_insert_with(fresh);
        if (receiving.transfer, receiving.total, receiving.crc) != (chunk.transfer, chunk.total, chunk.crc) {
            // Any other transfer replaces this one: a restarted sender counts from one again.
            *receiving = fresh();
        }
        receiving.received_ms = mono_ms;
        if receiving.chunks.insert(chunk.offset, chunk.bytes).is_none() {
            receiving.bytes += expected;
        }
        if receiving.bytes < receiving.total {
            return None;
        }
        let receiving = self.receiving.remove(&from)?;
        let bytes: Vec<u8> = receiving.chunks.into_values().flatten().collect();
        if crc32fast::hash(&bytes) != receiving.crc {
            tracing::warn!(%from, "a snapshot does not match its checksum");
            return None;
        }
        Some(bytes)
    }

    /// Drops transfers that have stalled.
    pub fn expire(&mut self, mono_ms: u64) {
        self.receiving.retain(|_, receiving| mono_ms < receiving.received_ms + IDLE_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(sender: &mut SnapshotSender) -> Vec<SnapshotChunk> {
        let mut chunks = Vec::new();
        for _ in 0..10 {
            sender.tick(0, |_, message| {
                if let PeerMessage::SnapshotChunk(chunk) = message {
                    chunks.push(chunk);
                }
            });
        }
        chunks
    }

    #[test]
    fn chunks_arrive_in_any_order_and_repeatedly() {
        let bytes: Vec<u8> = (0..CHUNK_BYTES_MAX * 5 + 7).map(|n| n as u8).collect();
        let mut sender = SnapshotSender::default();
        sender.start(RaftId(2), bytes.clone());
        let mut chunks = chunks(&mut sender);
        assert_eq!(chunks.len(), 6);
        chunks.reverse();
        chunks.insert(1, chunks[0].clone());
        let mut receiver = SnapshotReceiver::default();
        let last = chunks.pop().unwrap();
        assert!(chunks.into_iter().all(|chunk| receiver.take(0, RaftId(1), chunk).is_none()));
        assert_eq!(receiver.take(0, RaftId(1), last), Some(bytes));
        assert_eq!(sender.tick(INSTALL_MS - 1, |_, _| ()), []);
        assert_eq!(sender.tick(INSTALL_MS, |_, _| ()), [RaftId(2)]);
        assert_eq!(sender.receivers(), []);
    }

    #[test]
    fn damaged_and_inconsistent_chunks_are_refused_without_taking_memory() {
        let mut sender = SnapshotSender::default();
        sender.start(RaftId(2), vec![7; 100]);
        let good = chunks(&mut sender).remove(0);
        let bad = |change: fn(&mut SnapshotChunk)| {
            let mut chunk = good.clone();
            change(&mut chunk);
            SnapshotReceiver::default().take(0, RaftId(1), chunk)
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
