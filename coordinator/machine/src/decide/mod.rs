//! Decides a command: events, which are folded into the state, and an answer.
//!
//! It re-checks what keeps the cluster safe, and never the order in which the scheduler chose. It never
//! changes the state but by folding events.

mod assign;
mod children;
mod decider;
mod ending;
mod jobs;
mod rejections;
mod report;
mod spec;
mod stages;
mod time;
mod workers;

pub use spec::check_spec;

use crate::state::State;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use decider::Decider;
use muster_protocol::codec;
use muster_protocol::command::Command;
use muster_protocol::envelope::{Accepted, Answer, Done, Envelope, Rejected, Reply};
use muster_protocol::event::{CommandFaulted, Event, LeaderTookOver, RequestAnswered, VersionRaised};
use muster_protocol::ids::Digest;
use muster_protocol::rejection::{Detail, Rejection};
use rejections::stale;

/// What a command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens, in order.
    pub events: Vec<Event>,
    /// What the caller gets.
    pub answer: Answer,
}

/// Decides a command, and folds its events into `state`. A repeated request gets the answer that it had, and
/// nothing happens; else, if its id is not nil, the last event remembers the answer, rejections included. A
/// panic in here is a bug, which leaves `state` as it was and which the caller catches: see [`fault`].
pub fn decide(state: &mut State, envelope: &Envelope) -> Decision {
    let mut decider = Decider::new(state);
    let answer = answer(&mut decider, envelope);
    Decision { events: decider.commit(), answer }
}

/// What [`decide`] would do. Leaves `state` as it was.
pub fn rehearse(state: &mut State, envelope: &Envelope) -> Decision {
    let mut decider = Decider::new(state);
    let answer = answer(&mut decider, envelope);
    Decision { events: decider.abandon(), answer }
}

/// What a command on which [`decide`] panics comes to: nothing but a trace in the log, the same on every
/// replica. Its events are folded into `state`.
pub fn fault(state: &mut State, envelope: &Envelope) -> Decision {
    let mut decider = Decider::new(state);
    let answer = fault_answer(&mut decider, envelope);
    Decision { events: decider.commit(), answer }
}

/// What [`fault`] would do. Leaves `state` as it was.
pub fn rehearse_fault(state: &mut State, envelope: &Envelope) -> Decision {
    let mut decider = Decider::new(state);
    let answer = fault_answer(&mut decider, envelope);
    Decision { events: decider.abandon(), answer }
}

fn answer(decider: &mut Decider<'_>, envelope: &Envelope) -> Answer {
    let index = decider.state.now().index;
    if let Some(known) = decider.state.remembered(envelope.request) {
        if known.command_hash == command_hash(&envelope.command) {
            return known.answer.clone();
        }
        let message =
            format!("request {} was another command; draw a new id for each request", envelope.request);
        let rejection = Rejection::RequestReused(Detail { message });
        return Answer::Rejected(Rejected { index, rejection });
    }
    let answer = match command(decider, envelope) {
        Ok(reply) => Answer::Accepted(Accepted { index, reply }),
        Err(rejection) => {
            decider.restart();
            Answer::Rejected(Rejected { index, rejection })
        }
    };
    remember(decider, envelope, &answer);
    answer
}

fn fault_answer(decider: &mut Decider<'_>, envelope: &Envelope) -> Answer {
    let command = envelope.command.name().to_string();
    let message = format!("a fault in deciding {command}, which changed nothing; it is in the log");
    let rejection = Rejection::Faulted(Detail { message });
    let answer = Answer::Rejected(Rejected { index: decider.state.now().index, rejection });
    decider.push(Event::CommandFaulted(CommandFaulted { command }));
    if decider.state.remembered(envelope.request).is_none() {
        remember(decider, envelope, &answer);
    }
    answer
}

fn remember(decider: &mut Decider<'_>, envelope: &Envelope, answer: &Answer) {
    if !envelope.request.is_nil() {
        decider.push(Event::RequestAnswered(RequestAnswered {
            request: envelope.request,
            command_hash: command_hash(&envelope.command),
            answer: answer.clone(),
        }));
    }
}

/// What a repeat must have in common with the first. A task's later attempt repeats what an earlier one
/// asked: the epoch does not count, nor do the children, since a planner need not say the same twice, and its
/// task has those of the first time.
fn command_hash(command: &Command) -> u64 {
    let bytes = match command {
        Command::AddTasks(add) => codec::encode(&(command.tag(), add.parent.task)),
        Command::SealStage(seal) => codec::encode(&(command.tag(), seal.parent.task, seal.stage)),
        Command::SubmitJob(_)
        | Command::CancelJob(_)
        | Command::RetryJob(_)
        | Command::RegisterWorker(_)
        | Command::SetLiveness(_)
        | Command::DrainWorker(_)
        | Command::Assign(_)
        | Command::ReportAttempts(_)
        | Command::RecordProgress(_)
        | Command::AdvanceTime(_)
        | Command::TakeLeadership(_)
        | Command::RaiseVersion(_) => codec::encode(command),
    };
    let Digest(hash) = Digest::of(&bytes);
    hash.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn command(decider: &mut Decider<'_>, envelope: &Envelope) -> Result<Reply, Rejection> {
    match &envelope.command {
        Command::SubmitJob(submit) => decider.submit_job(envelope, submit),
        Command::CancelJob(cancel) => decider.cancel_job(cancel).map(done),
        Command::RetryJob(retry) => decider.retry_job(retry.job).map(done),
        Command::RegisterWorker(register) => decider.register_worker(&register.hello),
        Command::SetLiveness(set) => decider.set_liveness(set).map(done),
        Command::DrainWorker(drain) => decider.drain_worker(drain).map(done),
        Command::Assign(assign) => decider.assign(assign).map(done),
        Command::ReportAttempts(report) => decider.report_attempts(report).map(done),
        Command::RecordProgress(record) => decider.record_progress(record).map(done),
        Command::AddTasks(add) => decider.add_tasks(envelope.request, add),
        Command::SealStage(seal) => decider.seal_stage(seal).map(done),
        Command::AdvanceTime(_) => decider.advance_time().map(done),
        Command::TakeLeadership(take) => {
            if take.term < decider.state.records.header.leader_term {
                let leads = decider.state.records.header.leader_term;
                return Err(stale(format!("term {} is over: {leads} leads", take.term)));
            }
            let event = LeaderTookOver { leader: take.leader, name: take.name.clone(), term: take.term };
            decider.push(Event::LeaderTookOver(event));
            Ok(done(()))
        }
        Command::RaiseVersion(raise) => {
            if raise.version > decider.state.decide_version() {
                decider.push(Event::VersionRaised(VersionRaised { version: raise.version }));
            }
            Ok(done(()))
        }
    }
}

fn done((): ()) -> Reply {
    Reply::Done(Done {})
}

#[cfg(test)]
mod tests;
