//! Who is told what, once an entry is applied, or never will be by this member.

use super::batch::{Life, Slot};
use super::config::CoreConfig;
use super::io::{Now, Output, Unanswered};
use super::leadership::{Leadership, Speaker};
use crate::apply::Applied;
use muster_machine::State;
use muster_protocol::attempt_call::{CallAnswer, Taken};
use muster_protocol::bus::{Ack, AnswerTo, Down, Welcome};
use muster_protocol::envelope::{Accepted, Answer, Reply};
use muster_protocol::event::Event;
use muster_protocol::ids::{RaftId, RequestId};

impl Leadership {
    /// An entry is applied: those who waited for it are told, and the leader's own memory follows.
    pub(super) fn applied(
        &mut self,
        now: Now,
        config: &CoreConfig,
        state: &State,
        applied: &Applied,
        speaker: &mut Speaker<'_>,
    ) {
        if self.has_taken_over() {
            applied.records.iter().for_each(|record| self.note(now, &record.event));
        }
        if applied.block.term != self.term {
            return;
        }
        for (place, slot) in self.pending.take(applied.block.index).into_iter().enumerate() {
            let assigned = slot == Slot::Assign
                && applied.records.iter().any(|record| matches!(record.event, Event::TaskAssigned(_)));
            match slot {
                Slot::Takeover => self.take_over(now, state),
                // What changed nothing would change nothing again at once.
                Slot::Assign => self.assign.done(now, if assigned { 0 } else { config.tick_ms }),
                Slot::Timers => self.timers.done(now, config.tick_ms),
                Slot::Client { .. }
                | Slot::Gone
                | Slot::Liveness { .. }
                | Slot::Hello { .. }
                | Slot::Drain { .. }
                | Slot::Reports { .. }
                | Slot::Progress { .. }
                | Slot::Call { .. } => self.answer(now, slot, applied.answers.get(place), speaker),
            }
        }
    }

    fn answer(&mut self, now: Now, slot: Slot, answer: Option<&Answer>, speaker: &mut Speaker<'_>) {
        match slot {
            Slot::Client { token } => {
                (speaker.out)(Output::Answered { token, result: answer.cloned().ok_or(Unanswered::Unknown) });
            }
            Slot::Hello { life } => self.registered(now, life, answer, speaker),
            Slot::Liveness { life, liveness } => {
                if let Some(session) =
                    self.sessions.get(life).filter(|session| session.changing == Some(liveness))
                {
                    session.changing = None;
                }
            }
            Slot::Drain { life } => {
                if let Some(session) = self.sessions.get(life) {
                    session.draining = false;
                }
            }
            Slot::Reports { life, upto } => {
                if let Some(session) = self.sessions.get(life) {
                    session.reports.applied = upto;
                    let ack = Ack { reports: session.reports.applied, progress: session.progress.applied };
                    speaker.say(life, session, Down::Ack(ack));
                }
            }
            Slot::Progress { life, upto } => {
                if let Some(session) = self.sessions.get(life) {
                    session.progress.applied = upto;
                    let ack = Ack { reports: session.reports.applied, progress: session.progress.applied };
                    speaker.say(life, session, Down::Ack(ack));
                }
            }
            Slot::Call { life, id } => self.called(life, id, answer, speaker),
            Slot::Gone | Slot::Takeover | Slot::Assign | Slot::Timers => {}
        }
    }

    fn registered(&mut self, now: Now, life: Life, answer: Option<&Answer>, speaker: &mut Speaker<'_>) {
        if self.sessions.registering.get(&life.identity) == Some(&life.boot) {
            self.sessions.registering.remove(&life.identity);
        }
        match answer {
            Some(Answer::Accepted(Accepted { reply: Reply::Registered(registered), .. })) => {
                self.sessions.registered(registered.worker, life, now.mono_ms);
                if let Some(session) = self.sessions.get(life) {
                    speaker.say(life, session, Down::Welcome(Welcome { worker: registered.worker }));
                }
            }
            Some(Answer::Rejected(rejected)) => {
                tracing::warn!(identity = %life.identity, "a worker was not registered: {}", rejected.rejection);
            }
            Some(Answer::Accepted(_)) | None => {}
        }
    }

    fn called(&mut self, life: Life, id: RequestId, answer: Option<&Answer>, speaker: &mut Speaker<'_>) {
        let Some(session) = self.sessions.get(life) else { return };
        session.calls.remove(&id);
        let answer = match answer {
            Some(Answer::Accepted(Accepted { reply: Reply::TasksAdded(added), .. })) => {
                CallAnswer::Added(*added)
            }
            Some(Answer::Accepted(_)) => CallAnswer::Sealed(Taken {}),
            Some(Answer::Rejected(rejected)) => CallAnswer::Rejected(rejected.rejection.clone()),
            None => return,
        };
        speaker.say(life, session, Down::Answer(AnswerTo { id, answer }));
    }

    /// Clients that have waited too long are told so.
    pub(super) fn expire(&mut self, now: Now, out: &mut dyn FnMut(Output)) {
        for slot in self.pending.expire(now.mono_ms) {
            self.give_up(slot, Unanswered::Unknown, out);
        }
        for slot in self.queue.expire(now.mono_ms) {
            self.give_up(slot, Unanswered::Overloaded, out);
        }
    }

    fn give_up(&mut self, slot: Slot, why: Unanswered, out: &mut dyn FnMut(Output)) {
        if let Slot::Call { life, id } = slot {
            if let Some(session) = self.sessions.get(life) {
                session.calls.remove(&id);
            }
        } else if let Slot::Client { token } = slot {
            out(Output::Answered { token, result: Err(why) });
        }
    }

    /// This member leads no more: what was proposed may still be done, by another leader; what only waited is
    /// not.
    pub(super) fn resign(mut self, leader: Option<RaftId>, out: &mut dyn FnMut(Output)) {
        let tell = |slot: Slot, why: Unanswered, out: &mut dyn FnMut(Output)| {
            if let Slot::Client { token } = slot {
                out(Output::Answered { token, result: Err(why) });
            }
        };
        self.pending.slots().for_each(|slot| tell(slot, Unanswered::Unknown, out));
        self.queue.slots().for_each(|slot| tell(slot, Unanswered::NotLeader { leader }, out));
        self.tails.end_all("this coordinator leads no more", out);
    }
}
