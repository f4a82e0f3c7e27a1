//! Tells those who wait for a command what came of it: when its entry is applied, when it times out, and when
//! the leadership ends.

use crate::apply::Applied;
use crate::command_queue::Waiter;
use crate::config::ReplicaConfig;
use crate::io::{CommandError, Now, Output};
use crate::leadership::Leadership;
use crate::sessions::WorkerIncarnation;
use crate::worker_sender::WorkerSender;
use muster_machine::State;
use muster_protocol::attempt_call::{CallAnswer, Taken};
use muster_protocol::bus::{AnswerTo, Down, Welcome};
use muster_protocol::envelope::{Accepted, Answer, Reply};
use muster_protocol::event::Event;
use muster_protocol::ids::{RaftId, RequestId};

impl Leadership {
    /// An entry is applied: the leader's own memory follows, and the waiters of the entry are answered.
    pub(super) fn applied(
        &mut self,
        now: Now,
        config: &ReplicaConfig,
        state: &State,
        applied: &Applied,
        sender: &mut WorkerSender<'_>,
    ) {
        if self.has_taken_over() {
            applied.records.iter().for_each(|record| self.observe(now, &record.event));
        }
        if applied.block.term != self.term {
            return;
        }
        for (place, waiter) in self.proposed.take(applied.block.index).into_iter().enumerate() {
            let assigned = waiter == Waiter::Assign
                && applied.records.iter().any(|record| matches!(record.event, Event::TaskAssigned(_)));
            match waiter {
                Waiter::Takeover => self.take_over(now, state),
                // A schedule that changed nothing would change nothing if it were repeated at once.
                Waiter::Assign => self.assign.finish(now, if assigned { 0 } else { config.tick_ms }),
                Waiter::Timers => self.timers.finish(now, config.tick_ms),
                Waiter::Client { .. }
                | Waiter::TimedOut
                | Waiter::Liveness { .. }
                | Waiter::Hello { .. }
                | Waiter::Drain { .. }
                | Waiter::Numbered { .. }
                | Waiter::Call { .. } => self.complete(now, waiter, applied.answers.get(place), sender),
            }
        }
    }

    fn complete(&mut self, now: Now, waiter: Waiter, answer: Option<&Answer>, sender: &mut WorkerSender<'_>) {
        match waiter {
            Waiter::Client { token } => {
                let result = answer.cloned().ok_or(CommandError::OutcomeUnknown);
                sender.output(Output::Answered { token, result });
            }
            Waiter::Hello { incarnation } => self.complete_registration(now, incarnation, answer, sender),
            Waiter::Liveness { incarnation, liveness } => {
                if let Some(session) = self
                    .sessions
                    .get(incarnation)
                    .filter(|session| session.proposed_liveness == Some(liveness))
                {
                    session.proposed_liveness = None;
                }
            }
            Waiter::Drain { incarnation } => {
                if let Some(session) = self.sessions.get(incarnation) {
                    session.drain_proposed = false;
                }
            }
            Waiter::Numbered { kind, incarnation, upto } => {
                if let Some(session) = self.sessions.get(incarnation) {
                    session.window(kind).applied = upto;
                    sender.send(incarnation, session, Down::Ack(session.ack()));
                }
            }
            Waiter::Call { incarnation, id } => self.complete_call(incarnation, id, answer, sender),
            Waiter::TimedOut | Waiter::Takeover | Waiter::Assign | Waiter::Timers => {}
        }
    }

    fn complete_registration(
        &mut self,
        now: Now,
        incarnation: WorkerIncarnation,
        answer: Option<&Answer>,
        sender: &mut WorkerSender<'_>,
    ) {
        if self.sessions.registering.get(&incarnation.identity) == Some(&incarnation.boot) {
            self.sessions.registering.remove(&incarnation.identity);
        }
        match answer {
            Some(Answer::Accepted(Accepted { reply: Reply::Registered(registered), .. })) => {
                self.sessions.registered(registered.worker, incarnation, now.mono_ms);
                if let Some(session) = self.sessions.get(incarnation) {
                    let welcome = Welcome { worker: registered.worker };
                    sender.send(incarnation, session, Down::Welcome(welcome));
                }
            }
            Some(Answer::Rejected(rejected)) => {
                tracing::warn!(identity = %incarnation.identity, "a worker was not registered: {}", rejected.rejection);
            }
            Some(Answer::Accepted(_)) | None => {}
        }
    }

    fn complete_call(
        &mut self,
        incarnation: WorkerIncarnation,
        id: RequestId,
        answer: Option<&Answer>,
        sender: &mut WorkerSender<'_>,
    ) {
        let Some(session) = self.sessions.get(incarnation) else { return };
        session.calls.remove(&id);
        let answer = match answer {
            Some(Answer::Accepted(Accepted { reply: Reply::TasksAdded(added), .. })) => {
                CallAnswer::Added(*added)
            }
            Some(Answer::Accepted(_)) => CallAnswer::Sealed(Taken {}),
            Some(Answer::Rejected(rejected)) => CallAnswer::Rejected(rejected.rejection.clone()),
            None => return,
        };
        sender.send(incarnation, session, Down::Answer(AnswerTo { id, answer }));
    }

    /// Answers clients past their deadline.
    pub(super) fn expire(&mut self, now: Now, out: &mut dyn FnMut(Output)) {
        for waiter in self.proposed.expire(now.mono_ms) {
            self.give_up(waiter, CommandError::OutcomeUnknown, out);
        }
        for waiter in self.queue.expire(now.mono_ms) {
            self.give_up(waiter, CommandError::Overloaded, out);
        }
    }

    fn give_up(&mut self, waiter: Waiter, error: CommandError, out: &mut dyn FnMut(Output)) {
        if let Waiter::Call { incarnation, id } = waiter {
            if let Some(session) = self.sessions.get(incarnation) {
                session.calls.remove(&id);
            }
        } else if let Waiter::Client { token } = waiter {
            out(Output::Answered { token, result: Err(error) });
        }
    }

    /// Ends the leadership. Another leader may still commit what was proposed; what was only queued is
    /// dropped.
    pub(super) fn resign(mut self, leader: Option<RaftId>, out: &mut dyn FnMut(Output)) {
        let answer = |waiter: Waiter, error: CommandError, out: &mut dyn FnMut(Output)| {
            if let Waiter::Client { token } = waiter {
                out(Output::Answered { token, result: Err(error) });
            }
        };
        self.proposed.waiters().for_each(|waiter| answer(waiter, CommandError::OutcomeUnknown, out));
        self.queue.waiters().for_each(|waiter| answer(waiter, CommandError::NotLeader { leader }, out));
        self.tails.end_all("this coordinator leads no more", out);
    }
}
