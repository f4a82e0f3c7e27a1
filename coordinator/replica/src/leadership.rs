//! What a member does and remembers while it leads, for one term.
//!
//! It begins with a takeover entry, and proposes nothing else before that is applied: then everything of
//! earlier terms is applied too, log time continues from there, and every worker has a whole lease.

use crate::clock::LogClock;
use crate::command_queue::{CommandQueue, ProposedEntries, QueuedCommand, WAITING_COMMANDS_MAX, Waiter};
use crate::config::ReplicaConfig;
use crate::dispatcher::Dispatcher;
use crate::io::Now;
use crate::sessions::{Sessions, WorkerIncarnation};
use crate::single_flight::SingleFlight;
use crate::tails::Tails;
use crate::worker_sender::WorkerSender;
use muster_machine::State;
use muster_protocol::command::{AdvanceTime, Command, SetLiveness, TakeLeadership};
use muster_protocol::envelope::Envelope;
use muster_protocol::event::Event;
use muster_protocol::ids::{LogIndex, RaftId, RequestId, Term};
use muster_protocol::limits::{WORKER_LEASE_MS, WORKER_SUSPECT_MS};
use muster_protocol::time::LogMs;
use muster_protocol::worker::Liveness;
use std::collections::BTreeMap;

pub struct Leadership {
    pub term: Term,
    /// `None` before the takeover is applied.
    clock: Option<LogClock>,
    takeover: SingleFlight,
    pub queue: CommandQueue,
    pub proposed: ProposedEntries,
    pub sessions: Sessions,
    pub dispatcher: Dispatcher,
    pub tails: Tails,
    /// When each other member last answered in this term.
    last_contact_ms: BTreeMap<RaftId, u64>,
    pub assign: SingleFlight,
    pub timers: SingleFlight,
    /// The scheduler found nothing to do in the state after this index.
    idle_at: Option<LogIndex>,
}

impl Leadership {
    pub fn new(term: Term) -> Leadership {
        Leadership {
            term,
            clock: None,
            takeover: SingleFlight::default(),
            queue: CommandQueue::default(),
            proposed: ProposedEntries::default(),
            sessions: Sessions::default(),
            dispatcher: Dispatcher::default(),
            tails: Tails::default(),
            last_contact_ms: BTreeMap::new(),
            assign: SingleFlight::default(),
            timers: SingleFlight::default(),
            idle_at: None,
        }
    }

    /// The takeover is applied: from now on the member acts as the leader.
    pub fn take_over(&mut self, now: Now, state: &State) {
        self.clock = Some(LogClock::starting(state.now().log_ms, now));
        self.sessions = Sessions::start(state, now.mono_ms);
        self.dispatcher = Dispatcher::start(state);
    }

    pub fn has_taken_over(&self) -> bool {
        self.clock.is_some()
    }

    /// The leader stood still: every member has to answer anew before leases are extended.
    pub fn clear_contacts(&mut self) {
        self.last_contact_ms.clear();
    }

    /// Whether clients and workers have to retry later.
    pub fn is_full(&self) -> bool {
        self.queue.is_full() || self.queue.len() + self.proposed.commands() >= WAITING_COMMANDS_MAX
    }

    pub fn record_contact(&mut self, member: RaftId, now: Now) {
        self.last_contact_ms.insert(member, now.mono_ms);
    }

    /// Whether a majority answered so recently that none of them can have elected another leader. Only then
    /// is a lease extended or a worker declared lost: a deposed leader that does not know it yet must do
    /// neither.
    pub fn quorum_recently_active(&self, now: Now, config: &ReplicaConfig) -> bool {
        let recent_ms = config.tick_ms * (config.election_ticks_min as u64 * 5 / 6);
        let active = self
            .last_contact_ms
            .values()
            .filter(|contact_ms| now.mono_ms.saturating_sub(**contact_ms) <= recent_ms)
            .count();
        active + 1 > config.members.len() / 2
    }

    /// `None` before the takeover is applied.
    pub fn log_ms(&self, now: Now) -> Option<LogMs> {
        self.clock.map(|clock| clock.log_ms(now))
    }

    /// Queues a command of the leader or of a worker, which never expires.
    pub fn enqueue(&mut self, actor: &str, command: Command, waiter: Waiter, state: &State) {
        let envelope = envelope(actor, RequestId::NIL, state.applied(), command);
        self.queue.push(QueuedCommand::new(envelope, waiter, u64::MAX));
    }

