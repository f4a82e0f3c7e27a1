//! A simulated attempt: a process that runs for a while, sends frames to its agent, and succeeds or fails.

use super::workload::{OPEN, PLANNER};
use muster_protocol::attempt_call::{
    AddChildren, AgentFrame, Ask, AttemptFrame, CallAnswer, CallRequest, FindStage, Seal, SetOutput,
    WriteRecord,
};
use muster_protocol::bus::Launch;
use muster_protocol::ids::{Digest, StageIndex};
use muster_protocol::outcome::{Failed, Outcome, Succeeded};
use muster_protocol::spec::{ChildSpec, TaskNumber, TaskRef};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// What an attempt does next.
#[derive(Debug)]
pub enum ExecutionStep {
    /// Nothing, for this many milliseconds.
    Wait(u64),
    /// Sends a frame, and waits for the reply.
    Send(AttemptFrame),
    End(Outcome),
}

/// A running attempt.
#[derive(Debug)]
pub struct Execution {
    pub launch: Box<Launch>,
    pub started_ms: u64,
    /// The number of steps so far; an event for an earlier step is dropped.
    pub turn: u64,
    phase: ExecutionPhase,
    records_left: u64,
    fails: bool,
    run_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExecutionPhase {
    Starting,
    Working,
    Recording,
    Finding,
    Adding(StageIndex),
    Sealing(StageIndex),
    Ending,
}

fn failed(message: &str) -> Outcome {
    Outcome::Failed(Failed { exit_code: Some(1), signal: None, message: message.to_string() })
}

impl Execution {
    /// An attempt that starts now. How long it runs, and whether it fails, is drawn.
    pub fn new(launch: Box<Launch>, now_ms: u64, random: &mut ChaCha8Rng) -> Execution {
        let long = random.random_bool(0.1);
        Execution {
            launch,
            started_ms: now_ms,
            turn: 0,
            phase: ExecutionPhase::Starting,
            records_left: random.random_range(0..4),
            fails: random.random_bool(0.08),
            run_ms: if long { random.random_range(2_000..8_000) } else { random.random_range(5..800) },
        }
    }

    /// The next step, after the reply to the last frame.
    pub fn next(&mut self, answer: Option<AgentFrame>) -> ExecutionStep {
        self.turn += 1;
        if let Some(AgentFrame::Refused(detail)) = &answer {
            return ExecutionStep::End(failed(&detail.message));
        }
        let answered = match answer {
            Some(AgentFrame::Answered(answered)) => Some(answered.answer),
            Some(AgentFrame::Taken(_) | AgentFrame::Refused(_)) | None => None,
        };
        match self.phase {
            ExecutionPhase::Starting => {
                self.phase = ExecutionPhase::Working;
                ExecutionStep::Wait(self.run_ms)
            }
            ExecutionPhase::Working if self.fails => ExecutionStep::End(failed("it was drawn to fail")),
            ExecutionPhase::Working | ExecutionPhase::Recording if self.records_left > 0 => {
                self.phase = ExecutionPhase::Recording;
                self.records_left -= 1;
                self.record()
            }
            ExecutionPhase::Working | ExecutionPhase::Recording if self.launch.stage_name == PLANNER => {
                self.phase = ExecutionPhase::Finding;
                self.ask(1, CallRequest::FindStage(FindStage { name: OPEN.to_string() }))
            }
            ExecutionPhase::Finding => match answered {
                Some(CallAnswer::Found(found)) => {
                    self.phase = ExecutionPhase::Adding(found.stage);
                    self.ask(2, CallRequest::AddChildren(AddChildren { children: children(found.stage) }))
                }
                other => ExecutionStep::End(failed(&format!("no stage: {other:?}"))),
            },
            ExecutionPhase::Adding(stage) => match answered {
                Some(CallAnswer::Added(_)) => {
                    self.phase = ExecutionPhase::Sealing(stage);
                    self.ask(3, CallRequest::Seal(Seal { stage }))
                }
                other => ExecutionStep::End(failed(&format!("no children: {other:?}"))),
            },
            ExecutionPhase::Sealing(_) => match answered {
                Some(CallAnswer::Sealed(_)) => self.send_output(),
                other => ExecutionStep::End(failed(&format!("not sealed: {other:?}"))),
            },
            ExecutionPhase::Working | ExecutionPhase::Recording => self.send_output(),
            ExecutionPhase::Ending => ExecutionStep::End(Outcome::Succeeded(Succeeded::default())),
        }
    }

    fn send_output(&mut self) -> ExecutionStep {
        self.phase = ExecutionPhase::Ending;
        ExecutionStep::Send(AttemptFrame::Output(SetOutput {
            output: format!("{{\"of\":\"{}\"}}", self.launch.attempt),
        }))
    }

    fn record(&self) -> ExecutionStep {
        let seq = u64::from(self.launch.attempt.epoch) * 10 + (4 - self.records_left);
        let body = format!("{{\"step\":{seq}}}");
        let (key, wait) = ("train".to_string(), self.records_left.is_multiple_of(2));
        ExecutionStep::Send(AttemptFrame::Record(WriteRecord {
            key,
            seq,
            payload_hash: Digest::of(body.as_bytes()),
            body,
            wait,
        }))
    }

    fn ask(&self, nonce: u64, request: CallRequest) -> ExecutionStep {
        ExecutionStep::Send(AttemptFrame::Ask(Ask { nonce, request }))
    }
}

/// The children that a planner adds, some depending on others. Every attempt at a planner must add the same.
fn children(stage: StageIndex) -> Vec<ChildSpec> {
    let child = |after: Vec<TaskRef>| ChildSpec { stage, params: String::new(), after };
    let new = |index| TaskRef::New(TaskNumber { index });
    vec![
        child(Vec::new()),
        child(Vec::new()),
        child(vec![new(0), new(1)]),
        child(vec![new(2)]),
        child(Vec::new()),
    ]
}
