//! The worker as a process: one loop that owns everything, feeds the agent and performs what it says, in
//! order.

use crate::agent::{Action, Agent, AgentConfig, Input};
use crate::attempts::{Attempts, Surroundings, Tails, Warden, end_leftovers};
use crate::bus::{Bus, BusError, Speaker};
use crate::config::WorkerConfig;
use crate::data_dir::{DataDir, DataError};
use crate::hardware::{self, LoadMeter};
use muster_protocol::ids::{BootId, WorkerIdentity};
use muster_protocol::limits::QUEUED_PER_WORKER_MAX;
use muster_protocol::resources::Resources;
use muster_protocol::subjects;
use muster_protocol::worker::WorkerHello;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often the agent looks at the time.
const TICK: Duration = Duration::from_millis(50);
/// How often the machine's load is looked at.
const LOAD_INTERVAL: Duration = Duration::from_secs(1);
/// How often the worker says how it is.
const STATUS_INTERVAL: Duration = Duration::from_secs(60);
/// Inputs that wait at most; then those who have some wait.
const INPUT_QUEUE: usize = 4_096;
/// Inputs that are taken before what has gathered is said.
const INPUTS_AT_ONCE: usize = 1_024;

/// Why a worker does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that cannot be part of a subject.
    #[error("join cluster {0:?}: its name must have 1 to 64 lower-case letters, digits or hyphens")]
    ClusterName(String),
    /// An amount that makes no sense.
    #[error("offer {what}")]
    Offer {
        /// Which, and what would be right.
        what: String,
    },
    /// The data directory.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The system.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what, source }
}

/// Runs a worker until `shutdown` completes and it has drained: it takes no new work, waits `drain_ms` for
/// what runs, then ends it with its grace. A SIGTERM or SIGINT that comes after `shutdown` ends what runs at
/// once. An absent broker is no error: it is tried for ever.
pub async fn run(config: WorkerConfig, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    if !subjects::is_cluster_name(&config.cluster) {
        return Err(Error::ClusterName(config.cluster));
    }
    let fresh = WorkerIdentity(uuid::Uuid::new_v4().as_u128());
    let data = DataDir::open(&config.data, &config.cluster, fresh)?;
    // First of all, while little is open: it is a copy of this process.
    let warden = Warden::start().map_err(io_error("start the warden of processes"))?;
    end_leftovers(&data.attempts());
    let hello = hello(&config, data.identity())?;
    let speaker = Speaker { cluster: config.cluster.clone(), identity: hello.identity, boot: hello.boot };
    let (inputs, heard) = mpsc::channel(INPUT_QUEUE);
    let artifacts =
        std::path::absolute(&config.artifacts).map_err(io_error("find the directory of artifacts"))?;
    let address = config.address.clone();
    let surroundings = Surroundings {
        cluster: config.cluster.clone(),
        address,
        artifacts,
        executor_program: config.executor_program,
    };
    let attempts = Attempts::new(data.attempts(), surroundings, warden, inputs.clone())
        .map_err(io_error("get ready for attempts"))?;
    let bus = Bus::start(&config.nats, speaker, inputs).await?;
    tracing::info!(
        name = hello.name, identity = %hello.identity, cpu_milli = hello.capacity.cpu_milli, memory_mib = hello.capacity.memory_mib,
        gpus = hello.capacity.gpus, "this worker is ready"
    );
    let agent = Agent::new(AgentConfig { cluster: config.cluster, hello, drain_ms: config.drain_ms }, 0);
    let tails = Tails::new(attempts.shared(), bus.chunks());
    Loop {
        agent,
        attempts,
        tails,
        bus,
        heard,
        begun: Instant::now(),
        load: LoadMeter::default(),
        actions: Vec::new(),
    }
    .run(shutdown)
    .await
}

fn hello(config: &WorkerConfig, identity: WorkerIdentity) -> Result<WorkerHello, Error> {
    let found = hardware::discover();
    let cpu_milli = match config.cpus {
        None => found.cpu_milli,
        Some(cpus) if cpus.is_finite() && (0.001..=4_000_000.0).contains(&cpus) => {
            (cpus * 1_000.0).round() as u32
        }
        Some(cpus) => return Err(Error::Offer { what: format!("{cpus} CPUs: it must be a number above 0") }),
    };
    let capacity = Resources {
        cpu_milli,
        memory_mib: config.memory_mib.unwrap_or(found.memory_mib),
        gpus: u16::try_from(found.gpus.len()).unwrap_or(u16::MAX),
        counters: config.counters.clone(),
    };
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(WorkerHello {
        identity,
        boot: BootId(uuid::Uuid::new_v4().as_u128()),
        name: config.name.clone().unwrap_or_else(host),
        address: config.address.clone(),
        rendezvous_port_first: config.rendezvous_port_first,
        rendezvous_ports: config.rendezvous_ports,
        capacity,
        gpus: found.gpus,
        labels: config.labels.clone(),
        queue: config.queue.min(QUEUED_PER_WORKER_MAX),
        version: env!("CARGO_PKG_VERSION").to_string(),
    })
}

