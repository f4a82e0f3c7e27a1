//! Messages from other members, checked before Raft sees them; and Raft's messages to them.
//!
//! raft-rs trusts its peers, and panics on some messages that a broken one may send. So messages are checked
//! first, and a panic halts this member instead of ending its process.

use crate::io::{Now, Output, Role};
use crate::peer_message::{PeerMessage, RaftBytes};
use crate::replica::Replica;
use crate::snapshots;
use muster_protocol::ids::{LogIndex, RaftId};
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use raft::{SnapshotStatus, Storage};
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Replica {
    pub(super) fn handle_peer_message(
        &mut self,
        now: Now,
        from: RaftId,
        message: PeerMessage,
        out: &mut dyn FnMut(Output),
    ) {
        if !self.others().any(|other| other == from) {
            return;
        }
        match message {
            PeerMessage::Raft(raft) => self.handle_raft_message(now, from, &raft.bytes, out),
            PeerMessage::SnapshotChunk(chunk) => {
                if let Some(bytes) = self.snapshots_in.take(now.mono_ms, from, chunk) {
                    self.handle_snapshot(now, from, &bytes, out);
                }
            }
            PeerMessage::AskBlocks(ask) => self.backfill.request(from, ask),
            PeerMessage::Blocks(blocks) => self.backfill.answer(from, blocks),
            PeerMessage::Check(check) => {
                if let Some(difference) = self.divergence.received(check) {
                    self.halt(format!("this coordinator has diverged from the leader: {difference}"), out);
                }
            }
        }
    }

    fn handle_raft_message(&mut self, now: Now, from: RaftId, bytes: &[u8], out: &mut dyn FnMut(Output)) {
        match parse(bytes) {
            Some(message) if message.get_msg_type() != MessageType::MsgSnapshot => {
                self.step(now, from, message, out)
            }
            Some(_) | None => tracing::warn!(%from, "a peer message is not a Raft message"),
        }
    }

    fn handle_snapshot(&mut self, now: Now, from: RaftId, bytes: &[u8], out: &mut dyn FnMut(Output)) {
        let Some(message) = parse(bytes).filter(|message| message.get_msg_type() == MessageType::MsgSnapshot)
        else {
            return tracing::warn!(%from, "a snapshot from a peer is not in a Raft message");
        };
        // A state that cannot be read must not replace one that can.
        if let Err(error) = snapshots::open(message.get_snapshot(), &self.config.cluster) {
            return tracing::error!(%from, error, "refused a snapshot from a peer");
        }
        self.step(now, from, message, out);
    }

    fn step(&mut self, now: Now, from: RaftId, message: Message, out: &mut dyn FnMut(Output)) {
        if message.from != from.0 || message.to != self.config.raft_id.0 || !is_acceptable(&message) {
            return tracing::warn!(%from, kind = ?message.get_msg_type(), "a peer sent an invalid Raft message");
        }
        let last = self.node.raft.raft_log.last_index();
        if message.get_msg_type() == MessageType::MsgHeartbeat
            && message.term >= self.node.raft.term
            && message.commit > last
        {
            let reason = format!(
                "member {from} says that this one holds {} entries, but its log ends at {last}: a coordinator whose data directory \
                 was lost must not come back under its old name",
                message.commit
            );
            return self.halt(reason, out);
        }
        if let Some(lead) = self.lead.as_mut().filter(|lead| lead.term.0 == message.term) {
            lead.record_contact(from, now);
        }
        match catch_unwind(AssertUnwindSafe(|| self.node.step(message))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%from, %error, "raft dropped a message"),
            Err(_) => self.halt(format!("raft cannot go on after a message of member {from}"), out),
        }
    }

    /// A message to that member was dropped.
    pub(super) fn peer_unreachable(&mut self, peer: RaftId) {
        if self.published.0 == Role::Leader && self.others().any(|other| other == peer) {
            self.node.report_unreachable(peer.0);
            if self.snapshots_out.end(peer) {
                self.node.report_snapshot(peer.0, SnapshotStatus::Failure);
            }
        }
    }

    /// Sends Raft's messages. Snapshots are sent in chunks, tick by tick.
    pub(super) fn send(&mut self, messages: Vec<Message>, out: &mut dyn FnMut(Output)) {
        for message in messages {
            let to = RaftId(message.to);
            let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
            let bytes = message.write_to_bytes().expect("every field of a message of raft's own is set");
            if is_snapshot {
                self.snapshots_out.start(to, bytes);
            } else {
                out(Output::Peer { to, message: PeerMessage::Raft(RaftBytes { bytes }) });
            }
        }
    }

    /// Sends the next chunks of snapshots, and tells Raft of failed transfers.
    pub(super) fn send_snapshots(&mut self, now: Now, out: &mut dyn FnMut(Output)) {
        for to in self.snapshots_out.receivers() {
            let waits = self
                .node
                .raft
                .prs()
                .get(to.0)
                .is_some_and(|progress| progress.state == raft::ProgressState::Snapshot);
            if !waits {
                self.snapshots_out.end(to);
            }
        }
        for failed in self.snapshots_out.tick(now.mono_ms, |to, message| out(Output::Peer { to, message })) {
            self.node.report_snapshot(failed.0, SnapshotStatus::Failure);
        }
    }

    /// The last index that a member is known to have; `None` for others unless this member leads.
    pub(super) fn matched(&self, member: RaftId) -> Option<LogIndex> {
        if member == self.config.raft_id {
            return self.node.store().last_index().ok().map(LogIndex);
        }
        self.lead.as_ref()?;
        self.node.raft.prs().get(member.0).map(|progress| LogIndex(progress.matched))
    }
}

fn parse(bytes: &[u8]) -> Option<Message> {
    Message::parse_from_bytes(bytes).ok()
}

/// Whether a peer may send this message. Proposals are never forwarded, since the leader stamps them, and
/// some features are not used.
fn is_acceptable(message: &Message) -> bool {
    match message.get_msg_type() {
        MessageType::MsgAppend => {
            let mut term = message.log_term;
            let mut entries = message.get_entries().iter().zip(message.index + 1..);
            entries.all(|(entry, index)| {
                let fits = entry.index == index && entry.term >= term && entry.term <= message.term;
                term = entry.term;
                fits
            })
        }
        MessageType::MsgAppendResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgSnapshot
        | MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse => true,
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader
        | MessageType::MsgTimeoutNow
        | MessageType::MsgReadIndex
        | MessageType::MsgReadIndexResp => false,
    }
}
