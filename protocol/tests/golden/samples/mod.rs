//! One value for each tag. All fields differ from each other and from their defaults, so that a swap of two
//! is noticed.

mod messages;

pub use messages::*;

use muster_protocol::bus::*;
use muster_protocol::command::*;
use muster_protocol::envelope::*;
use muster_protocol::event::*;
use muster_protocol::ids::*;
use muster_protocol::outcome::*;
use muster_protocol::rejection::*;
use muster_protocol::resources::*;
use muster_protocol::spec::*;
use muster_protocol::time::*;
use muster_protocol::worker::*;
use std::collections::BTreeMap;

fn text(value: &str) -> String {
    value.to_string()
}

fn task() -> TaskId {
    TaskId { job: JobId(42), index: 7 }
}

fn attempt() -> AttemptId {
    AttemptId { task: task(), epoch: 3 }
}

fn request() -> RequestId {
    RequestId(0x0190_1234_5678_7abc_8def_0123_4567_89ab)
}

fn identity() -> WorkerIdentity {
    WorkerIdentity(0x1111_2222_3333_4444_5555_6666_7777_8888)
}

fn boot() -> BootId {
    BootId(0x9999_aaaa_bbbb_cccc_dddd_eeee_ffff_0001)
}

fn hello() -> WorkerHello {
    WorkerHello {
        identity: identity(),
        boot: boot(),
        name: text("node-a"),
        address: text("10.0.0.7"),
        rendezvous_port_first: 29_500,
        rendezvous_ports: 100,
        capacity: Resources {
            cpu_milli: 64_000,
            memory_mib: 262_144,
            gpus: 1,
            counters: BTreeMap::from([(text("licence"), 2)]),
        },
        gpus: vec![GpuInfo { index: 0, model: text("H100"), memory_mib: 81_559, uuid: text("GPU-1") }],
        labels: BTreeMap::from([(text("zone"), text("b"))]),
        queue: 16,
        version: text("0.1.0"),
    }
}

fn record() -> ProgressRecord {
    ProgressRecord {
        attempt: attempt(),
        key: text("checkpoint"),
        seq: 300,
        payload_hash: Digest::of(b"weights"),
        body: text("{\"step\":300}"),
    }
}

fn child() -> ChildSpec {
    ChildSpec {
        stage: StageIndex(6),
        params: text("{\"line\":9}"),
        after: vec![TaskRef::New(TaskNumber { index: 0 }), TaskRef::Existing(TaskNumber { index: 5 })],
    }
}

fn why(message: &str) -> Reason {
    Reason { message: text(message) }
}

fn detail(message: &str) -> Detail {
    Detail { message: text(message) }
}

fn failed() -> Outcome {
    Outcome::Failed(Failed { exit_code: Some(137), signal: Some(9), message: text("killed") })
}

pub fn works() -> Vec<Work> {
    vec![
        Work::Noop(Noop {}),
        Work::Process(ProcessWork {
            argv: vec![text("python"), text("x.py")],
            env: vec![(text("SEED"), text("7"))],
            cwd: text("/srv/work"),
        }),
        Work::Builtin(BuiltinWork { executor: text("train"), params: text("{\"steps\":200}") }),
    ]
}

pub fn job_specs() -> Vec<JobSpec> {
    let stage = StageSpec {
        name: text("train"),
        needs: vec![StageIndex(0)],
        tasks: 2,
        array_first: 100,
        array_step: 5,
        work: works().remove(2),
        request: Resources {
            cpu_milli: 1_500,
            memory_mib: 2_048,
            gpus: 1,
            counters: BTreeMap::from([(text("slot"), 3)]),
        },
        gang: true,
        open: true,
        kind: TaskKind::Service,
        retry: RetryPolicy { retries: 4, backoff_ms: 250, backoff_ms_max: 9_000 },
        timeout_ms: 3_600_000,
        grace_ms: 7_000,
        on_partition: OnPartition::Continue,
    };
    let least = serde_json::from_str(
        r#"{"name":"least","stages":[{"name":"one","tasks":1,"work":{"type":"noop"}}]}"#,
    );
    vec![
        JobSpec { name: text("code-model"), priority: -3, params: text("{\"seed\":1}"), stages: vec![stage] },
        least.expect("a job with nothing but what it must have"),
    ]
}

