//! Conversations with an agent: what it hears, and what it does.

use super::*;
use muster_protocol::attempt_call::{
    AgentFrame, Ask, AttemptFrame, CallAnswer, CallRequest, FindStage, Found, SetOutput, WriteRecord,
};
use muster_protocol::bus::{AnswerTo, HeartbeatAck, Launch, Run, SayHello, Stop, Welcome};
use muster_protocol::codec;
use muster_protocol::ids::{BootId, Digest, JobId, StageIndex, TaskId, Term, WorkerIdentity};
use muster_protocol::limits::{BUS_MESSAGE_BYTES_MAX, FENCE_AFTER_MS, FENCE_GRACE_MS};
use muster_protocol::outcome::{Failed, Outcome, Reason, Succeeded};
use muster_protocol::resources::{Grant, Resources};
use muster_protocol::spec::{Noop, OnPartition, ProcessWork, Work};
use muster_protocol::worker::WorkerHello;

struct Bench {
    agent: Agent,
    now_ms: u64,
    term: u64,
    /// The leader hears heartbeats and acknowledges them at once.
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

impl Bench {
    /// A registered agent of two CPUs, whose leader listens.
    fn new() -> Bench {
        let mut bench = Bench::unregistered();
        assert_eq!(bench.settle(), ["hello"]);
        assert_eq!(bench.down(Down::Welcome(Welcome { worker: WorkerId(1) })), ["lease 3800"]);
        bench.listening = true;
        assert_eq!(bench.settle(), ["heartbeat []", "lease 3800"]);
        bench
    }

    fn unregistered() -> Bench {
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
        Bench { agent: Agent::new(config, 0), now_ms: 0, term: 1, listening: false }
    }

    fn input(&mut self, input: Input) -> Vec<String> {
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
            lines.push(word(&action));
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
        self.input(Input::Down(Box::new(self.envelope(message))))
    }

    fn run(&mut self, launches: Vec<Launch>) -> Vec<String> {
        self.down(Down::Run(Run { launches }))
    }

    fn ack(&mut self, reports: u64, progress: u64) -> Vec<String> {
        self.down(Down::Ack(Ack { reports, progress }))
    }

    fn exit(&mut self, index: u32, outcome: Outcome) -> Vec<String> {
        self.input(Input::Exited { attempt: attempt(index), outcome, run_ms: 5 })
    }

    fn frame(&mut self, index: u32, caller: u64, frame: AttemptFrame) -> Vec<String> {
        self.input(Input::Frame { attempt: attempt(index), caller, frame })
    }

    /// Lets time pass in ticks; gives what happened other than heartbeats and leases.
    fn wait(&mut self, ms: u64) -> Vec<String> {
        let mut lines = Vec::new();
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms = (self.now_ms + 50).min(end);
            lines.extend(self.input(Input::Tick));
            lines.extend(self.settle());
        }
        lines.retain(|line| !line.starts_with("heartbeat") && !line.starts_with("lease"));
        lines
    }
}

