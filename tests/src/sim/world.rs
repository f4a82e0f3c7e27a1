//! The simulated world: the queue of events, ordered by time, and everything that they happen to.

mod bus;
mod clients;
mod coordinators;
mod end_checks;
mod fault_injection;
mod workers;

use super::client::Client;
use super::coordinator::Coordinator;
use super::faults::{self, Fault};
use super::network::{Endpoint, Network};
use super::oracle::Oracle;
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

/// Between two ticks of a coordinator or an agent.
const TICK_MS: u64 = 50;

/// What happens at a point in time.
enum Event {
    CoordinatorTick {
        node: usize,
        incarnation: u32,
    },
    /// A coordinator handles what has arrived.
    CoordinatorStep {
        node: usize,
        incarnation: u32,
    },
    /// A message between coordinators arrives.
    Peer {
        to: usize,
        from: RaftId,
        message: PeerMessage,
    },
    /// A worker's message arrives at a coordinator.
    Up {
        to: usize,
        envelope: Box<UpEnvelope>,
    },
    /// A leader's message arrives at a worker.
    Down {
        to: usize,
        envelope: Box<DownEnvelope>,
    },
    AgentTick {
        node: usize,
        incarnation: u32,
    },
    /// An attempt's process takes its next step.
    Execution {
        node: usize,
        attempt: AttemptId,
        turn: u64,
        answer: Option<AgentFrame>,
    },
    /// An attempt's process is killed.
    Kill {
        node: usize,
        attempt: AttemptId,
    },
    /// A worker's lease may have expired.
    Lease {
        node: usize,
        incarnation: u32,
    },
    /// A client makes its next request.
    Client {
        node: usize,
    },
    Ask {
        to: usize,
        client: usize,
        attempt_number: u32,
        envelope: Box<Envelope>,
    },
    Answer {
        client: usize,
        request: RequestId,
        attempt_number: u32,
        result: Result<Answer, CommandError>,
    },
    /// A client sends its request again.
    ClientTimeout {
        client: usize,
        attempt_number: u32,
    },
    Fault(Fault),
    StartCoordinator {
        node: usize,
    },
    /// A killed coordinator restarts once the log has this many entries.
    RestartWhenBehind {
        node: usize,
        entries: u64,
    },
    StartAgent {
        node: usize,
    },
    /// Connections are restored.
    Mend {
        cuts: Vec<(Endpoint, Endpoint)>,
    },
    StartBroker,
    /// The fault phase is over.
    Heal,
}

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
    /// By token of a coordinator: the client, its attempt number, and the request.
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
        for node in 0..world.coordinators.len() {
            world.at(0, Event::StartCoordinator { node });
        }
        for node in 0..world.workers.len() {
            world.at(10, Event::StartAgent { node });
        }
        for node in 0..world.clients.len() {
            world.at(1_000, Event::Client { node });
        }
        for (at, fault) in faults::plan(&world.settings, &mut world.random) {
            world.at(at, Event::Fault(fault));
        }
        world.at(world.settings.fault_phase_ms, Event::Heal);
        world
    }

    /// Runs until every job has ended, or an invariant is violated. A panic of the product is a violation
    /// too.
    pub fn run(mut self) -> Report {
        let ran = catch_unwind(AssertUnwindSafe(|| self.run_to_end()));
        if let Err(panic) = ran {
            let message = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            self.fail("no panic", message.unwrap_or_default());
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

    fn run_to_end(&mut self) {
        let end_ms = self.settings.fault_phase_ms + self.settings.recovery_ms_max;
        while self.failure.is_none() {
            let Some(((at, _), event)) = self.queue.pop_first() else { return };
            self.now_ms = at;
            self.dispatch(event);
            if self.healed && self.queued.is_multiple_of(16) && self.unfinished_work().is_none() {
                self.check_end_state();
                return;
            }
            if at > end_ms {
                let what = self.unfinished_work().unwrap_or_default();
                self.fail(
                    "liveness",
                    format!("{} ms after the last fault: {what}", self.settings.recovery_ms_max),
                );
            }
        }
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::CoordinatorTick { node, incarnation } => self.coordinator_tick(node, incarnation),
            Event::CoordinatorStep { node, incarnation } => self.coordinator_step(node, incarnation),
            Event::Peer { to, from, message } => self.peer_arrives(to, from, message),
            Event::Up { to, envelope } => self.up_arrives(to, envelope),
            Event::Down { to, envelope } => self.down_arrives(to, envelope),
            Event::AgentTick { node, incarnation } => self.agent_tick(node, incarnation),
            Event::Execution { node, attempt, turn, answer } => {
                self.execution_step(node, attempt, turn, answer)
            }
            Event::Kill { node, attempt } => self.kill_execution(node, attempt),
            Event::Lease { node, incarnation } => self.expire_lease(node, incarnation),
            Event::Client { node } => self.client_acts(node),
            Event::Ask { to, client, attempt_number, envelope } => {
                self.request_arrives(to, client, attempt_number, *envelope)
            }
            Event::Answer { client, request, attempt_number, result } => {
                self.answer_arrives(client, request, attempt_number, result)
            }
            Event::ClientTimeout { client, attempt_number } => self.client_timed_out(client, attempt_number),
            Event::Fault(fault) => self.inject(fault),
            Event::StartCoordinator { node } => self.start_coordinator(node),
            Event::RestartWhenBehind { node, entries } => self.restart_when_behind(node, entries),
            Event::StartAgent { node } => self.start_agent(node),
            Event::Mend { cuts } => self.mend(&cuts),
            Event::StartBroker => self.start_broker(),
            Event::Heal => self.heal(),
        }
    }

    /// Schedules an event in `in_ms` milliseconds.
    fn at(&mut self, in_ms: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((self.now_ms + in_ms, self.queued), event);
    }

    fn log(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.log(self.now_ms, line);
    }

    fn fail(&mut self, invariant: &'static str, what: String) {
        if self.failure.is_none() {
            self.log(format_args!("BROKEN {invariant}: {what}"));
            self.failure = Some(Failure { invariant, what });
        }
    }

    fn check(&mut self, result: Result<(), Failure>) {
        if let Err(Failure { invariant, what }) = result {
            self.fail(invariant, what);
        }
    }
}
