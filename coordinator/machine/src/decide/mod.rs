//! What a command comes to: events and an answer. It changes nothing.

mod assign;
mod children;
mod draft;
mod ending;
mod jobs;
mod report;
mod spec;
mod stages;
mod time;
mod workers;

pub use spec::check_spec;

use crate::state::State;
use alloc::string::ToString;
use alloc::vec::Vec;
use alloc::{format, vec};
use draft::Draft;
use muster_protocol::codec;
use muster_protocol::command::Command;
use muster_protocol::envelope::{Accepted, Answer, Done, Envelope, Rejected, Reply};
use muster_protocol::event::{CommandFaulted, Event, LeaderTookOver, RequestAnswered, VersionRaised};
use muster_protocol::ids::Digest;
use muster_protocol::rejection::{Detail, Rejection};

/// What a command comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens, in order.
    pub events: Vec<Event>,
    /// What the caller gets.
    pub answer: Answer,
}

/// Decides a command. A repeated request gets the answer that it had, and nothing happens; else, if its id is
/// not nil, the last event remembers the answer, rejections included. A panic in here is a bug, which the
/// caller catches: see [`fault`].
pub fn decide(state: &State, envelope: &Envelope) -> Decision {
    let index = state.now().index;
    if let Some(known) =
        state.index.requests.get(&envelope.request).and_then(|number| state.core.requests.get(*number))
    {
        if known.command_hash == command_hash(&envelope.command) {
            return Decision { events: Vec::new(), answer: known.answer.clone() };
        }
        let message =
            format!("request {} was another command; draw a new id for each request", envelope.request);
        let rejection = Rejection::RequestReused(Detail { message });
        return Decision { events: Vec::new(), answer: Answer::Rejected(Rejected { index, rejection }) };
    }
    let mut draft = Draft::new(state);
    let (mut events, answer) = match command(&mut draft, envelope) {
        Ok(reply) => (draft.events, Answer::Accepted(Accepted { index, reply })),
        Err(rejection) => (Vec::new(), Answer::Rejected(Rejected { index, rejection })),
    };
    remember(envelope, &answer, &mut events);
    Decision { events, answer }
}

/// What a command on which [`decide`] panics comes to: nothing but a trace in the log, the same on every
/// replica.
pub fn fault(state: &State, envelope: &Envelope) -> Decision {
    let command = envelope.command.name().to_string();
    let message = format!("a fault in deciding {command}, which changed nothing; it is in the log");
    let rejection = Rejection::Faulted(Detail { message });
    let answer = Answer::Rejected(Rejected { index: state.now().index, rejection });
    let mut events = vec![Event::CommandFaulted(CommandFaulted { command })];
    if !state.index.requests.contains_key(&envelope.request) {
        remember(envelope, &answer, &mut events);
    }
    Decision { events, answer }
}

fn remember(envelope: &Envelope, answer: &Answer, events: &mut Vec<Event>) {
    if !envelope.request.is_nil() {
        let command_hash = command_hash(&envelope.command);
        events.push(Event::RequestAnswered(RequestAnswered {
            request: envelope.request,
            command_hash,
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

fn command(draft: &mut Draft<'_>, envelope: &Envelope) -> Result<Reply, Rejection> {
    match &envelope.command {
        Command::SubmitJob(submit) => draft.submit_job(envelope, submit),
        Command::CancelJob(cancel) => draft.cancel_job(cancel).map(done),
        Command::RetryJob(retry) => draft.retry_job(retry.job).map(done),
        Command::RegisterWorker(register) => draft.register_worker(&register.hello),
        Command::SetLiveness(set) => draft.set_liveness(set).map(done),
        Command::DrainWorker(drain) => draft.drain_worker(drain).map(done),
        Command::Assign(assign) => draft.assign(assign).map(done),
        Command::ReportAttempts(report) => draft.report_attempts(report).map(done),
        Command::RecordProgress(record) => draft.record_progress(record).map(done),
        Command::AddTasks(add) => draft.add_tasks(envelope.request, add),
        Command::SealStage(seal) => draft.seal_stage(seal).map(done),
        Command::AdvanceTime(_) => draft.advance_time().map(done),
        Command::TakeLeadership(take) => {
            if take.term < draft.state.core.leader_term {
                return Err(stale(format!(
                    "term {} is over: {} leads",
                    take.term, draft.state.core.leader_term
                )));
            }
            let event = LeaderTookOver { leader: take.leader, name: take.name.clone(), term: take.term };
            draft.events.push(Event::LeaderTookOver(event));
            Ok(done(()))
        }
        Command::RaiseVersion(raise) => {
            if raise.version > draft.state.decide_version() {
                draft.events.push(Event::VersionRaised(VersionRaised { version: raise.version }));
            }
            Ok(done(()))
        }
    }
}

fn done((): ()) -> Reply {
    Reply::Done(Done {})
}

fn unknown(message: alloc::string::String) -> Rejection {
    Rejection::Unknown(Detail { message })
}

fn wrong_state(message: alloc::string::String) -> Rejection {
    Rejection::WrongState(Detail { message })
}

fn stale(message: alloc::string::String) -> Rejection {
    Rejection::Stale(Detail { message })
}

fn over_limit(message: alloc::string::String) -> Rejection {
    Rejection::LimitExceeded(Detail { message })
}