/// The one loop.
struct Loop {
    agent: Agent,
    attempts: Attempts,
    tails: Tails,
    bus: Bus,
    heard: mpsc::Receiver<Input>,
    begun: Instant,
    load: LoadMeter,
    actions: Vec<Action>,
}

/// Signals after the first; the agent ends at once.
struct Impatience {
    terminate: Signal,
    interrupt: Signal,
}

impl Impatience {
    async fn next(listening: &mut Option<Impatience>) {
        match listening {
            None => std::future::pending().await,
            Some(signals) => {
                tokio::select! {
                    _ = signals.terminate.recv() => {}
                    _ = signals.interrupt.recv() => {}
                }
            }
        }
    }
}

impl Loop {
    async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        tokio::pin!(shutdown);
        let mut impatience = None;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut load = interval(LOAD_INTERVAL);
        load.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut status = interval(STATUS_INTERVAL);
        loop {
            let input = tokio::select! {
                _ = tick.tick() => Input::Tick,
                _ = load.tick() => Input::Load(self.load.look()),
                Some(input) = self.heard.recv() => input,
                _ = status.tick() => { self.say_status(); continue }
                () = &mut shutdown, if impatience.is_none() => {
                    tracing::info!("told to end: taking no new work, waiting for what runs");
                    impatience = Some(Impatience {
                        terminate: signal(SignalKind::terminate()).map_err(io_error("listen for SIGTERM"))?,
                        interrupt: signal(SignalKind::interrupt()).map_err(io_error("listen for SIGINT"))?,
                    });
                    Input::Drain
                }
                () = Impatience::next(&mut impatience) => {
                    tracing::info!("told to end at once");
                    Input::Hurry
                }
            };
            self.handle(input);
            for _ in 0..INPUTS_AT_ONCE {
                let Ok(input) = self.heard.try_recv() else { break };
                self.handle(input);
            }
            let now_ms = self.now_ms();
            self.agent.settle(now_ms, &mut |action| self.actions.push(action));
            if self.perform() {
                tracing::info!("this worker ends");
                return Ok(());
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn handle(&mut self, input: Input) {
        let now_ms = self.now_ms();
        self.agent.handle(now_ms, input, &mut |action| self.actions.push(action));
    }

    /// Performs what was decided, in order; whether all is done.
    fn perform(&mut self) -> bool {
        let mut exit = false;
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Send(up) => self.bus.say(up),
                Action::Start(launch) => self.attempts.start(*launch),
                Action::Signal { attempt, grace_ms } => self.attempts.signal(attempt, grace_ms),
                Action::Reply { caller, frame } => self.attempts.reply(caller, frame),
                Action::Tail { tail, alive } => self.tails.ask(tail, alive),
                Action::EndTail(end) => self.tails.end(end.id),
                Action::Lease { remaining_ms } => self.attempts.lease(remaining_ms),
                Action::Exit => exit = true,
            }
        }
        exit
    }

    fn say_status(&self) {
        let noticed = self.agent.noticed(self.now_ms());
        let counts = self.bus.counts();
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        tracing::info!(
            worker = noticed.worker.map(|id| id.to_string()),
            lease = noticed.lease,
            held = noticed.held,
            ignored = noticed.ignored,
            missed = noticed.missed,
            sent = count(&counts.sent),
            received = count(&counts.received),
            dropped = count(&counts.dropped),
            malformed = count(&counts.malformed),
            "status"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_broker_a_worker_waits_and_ends_when_told() {
        let temp = tempfile::tempdir().unwrap();
        // Nobody listens on port 1.
        let config = WorkerConfig::new("test", temp.path().join("w"), "nats://127.0.0.1:1");
        run(config.clone(), std::future::ready(())).await.unwrap();
        let owner = DataDir::open(&config.data, "test", WorkerIdentity(1)).unwrap();
        assert_ne!(owner.identity(), WorkerIdentity(1), "it has had an identity");
        let complaints = [
            (
                WorkerConfig { cluster: "No Name".into(), ..config.clone() },
                "join cluster \"No Name\": its name must have",
            ),
            (config.clone(), "use the data directory"),
            (
                WorkerConfig { data: temp.path().join("x"), cpus: Some(f64::NAN), ..config.clone() },
                "offer NaN CPUs",
            ),
            (
                WorkerConfig { data: temp.path().join("y"), nats: "nats://:x:y".into(), ..config },
                "understand the broker's address",
            ),
        ];
        for (config, expected) in complaints {
            let complaint = run(config, std::future::pending()).await.unwrap_err().to_string();
            assert!(complaint.starts_with(expected), "{complaint}");
        }
    }
}
