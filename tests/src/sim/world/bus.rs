//! The bus: what workers and leaders say to each other, lost, late and repeated.

use super::{Event, World};
use crate::sim::coordinator::CLUSTER;
use crate::sim::network::Place;
use muster_agent::agent;
use muster_protocol::bus::{DownEnvelope, Up, UpEnvelope};
use muster_protocol::codec;
use muster_protocol::ids::{BootId, WorkerIdentity};
use muster_replica::Input;

impl World {
    /// A worker says something to every coordinator.
    pub(super) fn send_up(&mut self, which: usize, message: Up) {
        let worker = &self.workers[which];
        let envelope = UpEnvelope {
            cluster: CLUSTER.to_string(),
            identity: worker.identity,
            boot: worker.boot,
            trace: String::new(),
            message,
        };
        self.say(format_args!("w{} says {}", which + 1, envelope.message.name()));
        self.trace.absorb(&codec::encode(&envelope));
        for to in 0..self.coordinators.len() {
            let delays =
                self.network.delays_ms(Place::Worker(which), Place::Coordinator(to), &mut self.random);
            self.stats.lost += u64::from(delays.is_empty());
            for delay in delays {
                self.at(delay, Event::Up { to, envelope: Box::new(envelope.clone()) });
            }
        }
    }

    pub(super) fn up_arrives(&mut self, to: usize, envelope: Box<UpEnvelope>) {
        if self.coordinators[to].replica().is_some() {
            self.stats.messages += 1;
            self.give(to, Input::Up(envelope));
        }
    }

    /// A leader says something to one life of a worker.
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
        let delays = self.network.delays_ms(Place::Coordinator(from), Place::Worker(to), &mut self.random);
        self.say(format_args!(
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
        // Each life has a subject of its own.
        if self.workers[to].is_running() && self.workers[to].boot == envelope.boot {
            self.stats.messages += 1;
            self.tell_agent(to, agent::Input::Down(envelope));
        }
    }

    pub(super) fn start_broker(&mut self) {
        self.say(format_args!("the broker is there again"));
        self.network.broker_is_down = false;
        for which in 0..self.workers.len() {
            self.tell_agent(which, agent::Input::Reconnected);
        }
    }
}
