//! The replica itself: what it owns, and its two entry points, `handle` and `settle`.

use crate::backfill::Backfill;
use crate::command_queue::{QueuedCommand, Waiter};
use crate::config::ReplicaConfig;
use crate::disk::{Disk, DiskCounters, DiskError, Recovered};
use crate::divergence::DivergenceChecks;
use crate::election::election_ticks;
use crate::error::ReplicaError;
use crate::io::{CommandError, Input, Now, Output, Role};
use crate::leadership::Leadership;
use crate::log_cache::LogCache;
use crate::raft_node::raft_node;
use crate::snapshot_transfer::{SnapshotReceiver, SnapshotSender};
use crate::snapshots;
use crate::tails::{self, TailRequest};
use crate::worker_sender::WorkerSender;
use muster_machine::State;
use muster_protocol::bus::UpEnvelope;
use muster_protocol::envelope::{Answer, Envelope, Rejected};
use muster_protocol::ids::{LogIndex, RaftId, Term};
use muster_protocol::limits::{COMMAND_BYTES_MAX, COMMIT_TIMEOUT_MS, DECIDE_VERSION};
use muster_protocol::rejection::{Detail, Rejection};
use raft::{RawNode, StateRole};

/// With less free space than this, clients' commands are refused: entries already on their way need room.
pub const FREE_BYTES_RESERVE: u64 = 128 << 20;
const SPACE_CHECK_INTERVAL_MS: u64 = 1_000;
/// After a pause of more ticks than this, the driver itself stood still: the silence of workers during the
/// pause proves nothing.
const STALL_TICKS: u64 = 5;
/// How often waiting clients are checked for timeouts.
const EXPIRY_INTERVAL_MS: u64 = 500;

/// One member of the cluster: Raft, the replicated state, and while it leads, a leader's duties.
///
/// One thread owns it and drives it in one loop (`ReplicaThread` in `muster-coordinator`):
///
/// ```text
/// loop {
///     wait for an input or for the next tick
///     for each input that has arrived { replica.handle(now, input, out) }
///     replica.settle(now, disk, out)?
/// }
/// ```
///
/// `handle` changes memory only. `settle` proposes what is queued, runs Raft's ready cycle until it is empty,
/// writes and syncs once per cycle, applies what is committed and answers. So all inputs that arrive during
/// one sync share the next one (group commit), and nothing is promised before it is durable. The cycle itself
/// is in `ready.rs`; scheduling and dispatch begin in `leadership.rs`.
///
/// **Cost.** Everything runs on one thread: deciding, folding, syncs, snapshots and the hash of the whole
/// state. Whatever takes long delays heartbeats, commits and reads alike; a snapshot or a state hash of a
/// large state is the longest of them. In return nothing is locked, outputs follow from inputs, and the
/// simulator can replay any schedule from a seed.
pub struct Replica {
    pub(crate) config: ReplicaConfig,
    pub(crate) node: RawNode<LogCache>,
    pub(crate) state: State,
    pub(crate) lead: Option<Leadership>,
    /// Role, leader and term as of the last [`Output::RoleChanged`].
    pub(crate) published: (Role, Option<RaftId>, Term),
    pub(crate) halted: Option<String>,
    pub(crate) snapshots_out: SnapshotSender,
    pub(crate) snapshots_in: SnapshotReceiver,
    pub(crate) backfill: Backfill,
    pub(crate) divergence: DivergenceChecks,
    pub(crate) bytes_since_snapshot: u64,
    pub(crate) disk_counters: DiskCounters,
    /// Applied since the start.
    pub(crate) commands: u64,
    pub(crate) entries: u64,
    space_low: bool,
    space_checked_ms: Option<u64>,
    expiry_checked_ms: u64,
    last_input_ms: Option<u64>,
}

impl Replica {
    /// A replica as its disk holds it. Entries that were committed after the snapshot are applied by the
    /// first [`Replica::settle`].
    ///
    /// # Errors
    /// If the settings are inconsistent, or do not fit what the disk holds.
    pub fn new(config: ReplicaConfig, recovered: Recovered) -> Result<Replica, ReplicaError> {
        config.check().map_err(ReplicaError::Config)?;
        let backfill = Backfill::new(recovered.ledger.clone());
        let state = match &recovered.snapshot {
            None => State::new(&config.cluster),
            Some(snapshot) => snapshots::open(snapshot, &config.cluster).map_err(ReplicaError::Disk)?,
        };
        let node = raft_node(&config, recovered)?;
        let mut replica = Replica {
            config,
            node,
            state,
            lead: None,
            published: (Role::Follower, None, Term(0)),
            halted: None,
            snapshots_out: SnapshotSender::default(),
            snapshots_in: SnapshotReceiver::default(),
            backfill,
            divergence: DivergenceChecks::default(),
            bytes_since_snapshot: 0,
            disk_counters: DiskCounters::default(),
            commands: 0,
            entries: 0,
            space_low: false,
            space_checked_ms: None,
            expiry_checked_ms: 0,
            last_input_ms: None,
        };
        if replica.config.members.len() == 1 {
            // No other member can lead, so there is no election timeout to wait for.
            replica.node.campaign()?;
        }
        replica.draw_election_timeout();
        Ok(replica)
    }

