//! Clients: what they ask, what they are told, and what they make of silence: nothing.

use super::{Event, World};
use crate::sim::client::PATIENCE_MS;
use crate::sim::network::Place;
use muster_protocol::envelope::{Answer, Envelope, Reply};
use muster_protocol::ids::{RaftId, RequestId};
use muster_protocol::rejection::Rejection;
use muster_replica::{CommandError, Input};
use rand::RngExt;

/// A client thinks for so long at most between two requests: jobs come throughout the rough time.
const THINK_MS_MAX: u64 = 4_000;

impl World {
    pub(super) fn client_thinks(&mut self, which: usize) {
        let count = self.coordinators.len();
        let client = &mut self.clients[which];
        if client.asked.is_none() && client.think(&mut self.jobs_left, count, &mut self.random).is_some() {
            self.ask(which);
        }
    }

    /// Asks, again or for the first time.
    fn ask(&mut self, which: usize) {
        let Some(asked) = &mut self.clients[which].asked else { return };
        asked.tries += 1;
        let (to, tries, envelope) = (asked.of, asked.tries, asked.envelope.clone());
        self.say(format_args!(
            "client {which} asks c{}: {} {}",
            to + 1,
            envelope.command.name(),
            envelope.request
        ));
        for delay in self.network.delays_ms(Place::Client(which), Place::Coordinator(to), &mut self.random) {
            self.at(delay, Event::Ask { to, client: which, tries, envelope: Box::new(envelope.clone()) });
        }
        self.at(PATIENCE_MS, Event::Impatient { client: which, tries });
    }

    pub(super) fn request_arrives(&mut self, to: usize, client: usize, tries: u32, envelope: Envelope) {
        if self.coordinators[to].replica().is_none() {
            return;
        }
        self.stats.messages += 1;
        self.next_token += 1;
        let token = self.next_token;
        self.tokens.insert(token, (client, tries, envelope.request));
        self.give(to, Input::Command { token, envelope });
    }

    pub(super) fn send_answer(
        &mut self,
        from: usize,
        sync_ms: u64,
        token: u64,
        result: Result<Answer, CommandError>,
    ) {
        let Some((client, tries, request)) = self.tokens.remove(&token) else {
            self.fail("client", format!("c{} answers token {token} twice", from + 1));
            return;
        };
        // What is known is known when it is said, whether it arrives or not.
        if let Ok(Answer::Accepted(accepted)) = &result
            && let Reply::Submitted(submitted) = &accepted.reply
        {
            let verdict = self.oracle.acknowledged.told(request, submitted.job);
            self.hold(verdict);
        }
        for delay in self.network.delays_ms(Place::Coordinator(from), Place::Client(client), &mut self.random)
        {
            self.at(sync_ms + delay, Event::Answer { client, request, tries, result: result.clone() });
        }
    }

    pub(super) fn answer_arrives(
        &mut self,
        client: usize,
        request: RequestId,
        tries: u32,
        result: Result<Answer, CommandError>,
    ) {
        self.stats.messages += 1;
        let count = self.coordinators.len();
        let Some(asked) = self.clients[client]
            .asked
            .as_mut()
            .filter(|asked| asked.tries == tries && asked.envelope.request == request)
        else {
            return;
        };
        match result {
            Ok(answer) => {
                self.clients[client].asked = None;
                self.say(format_args!("client {client} is told of {request}: {answer:?}"));
                self.told(client, answer);
                let thinks = self.random.random_range(100..THINK_MS_MAX);
                self.at(thinks, Event::Client { which: client });
            }
            Err(unanswered) => {
                asked.of = match unanswered {
                    CommandError::NotLeader { leader: Some(RaftId(leader)) } => {
                        usize::try_from(leader - 1).unwrap_or(0).min(count - 1)
                    }
                    CommandError::NotLeader { leader: None }
                    | CommandError::Overloaded
                    | CommandError::OutcomeUnknown
                    | CommandError::DiskFull => self.random.random_range(0..count),
                };
                let again = self.random.random_range(30..200);
                self.at(again, Event::Impatient { client, tries });
            }
        }
    }

    fn told(&mut self, client: usize, answer: Answer) {
        match answer {
            Answer::Accepted(accepted) => match accepted.reply {
                Reply::Submitted(submitted) => {
                    self.stats.acknowledged += 1;
                    self.clients[client].accepted(submitted.job);
                }
                Reply::Done(_) => {}
                Reply::TasksAdded(_) | Reply::Registered(_) => {
                    self.fail("client", format!("client {client} got another's answer"))
                }
            },
            // A cancel may come too late; a submit of ours is always valid.
            Answer::Rejected(rejected) => match rejected.rejection {
                Rejection::WrongState(_) => {}
                other => self.fail("client", format!("client {client} was refused: {other:?}")),
            },
        }
    }

    pub(super) fn client_loses_patience(&mut self, client: usize, tries: u32) {
        let count = self.coordinators.len();
        let Some(asked) = self.clients[client].asked.as_mut().filter(|asked| asked.tries == tries) else {
            return;
        };
        if self.random.random_bool(0.5) {
            asked.of = self.random.random_range(0..count);
        }
        self.ask(client);
    }
}
