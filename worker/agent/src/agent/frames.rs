//! What an attempt's process says through its socket, and when it is answered.

use super::held::Attempt;
use super::outbox::Outbox;
use super::{Action, Agent};
use muster_protocol::attempt_call::{AgentFrame, AttemptFrame, SetOutput, Taken, WriteRecord};
use muster_protocol::ids::AttemptId;
use muster_protocol::limits::{NAME_BYTES_MAX, PROGRESS_BODY_BYTES_MAX};
use muster_protocol::rejection::Detail;
use muster_protocol::worker::ProgressRecord;
use std::collections::VecDeque;

/// Unacknowledged progress beyond this makes attempts wait for their answers: back-pressure up to the one
/// that writes it.
const PROGRESS_UNACKED_BYTES_MAX: usize = 1 << 20;
/// What a progress record takes on the wire beside its texts.
const RECORD_BYTES: usize = 96;

/// Callers whose records are not acknowledged, or too many.
#[derive(Debug, Default)]
pub struct Callers {
    /// Answered once the record of that number is acknowledged.
    waiting: VecDeque<(u64, u64)>,
    /// Answered once there is room again.
    held_up: VecDeque<u64>,
}

impl Callers {
    /// Answers those whose time has come.
    pub fn acknowledged(&mut self, progress: &Outbox<ProgressRecord>, out: &mut dyn FnMut(Action)) {
        while let Some((_, caller)) = self.waiting.front().copied().filter(|(seq, _)| progress.is_acked(*seq))
        {
            self.waiting.pop_front();
            out(taken(caller));
        }
        if progress.bytes() < PROGRESS_UNACKED_BYTES_MAX {
            self.held_up.drain(..).for_each(|caller| out(taken(caller)));
        }
    }
}

fn taken(caller: u64) -> Action {
    Action::Reply { caller, frame: AgentFrame::Taken(Taken {}) }
}

pub(super) fn refused(caller: u64, message: String) -> Action {
    Action::Reply { caller, frame: AgentFrame::Refused(Detail { message }) }
}

impl Agent {
    pub(super) fn frame(
        &mut self,
        now_ms: u64,
        attempt: AttemptId,
        caller: u64,
        frame: AttemptFrame,
        out: &mut dyn FnMut(Action),
    ) {
        let Some(held) = self.attempts.get_mut(&attempt).filter(|held| held.runs()) else {
            out(refused(caller, format!("{attempt} does not run here any more")));
            return;
        };
        match frame {
            AttemptFrame::Record(record) => match check(&record) {
                Err(message) => out(refused(caller, message)),
                Ok(()) => self.record(attempt, caller, record, out),
            },
            AttemptFrame::Output(SetOutput { output }) if output.len() > PROGRESS_BODY_BYTES_MAX => {
                out(refused(
                    caller,
                    format!("an output has at most {PROGRESS_BODY_BYTES_MAX} bytes, not {}", output.len()),
                ));
            }
            AttemptFrame::Output(SetOutput { output }) => {
                held.output = output;
                out(taken(caller));
            }
            AttemptFrame::Ask(ask) => self.calls.ask(now_ms, attempt, caller, ask, out),
        }
    }

    fn record(&mut self, attempt: AttemptId, caller: u64, record: WriteRecord, out: &mut dyn FnMut(Action)) {
        let bytes = RECORD_BYTES + record.key.len() + record.body.len();
        let WriteRecord { key, seq, payload_hash, body, wait } = record;
        let number = self.progress.push(ProgressRecord { attempt, key, seq, payload_hash, body }, bytes);
        if let Some(Attempt { last_progress, .. }) = self.attempts.get_mut(&attempt) {
            *last_progress = number;
        }
        if wait {
            self.callers.waiting.push_back((number, caller));
        } else if self.progress.bytes() >= PROGRESS_UNACKED_BYTES_MAX {
            self.callers.held_up.push_back(caller);
        } else {
            out(taken(caller));
        }
    }
}

fn check(record: &WriteRecord) -> Result<(), String> {
    if record.key.is_empty() || record.key.len() > NAME_BYTES_MAX {
        return Err(format!("a key has 1 to {NAME_BYTES_MAX} bytes, not {}", record.key.len()));
    }
    if record.body.len() > PROGRESS_BODY_BYTES_MAX {
        return Err(format!("a body has at most {PROGRESS_BODY_BYTES_MAX} bytes, not {}", record.body.len()));
    }
    Ok(())
}
