//! Samples of messages: between workers and the leader, and between attempts and agents.

use super::*;
use muster_protocol::attempt_call::*;

fn launch() -> Launch {
    Launch {
        attempt: attempt(),
        job_name: text("code-model"),
        stage: StageIndex(4),
        stage_name: text("train"),
        work: works().remove(1),
        job_params: text("{\"seed\":1}"),
        child_params: text("{\"line\":9}"),
        array_index: 115,
        rank: 1,
        world: 2,
        gang: Some(Rendezvous { formation: 2, address: text("10.0.0.7"), port: 29_501 }),
        request: Resources { cpu_milli: 1_500, memory_mib: 2_048, gpus: 1, counters: BTreeMap::new() },
        grant: Grant { gpus: vec![1] },
        queued: true,
        grace_ms: 7_000,
        on_partition: OnPartition::Continue,
    }
}

/// Large in memory, small in bytes.
pub fn smallest_launch() -> Launch {
    Launch {
        attempt: AttemptId::default(),
        job_name: String::new(),
        stage: StageIndex(0),
        stage_name: String::new(),
        work: Work::Noop(Noop {}),
        job_params: String::new(),
        child_params: String::new(),
        array_index: 0,
        rank: 0,
        world: 0,
        gang: None,
        request: Resources::default(),
        grant: Grant::default(),
        queued: false,
        grace_ms: 0,
        on_partition: OnPartition::Stop,
    }
}

pub fn ups() -> Vec<Up> {
    let held = |phase| Held { attempt: attempt(), phase };
    vec![
        Up::Hello(hello()),
        Up::Heartbeat(Heartbeat {
            sent_ms: 90_300,
            cpu_milli: 1_250,
            memory_mib: 4_096,
            held: vec![held(Phase::Running), held(Phase::Ended)],
            down_received: 17,
        }),
        Up::Reports(Reports {
            first_seq: 5,
            oldest_unacked: 4,
            reports: vec![Report { attempt: attempt(), what: ReportKind::Started(Started { pid: 4_711 }) }],
        }),
        Up::Progress(Progress { first_seq: 6, oldest_unacked: 2, records: vec![record()] }),
        Up::Call(Call { id: request(), attempt: attempt(), request: call_requests().remove(0) }),
        Up::LogChunk(LogChunk {
            tail: request(),
            attempt: attempt(),
            offset: 65_536,
            bytes: vec![0, 255, b'\n'],
            end: true,
            error: text("rotated away"),
        }),
        Up::Draining(Draining {}),
    ]
}

pub fn downs() -> Vec<Down> {
    vec![
        Down::Welcome(Welcome { worker: WorkerId(3) }),
        Down::HeartbeatAck(HeartbeatAck { sent_ms: 90_300, down_sent: 17, worker: WorkerId(3) }),
        Down::SayHello(SayHello {}),
        Down::Run(Run { launches: vec![launch()] }),
        Down::Stop(Stop {
            attempt: attempt(),
            outcome: Outcome::Cancelled(why("not needed")),
            grace_ms: 5_000,
        }),
        Down::Ack(Ack { reports: 5, progress: 6 }),
        Down::Answer(AnswerTo { id: request(), answer: call_answers().remove(4) }),
        Down::Tail(Tail {
            id: request(),
            attempt: attempt(),
            stream: Stream::Stderr,
            offset: 7,
            follow: true,
            credit_bytes: 262_144,
        }),
        Down::EndTail(EndTail { id: request() }),
    ]
}

pub fn attempt_frames() -> Vec<AttemptFrame> {
    vec![
        AttemptFrame::Record(WriteRecord {
            key: text("train"),
            seq: 9,
            payload_hash: Digest::of(b"loss"),
            body: text("{\"loss\":3.2}"),
            wait: true,
        }),
        AttemptFrame::Output(SetOutput { output: text("{\"tokens\":12}") }),
        AttemptFrame::Ask(Ask { nonce: 77, request: call_requests().remove(4) }),
    ]
}

pub fn agent_frames() -> Vec<AgentFrame> {
    vec![
        AgentFrame::Taken(Taken {}),
        AgentFrame::Answered(Answered { answer: call_answers().remove(0) }),
        AgentFrame::Refused(detail("the attempt no longer counts")),
    ]
}

pub fn call_requests() -> Vec<CallRequest> {
    vec![
        CallRequest::StageOutputs(StageOutputs { stage: text("data.pack"), from: 4 }),
        CallRequest::TaskProgress(TaskProgress { task: task(), prefix: text("call/") }),
        CallRequest::AddChildren(AddChildren { children: vec![child()] }),
        CallRequest::Seal(Seal { stage: StageIndex(6) }),
        CallRequest::FindStage(FindStage { name: text("agent.sample") }),
    ]
}

pub fn call_answers() -> Vec<CallAnswer> {
    vec![
        CallAnswer::Outputs(Outputs {
            outputs: vec![TaskOutput { task: task(), output: text("{\"tokens\":12}") }],
            next: Some(8),
        }),
        CallAnswer::Records(Records {
            records: vec![KeyedRecord {
                key: text("call/1"),
                seq: 2,
                payload_hash: Digest::of(b"call"),
                body: text("{}"),
            }],
        }),
        CallAnswer::Added(TasksAdded { first: 12, count: 3 }),
        CallAnswer::Sealed(Taken {}),
        CallAnswer::Found(Found { stage: StageIndex(6), tasks: 3, first_task: 12 }),
        CallAnswer::Rejected(Rejection::Stale(detail("attempt 2 is not the newest"))),
    ]
}

pub fn up_envelopes() -> Vec<UpEnvelope> {
    vec![UpEnvelope {
        cluster: text("demo"),
        identity: identity(),
        boot: boot(),
        trace: text("00-1-2-01"),
        message: ups().remove(6),
    }]
}

pub fn down_envelopes() -> Vec<DownEnvelope> {
    vec![DownEnvelope {
        cluster: text("demo"),
        term: Term(9),
        boot: boot(),
        trace: text("00-1-2-01"),
        message: downs().remove(5),
    }]
}
