//! A simulated worker: a real agent, with simulated attempts and a clock of its own.

use super::coordinator::CLUSTER;
use super::execution::Execution;
use muster_agent::agent::{Action, Agent, AgentConfig, Input};
use muster_protocol::ids::{AttemptId, BootId, WorkerIdentity};
use muster_protocol::resources::Resources;
use muster_protocol::worker::WorkerHello;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// What each worker has.
const CPU_MILLI: u32 = 4_000;

/// A worker, its agent running or not.
pub struct Worker {
    /// Kept over lives.
    pub identity: WorkerIdentity,
    /// Of this life.
    pub boot: BootId,
    /// Counted from 1; what was meant for an earlier life is dropped.
    pub life: u32,
    /// Its agent does nothing until then; its attempts go on.
    pub paused_until: u64,
    /// What arrived while it was paused.
    pub inbox: Vec<Input>,
    /// Attempts whose processes run.
    pub executions: BTreeMap<AttemptId, Execution>,
    /// Its attempts are killed then, agent or no agent, unless a later lease is told.
    pub lease_until: u64,
    agent: Option<Agent>,
    began: u64,
    number: usize,
    drift_per_mille: i64,
}

impl Worker {
    /// A worker whose agent does not run.
    pub fn new(number: usize, random: &mut ChaCha8Rng) -> Worker {
        Worker {
            identity: WorkerIdentity(random.random()),
            boot: BootId::NIL,
            life: 0,
            paused_until: 0,
            inbox: Vec::new(),
            executions: BTreeMap::new(),
            lease_until: 0,
            agent: None,
            began: 0,
            number,
            drift_per_mille: random.random_range(-5..=5),
        }
    }

    /// What it has.
    pub fn capacity() -> Resources {
        Resources { cpu_milli: CPU_MILLI, memory_mib: 4_096, ..Resources::default() }
    }

    /// Starts its agent.
    pub fn start(&mut self, now_ms: u64, random: &mut ChaCha8Rng) {
        self.life += 1;
        self.boot = BootId(random.random());
        self.began = now_ms;
        self.paused_until = 0;
        self.inbox.clear();
        let hello = WorkerHello {
            identity: self.identity,
            boot: self.boot,
            name: format!("w{}", self.number + 1),
            address: format!("w{}", self.number + 1),
            rendezvous_port_first: 30_000,
            rendezvous_ports: 64,
            capacity: Worker::capacity(),
            gpus: Vec::new(),
            labels: BTreeMap::new(),
            queue: 8,
            version: "simulated".to_string(),
        };
        self.agent =
            Some(Agent::new(AgentConfig { cluster: CLUSTER.to_string(), hello, drain_ms: 5_000 }, 0));
    }

    /// Kills the agent where it stands; its attempts die with it.
    pub fn crash(&mut self) {
        self.agent = None;
        self.inbox.clear();
        self.executions.clear();
    }

    /// Whether its agent runs.
    pub fn is_running(&self) -> bool {
        self.agent.is_some()
    }

    /// Gives the agent these inputs, and lets it say what has gathered.
    pub fn handle(&mut self, now_ms: u64, inputs: Vec<Input>, out: &mut dyn FnMut(Action)) {
        let mono_ms = (now_ms - self.began) * (1_000 + self.drift_per_mille) as u64 / 1_000;
        let Some(agent) = &mut self.agent else { return };
        for input in inputs {
            agent.handle(mono_ms, input, out);
        }
        agent.settle(mono_ms, out);
    }
}
