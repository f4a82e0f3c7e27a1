//! Conversations with an agent: inputs, and the actions that follow, each as a short text.

mod drain;
mod frames;
mod leadership;
mod lifecycle;

use super::{Action, Agent, AgentConfig, AgentInput};
use muster_protocol::attempt_call::{
    AgentFrame, Ask, AttemptFrame, CallAnswer, CallRequest, FindStage, Found, SetOutput, WriteRecord,
};
use muster_protocol::bus::{
    Ack, AnswerTo, Down, DownEnvelope, HeartbeatAck, Held, Launch, Phase, Run, SayHello, Stop, Up, Welcome,
};
use muster_protocol::codec;
use muster_protocol::ids::{
    AttemptId, BootId, Digest, JobId, StageIndex, TaskId, Term, WorkerId, WorkerIdentity,
};
use muster_protocol::limits::{BUS_MESSAGE_BYTES_MAX, FENCE_AFTER_MS, FENCE_GRACE_MS};
use muster_protocol::outcome::{Failed, Outcome, Reason, Succeeded};
use muster_protocol::resources::{Grant, Resources};
use muster_protocol::spec::{Noop, OnPartition, ProcessWork, Work};
use muster_protocol::worker::{Report, ReportKind, WorkerHello};
use std::collections::BTreeMap;

struct TestAgent {
    agent: Agent,
    now_ms: u64,
    term: u64,
    /// The leader acknowledges heartbeats at once.
    listening: bool,
}

fn attempt(index: u32) -> AttemptId {
    AttemptId { task: TaskId { job: JobId(1), index }, epoch: 1 }
}

fn launch(index: u32, cpu_milli: u32) -> Launch {
    Launch {
        attempt: attempt(index),
        job_name: String::new(),
        stage: StageIndex(0),
        stage_name: String::new(),
        work: Work::Process(ProcessWork { argv: vec!["true".into()], env: vec![], cwd: String::new() }),
        job_params: String::new(),
        child_params: String::new(),
        array_index: 0,
        rank: 0,
        world: 1,
        gang: None,
        request: Resources { cpu_milli, ..Resources::default() },
        grant: Grant::default(),
        queued: false,
        grace_ms: 5_000,
        on_partition: OnPartition::Stop,
    }
}

fn queued(index: u32, cpu_milli: u32) -> Launch {
    Launch { queued: true, ..launch(index, cpu_milli) }
}

fn noop(index: u32) -> Launch {
    Launch { work: Work::Noop(Noop {}), ..launch(index, 10) }
}

fn why(message: &str) -> Reason {
    Reason { message: message.into() }
}

fn stop(index: u32, grace_ms: u64) -> Down {
    Down::Stop(Stop { attempt: attempt(index), outcome: Outcome::Cancelled(why("by hand")), grace_ms })
}

fn done() -> Outcome {
    Outcome::Succeeded(Succeeded::default())
}

impl TestAgent {
    /// A registered agent with two CPUs, whose leader is listening.
    fn new() -> TestAgent {
        let mut worker = TestAgent::unregistered();
        assert_eq!(worker.settle(), ["hello"]);
        assert_eq!(worker.down(Down::Welcome(Welcome { worker: WorkerId(1) })), ["lease 3800"]);
        worker.listening = true;
        assert_eq!(worker.settle(), ["heartbeat []", "lease 3800"]);
        worker
    }

    fn unregistered() -> TestAgent {
        let hello = WorkerHello {
            identity: WorkerIdentity(1),
            boot: BootId(2),
            name: "w".into(),
            address: "127.0.0.1".into(),
            rendezvous_port_first: 1,
            rendezvous_ports: 1,
            capacity: Resources { cpu_milli: 2_000, gpus: 2, ..Resources::default() },
            gpus: vec![],
            labels: BTreeMap::new(),
            queue: 10,
            version: String::new(),
        };
        let config = AgentConfig { cluster: "test".into(), hello, drain_ms: 10_000 };
        TestAgent { agent: Agent::new(config), now_ms: 0, term: 1, listening: false }
    }

    fn input(&mut self, input: AgentInput) -> Vec<String> {
        let mut actions = Vec::new();
        self.agent.handle(self.now_ms, input, &mut |action| actions.push(action));
        self.take(actions)
    }

    fn settle(&mut self) -> Vec<String> {
        let mut actions = Vec::new();
        self.agent.settle(self.now_ms, &mut |action| actions.push(action));
        self.take(actions)
    }

