//! A simulated attempt: a process that takes its time, says things to its agent, and ends, well or not.

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
pub enum Step {
    /// Nothing, for so long.
    Wait(u64),
    /// It says this, and waits for the answer.
    Say(AttemptFrame),
    /// It ends.
    End(Outcome),
}

/// An attempt under way.
#[derive(Debug)]
pub struct Execution {
    /// What it was started with.
    pub launch: Box<Launch>,
    /// When it was started.
    pub began: u64,
    /// It is killed then at the latest: it was told to end.
    pub killed_at: Option<u64>,
    /// Counted up with each step: a step that was planned before is void.
    pub turn: u64,
    line: Line,
    records_left: u64,
    fails: bool,
    run_ms: u64,
}

/// Where it is in what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
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
    /// An attempt that begins now; the seed says what will become of it.
    pub fn new(launch: Box<Launch>, now_ms: u64, random: &mut ChaCha8Rng) -> Execution {
        let long = random.random_bool(0.1);
        Execution {
            launch,
            began: now_ms,
            killed_at: None,
            turn: 0,
            line: Line::Starting,
            records_left: random.random_range(0..4),
            fails: random.random_bool(0.08),
            run_ms: if long { random.random_range(2_000..8_000) } else { random.random_range(5..800) },
        }
    }

    /// What it does next, after the answer to what it said last.
    pub fn next(&mut self, answer: Option<AgentFrame>) -> Step {
        self.turn += 1;
        if let Some(AgentFrame::Refused(detail)) = &answer {
            return Step::End(failed(&detail.message));
        }
        let answered = match answer {
            Some(AgentFrame::Answered(answered)) => Some(answered.answer),
            Some(AgentFrame::Taken(_) | AgentFrame::Refused(_)) | None => None,
        };
        match self.line {
            Line::Starting => {
                self.line = Line::Working;
                Step::Wait(self.run_ms)
            }
            Line::Working if self.fails => Step::End(failed("it was drawn to fail")),
            Line::Working | Line::Recording if self.records_left > 0 => {
                self.line = Line::Recording;
                self.records_left -= 1;
                self.record()
            }
            Line::Working | Line::Recording if self.launch.stage_name == PLANNER => {
                self.line = Line::Finding;
                self.ask(1, CallRequest::FindStage(FindStage { name: OPEN.to_string() }))
            }
            Line::Finding => match answered {
                Some(CallAnswer::Found(found)) => {
                    self.line = Line::Adding(found.stage);
                    self.ask(2, CallRequest::AddChildren(AddChildren { children: children(found.stage) }))
                }
                other => Step::End(failed(&format!("no stage: {other:?}"))),
            },
            Line::Adding(stage) => match answered {
                Some(CallAnswer::Added(_)) => {
                    self.line = Line::Sealing(stage);
                    self.ask(3, CallRequest::Seal(Seal { stage }))
                }
                other => Step::End(failed(&format!("no children: {other:?}"))),
            },
            Line::Sealing(_) => match answered {
                Some(CallAnswer::Sealed(_)) => self.say_output(),
                other => Step::End(failed(&format!("not sealed: {other:?}"))),
            },
            Line::Working | Line::Recording => self.say_output(),
            Line::Ending => Step::End(Outcome::Succeeded(Succeeded::default())),
        }
    }

    fn say_output(&mut self) -> Step {
        self.line = Line::Ending;
        Step::Say(AttemptFrame::Output(SetOutput {
            output: format!("{{\"of\":\"{}\"}}", self.launch.attempt),
        }))
    }

    fn record(&self) -> Step {
        let seq = u64::from(self.launch.attempt.epoch) * 10 + (4 - self.records_left);
        let body = format!("{{\"step\":{seq}}}");
        let (key, wait) = ("train".to_string(), self.records_left.is_multiple_of(2));
        Step::Say(AttemptFrame::Record(WriteRecord {
            key,
            seq,
            payload_hash: Digest::of(body.as_bytes()),
            body,
            wait,
        }))
    }

    fn ask(&self, nonce: u64, request: CallRequest) -> Step {
        Step::Say(AttemptFrame::Ask(Ask { nonce, request }))
    }
}

/// Two that depend on nothing, and one that depends on both. Every attempt at a planner must ask for the
/// same.
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
