//! Sends messages to workers in the leader's name.

use crate::io::Output;
use crate::sessions::{Session, WorkerIncarnation};
use muster_protocol::bus::{Down, DownEnvelope};
use muster_protocol::ids::Term;

pub struct WorkerSender<'a> {
    cluster: &'a str,
    term: Term,
    out: &'a mut dyn FnMut(Output),
}

impl<'a> WorkerSender<'a> {
    pub fn new(cluster: &'a str, term: Term, out: &'a mut dyn FnMut(Output)) -> WorkerSender<'a> {
        WorkerSender { cluster, term, out }
    }

    /// Sends to a registered worker, and counts the message in its session.
    pub fn send(&mut self, incarnation: WorkerIncarnation, session: &mut Session, message: Down) {
        session.down_sent += 1;
        self.send_unregistered(incarnation, message);
    }

    /// Sends to a worker without a session.
    pub fn send_unregistered(&mut self, incarnation: WorkerIncarnation, message: Down) {
        let envelope = DownEnvelope {
            cluster: self.cluster.to_string(),
            term: self.term,
            boot: incarnation.boot,
            trace: String::new(),
            message,
        };
        (self.out)(Output::Down { identity: incarnation.identity, boot: incarnation.boot, envelope });
    }

    /// Hands out something that is not for workers.
    pub fn output(&mut self, output: Output) {
        (self.out)(output);
    }
}
