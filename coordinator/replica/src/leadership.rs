//! What a member does and remembers while it leads, in one term: it begins with a takeover, and all of it is
//! dropped with the leadership.
//!
//! Nothing but the takeover is proposed before the takeover is applied: then everything of earlier terms is
//! applied too, log time goes on from there, and every worker has a whole lease.

use super::batch::{Item, Life, Pending, Queue, Slot, WAITING_COMMANDS_MAX};
use super::clock::LogClock;
use super::config::CoreConfig;
use super::dispatch::Dispatch;
use super::io::{Now, Output};
use super::sessions::{Session, Sessions};
use super::tails::Tails;
use muster_machine::State;
use muster_protocol::bus::{Down, DownEnvelope};
use muster_protocol::command::{AdvanceTime, Command, SetLiveness, TakeLeadership};
use muster_protocol::envelope::Envelope;
use muster_protocol::event::Event;
use muster_protocol::ids::{LogIndex, RaftId, RequestId, Term};
use muster_protocol::limits::{WORKER_LEASE_MS, WORKER_SUSPECT_MS};
use muster_protocol::time::LogMs;
use muster_protocol::worker::Liveness;
use std::collections::BTreeMap;

/// Something that the leader does from time to time, at most once at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    in_flight: bool,
    not_before_ms: u64,
}

impl Turn {
    fn is_free(&self, now: Now) -> bool {
        !self.in_flight && now.mono_ms >= self.not_before_ms
    }

    /// It is applied; the next one may come after `pause_ms`.
    pub(super) fn done(&mut self, now: Now, pause_ms: u64) {
        *self = Turn { in_flight: false, not_before_ms: now.mono_ms + pause_ms };
    }
}

/// A term of leading.
pub(super) struct Leadership {
    pub term: Term,
    clock: Option<LogClock>,
    takeover: Turn,
    pub queue: Queue,
    pub pending: Pending,
    pub sessions: Sessions,
    pub dispatch: Dispatch,
    pub tails: Tails,
    /// When each other member last said something in this term.
    contacts: BTreeMap<RaftId, u64>,
    pub assign: Turn,
    pub timers: Turn,
    /// The scheduler found nothing to do in the state after this index.
    idle_at: Option<LogIndex>,
}

impl Leadership {
    pub(super) fn new(term: Term) -> Leadership {
        Leadership {
            term,
            clock: None,
            takeover: Turn::default(),
            queue: Queue::default(),
            pending: Pending::default(),
            sessions: Sessions::default(),
            dispatch: Dispatch::default(),
            tails: Tails::default(),
            contacts: BTreeMap::new(),
            assign: Turn::default(),
            timers: Turn::default(),
            idle_at: None,
        }
    }

    /// The takeover is applied: from here on the member acts as the leader.
    pub(super) fn take_over(&mut self, now: Now, state: &State) {
        self.clock = Some(LogClock::starting(state.now().log_ms, now));
        self.sessions = Sessions::start(state, now.mono_ms);
        self.dispatch = Dispatch::start(state);
    }

    pub(super) fn has_taken_over(&self) -> bool {
        self.clock.is_some()
    }

    /// This leader stood still: it is not sure of anybody.
    pub(super) fn forget_contacts(&mut self) {
        self.contacts.clear();
    }

    /// Whether clients and workers have to come again later.
    pub(super) fn is_full(&self) -> bool {
        self.queue.is_full() || self.queue.len() + self.pending.commands() >= WAITING_COMMANDS_MAX
    }

    pub(super) fn heard_from(&mut self, member: RaftId, now: Now) {
        self.contacts.insert(member, now.mono_ms);
    }

    /// Whether most members were heard so lately that none of them can have helped another leader to power.
    /// Only then is a lease extended, or a worker given up: a deposed leader that does not know it yet must
    /// do neither.
    pub(super) fn is_sure(&self, now: Now, config: &CoreConfig) -> bool {
        let sure_ms = config.tick_ms * (config.election_ticks_min as u64 * 5 / 6);
        let heard = self
            .contacts
            .values()
            .filter(|heard_ms| now.mono_ms.saturating_sub(**heard_ms) <= sure_ms)
            .count();
        heard + 1 > config.members.len() / 2
    }

    /// Log time, if it runs.
    pub(super) fn log_ms(&self, now: Now) -> Option<LogMs> {
        self.clock.map(|clock| clock.log_ms(now))
    }

    /// A command of the leader's own.
    pub(super) fn propose(&mut self, actor: &str, command: Command, slot: Slot, state: &State) {
        self.queue.push(Item::new(envelope(actor, RequestId::NIL, state.applied(), command), slot, u64::MAX));
    }

