//! What other members say, checked before Raft sees it; and what Raft says to them.
//!
//! raft-rs trusts its peers, and panics at some of what a broken one may say. So messages are checked first,
//! and a panic stops this member instead of the process around it.

use super::io::{Now, Output, Role};
use super::peer_message::{PeerMessage, RaftBytes};
use super::{Core, snapshots};
use muster_protocol::ids::{LogIndex, RaftId};
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use raft::{SnapshotStatus, Storage};
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Core {
    /// Another member said something.
    pub(super) fn hear_peer(
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
            PeerMessage::Raft(raft) => self.hear_raft(now, from, &raft.bytes, out),
            PeerMessage::SnapshotChunk(chunk) => {
                if let Some(bytes) = self.incoming.take(now.mono_ms, from, chunk) {
                    self.hear_snapshot(now, from, &bytes, out);
                }
            }
            PeerMessage::AskBlocks(ask) => self.backfill.request(from, ask),
            PeerMessage::Blocks(blocks) => self.backfill.answer(from, blocks),
            PeerMessage::Check(check) => {
                if let Some(complaint) = self.checks.heard(check) {
                    self.halt(format!("this coordinator has diverged from the leader: {complaint}"), out);
                }
            }
        }
    }

    fn hear_raft(&mut self, now: Now, from: RaftId, bytes: &[u8], out: &mut dyn FnMut(Output)) {
        match parse(bytes) {
            Some(message) if message.get_msg_type() != MessageType::MsgSnapshot => {
                self.step(now, from, message, out)
            }
            Some(_) | None => tracing::warn!(%from, "a message of another member is none of Raft's"),
        }
    }

    fn hear_snapshot(&mut self, now: Now, from: RaftId, bytes: &[u8], out: &mut dyn FnMut(Output)) {
        let Some(message) = parse(bytes).filter(|message| message.get_msg_type() == MessageType::MsgSnapshot)
        else {
            return tracing::warn!(%from, "a snapshot of another member is none of Raft's messages");
        };
        // A state that cannot be read must not replace one that can.
        if let Err(why) = snapshots::open(message.get_snapshot(), &self.config.cluster) {
            return tracing::error!(%from, why, "a snapshot of another member is refused");
        }
        self.step(now, from, message, out);
    }

    fn step(&mut self, now: Now, from: RaftId, message: Message, out: &mut dyn FnMut(Output)) {
        if message.from != from.0 || message.to != self.config.raft_id.0 || !is_welcome(&message) {
            return tracing::warn!(%from, kind = ?message.get_msg_type(), "a message of another member makes no sense");
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
            lead.heard_from(from, now);
        }
        match catch_unwind(AssertUnwindSafe(|| self.node.step(message))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%from, %error, "raft dropped a message"),
            Err(_) => self.halt(format!("raft cannot go on after a message of member {from}"), out),
        }
    }

    /// A message to that member was dropped.
    pub(super) fn lost_touch(&mut self, peer: RaftId) {
        if self.told.0 == Role::Leader && self.others().any(|other| other == peer) {
            self.node.report_unreachable(peer.0);
            if self.outgoing.end(peer) {
                self.node.report_snapshot(peer.0, SnapshotStatus::Failure);
            }
        }
    }

    /// Gives out Raft's messages. Snapshots leave in chunks, tick by tick.
    pub(super) fn send(&mut self, messages: Vec<Message>, out: &mut dyn FnMut(Output)) {
        for message in messages {
            let to = RaftId(message.to);
            let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
            let bytes = message.write_to_bytes().expect("every field of a message of raft's own is set");
            if is_snapshot {
                self.outgoing.start(to, bytes);
            } else {
                out(Output::Peer { to, message: PeerMessage::Raft(RaftBytes { bytes }) });
            }
        }
    }

    /// Sends what is due of snapshots, and tells Raft of those that failed.
    pub(super) fn send_snapshots(&mut self, now: Now, out: &mut dyn FnMut(Output)) {
        for to in self.outgoing.receivers() {
            let waits = self
                .node
                .raft
                .prs()
                .get(to.0)
                .is_some_and(|progress| progress.state == raft::ProgressState::Snapshot);
            if !waits {
                self.outgoing.end(to);
            }
        }
        for failed in self.outgoing.tick(now.mono_ms, |to, message| out(Output::Peer { to, message })) {
            self.node.report_snapshot(failed.0, SnapshotStatus::Failure);
        }
    }

    /// The last index that a member is known to have, as this leader knows it.
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

/// Whether another member may say this. Proposals are never passed on, since the leader stamps them; nobody
/// asks for what is not used.
fn is_welcome(message: &Message) -> bool {
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
