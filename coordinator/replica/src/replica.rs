//! Raft's work, in the order that keeps its promises: a leader's appends leave at once, everything is made
//! durable in one write and one sync, only then leaves what promises it, and what is committed is applied.

use super::batch::{Item, Slot};
use super::config::CoreConfig;
use super::io::{Now, Output};
use super::leadership::Speaker;
use super::log_cache::LogCache;
use super::peer_message::{Check, PeerMessage};
use super::{Core, CoreError, checks, raft_logger, snapshots};
use crate::apply;
use crate::disk::{Disk, DiskError, Recovered};
use muster_protocol::envelope::{Batch, ChainHead};
use muster_protocol::ids::{LogIndex, Term};
use muster_protocol::limits::BATCH_BYTES_MAX;
use muster_protocol::time::WallMs;
use raft::eraftpb::{ConfState, Entry};
use raft::{Config, RawNode, StateRole};
use std::slice;
use std::sync::Arc;

/// Bytes of entries in one append message, unless one entry is larger.
const APPEND_BYTES_MAX: u64 = 1 << 20;
/// Append messages to one member that are not answered yet.
const APPENDS_IN_FLIGHT_MAX: usize = 128;
/// Bytes of entries that are proposed and not committed.
const UNCOMMITTED_BYTES_MAX: u64 = 64 << 20;
/// Bytes of committed entries that are applied in one go.
const APPLY_BYTES_MAX: u64 = 8 << 20;

/// A raft node over what the disk holds.
pub(super) fn raft_node(config: &CoreConfig, recovered: Recovered) -> Result<RawNode<LogCache>, CoreError> {
    let mut voters: Vec<u64> = config.members.iter().map(|member| member.raft_id.0).collect();
    voters.sort_unstable();
    let members = ConfState { voters, ..ConfState::default() };
    let log = LogCache::new(recovered, members.clone()).map_err(CoreError::Disk)?;
    let mut known = log.conf_state().voters.clone();
    known.sort_unstable();
    if known != members.voters {
        let message = format!(
            "it belongs to a cluster of members {known:?}, but the settings say {:?}",
            members.voters
        );
        return Err(CoreError::Disk(message));
    }
    let raft = Config {
        id: config.raft_id.0,
        election_tick: config.election_ticks_min,
        heartbeat_tick: config.heartbeat_ticks,
        min_election_tick: config.election_ticks_min,
        max_election_tick: config.election_ticks_max,
        applied: log.snapshot_index(),
        max_size_per_msg: APPEND_BYTES_MAX,
        max_inflight_msgs: APPENDS_IN_FLIGHT_MAX,
        max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
        max_committed_size_per_ready: APPLY_BYTES_MAX,
        check_quorum: true,
        pre_vote: true,
        ..Config::default()
    };
    Ok(RawNode::new(&raft, log, &raft_logger::logger())?)
}

impl Core {
    /// What a leader does without being asked: its takeover, timers, the schedule; and at most one entry of
    /// what waits.
    pub(super) fn lead_on(&mut self, now: Now) {
        let Some(lead) = &mut self.lead else { return };
        if !lead.has_taken_over() {
            if let Some(item) = lead.takeover(now, &self.config, &self.state) {
                let dropped = self.propose(now, vec![item]);
                if let (Some(_), Some(lead)) = (dropped, &mut self.lead) {
                    lead.takeover_dropped(now, &self.config);
                }
            }
            return;
        }
        lead.plan(now, &self.state);
        let room = (self.node.raft.uncommitted_size() + BATCH_BYTES_MAX) as u64 <= UNCOMMITTED_BYTES_MAX;
        if lead.queue.is_empty() || !room {
            return;
        }
        let batch = lead.queue.next_batch();
        if let (Some(dropped), Some(lead)) = (self.propose(now, batch), &mut self.lead) {
            lead.queue.put_back(dropped);
        }
    }

    /// Stamps one entry, and proposes it. Gives it back if Raft does not take it now.
    fn propose(&mut self, now: Now, items: Vec<Item>) -> Option<Vec<Item>> {
        let Some(lead) = &mut self.lead else { return Some(items) };
        let log_ms = lead.log_ms(now).unwrap_or(self.state.now().log_ms);
        let mut commands = Vec::with_capacity(items.len());
        let mut slots: Vec<(Slot, u64, usize)> = Vec::with_capacity(items.len());
        for item in items {
            commands.push(item.envelope);
            slots.push((item.slot, item.deadline_ms, item.bytes));
        }
        let batch = Batch {
            cluster: self.config.cluster.clone(),
            term: lead.term,
            log_ms,
            wall_ms: WallMs(now.wall_ms),
            commands,
        };
        match self.node.propose(Vec::new(), batch.to_bytes()) {
            Ok(()) => {
                let index = LogIndex(self.node.raft.raft_log.last_index());
                lead.pending.push(
                    index,
                    slots.into_iter().map(|(slot, deadline_ms, _)| (slot, deadline_ms)).collect(),
                );
                None
            }
            Err(error) => {
                tracing::debug!(%error, "raft takes no proposal now");
                let items = batch.commands.into_iter().zip(slots);
                Some(
                    items
                        .map(|(envelope, (slot, deadline_ms, bytes))| Item {
                            envelope,
                            slot,
                            bytes,
                            deadline_ms,
                        })
                        .collect(),
                )
            }
        }
    }