    /// The takeover, once in this term.
    pub(super) fn takeover(&mut self, now: Now, config: &CoreConfig, state: &State) -> Option<Item> {
        if !self.takeover.is_free(now) {
            return None;
        }
        self.takeover.in_flight = true;
        let command = Command::TakeLeadership(TakeLeadership {
            leader: config.raft_id,
            name: config.name.clone(),
            term: self.term,
        });
        Some(Item::new(
            envelope("leader", RequestId::NIL, state.applied(), command),
            Slot::Takeover,
            u64::MAX,
        ))
    }

    /// The takeover could not be proposed: it is tried again.
    pub(super) fn takeover_dropped(&mut self, now: Now, config: &CoreConfig) {
        self.takeover.done(now, config.tick_ms);
    }

    /// Timers that are due, and tasks that have a place to run.
    pub(super) fn plan(&mut self, now: Now, state: &State) {
        let Some(clock) = self.clock else { return };
        if self.timers.is_free(now) && state.next_timer().is_some_and(|due| due <= clock.log_ms(now)) {
            self.timers.in_flight = true;
            self.propose("leader", Command::AdvanceTime(AdvanceTime {}), Slot::Timers, state);
        }
        if self.assign.is_free(now) && state.has_ready() && self.idle_at != Some(state.applied()) {
            match muster_machine::schedule(state, &self.sessions.hints()) {
                Some(assign) => {
                    self.assign.in_flight = true;
                    self.propose("leader", Command::Assign(assign), Slot::Assign, state);
                }
                None => self.idle_at = Some(state.applied()),
            }
        }
    }

    /// Workers that were not heard of for too long.
    pub(super) fn watch(&mut self, now: Now, config: &CoreConfig, state: &State) {
        if !self.has_taken_over() || !self.is_sure(now, config) {
            return;
        }
        let mut changes = Vec::new();
        for (life, session) in self.sessions.iter_mut() {
            let silent_ms = now.mono_ms.saturating_sub(session.heard_ms);
            let Some(worker) = state.worker(session.worker).filter(|worker| worker.hello.boot == life.boot)
            else {
                continue;
            };
            let liveness = match worker.liveness {
                Liveness::Alive | Liveness::Suspect if silent_ms >= WORKER_LEASE_MS => Liveness::Lost,
                Liveness::Alive if silent_ms >= WORKER_SUSPECT_MS => Liveness::Suspect,
                Liveness::Alive | Liveness::Suspect | Liveness::Lost => continue,
            };
            // A suspicion on its way does not keep a loss from following; they are applied in order.
            if session.changing != Some(liveness) && session.changing != Some(Liveness::Lost) {
                session.changing = Some(liveness);
                changes.push((
                    SetLiveness { worker: session.worker, boot: life.boot, liveness },
                    Slot::Liveness { life, liveness },
                ));
            }
        }
        for (change, slot) in changes {
            self.propose("leader", Command::SetLiveness(change), slot, state);
        }
    }

    /// Notes what an applied event means to the leader's own memory.
    pub(super) fn note(&mut self, now: Now, event: &Event) {
        if let Event::WorkerRegistered(registered) = event {
            let life = Life { identity: registered.hello.identity, boot: registered.hello.boot };
            self.sessions.registered(registered.worker, life, now.mono_ms);
        }
        self.dispatch.note(event);
    }

    /// Tells workers what is fresh.
    pub(super) fn tell(&mut self, now: Now, state: &State, speaker: &mut Speaker<'_>) {
        if self.has_taken_over() {
            self.dispatch.tell(now.mono_ms, state, &mut self.sessions, speaker);
        }
    }
}

/// A command with its identity.
pub(super) fn envelope(actor: &str, request: RequestId, cause: LogIndex, command: Command) -> Envelope {
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

/// Says things to workers, in the leader's name.
pub(super) struct Speaker<'a> {
    pub cluster: &'a str,
    pub term: Term,
    pub out: &'a mut dyn FnMut(Output),
}

impl Speaker<'_> {
    /// To a worker that is known; counted.
    pub(super) fn say(&mut self, life: Life, session: &mut Session, message: Down) {
        session.down_sent += 1;
        self.say_to_stranger(life, message);
    }

    /// To a life of a worker that is not known.
    pub(super) fn say_to_stranger(&mut self, life: Life, message: Down) {
        let envelope = DownEnvelope {
            cluster: self.cluster.to_string(),
            term: self.term,
            boot: life.boot,
            trace: String::new(),
            message,
        };
        (self.out)(Output::Down { identity: life.identity, boot: life.boot, envelope });
    }
}
