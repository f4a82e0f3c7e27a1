//! The replica as one synchronous state machine: raft-rs, the application of what is committed, and a
//! leader's duties.
//!
//! Inputs go in by [`Core::handle`], which does no IO; [`Core::settle`] then writes what must be durable, in
//! few syncs, and gives out what may be said because of it. It reads no clock, and draws no random number:
//! the same inputs give the same outputs.

mod answers;
pub mod apply;
mod backfill;
mod batch;
mod checks;
mod clock;
mod config;
pub mod disk;
mod dispatch;
mod elections;
mod hearing;
mod io;
mod leadership;
mod log_cache;
mod peer_message;
mod peers;
mod raft_logger;
mod replica;
mod sessions;
mod snapshots;
mod status;
mod tails;
#[cfg(test)]
mod tests;
mod transfers;

pub use config::{CoreConfig, MemberConfig};
pub use io::{Input, Now, Output, Role, Unanswered};
pub use peer_message::{
    AskBlocks, BLOCKS_BYTES_MAX, Blocks, CHUNK_BYTES_MAX, Check, PeerMessage, RaftBytes, SnapshotChunk,
};

use crate::disk::{Disk, DiskCounters, DiskError, LedgerSpan, Recovered};
use backfill::Backfill;
use batch::{Item, Slot};
use checks::Checks;
use leadership::{Leadership, Speaker};
use log_cache::LogCache;
use muster_machine::State;
use muster_protocol::bus::UpEnvelope;
use muster_protocol::envelope::{Answer, Envelope, Rejected};
use muster_protocol::ids::{LogIndex, RaftId, Term};
use muster_protocol::limits::{COMMAND_BYTES_MAX, COMMIT_TIMEOUT_MS, DECIDE_VERSION};
use muster_protocol::rejection::{Detail, Rejection};
use raft::RawNode;
use tails::Wanted;
use transfers::{Incoming, Outgoing};

/// Below this much free space, clients' commands are refused; what is on its way needs some room to end.
pub const FREE_BYTES_RESERVE: u64 = 128 << 20;
/// How often free space is looked at.
const SPACE_EVERY_MS: u64 = 1_000;
/// A driver that was silent for more ticks than this stood still: its workers' silence meanwhile says
/// nothing.
const STALL_TICKS: u64 = 5;
/// How often waiting clients are looked at.
const EXPIRE_EVERY_MS: u64 = 500;

/// Why a core cannot start.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The settings do not fit together.
    #[error("use these settings: {0}")]
    Config(String),
    /// What the disk holds does not fit together, or not with the settings.
    #[error("start from this disk: {0}")]
    Disk(String),
    /// raft-rs refused.
    #[error("start raft: {0}")]
    Raft(#[from] raft::Error),
}

/// A replica.
pub struct Core {
    config: CoreConfig,
    node: RawNode<LogCache>,
    state: State,
    lead: Option<Leadership>,
    /// Role, leader and term as they were last given out.
    told: (Role, Option<RaftId>, Term),
    halted: Option<String>,
    outgoing: Outgoing,
    incoming: Incoming,
    backfill: Backfill,
    checks: Checks,
    ledger: LedgerSpan,
    /// The commit index in memory is newer than the one on the disk.
    commit_dirty: bool,
    bytes_since_snapshot: u64,
    disk_counters: DiskCounters,
    commands: u64,
    entries: u64,
    space_low: bool,
    space_checked_ms: Option<u64>,
    expired_ms: u64,
    last_input_ms: Option<u64>,
}

