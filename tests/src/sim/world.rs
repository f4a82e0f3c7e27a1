//! The simulated world: everything that is on its way, in order of time, and everybody that it is on its way
//! to.

mod bus;
mod clients;
mod coordinators;
mod mishaps;
mod verdicts;
mod workers;

use super::client::Client;
use super::coordinator::Coordinator;
use super::faults::{self, Fault};
use super::network::Network;
use super::report::{Failure, Report, Stats};
use super::settings::Settings;
use super::trace::Trace;
use super::worker::Worker;
use muster_protocol::attempt_call::AgentFrame;
use muster_protocol::bus::{DownEnvelope, UpEnvelope};
use muster_protocol::envelope::{Answer, Envelope};
use muster_protocol::ids::{AttemptId, RaftId, RequestId};
use muster_replica::{CommandError, PeerMessage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use verdicts::Oracle;

/// A coordinator's and an agent's tick.
const TICK_MS: u64 = 50;

/// Something that is about to happen.
enum Event {
    /// A coordinator's time passes.
    CoordinatorTick { which: usize, life: u32 },
    /// A coordinator takes up what arrived.
    CoordinatorStep { which: usize, life: u32 },
    /// A message between coordinators arrives.
    Peer { to: usize, from: RaftId, message: PeerMessage },
    /// A worker's message arrives at a coordinator.
    Up { to: usize, envelope: Box<UpEnvelope> },
    /// A leader's message arrives at a worker.
    Down { to: usize, envelope: Box<DownEnvelope> },
    /// An agent's time passes.
    AgentTick { which: usize, life: u32 },
    /// An attempt's process goes on.
    Execution { which: usize, attempt: AttemptId, turn: u64, answer: Option<AgentFrame> },
    /// An attempt's process is killed.
    Kill { which: usize, attempt: AttemptId },
    /// A worker's lease may have ended.
    Lease { which: usize, life: u32 },
    /// A client thinks of something.
    Client { which: usize },
    /// A client's request arrives.
    Ask { to: usize, client: usize, tries: u32, envelope: Box<Envelope> },
    /// A client's answer arrives.
    Answer { client: usize, request: RequestId, tries: u32, result: Result<Answer, CommandError> },
    /// A client loses patience.
    Impatient { client: usize, tries: u32 },
    /// Something goes wrong.
    Fault(Fault),
    /// A killed coordinator starts again.
    StartCoordinator { which: usize },
    /// A killed coordinator starts again once the log has gone on this far without it.
    StartBehind { which: usize, entries: u64 },
    /// A killed agent starts again.
    StartAgent { which: usize },
    /// Somebody is heard again.
    Mend { cuts: Vec<(super::network::Place, super::network::Place)> },
    /// The broker is there again.
    StartBroker,
    /// The rough time is over.
    Heal,
}

/// The world.
pub struct World {
    seed: u64,
    settings: Settings,
    now_ms: u64,
    random: ChaCha8Rng,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    coordinators: Vec<Coordinator>,
    workers: Vec<Worker>,
    clients: Vec<Client>,
    /// Which client's asking a coordinator's token stands for, and of which request.
    tokens: BTreeMap<u64, (usize, u32, RequestId)>,
    next_token: u64,
    jobs_left: usize,
    network: Network,
    oracle: Oracle,
    trace: Trace,
    stats: Stats,
    failure: Option<Failure>,
    healed: bool,
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(seed: u64, settings: Settings) -> World {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let coordinators = Coordinator::all(&settings, &mut random);
        let workers = (0..settings.workers).map(|number| Worker::new(number, &mut random)).collect();
        let clients = (0..settings.clients).map(|_| Client::default()).collect();
        let kept = if settings.verbose { usize::MAX } else { settings.lines_shown };
        let mut world = World {
            seed,
            now_ms: 0,
            random,
            queue: BTreeMap::new(),
            queued: 0,
            coordinators,
            workers,
            clients,
            tokens: BTreeMap::new(),
            next_token: 0,
            jobs_left: settings.jobs,
            network: Network::default(),
            oracle: Oracle::default(),
            trace: Trace::new(kept),
            stats: Stats::default(),
            failure: None,
            healed: false,
            settings,
        };
        for which in 0..world.coordinators.len() {
            world.at(0, Event::StartCoordinator { which });
        }
        for which in 0..world.workers.len() {
            world.at(10, Event::StartAgent { which });
        }
        for which in 0..world.clients.len() {
            world.at(1_000, Event::Client { which });
        }
        for (at, fault) in faults::plan(&world.settings, &mut world.random) {
            world.at(at, Event::Fault(fault));
        }
        world.at(world.settings.rough_ms, Event::Heal);
        world
    }

    /// Lets everything happen, until all is done or something does not hold. A panic of the product is a
    /// failure like another.
    pub fn run(mut self) -> Report {
        let ran = catch_unwind(AssertUnwindSafe(|| self.run_to_the_end()));
        if let Err(panic) = ran {
            let words = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            self.fail("no panic", words.unwrap_or_default());
        }
        self.stats.simulated_ms = self.now_ms;
        self.stats.tasks = self.oracle.tasks();
        Report {
            seed: self.seed,
            trace: self.trace.hash(),
            head: self.oracle.same_state.head(),
            last: self.trace.last(),
            stats: self.stats,
            failure: self.failure,
        }
    }

    fn run_to_the_end(&mut self) {
        let end_ms = self.settings.rough_ms + self.settings.heal_ms;
        while self.failure.is_none() {
            let Some(((at, _), event)) = self.queue.pop_first() else { return };
            self.now_ms = at;
            self.happen(event);
            if self.healed && self.queued.is_multiple_of(16) && self.unfinished().is_none() {
                self.check_the_end();
                return;
            }
            if at > end_ms {
                let what = self.unfinished().unwrap_or_default();
                self.fail("liveness", format!("{} ms after all is well: {what}", self.settings.heal_ms));
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::CoordinatorTick { which, life } => self.coordinator_tick(which, life),
            Event::CoordinatorStep { which, life } => self.coordinator_step(which, life),
            Event::Peer { to, from, message } => self.peer_arrives(to, from, message),
            Event::Up { to, envelope } => self.up_arrives(to, envelope),
            Event::Down { to, envelope } => self.down_arrives(to, envelope),
            Event::AgentTick { which, life } => self.agent_tick(which, life),
            Event::Execution { which, attempt, turn, answer } => {
                self.execution_goes_on(which, attempt, turn, answer)
            }
            Event::Kill { which, attempt } => self.execution_is_killed(which, attempt),
            Event::Lease { which, life } => self.lease_may_end(which, life),
            Event::Client { which } => self.client_thinks(which),
            Event::Ask { to, client, tries, envelope } => self.request_arrives(to, client, tries, *envelope),
            Event::Answer { client, request, tries, result } => {
                self.answer_arrives(client, request, tries, result)
            }
            Event::Impatient { client, tries } => self.client_loses_patience(client, tries),
            Event::Fault(fault) => self.go_wrong(fault),
            Event::StartCoordinator { which } => self.start_coordinator(which),
            Event::StartBehind { which, entries } => self.start_behind(which, entries),
            Event::StartAgent { which } => self.start_agent(which),
            Event::Mend { cuts } => self.mend(&cuts),
            Event::StartBroker => self.start_broker(),
            Event::Heal => self.heal(),
        }
    }

    /// Lets something happen in so many milliseconds.
    fn at(&mut self, in_ms: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((self.now_ms + in_ms, self.queued), event);
    }

    fn say(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.say(self.now_ms, line);
    }

    fn fail(&mut self, invariant: &'static str, what: String) {
        if self.failure.is_none() {
            self.say(format_args!("BROKEN {invariant}: {what}"));
            self.failure = Some(Failure { invariant, what });
        }
    }

    fn hold(&mut self, verdict: Result<(), Failure>) {
        if let Err(Failure { invariant, what }) = verdict {
            self.fail(invariant, what);
        }
    }
}
