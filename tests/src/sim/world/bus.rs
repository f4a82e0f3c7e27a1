//! The bus between workers and leaders.

use super::{Event, World};
use crate::sim::coordinator::CLUSTER;
use crate::sim::network::Endpoint;
use muster_agent::machine::AgentInput;
use muster_protocol::bus::{DownEnvelope, Up, UpEnvelope};
use muster_protocol::codec;
use muster_protocol::ids::{BootId, WorkerIdentity};
use muster_replica::Input;

impl World {
    /// Publishes a message of a worker to every coordinator.
    pub(super) fn send_up(&mut self, node: usize, message: Up) {
        let worker = &self.workers[node];
        let envelope = UpEnvelope {
            cluster: CLUSTER.to_string(),
            identity: worker.identity,
            boot: worker.boot,
            trace: String::new(),
            message,
        };
        self.log(format_args!("w{} sends {}", node + 1, envelope.message.name()));
        self.trace.absorb(&codec::encode(&envelope));
        for to in 0..self.coordinators.len() {
            let delays =
                self.network.delays_ms(Endpoint::Worker(node), Endpoint::Coordinator(to), &mut self.random);
            self.stats.lost += u64::from(delays.is_empty());
            for delay in delays {
                self.at(delay, Event::Up { to, envelope: Box::new(envelope.clone()) });
            }
        }
    }

    pub(super) fn up_arrives(&mut self, to: usize, envelope: Box<UpEnvelope>) {
        if self.coordinators[to].replica().is_some() {
            self.stats.messages += 1;
            self.deliver(to, Input::Up(envelope));
        }
    }

    /// Publishes a leader's message to one incarnation of a worker.
    pub(super) fn send_down(
        &mut self,
        from: usize,
        sync_ms: u64,
        identity: WorkerIdentity,
        boot: BootId,
        envelope: DownEnvelope,
    ) {
        let Some(to) = self.workers.iter().position(|worker| worker.identity == identity) else {
            self.fail("bus", format!("c{} speaks to {identity}, which is no worker", from + 1));
            return;
        };
        if boot != envelope.boot {
            self.fail("bus", format!("c{} speaks to {boot} of what is for {}", from + 1, envelope.boot));
        }
        let delays =
            self.network.delays_ms(Endpoint::Coordinator(from), Endpoint::Worker(to), &mut self.random);
        self.log(format_args!(
            "c{} to w{}: {}, {} times",
            from + 1,
            to + 1,
            envelope.message.name(),
            delays.len()
        ));
        self.trace.absorb(&codec::encode(&envelope));
        self.stats.lost += u64::from(delays.is_empty());
        for delay in delays {
            self.at(sync_ms + delay, Event::Down { to, envelope: Box::new(envelope.clone()) });
        }
    }

    pub(super) fn down_arrives(&mut self, to: usize, envelope: Box<DownEnvelope>) {
        // Each incarnation has its own subject.
        if self.workers[to].is_running() && self.workers[to].boot == envelope.boot {
            self.stats.messages += 1;
            self.deliver_to_agent(to, AgentInput::Down(envelope));
        }
    }

    pub(super) fn start_broker(&mut self) {
        self.log(format_args!("the broker is there again"));
        self.network.broker_is_down = false;
        for node in 0..self.workers.len() {
            self.deliver_to_agent(node, AgentInput::Reconnected);
        }
    }
}