fn word(action: &Action) -> String {
    match action {
        Action::Send(Up::Hello(_)) => "hello".into(),
        Action::Send(Up::Heartbeat(heartbeat)) => {
            let held: Vec<_> =
                heartbeat.held.iter().map(|h| format!("{} {}", h.attempt.task.index, h.phase)).collect();
            format!("heartbeat [{}]", held.join(", "))
        }
        Action::Send(Up::Reports(reports)) => {
            let said: Vec<_> = reports.reports.iter().map(report).collect();
            format!("reports {}/{}: {}", reports.first_seq, reports.oldest_unacked, said.join(", "))
        }
        Action::Send(Up::Progress(progress)) => {
            let said: Vec<_> = progress.records.iter().map(|r| format!("{}={}", r.key, r.seq)).collect();
            format!("progress {}/{}: {}", progress.first_seq, progress.oldest_unacked, said.join(", "))
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

fn report(report: &Report) -> String {
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

#[test]
fn hello_is_said_until_welcome_and_again_when_unknown() {
    let mut bench = Bench::unregistered();
    assert_eq!(bench.wait(1_100), ["hello", "hello", "hello"]);
    bench.down(Down::Welcome(Welcome { worker: WorkerId(1) }));
    assert_eq!(bench.settle(), ["heartbeat []"]);
    assert_eq!(bench.wait(1_000), [""; 0]);
    bench.down(Down::SayHello(SayHello {}));
    assert_eq!(bench.settle(), ["hello"]);
    bench.down(Down::SayHello(SayHello {}));
    assert_eq!(bench.settle(), [""; 0], "not faster than it can be answered");
    bench.down(Down::Welcome(Welcome { worker: WorkerId(1) }));
    assert_eq!(bench.wait(1_000), [""; 0]);
}

#[test]
fn an_attempt_runs_and_its_end_is_said_until_acknowledged() {
    let mut bench = Bench::new();
    assert_eq!(bench.run(vec![launch(0, 1_000)]), ["start 0"]);
    assert_eq!(bench.run(vec![launch(0, 1_000)]), [""; 0], "a repeat changes nothing");
    bench.input(Input::Started { attempt: attempt(0), pid: 7 });
    assert_eq!(bench.settle(), ["reports 1/1: 0 started"]);
    bench.ack(1, 0);
    bench.exit(0, Outcome::Failed(Failed { exit_code: Some(3), signal: None, message: String::new() }));
    assert_eq!(bench.settle(), ["reports 2/2: 0 failed"]);
    assert_eq!(bench.run(vec![launch(0, 1_000)]), [""; 0], "it has ended, which is not acknowledged");
    assert_eq!(bench.wait(600), ["reports 2/2: 0 failed"]);
    assert_eq!(bench.agent.held(), [Held { attempt: attempt(0), phase: Phase::Ended }]);
    bench.ack(2, 0);
    assert_eq!(bench.agent.held(), []);
    assert_eq!(bench.run(vec![launch(0, 1_000)]), [""; 0], "a late repeat brings nothing back");
    assert_eq!(bench.wait(5_000), [""; 0]);
}

#[test]
fn no_ops_end_at_once_in_one_message() {
    let mut bench = Bench::new();
    assert_eq!(bench.run((0..3).map(noop).collect()), [""; 0]);
    assert_eq!(bench.settle(), ["reports 1/1: 0 succeeded, 1 succeeded, 2 succeeded"]);
}

#[test]
fn what_is_queued_starts_in_order_when_there_is_room() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.run(vec![launch(0, 1_500), queued(1, 1_000), queued(2, 500), queued(3, 2_500)]),
        ["start 0"]
    );
    assert_eq!(bench.settle(), ["reports 1/1: 3 not-started"], "it can never fit");
    assert_eq!(bench.exit(0, done()), ["start 1", "start 2"]);
    // The leader has given away room that is still in use here: what it counts as running goes first.
    assert_eq!(bench.run(vec![queued(4, 600), launch(5, 1_000)]), [""; 0]);
    assert_eq!(bench.exit(1, done()), ["start 5"]);
    assert_eq!(bench.exit(2, done()), ["start 4"]);
}

#[test]
fn a_gpu_is_held_by_one_attempt() {
    let mut bench = Bench::new();
    let with_gpu = |index, gpu| Launch {
        request: Resources { gpus: 1, ..Resources::default() },
        grant: Grant { gpus: vec![gpu] },
        ..launch(index, 0)
    };
    assert_eq!(bench.run(vec![with_gpu(0, 1), with_gpu(1, 1)]), ["start 0"]);
    assert_eq!(bench.exit(0, done()), ["start 1"]);
}

#[test]
fn a_stop_ends_what_waits_and_what_runs() {
    let mut bench = Bench::new();
    bench.run(vec![launch(0, 2_000), queued(1, 2_000), queued(2, 100)]);
    assert_eq!(bench.down(stop(1, 5_000)), [""; 0]);
    assert_eq!(bench.down(stop(0, 5_000)), ["signal 0 5000"]);
    assert_eq!(bench.down(stop(0, 5_000)), [""; 0]);
    assert_eq!(bench.down(stop(0, 0)), ["signal 0 0"], "a later one may hasten it");
    assert_eq!(bench.exit(0, done()), ["start 2"]);
    assert_eq!(bench.down(stop(9, 0)), [""; 0], "its order to run was lost");
    assert_eq!(bench.run(vec![launch(9, 0)]), [""; 0], "or comes later");
    assert_eq!(bench.settle(), ["reports 1/1: 1 cancelled, 0 cancelled, 9 cancelled"]);
    bench.run(vec![launch(3, 0)]);
    bench.exit(3, done());
    assert_eq!(bench.down(stop(3, 0)), [""; 0], "it ended by itself before");
    assert_eq!(bench.settle(), ["reports 4/1: 3 succeeded"]);
}

#[test]
fn without_a_leader_it_ends_what_it_holds_before_the_leader_gives_it_away() {
    let mut bench = Bench::new();
    let stays = Launch { on_partition: OnPartition::Continue, ..launch(1, 0) };
    bench.run(vec![launch(0, 2_000), stays, queued(2, 2_000)]);
    bench.listening = false;
    let sent_ms = bench.now_ms;
    assert_eq!(bench.wait(FENCE_AFTER_MS - 50), [""; 0]);
    assert_eq!(bench.wait(100), [&format!("signal 0 {FENCE_GRACE_MS}"), "reports 1/1: 2 lost"]);
    assert!(bench.now_ms - sent_ms + FENCE_GRACE_MS < muster_protocol::limits::WORKER_LEASE_MS);
    bench.exit(0, done());
    assert_eq!(bench.run(vec![launch(5, 0)]), [""; 0], "nothing starts without a lease");
    assert_eq!(bench.settle(), ["reports 2/1: 0 lost"]);
    bench.listening = true;
    bench.term = 2;
    while !bench.agent.noticed(bench.now_ms).lease {
        bench.now_ms += 50;
        bench.settle();
    }
    assert_eq!(bench.run(vec![launch(5, 0)]), ["start 5"]);
    assert_eq!(bench.settle(), ["reports 1/1: 2 lost, 0 lost"], "a new leader hears it all");
    bench.exit(1, done());
    assert_eq!(bench.settle(), ["reports 3/1: 1 succeeded"], "what may go on went on");
}

#[test]
fn the_lease_counts_from_when_the_heartbeat_was_sent() {
    let mut bench = Bench::new();
    bench.listening = false;
    bench.run(vec![launch(0, 0)]);
    let sent_ms = bench.now_ms;
    bench.wait(3_000);
    let late = HeartbeatAck { sent_ms, down_sent: 0, worker: WorkerId(1) };
    assert_eq!(
        bench.down(Down::HeartbeatAck(late)),
        [format!("lease {}", FENCE_AFTER_MS + FENCE_GRACE_MS - 3_000)]
    );
    let from_the_future = HeartbeatAck { sent_ms: bench.now_ms + 1, ..late };
    bench.down(Down::HeartbeatAck(from_the_future));
    assert_eq!(bench.wait(500), ["signal 0 300"]);
}

#[test]
fn a_deposed_leader_is_not_believed_and_a_new_one_hears_all_again() {
    let mut bench = Bench::new();
    bench.run(vec![launch(0, 0), launch(1, 0)]);
    bench.exit(0, done());
    assert_eq!(bench.settle(), ["reports 1/1: 0 succeeded"]);
    bench.term = 2;
    bench.wait(300);
    assert_eq!(bench.settle(), ["reports 1/1: 0 succeeded"]);
    bench.term = 1;
    assert_eq!(bench.down(stop(1, 0)), [""; 0]);
    bench.ack(1, 0);
    assert_eq!(bench.agent.held().len(), 2);
    let foreign = DownEnvelope { boot: BootId(9), ..bench.envelope(stop(1, 0)) };
    assert_eq!(bench.input(Input::Down(Box::new(foreign))), [""; 0]);
    let foreign = DownEnvelope { cluster: "other".into(), ..bench.envelope(stop(1, 0)) };
    assert_eq!(bench.input(Input::Down(Box::new(foreign))), [""; 0]);
    assert_eq!(bench.agent.noticed(bench.now_ms).ignored, 4);
    bench.term = 3;
    assert_eq!(bench.down(stop(7, 0)), [""; 0]);
    assert_eq!(
        bench.settle(),
        ["reports 1/1: 0 succeeded, 7 cancelled"],
        "from the oldest that is not acknowledged"
    );
}

#[test]
fn messages_that_went_missing_are_noticed() {
    let mut bench = Bench::new();
    let ack = |down_sent| Down::HeartbeatAck(HeartbeatAck { sent_ms: 0, down_sent, worker: WorkerId(1) });
    bench.down(ack(2));
    assert_eq!(bench.agent.noticed(0).missed, 0, "a welcome and an acknowledgement came before");
    bench.down(ack(5));
    bench.down(ack(6));
    assert_eq!(bench.agent.noticed(0).missed, 2);
}

#[test]
fn records_are_acknowledged_before_the_end_is_reported() {
    let mut bench = Bench::new();
    let record = |seq, wait| {
        AttemptFrame::Record(WriteRecord {
            key: "train".into(),
            seq,
            payload_hash: Digest::default(),
            body: String::new(),
            wait,
        })
    };
    bench.run(vec![launch(0, 0)]);
    assert_eq!(bench.frame(0, 10, record(1, false)), ["reply 10 taken"]);
    assert_eq!(bench.frame(0, 10, record(2, true)), [""; 0]);
    assert_eq!(
        bench.frame(0, 11, AttemptFrame::Output(SetOutput { output: "42".into() })),
        ["reply 11 taken"]
    );
    assert_eq!(bench.settle(), ["progress 1/1: train=1, train=2"]);
    bench.exit(0, done());
    assert_eq!(bench.settle(), [""; 0], "records of an ended attempt would be turned away");
    assert_eq!(bench.agent.held(), [Held { attempt: attempt(0), phase: Phase::Ended }]);
    assert_eq!(bench.ack(0, 2), ["reply 10 taken"]);
    assert_eq!(bench.settle(), ["reports 1/1: 0 succeeded 42"]);
    assert_eq!(
        bench.frame(0, 12, record(3, false)),
        ["reply 12 refused: job-1.0#1 does not run here any more"]
    );
}

#[test]
fn too_much_progress_holds_the_one_up_that_makes_it() {
    let mut bench = Bench::new();
    bench.run(vec![launch(0, 0)]);
    let body = "x".repeat(1_000);
    let mut taken = 0;
    loop {
        let record = WriteRecord {
            key: "k".into(),
            seq: taken,
            payload_hash: Digest::default(),
            body: body.clone(),
            wait: false,
        };
        if bench.frame(0, 1, AttemptFrame::Record(record)).is_empty() {
            break;
        }
        taken += 1;
    }
    assert!((900..1_200).contains(&taken), "{taken}");
    assert_eq!(bench.ack(0, 100), ["reply 1 taken"]);
    let long = WriteRecord {
        key: "k".into(),
        seq: 0,
        payload_hash: Digest::default(),
        body: "x".repeat(1_025),
        wait: false,
    };
    assert_eq!(
        bench.frame(0, 1, AttemptFrame::Record(long)),
        ["reply 1 refused: a body has at most 1024 bytes, not 1025"]
    );
}

#[test]
fn a_question_is_asked_until_it_is_answered_and_of_each_new_leader() {
    let mut bench = Bench::new();
    bench.run(vec![launch(0, 0)]);
    let ask = |name: &str| {
        AttemptFrame::Ask(Ask { nonce: 1, request: CallRequest::FindStage(FindStage { name: name.into() }) })
    };
    assert_eq!(bench.frame(0, 1, ask("train")), [""; 0]);
    assert_eq!(bench.settle(), ["call job-1.0#1"]);
    assert_eq!(bench.frame(0, 2, ask("train")), [""; 0]);
    assert!(bench.frame(0, 3, ask("eval"))[0].starts_with("reply 3 refused"));
    assert_eq!(bench.wait(600), ["call job-1.0#1"]);
    bench.term = 2;
    assert_eq!(bench.wait(100).len(), 0);
    bench.ack(0, 0);
    let mut id = None;
    bench.agent.settle(bench.now_ms, &mut |action| {
        if let Action::Send(Up::Call(call)) = action {
            id = Some(call.id);
        }
    });
    let found = CallAnswer::Found(Found { stage: StageIndex(0), tasks: 1, first_task: 0 });
    let answer = Down::Answer(AnswerTo { id: id.expect("asked of the new leader at once"), answer: found });
    assert_eq!(bench.down(answer.clone()), ["reply 1 answered", "reply 2 answered"]);
    assert_eq!(bench.down(answer), [""; 0]);
    assert_eq!(bench.wait(2_000), [""; 0]);
}

#[test]
fn a_drain_waits_for_what_runs_and_then_ends_it() {
    let mut bench = Bench::new();
    bench.run(vec![launch(0, 1_000), launch(1, 1_000), queued(2, 1_000)]);
    assert_eq!(bench.input(Input::Drain), ["draining"]);
    assert_eq!(bench.settle(), ["reports 1/1: 2 lost"]);
    bench.ack(1, 0);
    assert_eq!(bench.run(vec![launch(3, 0)]), [""; 0]);
    assert_eq!(bench.settle(), ["reports 2/2: 3 lost"], "it is to run elsewhere");
    bench.ack(2, 0);
    bench.exit(0, done());
    assert_eq!(bench.settle(), ["reports 3/3: 0 succeeded"]);
    bench.ack(3, 0);
    let mut later = bench.wait(9_950);
    later.retain(|line| line != "draining");
    assert_eq!(later, [""; 0]);
    assert_eq!(bench.wait(50).last().map(String::as_str), Some("signal 1 5000"));
    bench.exit(1, done());
    assert_eq!(bench.settle(), ["reports 4/4: 1 lost"]);
    bench.ack(4, 0);
    assert_eq!(bench.settle(), ["exit"]);
    assert_eq!(bench.wait(100), [""; 0]);
}

#[test]
fn in_a_hurry_it_ends_all_at_once_and_does_not_wait_for_long() {
    let mut bench = Bench::new();
    bench.run(vec![launch(0, 1_000)]);
    bench.input(Input::Drain);
    assert_eq!(bench.input(Input::Hurry), ["signal 0 0"]);
    bench.exit(0, done());
    let mut lines = bench.wait(4_000);
    lines.retain(|line| line != "draining" && !line.starts_with("reports"));
    assert_eq!(lines, ["exit"]);
}
