//! Raft's ready cycle, in the order that keeps its promises: a leader's appends leave at once, everything is
//! made durable in one write and one sync, only then do the messages leave that promise it, and committed
//! entries are applied.

use crate::apply;
use crate::command_queue::{QueuedCommand, Waiter};
use crate::disk::{Disk, DiskError};
use crate::divergence;
use crate::io::{Now, Output};
use crate::peer_message::{Check, PeerMessage};
use crate::raft_node::UNCOMMITTED_BYTES_MAX;
use crate::replica::Replica;
use crate::snapshots;
use crate::worker_sender::WorkerSender;
use muster_protocol::envelope::{Batch, ChainHead};
use muster_protocol::ids::{LogIndex, Term};
use muster_protocol::limits::BATCH_BYTES_MAX;
use muster_protocol::time::WallMs;
use raft::StateRole;
use raft::eraftpb::{Entry, Snapshot};
use std::slice;

impl Replica {
    /// Proposes as a leader: its takeover first; then due timers, a schedule, and at most one entry of queued
    /// commands.
    pub(super) fn propose_queued(&mut self, now: Now) {
        let Some(lead) = &mut self.lead else { return };
        if !lead.has_taken_over() {
            if let Some(takeover) = lead.takeover(now, &self.config, &self.state) {
                let dropped = self.propose(now, vec![takeover]);
                if let (Some(_), Some(lead)) = (dropped, &mut self.lead) {
                    lead.takeover_dropped(now, &self.config);
                }
            }
            return;
        }
        lead.propose_due(now, &self.state);
        let fits = (self.node.raft.uncommitted_size() + BATCH_BYTES_MAX) as u64 <= UNCOMMITTED_BYTES_MAX;
        if lead.queue.is_empty() || !fits {
            return;
        }
        let batch = lead.queue.next_batch();
        if let (Some(dropped), Some(lead)) = (self.propose(now, batch), &mut self.lead) {
            lead.queue.put_back(dropped);
        }
    }

    /// Stamps one entry and proposes it. Returns the commands if Raft does not take them now.
    fn propose(&mut self, now: Now, queued: Vec<QueuedCommand>) -> Option<Vec<QueuedCommand>> {
        let Some(lead) = &mut self.lead else { return Some(queued) };
        let log_ms = lead.log_ms(now).unwrap_or(self.state.now().log_ms);
        let mut commands = Vec::with_capacity(queued.len());
        let mut waiters: Vec<(Waiter, u64, usize)> = Vec::with_capacity(queued.len());
        for command in queued {
            commands.push(command.envelope);
            waiters.push((command.waiter, command.deadline_ms, command.bytes));
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
                let waiters = waiters.into_iter().map(|(waiter, deadline_ms, _)| (waiter, deadline_ms));
                lead.proposed.push(index, waiters.collect());
                None
            }
            Err(error) => {
                tracing::debug!(%error, "raft takes no proposal now");
                let commands = batch.commands.into_iter().zip(waiters);
                let queued = commands.map(|(envelope, (waiter, deadline_ms, bytes))| QueuedCommand {
                    envelope,
                    waiter,
                    bytes,
                    deadline_ms,
                });
                Some(queued.collect())
            }
        }
    }

    /// One ready cycle. `false`: there was nothing to do.
    pub(super) fn process_ready(
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
        // Committed entries are durable already. A leader applies them first, since clients wait for them; a
        // follower syncs first, since the leader waits for that.
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
        }
        self.send(ready.take_persisted_messages(), out);
        self.apply(now, second, disk, out)?;
        let mut light = self.node.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.node.mut_store().set_commit(commit);
        }
        self.send(light.take_messages(), out);
        self.apply(now, light.take_committed_entries(), disk, out)?;
        self.node.advance_apply();
        self.draw_election_timeout();
        self.publish_role(out);
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
            if self.config.report_applied {
                out(Output::Applied(Box::new(applied.clone())));
            }
            self.check_divergence(out);
            self.check_version(out);
            if let Some(lead) = &mut self.lead {
                let mut sender = WorkerSender::new(&self.config.cluster, lead.term, out);
                lead.applied(now, &self.config, &self.state, &applied, &mut sender);
            }
        }
        if let Some(lead) = &mut self.lead {
            let mut sender = WorkerSender::new(&self.config.cluster, lead.term, out);
            lead.dispatch(now, &self.state, &mut sender);
        }
        Ok(())
    }

    /// A follower compares its chain with the leader's; the leader sends its own.
    fn check_divergence(&mut self, out: &mut dyn FnMut(Output)) {
        let ChainHead { index, hash: chain } = self.state.chain();
        if !index.0.is_multiple_of(divergence::CHAIN_EVERY) {
            return;
        }
        let state = index.0.is_multiple_of(divergence::STATE_EVERY).then(|| self.state.hash());
        let check = Check { index, chain, state };
        if let Some(difference) = self.divergence.reached(check) {
            return self.halt(format!("this coordinator has diverged from the leader: {difference}"), out);
        }
        if self.lead.is_some() {
            self.others().for_each(|to| out(Output::Peer { to, message: PeerMessage::Check(check) }));
        }
    }

    /// Replaces the state and the log by a leader's snapshot.
    fn install(
        &mut self,
        snapshot: Snapshot,
        disk: &mut dyn Disk,
        out: &mut dyn FnMut(Output),
    ) -> Result<(), DiskError> {
        match snapshots::open(&snapshot, &self.config.cluster) {
            Ok(state) => self.state = state,
            Err(error) => {
                self.halt(format!("a snapshot that was read before cannot be read now: {error}"), out);
                return Ok(());
            }
        }
        disk.save_snapshot(&snapshot)?;
        let index = LogIndex(snapshot.get_metadata().index);
        self.node.mut_store().install(snapshot);
        self.divergence.restart();
        self.bytes_since_snapshot = 0;
        out(Output::SnapshotInstalled { index });
        self.check_version(out);
        Ok(())
    }

    /// Takes a snapshot if one is due, and truncates the log.
    pub(super) fn snapshot_if_due(&mut self, disk: &mut dyn Disk) -> Result<(), DiskError> {
        let log = self.node.store();
        let entries = self.state.applied().0 - log.snapshot_index();
        let due = entries >= self.config.snapshot_every_entries
            || self.bytes_since_snapshot >= self.config.snapshot_every_bytes
            || log.snapshot_requested();
        if due && entries > 0 {
            let keep_entries = self.config.keep_entries;
            if snapshots::take(&self.state, self.node.mut_store(), keep_entries, disk)? {
                self.bytes_since_snapshot = 0;
            }
        }
        Ok(())
    }
}