    /// The takeover entry, if it is not in flight.
    pub fn takeover(&mut self, now: Now, config: &ReplicaConfig, state: &State) -> Option<QueuedCommand> {
        if !self.takeover.is_free(now) {
            return None;
        }
        self.takeover.start();
        let command = Command::TakeLeadership(TakeLeadership {
            leader: config.raft_id,
            name: config.name.clone(),
            term: self.term,
        });
        let envelope = envelope("leader", RequestId::NIL, state.applied(), command);
        Some(QueuedCommand::new(envelope, Waiter::Takeover, u64::MAX))
    }

    /// The takeover could not be proposed: try again at the next tick.
    pub fn takeover_dropped(&mut self, now: Now, config: &ReplicaConfig) {
        self.takeover.finish(now, config.tick_ms);
    }

    /// Queues timers that are due, and a schedule for tasks that can run.
    pub fn propose_due(&mut self, now: Now, state: &State) {
        let Some(clock) = self.clock else { return };
        if self.timers.is_free(now) && state.next_timer().is_some_and(|due| due <= clock.log_ms(now)) {
            self.timers.start();
            self.enqueue("leader", Command::AdvanceTime(AdvanceTime {}), Waiter::Timers, state);
        }
        if self.assign.is_free(now) && state.has_ready() && self.idle_at != Some(state.applied()) {
            match muster_machine::schedule(state, &self.sessions.hints()) {
                Some(assign) => {
                    self.assign.start();
                    self.enqueue("leader", Command::Assign(assign), Waiter::Assign, state);
                }
                None => self.idle_at = Some(state.applied()),
            }
        }
    }

    /// Declares workers suspect or lost that have been silent for too long.
    pub fn check_liveness(&mut self, now: Now, config: &ReplicaConfig, state: &State) {
        if !self.has_taken_over() || !self.quorum_recently_active(now, config) {
            return;
        }
        let mut changes = Vec::new();
        for (incarnation, session) in self.sessions.iter_mut() {
            let silent_ms = now.mono_ms.saturating_sub(session.last_heard_ms);
            let Some(worker) =
                state.worker(session.worker).filter(|worker| worker.hello().boot == incarnation.boot)
            else {
                continue;
            };
            let liveness = match worker.liveness() {
                Liveness::Alive | Liveness::Suspect if silent_ms >= WORKER_LEASE_MS => Liveness::Lost,
                Liveness::Alive if silent_ms >= WORKER_SUSPECT_MS => Liveness::Suspect,
                Liveness::Alive | Liveness::Suspect | Liveness::Lost => continue,
            };
            // `Lost` may follow while `Suspect` is still in flight; they are applied in order.
            if session.proposed_liveness != Some(liveness)
                && session.proposed_liveness != Some(Liveness::Lost)
            {
                session.proposed_liveness = Some(liveness);
                changes.push((
                    SetLiveness { worker: session.worker, boot: incarnation.boot, liveness },
                    Waiter::Liveness { incarnation, liveness },
                ));
            }
        }
        for (change, waiter) in changes {
            self.enqueue("leader", Command::SetLiveness(change), waiter, state);
        }
    }

    /// Follows an applied event in the leader's own memory.
    pub fn observe(&mut self, now: Now, event: &Event) {
        if let Event::WorkerRegistered(registered) = event {
            let incarnation =
                WorkerIncarnation { identity: registered.hello.identity, boot: registered.hello.boot };
            self.sessions.registered(registered.worker, incarnation, now.mono_ms);
        }
        self.dispatcher.observe(event);
    }

    /// Sends workers what changed for them.
    pub fn dispatch(&mut self, now: Now, state: &State, sender: &mut WorkerSender<'_>) {
        if self.has_taken_over() {
            self.dispatcher.send_changes(now.mono_ms, state, &mut self.sessions, sender);
        }
    }
}

/// A command with its identity.
pub fn envelope(actor: &str, request: RequestId, cause: LogIndex, command: Command) -> Envelope {
    Envelope {
        request,
        actor: actor.to_string(),
        client: concat!("muster-coordinator/", env!("CARGO_PKG_VERSION")).to_string(),
        namespace: "default".to_string(),
        trace: String::new(),
        cause,
        command,
    }
}