fn spec() -> JobSpec {
    job_specs().remove(0)
}

pub fn task_refs() -> Vec<TaskRef> {
    vec![TaskRef::Existing(TaskNumber { index: 300 }), TaskRef::New(TaskNumber { index: 2 })]
}

pub fn commands() -> Vec<Command> {
    vec![
        Command::SubmitJob(SubmitJob { spec: spec() }),
        Command::CancelJob(CancelJob { job: JobId(42), reason: text("not needed") }),
        Command::RetryJob(RetryJob { job: JobId(43) }),
        Command::RegisterWorker(RegisterWorker { hello: hello() }),
        Command::SetLiveness(SetLiveness { worker: WorkerId(3), boot: boot(), liveness: Liveness::Suspect }),
        Command::DrainWorker(DrainWorker { worker: WorkerId(3), drain: true }),
        Command::Assign(Assign {
            assignments: vec![Assignment {
                attempt: attempt(),
                worker: WorkerId(3),
                grant: Grant { gpus: vec![0, 2] },
                queued: true,
            }],
            hints: vec![LoadHint { worker: WorkerId(4), cpu_milli: 250 }],
        }),
        Command::ReportAttempts(ReportAttempts {
            worker: WorkerId(3),
            boot: boot(),
            reports: vec![Report { attempt: attempt(), what: reports().remove(1) }],
        }),
        Command::RecordProgress(RecordProgress {
            worker: WorkerId(3),
            boot: boot(),
            records: vec![record()],
        }),
        Command::AddTasks(AddTasks { parent: attempt(), children: vec![child()] }),
        Command::SealStage(SealStage { parent: attempt(), stage: StageIndex(6) }),
        Command::AdvanceTime(AdvanceTime {}),
        Command::TakeLeadership(TakeLeadership { leader: RaftId(2), name: text("c2"), term: Term(9) }),
        Command::RaiseVersion(RaiseVersion { version: 2 }),
    ]
}

pub fn events() -> Vec<Event> {
    let worker = WorkerEvent { worker: WorkerId(3) };
    let stage = StageEvent { job: JobId(42), stage: StageIndex(4) };
    vec![
        Event::JobSubmitted(JobSubmitted {
            job: JobId(42),
            actor: text("ada"),
            namespace: text("default"),
            spec: spec(),
        }),
        Event::JobCancelled(JobCancelled { job: JobId(42), reason: text("not needed") }),
        Event::JobEnded(JobEnded {
            job: JobId(42),
            terminal: Terminal::Failed,
            reason: text("job-42.7 failed"),
        }),
        Event::JobRetried(JobRetried { job: JobId(42) }),
        Event::StageReadied(stage),
        Event::StageSealed(stage),
        Event::StageSucceeded(stage),
        Event::TasksAdded(TasksAddedEvent {
            parent: attempt(),
            request: request(),
            first: 12,
            children: vec![child()],
        }),
        Event::WorkerRegistered(WorkerRegistered { worker: WorkerId(3), hello: hello() }),
        Event::WorkerSuspected(worker),
        Event::WorkerRecovered(worker),
        Event::WorkerLost(worker),
        Event::WorkerDrained(worker),
        Event::WorkerUndrained(worker),
        Event::TaskAssigned(TaskAssigned {
            attempt: attempt(),
            worker: WorkerId(3),
            grant: Grant { gpus: vec![1] },
            queued: true,
        }),
        Event::GangFormed(GangFormed {
            job: JobId(42),
            stage: StageIndex(4),
            formation: 2,
            rendezvous_worker: WorkerId(3),
            rendezvous_port: 29_501,
        }),
        Event::AttemptStarted(AttemptStarted { attempt: attempt(), pid: 4_711 }),
        Event::AttemptStopped(AttemptStopped {
            attempt: attempt(),
            outcome: Outcome::TimedOut(why("ran over 1 h")),
        }),
        Event::AttemptEnded(AttemptEnded { attempt: attempt(), outcome: failed(), run_ms: 65_432 }),
        Event::TaskRequeued(TaskRequeued { task: task(), ready_at: LogMs(123_456), counts: true }),
        Event::TaskReadied(TaskEvent { task: task() }),
        Event::TaskEnded(TaskEnded { task: task(), terminal: Terminal::Cancelled }),
        Event::ProgressRecorded(record()),
        Event::LeaderTookOver(LeaderTookOver { leader: RaftId(2), name: text("c2"), term: Term(9) }),
        Event::CommandFaulted(CommandFaulted { command: text("Assign") }),
        Event::VersionRaised(VersionRaised { version: 2 }),
        Event::RequestAnswered(RequestAnswered {
            request: request(),
            command_hash: 0x0123_4567_89ab_cdef,
            answer: answers().remove(0),
        }),
        Event::HintsUsed(HintsUsed { hints: vec![LoadHint { worker: WorkerId(4), cpu_milli: 250 }] }),
    ]
}