impl Core {
    /// A replica as its disk holds it. What was committed after the snapshot is applied by the first
    /// [`Core::settle`].
    pub fn new(config: CoreConfig, recovered: Recovered) -> Result<Core, CoreError> {
        config.check().map_err(CoreError::Config)?;
        let ledger = recovered.ledger.clone();
        let state = match &recovered.snapshot {
            None => State::new(&config.cluster),
            Some(snapshot) => snapshots::open(snapshot, &config.cluster).map_err(CoreError::Disk)?,
        };
        let node = replica::raft_node(&config, recovered)?;
        let mut core = Core {
            config,
            node,
            state,
            lead: None,
            told: (Role::Follower, None, Term(0)),
            halted: None,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            backfill: Backfill::default(),
            checks: Checks::default(),
            ledger,
            commit_dirty: false,
            bytes_since_snapshot: 0,
            disk_counters: DiskCounters::default(),
            commands: 0,
            entries: 0,
            space_low: false,
            space_checked_ms: None,
            expired_ms: 0,
            last_input_ms: None,
        };
        if core.config.members.len() == 1 {
            // Nobody else can lead: there is nothing to wait for.
            core.node.campaign()?;
        }
        core.draw_election_timeout();
        Ok(core)
    }

    /// Takes an input. No IO happens; [`Core::settle`] must follow before anything is waited for.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut dyn FnMut(Output)) {
        if self.halted.is_some() {
            if let Input::Command { token, envelope: _ } = input {
                out(Output::Answered { token, result: Err(Unanswered::NotLeader { leader: None }) });
            }
            return;
        }
        self.excuse_stall(now);
        match input {
            Input::Tick => self.tick(now, out),
            Input::Peer { from, message } => self.hear_peer(now, from, message, out),
            Input::Unreachable { peer } => self.lost_touch(peer),
            Input::Command { token, envelope } => self.command(now, token, envelope, out),
            Input::Up(up) => self.hear_worker(now, *up, out),
            Input::OpenTail { token: _, id, attempt, stream, offset, follow, credit_bytes } => {
                self.open_tail(now, Wanted { id, attempt, stream, offset, follow, credit_bytes }, out);
            }
            Input::CloseTail { id } => {
                if let Some(lead) = &mut self.lead {
                    let mut speaker = Speaker { cluster: &self.config.cluster, term: lead.term, out };
                    lead.tails.close(id, &mut lead.sessions, &mut speaker);
                }
            }
        }
        self.draw_election_timeout();
        self.tell_role(out);
    }

    /// Writes, promises and applies whatever the inputs led to. An error means that the disk can no longer be
    /// trusted: drop the core.
    pub fn settle(
        &mut self,
        now: Now,
        disk: &mut dyn Disk,
        out: &mut dyn FnMut(Output),
    ) -> Result<(), DiskError> {
        if self.halted.is_some() {
            return Ok(());
        }
        if self.space_checked_ms.is_none_or(|checked_ms| now.mono_ms >= checked_ms + SPACE_EVERY_MS) {
            self.space_checked_ms = Some(now.mono_ms);
            self.space_low = disk.free_bytes() < FREE_BYTES_RESERVE;
        }
        loop {
            self.lead_on(now);
            if !self.work_off_raft(now, disk, out)? {
                break;
            }
            if self.halted.is_some() {
                return Ok(());
            }
        }
        if self.commit_dirty {
            let log = self.node.store();
            disk.append(log.hard_state(), log.conf_state(), &[], false)?;
            self.commit_dirty = false;
        }
        self.keep_snapshot(disk)?;
        self.ledger = disk.ledger();
        self.fill_ledger(now, disk, out)?;
        self.disk_counters = disk.counters();
        Ok(())
    }

    fn excuse_stall(&mut self, now: Now) {
        let gap_ms = self.last_input_ms.map_or(0, |last_ms| now.mono_ms.saturating_sub(last_ms));
        self.last_input_ms = Some(now.mono_ms);
        if gap_ms > STALL_TICKS * self.config.tick_ms
            && let Some(lead) = &mut self.lead
        {
            lead.sessions.excuse(gap_ms);
            // What was heard while it stood still may be old: it is sure again once the members have answered
            // anew.
            lead.forget_contacts();
        }
    }

    fn tick(&mut self, now: Now, out: &mut dyn FnMut(Output)) {
        self.node.tick();
        self.draw_election_timeout();
        self.tell_role(out);
        self.send_snapshots(now, out);
        self.incoming.expire(now.mono_ms);
        let Some(lead) = &mut self.lead else { return };
        lead.watch(now, &self.config, &self.state);
        let mut speaker = Speaker { cluster: &self.config.cluster, term: lead.term, out };
        lead.tails.say_again(now.mono_ms, &self.state, &mut lead.sessions, &mut speaker);
        if now.mono_ms >= self.expired_ms + EXPIRE_EVERY_MS {
            self.expired_ms = now.mono_ms;
            lead.expire(now, out);
        }
    }

    fn command(&mut self, now: Now, token: u64, envelope: Envelope, out: &mut dyn FnMut(Output)) {
        let leader = self.leader();
        let refused = match &self.lead {
            None => Some(Unanswered::NotLeader { leader }),
            Some(_) if self.space_low => Some(Unanswered::NoSpace),
            Some(lead) if lead.is_full() => Some(Unanswered::Overloaded),
            Some(_) => None,
        };
        if let Some(why) = refused {
            return out(Output::Answered { token, result: Err(why) });
        }
        let item = Item::new(envelope, Slot::Client { token }, now.mono_ms.saturating_add(COMMIT_TIMEOUT_MS));
        if item.bytes > COMMAND_BYTES_MAX {
            let message = format!("the command takes {} bytes; {COMMAND_BYTES_MAX} are possible", item.bytes);
            let rejection = Rejection::LimitExceeded(Detail { message });
            let answer = Answer::Rejected(Rejected { index: LogIndex(0), rejection });
            return out(Output::Answered { token, result: Ok(answer) });
        }
        if let Some(lead) = &mut self.lead {
            lead.queue.push(item);
        }
    }

    fn hear_worker(&mut self, now: Now, up: UpEnvelope, out: &mut dyn FnMut(Output)) {
        if up.cluster != self.config.cluster {
            return;
        }
        if let Some(lead) = &mut self.lead {
            let mut speaker = Speaker { cluster: &self.config.cluster, term: lead.term, out };
            lead.hear(now, &self.config, &self.state, up, &mut speaker);
        }
    }

    fn open_tail(&mut self, now: Now, wanted: Wanted, out: &mut dyn FnMut(Output)) {
        let Some(lead) = self.lead.as_mut().filter(|lead| lead.has_taken_over()) else {
            return out(Output::Tail(tails::failed(
                wanted.id,
                wanted.attempt,
                wanted.offset,
                "this coordinator does not lead",
            )));
        };
        let home = lead.dispatch.home(wanted.attempt);
        let mut speaker = Speaker { cluster: &self.config.cluster, term: lead.term, out };
        lead.tails.open(now.mono_ms, wanted, home, &self.state, &mut lead.sessions, &mut speaker);
    }

    /// Stops serving, for good.
    fn halt(&mut self, reason: String, out: &mut dyn FnMut(Output)) {
        if self.halted.is_none() {
            tracing::error!(reason, "this coordinator stops serving");
            if let Some(lead) = self.lead.take() {
                lead.resign(None, out);
            }
            self.halted = Some(reason.clone());
            out(Output::Halt { reason });
        }
    }

    /// Whether this program may decide by the version in the state.
    fn check_version(&mut self, out: &mut dyn FnMut(Output)) {
        let version = self.state.decide_version();
        if version > DECIDE_VERSION {
            let reason = format!(
                "the log needs decide version {version}, but this program knows {DECIDE_VERSION}: install a newer one"
            );
            self.halt(reason, out);
        }
    }

    /// A bug, or a bad memory cell.
    #[cfg(test)]
    fn spoil_chain(&mut self) {
        let head = self.state.chain();
        self.state.seal(muster_protocol::envelope::ChainHead {
            hash: muster_protocol::ids::Digest::of(b"spoilt"),
            ..head
        });
    }

    fn others(&self) -> impl Iterator<Item = RaftId> + '_ {
        self.config
            .members
            .iter()
            .map(|member| member.raft_id)
            .filter(|member| *member != self.config.raft_id)
    }
}
