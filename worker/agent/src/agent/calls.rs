//! Questions of attempts that wait for the cluster's answer: asked again, under the same id, until it comes.

use super::Action;
use super::frames::refused;
use muster_protocol::attempt_call::{AgentFrame, Answered, Ask};
use muster_protocol::bus::{AnswerTo, Call, Up};
use muster_protocol::codec;
use muster_protocol::ids::{AttemptId, Digest, RequestId, TaskId};
use muster_protocol::limits::BUS_MESSAGE_BYTES_MAX;
use std::collections::BTreeMap;

/// Without an answer for so long, it is asked again.
const CALL_REPEAT_MS: u64 = 500;
/// What surrounds a call on the bus.
const ENVELOPE_BYTES: usize = 4 << 10;
/// Questions that wait at most: each connection of an attempt has one.
const CALLS_MAX: usize = 16_384;

/// Questions that wait for their answers.
#[derive(Debug, Default)]
pub struct Calls {
    waiting: BTreeMap<RequestId, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    call: Call,
    callers: Vec<u64>,
    ask_at: u64,
}

impl Calls {
    pub fn ask(
        &mut self,
        now_ms: u64,
        attempt: AttemptId,
        caller: u64,
        ask: Ask,
        out: &mut dyn FnMut(Action),
    ) {
        let call = Call { id: request_id(attempt.task, ask.nonce), attempt, request: ask.request };
        let bytes = codec::encode(&call).len();
        if bytes + ENVELOPE_BYTES > BUS_MESSAGE_BYTES_MAX {
            out(refused(
                caller,
                format!(
                    "a question has at most {} bytes, not {bytes}",
                    BUS_MESSAGE_BYTES_MAX - ENVELOPE_BYTES
                ),
            ));
            return;
        }
        if self.waiting.len() >= CALLS_MAX {
            out(refused(caller, format!("{CALLS_MAX} questions wait already")));
            return;
        }
        match self.waiting.get_mut(&call.id) {
            None => {
                drop(self.waiting.insert(call.id, Waiting { call, callers: vec![caller], ask_at: now_ms }))
            }
            Some(waiting) if waiting.call == call => waiting.callers.push(caller),
            Some(_) => out(refused(
                caller,
                format!("the nonce {} belongs to another question that waits", ask.nonce),
            )),
        }
    }

    /// Asks what is due.
    pub fn say(&mut self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        for waiting in self.waiting.values_mut().filter(|waiting| waiting.ask_at <= now_ms) {
            waiting.ask_at = now_ms + CALL_REPEAT_MS;
            out(Action::Send(Up::Call(waiting.call.clone())));
        }
    }

    /// There is a new leader: all is asked again.
    pub fn say_again(&mut self) {
        self.waiting.values_mut().for_each(|waiting| waiting.ask_at = 0);
    }

    pub fn answer(&mut self, answer: AnswerTo, out: &mut dyn FnMut(Action)) {
        let Some(waiting) = self.waiting.remove(&answer.id) else { return };
        for caller in waiting.callers {
            out(Action::Reply {
                caller,
                frame: AgentFrame::Answered(Answered { answer: answer.answer.clone() }),
            });
        }
    }

    /// The attempt is over.
    pub fn forget(&mut self, attempt: AttemptId) {
        self.waiting.retain(|_, waiting| waiting.call.attempt != attempt);
    }
}

/// The same for the same question of every attempt at a task.
fn request_id(task: TaskId, nonce: u64) -> RequestId {
    let text = format!("muster call {task} {nonce}");
    let mut half = [0; 16];
    half.copy_from_slice(&Digest::of(text.as_bytes()).0[..16]);
    RequestId(u128::from_be_bytes(half))
}