    fn take(&mut self, actions: Vec<Action>) -> Vec<String> {
        let mut lines = Vec::new();
        for action in actions {
            lines.push(text_of(&action));
            if let Action::Send(up) = &action {
                assert!(codec::encode(up).len() < BUS_MESSAGE_BYTES_MAX);
            }
            if let (true, Action::Send(Up::Heartbeat(heartbeat))) = (self.listening, &action) {
                let ack = HeartbeatAck { sent_ms: heartbeat.sent_ms, down_sent: 0, worker: WorkerId(1) };
                lines.extend(self.down(Down::HeartbeatAck(ack)));
            }
        }
        lines
    }

    fn envelope(&self, message: Down) -> DownEnvelope {
        DownEnvelope {
            cluster: "test".into(),
            term: Term(self.term),
            boot: BootId(2),
            trace: String::new(),
            message,
        }
    }

    fn down(&mut self, message: Down) -> Vec<String> {
        self.input(AgentInput::Down(Box::new(self.envelope(message))))
    }

    fn run(&mut self, launches: Vec<Launch>) -> Vec<String> {
        self.down(Down::Run(Run { launches }))
    }

    fn ack(&mut self, reports: u64, progress: u64) -> Vec<String> {
        self.down(Down::Ack(Ack { reports, progress }))
    }

    fn exit(&mut self, index: u32, outcome: Outcome) -> Vec<String> {
        self.input(AgentInput::Exited { attempt: attempt(index), outcome, run_ms: 5 })
    }

    fn frame(&mut self, index: u32, caller: u64, frame: AttemptFrame) -> Vec<String> {
        self.input(AgentInput::Frame { attempt: attempt(index), caller, frame })
    }

    /// Lets time pass in ticks; returns all actions but heartbeats and leases.
    fn wait(&mut self, ms: u64) -> Vec<String> {
        let mut lines = Vec::new();
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms = (self.now_ms + 50).min(end);
            lines.extend(self.input(AgentInput::Tick));
            lines.extend(self.settle());
        }
        lines.retain(|line| !line.starts_with("heartbeat") && !line.starts_with("lease"));
        lines
    }
}

fn text_of(action: &Action) -> String {
    match action {
        Action::Send(Up::Hello(_)) => "hello".into(),
        Action::Send(Up::Heartbeat(heartbeat)) => {
            let held: Vec<_> =
                heartbeat.held.iter().map(|h| format!("{} {}", h.attempt.task.index, h.phase)).collect();
            format!("heartbeat [{}]", held.join(", "))
        }
        Action::Send(Up::Reports(reports)) => {
            let sent: Vec<_> = reports.reports.iter().map(report_text).collect();
            format!("reports {}/{}: {}", reports.first_seq, reports.oldest_unacked, sent.join(", "))
        }
        Action::Send(Up::Progress(progress)) => {
            let sent: Vec<_> = progress.records.iter().map(|r| format!("{}={}", r.key, r.seq)).collect();
            format!("progress {}/{}: {}", progress.first_seq, progress.oldest_unacked, sent.join(", "))
        }
        Action::Send(Up::Call(call)) => format!("call {}", call.attempt),
        Action::Send(up @ (Up::LogChunk(_) | Up::Draining(_))) => up.name().to_lowercase(),
        Action::Start(launch) => format!("start {}", launch.attempt.task.index),
        Action::Signal { attempt, grace_ms } => format!("signal {} {grace_ms}", attempt.task.index),
        Action::Reply { caller, frame: AgentFrame::Refused(detail) } => {
            format!("reply {caller} refused: {}", detail.message)
        }
        Action::Reply { caller, frame } => format!("reply {caller} {}", frame.name().to_lowercase()),
        Action::Tail { .. } => "tail".into(),
        Action::EndTail(_) => "end tail".into(),
        Action::Lease { remaining_ms } => format!("lease {remaining_ms}"),
        Action::Exit => "exit".into(),
    }
}

fn report_text(report: &Report) -> String {
    match &report.what {
        ReportKind::Started(_) => format!("{} started", report.attempt.task.index),
        ReportKind::Ended(ended) => match &ended.outcome {
            Outcome::Succeeded(Succeeded { output }) if !output.is_empty() => {
                format!("{} succeeded {output}", report.attempt.task.index)
            }
            outcome => format!("{} {}", report.attempt.task.index, outcome.word()),
        },
    }
}
