//! Attempts' questions to the cluster: sent again under the same id until the leader answers.

use super::input::Action;
use muster_protocol::attempt_call::{AgentFrame, Answered, Ask};
use muster_protocol::bus::{AnswerTo, Call, Up};
use muster_protocol::codec;
use muster_protocol::ids::{AttemptId, Digest, RequestId, TaskId};
use muster_protocol::limits::BUS_MESSAGE_BYTES_MAX;
use std::collections::BTreeMap;

/// After this time without an answer, a question is sent again.
const RESEND_MS: u64 = 500;
/// What surrounds a call on the bus.
const ENVELOPE_BYTES: usize = 4 << 10;
/// At most this many questions are open: each connection of an attempt has one.
const CALLS_MAX: usize = 16_384;

#[derive(Debug, Default)]
pub struct PendingCalls {
    open: BTreeMap<RequestId, PendingCall>,
}

#[derive(Debug)]
struct PendingCall {
    call: Call,
    callers: Vec<u64>,
    send_at: u64,
}

impl PendingCalls {
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
            let bytes_max = BUS_MESSAGE_BYTES_MAX - ENVELOPE_BYTES;
            out(Action::refuse(caller, format!("a question has at most {bytes_max} bytes, not {bytes}")));
            return;
        }
        if self.open.len() >= CALLS_MAX {
            out(Action::refuse(caller, format!("{CALLS_MAX} questions wait already")));
            return;
        }
        match self.open.get_mut(&call.id) {
            None => {
                drop(self.open.insert(call.id, PendingCall { call, callers: vec![caller], send_at: now_ms }))
            }
            Some(pending) if pending.call == call => pending.callers.push(caller),
            Some(_) => out(Action::refuse(
                caller,
                format!("the nonce {} belongs to another question that waits", ask.nonce),
            )),
        }
    }

    pub fn send_due(&mut self, now_ms: u64, out: &mut dyn FnMut(Action)) {
        for pending in self.open.values_mut().filter(|pending| pending.send_at <= now_ms) {
            pending.send_at = now_ms + RESEND_MS;
            out(Action::Send(Up::Call(pending.call.clone())));
        }
    }

    /// Makes all of them due: there is a new leader, or messages were lost.
    pub fn resend_all(&mut self) {
        self.open.values_mut().for_each(|pending| pending.send_at = 0);
    }

    pub fn answer(&mut self, answer: AnswerTo, out: &mut dyn FnMut(Action)) {
        let Some(pending) = self.open.remove(&answer.id) else { return };
        for caller in pending.callers {
            let frame = AgentFrame::Answered(Answered { answer: answer.answer.clone() });
            out(Action::Reply { caller, frame });
        }
    }

    /// Drops the questions of an attempt that has ended.
    pub fn forget(&mut self, attempt: AttemptId) {
        self.open.retain(|_, pending| pending.call.attempt != attempt);
    }
}

/// Depends on the task, not on the attempt, so that a later attempt that asks the same gets the first answer.
fn request_id(task: TaskId, nonce: u64) -> RequestId {
    let text = format!("muster call {task} {nonce}");
    let mut half = [0; 16];
    half.copy_from_slice(&Digest::of(text.as_bytes()).0[..16]);
    RequestId(u128::from_be_bytes(half))
}
