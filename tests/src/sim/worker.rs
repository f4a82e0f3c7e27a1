//! A simulated worker: a real agent with simulated attempts and its own clock.

use super::coordinator::CLUSTER;
use super::execution::Execution;
use muster_agent::machine::{Action, Agent, AgentConfig, AgentInput};
use muster_protocol::ids::{AttemptId, BootId, WorkerIdentity};
use muster_protocol::resources::Resources;
use muster_protocol::worker::WorkerHello;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

const CPU_MILLI: u32 = 4_000;

pub struct Worker {
    /// The same in every incarnation.
    pub identity: WorkerIdentity,
    /// New in every incarnation.
    pub boot: BootId,
    /// Counted from 1; events for earlier incarnations are dropped.
    pub incarnation: u32,
    /// Its agent hangs until then; its attempts keep running.
    pub paused_until: u64,
    /// Inputs that arrived while it hung.
    pub inbox: Vec<AgentInput>,
    /// Running attempts.
    pub executions: BTreeMap<AttemptId, Execution>,
    /// Its attempts are killed then, even if the agent hangs.
    pub lease_until: u64,
    agent: Option<Agent>,
    started_ms: u64,
    number: usize,
    drift_per_mille: i64,
}

impl Worker {
    pub fn new(number: usize, random: &mut ChaCha8Rng) -> Worker {
        Worker {
            identity: WorkerIdentity(random.random()),
            boot: BootId::NIL,
            incarnation: 0,
            paused_until: 0,
            inbox: Vec::new(),
            executions: BTreeMap::new(),
            lease_until: 0,
            agent: None,
            started_ms: 0,
            number,
            drift_per_mille: random.random_range(-5..=5),
        }
    }

    pub fn capacity() -> Resources {
        Resources { cpu_milli: CPU_MILLI, memory_mib: 4_096, ..Resources::default() }
    }

    pub fn start(&mut self, now_ms: u64, random: &mut ChaCha8Rng) {
        self.incarnation += 1;
        self.boot = BootId(random.random());
        self.started_ms = now_ms;
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
        self.agent = Some(Agent::new(AgentConfig { cluster: CLUSTER.to_string(), hello, drain_ms: 5_000 }));
    }

    /// Kills the agent; its attempts die with it.
    pub fn crash(&mut self) {
        self.agent = None;
        self.inbox.clear();
        self.executions.clear();
    }

    pub fn is_running(&self) -> bool {
        self.agent.is_some()
    }

    /// Passes inputs to the agent, and settles it.
    pub fn handle(&mut self, now_ms: u64, inputs: Vec<AgentInput>, out: &mut dyn FnMut(Action)) {
        let mono_ms = (now_ms - self.started_ms) * (1_000 + self.drift_per_mille) as u64 / 1_000;
        let Some(agent) = &mut self.agent else { return };
        for input in inputs {
            agent.handle(mono_ms, input, out);
        }
        agent.settle(mono_ms, out);
    }
}