    /// One round of Raft's work. `false`: there was none.
    pub(super) fn work_off_raft(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        out: &mut dyn FnMut(Output),
    ) -> Result<bool, DiskError> {
        if !self.node.has_ready() {
            return Ok(false);
        }
        let mut ready = self.node.ready();
        let leads = self.node.raft.state == StateRole::Leader;
        self.send(ready.take_messages(), out);
        let committed = ready.take_committed_entries();
        // What is committed was durable before. A leader answers first; a follower is first waited for.
        let (first, second) = if leads { (committed, Vec::new()) } else { (Vec::new(), committed) };
        self.apply(now, first, disk, out)?;
        if !ready.snapshot().is_empty() {
            self.install(ready.snapshot().clone(), disk, out)?;
        }
        let hard_state = ready.hs().cloned();
        let entries = ready.take_entries();
        if hard_state.is_some() || !entries.is_empty() {
            let hard_state = hard_state.unwrap_or_else(|| self.node.store().hard_state().clone());
            disk.append(&hard_state, self.node.store().conf_state(), &entries, ready.must_sync())?;
            let log = self.node.mut_store();
            log.append(entries);
            log.set_hard_state(hard_state);
            self.commit_dirty = false;
        }
        self.send(ready.take_persisted_messages(), out);
        self.apply(now, second, disk, out)?;
        let mut light = self.node.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.node.mut_store().set_commit(commit);
            self.commit_dirty = true;
        }
        self.send(light.take_messages(), out);
        self.apply(now, light.take_committed_entries(), disk, out)?;
        self.node.advance_apply();
        self.draw_election_timeout();
        self.tell_role(out);
        Ok(true)
    }

    fn apply(
        &mut self,
        now: Now,
        entries: Vec<Entry>,
        disk: &mut dyn Disk,
        out: &mut dyn FnMut(Output),
    ) -> Result<(), DiskError> {
        for entry in entries {
            if self.halted.is_some() {
                return Ok(());
            }
            assert_eq!(entry.index, self.state.applied().0 + 1, "entries are applied one after the other");
            let applied =
                apply::apply_entry(&mut self.state, LogIndex(entry.index), Term(entry.term), &entry.data);
            self.entries += 1;
            self.commands += applied.answers.len() as u64;
            self.bytes_since_snapshot += entry.data.len() as u64;
            disk.write_blocks(slice::from_ref(&applied.block))?;
            let applied = Arc::new(applied);
            out(Output::Applied(Arc::clone(&applied)));
            self.check_chain(out);
            self.check_version(out);
            if let Some(lead) = &mut self.lead {
                let mut speaker = Speaker { cluster: &self.config.cluster, term: lead.term, out };
                lead.applied(now, &self.config, &self.state, &applied, &mut speaker);
            }
        }
        if let Some(lead) = &mut self.lead {
            let mut speaker = Speaker { cluster: &self.config.cluster, term: lead.term, out };
            lead.tell(now, &self.state, &mut speaker);
        }
        Ok(())
    }

    /// Compares the chain with what the leader said of it, or says so as the leader.
    fn check_chain(&mut self, out: &mut dyn FnMut(Output)) {
        let ChainHead { index, hash: chain } = self.state.chain();
        if !index.0.is_multiple_of(checks::CHAIN_EVERY) {
            return;
        }
        let state = index.0.is_multiple_of(checks::STATE_EVERY).then(|| self.state.hash());
        let check = Check { index, chain, state };
        if let Some(complaint) = self.checks.reached(check) {
            return self.halt(format!("this coordinator has diverged from the leader: {complaint}"), out);
        }
        if self.lead.is_some() {
            self.others().for_each(|to| out(Output::Peer { to, message: PeerMessage::Check(check) }));
        }
    }

    /// A leader's snapshot replaces the state and the log.
    fn install(
        &mut self,
        snapshot: raft::eraftpb::Snapshot,
        disk: &mut dyn Disk,
        out: &mut dyn FnMut(Output),
    ) -> Result<(), DiskError> {
        match snapshots::open(&snapshot, &self.config.cluster) {
            Ok(state) => self.state = state,
            Err(why) => {
                self.halt(format!("a snapshot that was read before cannot be read now: {why}"), out);
                return Ok(());
            }
        }
        disk.save_snapshot(&snapshot)?;
        let index = LogIndex(snapshot.get_metadata().index);
        self.node.mut_store().install(snapshot);
        self.checks.restart();
        self.bytes_since_snapshot = 0;
        out(Output::Replaced { index });
        self.check_version(out);
        Ok(())
    }
}