    /// Takes one input. It does no IO; call [`Replica::settle`] before waiting for the next one.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut dyn FnMut(Output)) {
        if self.halted.is_some() {
            if let Input::Command { token, envelope: _ } = input {
                out(Output::Answered { token, result: Err(CommandError::NotLeader { leader: None }) });
            }
            return;
        }
        self.forgive_stall(now);
        match input {
            Input::Tick => self.tick(now, out),
            Input::Peer { from, message } => self.handle_peer_message(now, from, message, out),
            Input::Unreachable { peer } => self.peer_unreachable(peer),
            Input::Command { token, envelope } => self.enqueue_command(now, token, envelope, out),
            Input::Up(up) => self.handle_worker_message(now, *up, out),
            Input::OpenTail { id, attempt, stream, offset, follow, credit_bytes } => {
                self.open_tail(now, TailRequest { id, attempt, stream, offset, follow, credit_bytes }, out);
            }
            Input::CloseTail { id } => {
                if let Some(lead) = &mut self.lead {
                    let mut sender = WorkerSender::new(&self.config.cluster, lead.term, out);
                    lead.tails.close(id, &mut lead.sessions, &mut sender);
                }
            }
        }
        self.draw_election_timeout();
        self.publish_role(out);
    }

    /// Makes durable what the inputs led to, sends what depends on it, and applies what is committed.
    ///
    /// # Errors
    /// If the disk failed. It can no longer be trusted: drop the replica.
    pub fn settle(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        out: &mut dyn FnMut(Output),
    ) -> Result<(), DiskError> {
        if self.halted.is_some() {
            return Ok(());
        }
        if self.space_checked_ms.is_none_or(|checked_ms| now.mono_ms >= checked_ms + SPACE_CHECK_INTERVAL_MS)
        {
            self.space_checked_ms = Some(now.mono_ms);
            self.space_low = disk.free_bytes() < FREE_BYTES_RESERVE;
        }
        loop {
            self.propose_queued(now);
            if !self.process_ready(now, disk, out)? {
                break;
            }
            if self.halted.is_some() {
                return Ok(());
            }
        }
        if self.node.mut_store().take_unsaved_commit() {
            let log = self.node.store();
            disk.append(log.hard_state(), log.conf_state(), &[], false)?;
        }
        self.snapshot_if_due(disk)?;
        self.backfill.set_held(disk.ledger());
        let others: Vec<RaftId> = self.others().collect();
        self.backfill.advance(now, self.state.chain(), &others, disk, out)?;
        self.disk_counters = disk.counters();
        Ok(())
    }

    fn forgive_stall(&mut self, now: Now) {
        let gap_ms = self.last_input_ms.map_or(0, |last_ms| now.mono_ms.saturating_sub(last_ms));
        self.last_input_ms = Some(now.mono_ms);
        if gap_ms > STALL_TICKS * self.config.tick_ms
            && let Some(lead) = &mut self.lead
        {
            lead.sessions.forgive_silence(gap_ms);
            // Messages that waited during the stall may be old, so they do not prove that the members still
            // follow this leader: they have to answer anew.
            lead.clear_contacts();
        }
    }

    fn tick(&mut self, now: Now, out: &mut dyn FnMut(Output)) {
        self.node.tick();
        self.draw_election_timeout();
        self.publish_role(out);
        self.send_snapshots(now, out);
        self.snapshots_in.expire(now.mono_ms);
        let Some(lead) = &mut self.lead else { return };
        lead.check_liveness(now, &self.config, &self.state);
        let mut sender = WorkerSender::new(&self.config.cluster, lead.term, out);
        lead.tails.resend(now.mono_ms, &self.state, &mut lead.sessions, &mut sender);
        if now.mono_ms >= self.expiry_checked_ms + EXPIRY_INTERVAL_MS {
            self.expiry_checked_ms = now.mono_ms;
            lead.expire(now, out);
        }
    }

    fn enqueue_command(&mut self, now: Now, token: u64, envelope: Envelope, out: &mut dyn FnMut(Output)) {
        let leader = self.leader();
        let refused = match &self.lead {
            None => Some(CommandError::NotLeader { leader }),
            Some(_) if self.space_low => Some(CommandError::DiskFull),
            Some(lead) if lead.is_full() => Some(CommandError::Overloaded),
            Some(_) => None,
        };
        if let Some(error) = refused {
            return out(Output::Answered { token, result: Err(error) });
        }
        let deadline_ms = now.mono_ms.saturating_add(COMMIT_TIMEOUT_MS);
        let queued = QueuedCommand::new(envelope, Waiter::Client { token }, deadline_ms);
        if queued.bytes > COMMAND_BYTES_MAX {
            let message =
                format!("the command takes {} bytes; {COMMAND_BYTES_MAX} are possible", queued.bytes);
            let rejection = Rejection::LimitExceeded(Detail { message });
            let answer = Answer::Rejected(Rejected { index: LogIndex(0), rejection });
            return out(Output::Answered { token, result: Ok(answer) });
        }
        if let Some(lead) = &mut self.lead {
            lead.queue.push(queued);
        }
    }

    fn handle_worker_message(&mut self, now: Now, up: UpEnvelope, out: &mut dyn FnMut(Output)) {
        if up.cluster != self.config.cluster {
            return;
        }
        if let Some(lead) = &mut self.lead {
            let mut sender = WorkerSender::new(&self.config.cluster, lead.term, out);
            lead.handle_worker_message(now, &self.config, &self.state, up, &mut sender);
        }
    }

    fn open_tail(&mut self, now: Now, request: TailRequest, out: &mut dyn FnMut(Output)) {
        let Some(lead) = self.lead.as_mut().filter(|lead| lead.has_taken_over()) else {
            return out(Output::Tail(tails::failed(
                request.id,
                request.attempt,
                request.offset,
                "this coordinator does not lead",
            )));
        };
        let worker = lead.dispatcher.worker_of(request.attempt);
        let mut sender = WorkerSender::new(&self.config.cluster, lead.term, out);
        lead.tails.open(now.mono_ms, request, worker, &self.state, &mut lead.sessions, &mut sender);
    }

    /// raft-rs draws an election timeout from a thread-local generator whenever its role or term changes.
    /// Replace it by one that follows from the seed, the term and the role, whether it was drawn anew or not,
    /// so that no randomness is left.
    pub(crate) fn draw_election_timeout(&mut self) {
        let ticks = election_ticks(&self.config, self.node.raft.term, self.node.raft.state);
        self.node.raft.set_randomized_election_timeout(ticks);
    }

    /// Hands out a change of role, leader or term, and begins or ends a leadership.
    pub(crate) fn publish_role(&mut self, out: &mut dyn FnMut(Output)) {
        if self.halted.is_some() {
            return;
        }
        let role = match self.node.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        };
        let leader = Some(RaftId(self.node.raft.leader_id)).filter(|leader| *leader != RaftId(0));
        let term = Term(self.node.raft.term);
        if self.published == (role, leader, term) {
            return;
        }
        self.published = (role, leader, term);
        if let Some(lead) = self.lead.take_if(|lead| role != Role::Leader || lead.term != term) {
            lead.resign(leader, out);
            self.snapshots_out = SnapshotSender::default();
        }
        if role == Role::Leader && self.lead.is_none() {
            self.lead = Some(Leadership::new(term));
        }
        out(Output::RoleChanged { role, leader, term });
    }

    /// Stops serving for good.
    pub(crate) fn halt(&mut self, reason: String, out: &mut dyn FnMut(Output)) {
        if self.halted.is_none() {
            tracing::error!(reason, "this coordinator stops serving");
            if let Some(lead) = self.lead.take() {
                lead.resign(None, out);
            }
            self.halted = Some(reason.clone());
            out(Output::Halt { reason });
        }
    }

    /// Halts if this program is too old for the version in the state.
    pub(crate) fn check_version(&mut self, out: &mut dyn FnMut(Output)) {
        let version = self.state.decide_version();
        if version > DECIDE_VERSION {
            let reason = format!(
                "the log needs decide version {version}, but this program knows {DECIDE_VERSION}: install a newer one"
            );
            self.halt(reason, out);
        }
    }

    /// Simulates a bug or a bad memory cell.
    #[cfg(test)]
    pub(crate) fn corrupt_chain(&mut self) {
        let head = self.state.chain();
        self.state.seal(muster_protocol::envelope::ChainHead {
            hash: muster_protocol::ids::Digest::of(b"spoilt"),
            ..head
        });
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = RaftId> + '_ {
        self.config
            .members
            .iter()
            .map(|member| member.raft_id)
            .filter(|member| *member != self.config.raft_id)
    }
}