pub fn event_records() -> Vec<EventRecord> {
    vec![EventRecord { command: 5, event: Event::JobRetried(JobRetried { job: JobId(42) }) }]
}

/// Large in memory, small in bytes.
pub fn smallest_event() -> EventRecord {
    EventRecord { command: 0, event: Event::HintsUsed(HintsUsed { hints: Vec::new() }) }
}

pub fn outcomes() -> Vec<Outcome> {
    vec![
        Outcome::Succeeded(Succeeded { output: text("{\"bpb\":1.9}") }),
        failed(),
        Outcome::Cancelled(why("not needed")),
        Outcome::TimedOut(why("ran over 1 h")),
        Outcome::Lost(why("worker-3 was lost")),
        Outcome::NotStarted(why("no such program: pyhton")),
        Outcome::GangBroken(why("rank 1 failed")),
    ]
}

pub fn replies() -> Vec<Reply> {
    vec![
        Reply::Done(Done {}),
        Reply::Submitted(Submitted { job: JobId(42) }),
        Reply::TasksAdded(TasksAdded { first: 12, count: 3 }),
        Reply::Registered(Registered { worker: WorkerId(3) }),
    ]
}

pub fn answers() -> Vec<Answer> {
    vec![
        Answer::Accepted(Accepted { index: LogIndex(1_000), reply: replies().remove(1) }),
        Answer::Rejected(Rejected { index: LogIndex(1_001), rejection: rejections().remove(2) }),
    ]
}

pub fn rejections() -> Vec<Rejection> {
    vec![
        Rejection::Unknown(detail("no job-9")),
        Rejection::WrongState(detail("job-42 has ended")),
        Rejection::Invalid(Invalid {
            field: text("stages[2].needs"),
            message: text("a stage needs only stages before it"),
        }),
        Rejection::LimitExceeded(detail("100000 open jobs")),
        Rejection::Stale(detail("attempt 2 is not the newest")),
        Rejection::RequestReused(detail("the id was used for another command")),
        Rejection::Faulted(detail("Assign faulted")),
    ]
}

pub fn reports() -> Vec<ReportKind> {
    vec![
        ReportKind::Started(Started { pid: 4_711 }),
        ReportKind::Ended(Ended { outcome: failed(), run_ms: 65_432 }),
    ]
}

pub fn batches() -> Vec<Batch> {
    let envelope = Envelope {
        request: request(),
        actor: text("ada"),
        client: text("muster-cli/0.1.0"),
        namespace: text("default"),
        trace: text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        cause: LogIndex(999),
        command: commands().remove(1),
    };
    vec![Batch {
        cluster: text("demo"),
        term: Term(9),
        log_ms: LogMs(123_456),
        wall_ms: WallMs(1_700_000_000_000),
        commands: vec![envelope],
    }]
}

pub fn livenesses() -> Vec<Liveness> {
    vec![Liveness::Alive, Liveness::Suspect, Liveness::Lost]
}

pub fn terminals() -> Vec<Terminal> {
    vec![Terminal::Succeeded, Terminal::Failed, Terminal::Cancelled]
}

pub fn phases() -> Vec<Phase> {
    vec![Phase::Queued, Phase::Running, Phase::Stopping, Phase::Ended]
}

pub fn streams() -> Vec<Stream> {
    vec![Stream::Stdout, Stream::Stderr]
}

pub fn task_kinds() -> Vec<TaskKind> {
    vec![TaskKind::Batch, TaskKind::Service]
}

pub fn on_partitions() -> Vec<OnPartition> {
    vec![OnPartition::Stop, OnPartition::Continue]
}
