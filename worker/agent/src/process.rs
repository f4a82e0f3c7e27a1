//! The worker as a process: one loop that owns everything, feeds the agent its inputs and performs its
//! actions in order.

use crate::attempts::{AttemptProcesses, LogTails, ProcessReaper, SpawnEnv, end_orphans};
use crate::bus::{Bus, BusError, BusIdentity};
use crate::config::WorkerConfig;
use crate::data_dir::{DataDir, DataError};
use crate::hardware::{self, LoadMeter};
use crate::machine::{Action, Agent, AgentConfig, AgentInput};
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

/// How often the agent is told that time has passed.
const TICK: Duration = Duration::from_millis(50);
/// How often the machine's load is measured.
const LOAD_INTERVAL: Duration = Duration::from_secs(1);
/// How often a status line is logged.
const STATUS_INTERVAL: Duration = Duration::from_secs(60);
/// At most this many inputs wait; then their senders wait.
const INPUT_QUEUE: usize = 4_096;
/// At most this many inputs are handled before the agent sends what has gathered.
const INPUTS_AT_ONCE: usize = 1_024;

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the cluster name {0:?} is not valid: it must have 1 to 64 lower-case letters, digits or hyphens"
    )]
    ClusterName(String),
    #[error("cannot offer {cpus} CPUs: the number must be above 0")]
    Cpus { cpus: f64 },
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what, source }
}

/// Runs a worker until `shutdown` completes and the worker has drained: it takes no new work, waits
/// `drain_ms` for running attempts, then ends them with their grace. A SIGTERM or SIGINT after `shutdown`
/// ends them at once. While the broker is absent, the worker keeps trying to connect.
///
/// # Errors
/// If the configuration is not valid, or the data directory, the bus or a resource of the system cannot be
/// used.
pub async fn run(config: WorkerConfig, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    if !subjects::is_cluster_name(&config.cluster) {
        return Err(Error::ClusterName(config.cluster));
    }
    let fresh = WorkerIdentity(uuid::Uuid::new_v4().as_u128());
    let data = DataDir::open(&config.data, &config.cluster, fresh)?;
    // It is a fork of this process, so it starts before anything else is open.
    let reaper = ProcessReaper::start().map_err(io_error("start the process reaper"))?;
    end_orphans(&data.attempts());
    let hello = hello(&config, data.identity())?;
    let identity = BusIdentity { cluster: config.cluster.clone(), worker: hello.identity, boot: hello.boot };
    let (inputs, received) = mpsc::channel(INPUT_QUEUE);
    let artifacts =
        std::path::absolute(&config.artifacts).map_err(io_error("find the directory of artifacts"))?;
    let env = SpawnEnv {
        cluster: config.cluster.clone(),
        address: config.address.clone(),
        artifacts,
        executor_program: config.executor_program,
    };
    let attempts = AttemptProcesses::new(data.attempts(), env, reaper, inputs.clone())
        .map_err(io_error("prepare the directory of attempts"))?;
    let bus = Bus::start(&config.nats, identity, inputs).await?;
    tracing::info!(
        name = hello.name,
        identity = %hello.identity,
        cpu_milli = hello.capacity.cpu_milli,
        memory_mib = hello.capacity.memory_mib,
        gpus = hello.capacity.gpus,
        "the worker is ready"
    );
    let agent = Agent::new(AgentConfig { cluster: config.cluster, hello, drain_ms: config.drain_ms });
    let tails = LogTails::new(attempts.context(), bus.chunks());
    EventLoop {
        agent,
        attempts,
        tails,
        bus,
        received,
        started: Instant::now(),
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
        Some(cpus) => return Err(Error::Cpus { cpus }),
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

struct EventLoop {
    agent: Agent,
    attempts: AttemptProcesses,
    tails: LogTails,
    bus: Bus,
    received: mpsc::Receiver<AgentInput>,
    started: Instant,
    load: LoadMeter,
    actions: Vec<Action>,
}

/// Signals that come after `shutdown`.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    async fn next(signals: &mut Option<StopSignals>) {
        match signals {
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

impl EventLoop {
    async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        tokio::pin!(shutdown);
        let mut stop_signals = None;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut load = interval(LOAD_INTERVAL);
        load.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut status = interval(STATUS_INTERVAL);
        loop {
            let input = tokio::select! {
                _ = tick.tick() => AgentInput::Tick,
                _ = load.tick() => AgentInput::Load(self.load.sample()),
                Some(input) = self.received.recv() => input,
                _ = status.tick() => { self.log_status(); continue }
                () = &mut shutdown, if stop_signals.is_none() => {
                    tracing::info!("draining: taking no new work, waiting for running attempts");
                    stop_signals = Some(StopSignals {
                        terminate: signal(SignalKind::terminate()).map_err(io_error("listen for SIGTERM"))?,
                        interrupt: signal(SignalKind::interrupt()).map_err(io_error("listen for SIGINT"))?,
                    });
                    AgentInput::Drain
                }
                () = StopSignals::next(&mut stop_signals) => {
                    tracing::info!("ending running attempts at once");
                    AgentInput::Shutdown
                }
            };
            self.handle(input);
            for _ in 0..INPUTS_AT_ONCE {
                let Ok(input) = self.received.try_recv() else { break };
                self.handle(input);
            }
            let now_ms = self.now_ms();
            self.agent.settle(now_ms, &mut |action| self.actions.push(action));
            if self.perform() {
                tracing::info!("the worker has stopped");
                return Ok(());
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn handle(&mut self, input: AgentInput) {
        let now_ms = self.now_ms();
        self.agent.handle(now_ms, input, &mut |action| self.actions.push(action));
    }

    /// Performs the agent's actions in order. Returns whether the worker must exit.
    fn perform(&mut self) -> bool {
        let mut exit = false;
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Send(up) => self.bus.send(up),
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

    fn log_status(&self) {
        let status = self.agent.status(self.now_ms());
        let counters = self.bus.counters();
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        tracing::info!(
            worker = status.worker.map(|id| id.to_string()),
            lease = status.lease_holds,
            held = status.held,
            ignored = status.ignored,
            missed = status.missed,
            sent = count(&counters.sent),
            received = count(&counters.received),
            dropped = count(&counters.dropped),
            malformed = count(&counters.malformed),
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
        // Nothing listens on port 1.
        let config = WorkerConfig::new("test", temp.path().join("w"), "nats://127.0.0.1:1");
        run(config.clone(), std::future::ready(())).await.unwrap();
        let owner = DataDir::open(&config.data, "test", WorkerIdentity(1)).unwrap();
        assert_ne!(owner.identity(), WorkerIdentity(1), "it already has an identity");
        let failures = [
            (
                WorkerConfig { cluster: "No Name".into(), ..config.clone() },
                "the cluster name \"No Name\" is not valid",
            ),
            (config.clone(), "the data directory"),
            (
                WorkerConfig { data: temp.path().join("x"), cpus: Some(f64::NAN), ..config.clone() },
                "cannot offer NaN CPUs",
            ),
            (
                WorkerConfig { data: temp.path().join("y"), nats: "nats://:x:y".into(), ..config },
                "the broker's address",
            ),
        ];
        for (config, expected) in failures {
            let message = run(config, std::future::pending()).await.unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
