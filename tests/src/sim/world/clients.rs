//! Clients: their requests, the answers, and what they do without an answer: a failed call is unknown, never
//! absent.

use super::{Event, World};
use crate::sim::client::RESEND_MS;
use crate::sim::network::Endpoint;
use muster_protocol::envelope::{Answer, Envelope, Reply};
use muster_protocol::ids::{RaftId, RequestId};
use muster_protocol::rejection::Rejection;
use muster_replica::{CommandError, Input};
use rand::RngExt;

/// A client waits at most this long between two requests, so jobs arrive during the whole fault phase.
const PAUSE_MS_MAX: u64 = 4_000;

impl World {
    pub(super) fn client_acts(&mut self, node: usize) {
        let count = self.coordinators.len();
        let client = &mut self.clients[node];
        if client.open_request.is_none()
            && client.next_request(&mut self.jobs_left, count, &mut self.random).is_some()
        {
            self.ask(node);
        }
    }

    /// Sends the open request.
    fn ask(&mut self, node: usize) {
        let Some(open_request) = &mut self.clients[node].open_request else { return };
        open_request.attempt_number += 1;
        let (to, attempt_number, envelope) =
            (open_request.target, open_request.attempt_number, open_request.envelope.clone());
        self.log(format_args!(
            "client {node} asks c{}: {} {}",
            to + 1,
            envelope.command.name(),
            envelope.request
        ));
        for delay in
            self.network.delays_ms(Endpoint::Client(node), Endpoint::Coordinator(to), &mut self.random)
        {
            self.at(
                delay,
                Event::Ask { to, client: node, attempt_number, envelope: Box::new(envelope.clone()) },
            );
        }
        self.at(RESEND_MS, Event::ClientTimeout { client: node, attempt_number });
    }

    pub(super) fn request_arrives(
        &mut self,
        to: usize,
        client: usize,
        attempt_number: u32,
        envelope: Envelope,
    ) {
        if self.coordinators[to].replica().is_none() {
            return;
        }
        self.stats.messages += 1;
        self.next_token += 1;
        let token = self.next_token;
        self.tokens.insert(token, (client, attempt_number, envelope.request));
        self.deliver(to, Input::Command { token, envelope });
    }

    pub(super) fn send_answer(
        &mut self,
        from: usize,
        sync_ms: u64,
        token: u64,
        result: Result<Answer, CommandError>,
    ) {
        let Some((client, attempt_number, request)) = self.tokens.remove(&token) else {
            self.fail("client", format!("c{} answers token {token} twice", from + 1));
            return;
        };
        // What was acknowledged counts, whether the answer arrives or not.
        if let Ok(Answer::Accepted(accepted)) = &result
            && let Reply::Submitted(submitted) = &accepted.reply
        {
            let result = self.oracle.acknowledged.acknowledged(request, submitted.job);
            self.check(result);
        }
        for delay in
            self.network.delays_ms(Endpoint::Coordinator(from), Endpoint::Client(client), &mut self.random)
        {
            self.at(
                sync_ms + delay,
                Event::Answer { client, request, attempt_number, result: result.clone() },
            );
        }
    }

    pub(super) fn answer_arrives(
        &mut self,
        client: usize,
        request: RequestId,
        attempt_number: u32,
        result: Result<Answer, CommandError>,
    ) {
        self.stats.messages += 1;
        let count = self.coordinators.len();
        let Some(open_request) = self.clients[client].open_request.as_mut().filter(|open_request| {
            open_request.attempt_number == attempt_number && open_request.envelope.request == request
        }) else {
            return;
        };
        match result {
            Ok(answer) => {
                self.clients[client].open_request = None;
                self.log(format_args!("client {client} is told of {request}: {answer:?}"));
                self.acknowledged(client, answer);
                let pause = self.random.random_range(100..PAUSE_MS_MAX);
                self.at(pause, Event::Client { node: client });
            }
            Err(unanswered) => {
                open_request.target = match unanswered {
                    CommandError::NotLeader { leader: Some(RaftId(leader)) } => {
                        usize::try_from(leader - 1).unwrap_or(0).min(count - 1)
                    }
                    CommandError::NotLeader { leader: None }
                    | CommandError::Overloaded
                    | CommandError::OutcomeUnknown
                    | CommandError::DiskFull => self.random.random_range(0..count),
                };
                let again = self.random.random_range(30..200);
                self.at(again, Event::ClientTimeout { client, attempt_number });
            }
        }
    }

    fn acknowledged(&mut self, client: usize, answer: Answer) {
        match answer {
            Answer::Accepted(accepted) => match accepted.reply {
                Reply::Submitted(submitted) => {
                    self.stats.acknowledged += 1;
                    self.clients[client].accepted(submitted.job);
                }
                Reply::Done(_) => {}
                Reply::TasksAdded(_) | Reply::Registered(_) => {
                    self.fail("client", format!("client {client} got an answer of another kind"))
                }
            },
            // A cancel may come too late; every submit is valid.
            Answer::Rejected(rejected) => match rejected.rejection {
                Rejection::WrongState(_) => {}
                other => self.fail("client", format!("client {client} was refused: {other:?}")),
            },
        }
    }

    pub(super) fn client_timed_out(&mut self, client: usize, attempt_number: u32) {
        let count = self.coordinators.len();
        let Some(open_request) = self.clients[client]
            .open_request
            .as_mut()
            .filter(|open_request| open_request.attempt_number == attempt_number)
        else {
            return;
        };
        if self.random.random_bool(0.5) {
            open_request.target = self.random.random_range(0..count);
        }
        self.ask(client);
    }
}
