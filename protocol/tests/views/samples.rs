//! One value for each view, with every field filled.

use muster_protocol::bus::Stream;
use muster_protocol::envelope::ChainHead;
use muster_protocol::event::*;
use muster_protocol::ids::*;
use muster_protocol::outcome::*;
use muster_protocol::resources::*;
use muster_protocol::time::*;
use muster_protocol::view::*;
use muster_protocol::worker::Liveness;
use std::collections::BTreeMap;

fn text(value: &str) -> String {
    value.to_string()
}

fn task() -> TaskId {
    TaskId { job: JobId(42), index: 7 }
}

fn attempt() -> AttemptId {
    AttemptId { task: task(), epoch: 2 }
}

fn chain() -> ChainHead {
    ChainHead { index: LogIndex(1_000), hash: Digest::of(b"chain") }
}

fn counts() -> TaskCounts {
    TaskCounts { pending: 1, assigned: 2, running: 3, succeeded: 4, failed: 5, cancelled: 6 }
}

fn resources() -> Resources {
    Resources {
        cpu_milli: 4_000,
        memory_mib: 8_192,
        gpus: 1,
        counters: BTreeMap::from([(text("licence"), 2)]),
    }
}

pub fn status() -> StatusView {
    StatusView {
        cluster: text("demo"),
        coordinator: text("c1"),
        raft_id: RaftId(1),
        role: text("follower"),
        leader: text("c2"),
        term: Term(9),
        committed: LogIndex(1_001),
        applied: LogIndex(1_000),
        log_ms: LogMs(123_456),
        chain: chain(),
        ledger_first: LogIndex(1),
        members: vec![MemberView {
            name: text("c1"),
            raft_id: RaftId(1),
            peer: text("127.0.0.1:7501"),
            http: text("127.0.0.1:7401"),
            matched: Some(LogIndex(999)),
        }],
        open_jobs: 3,
        workers: 2,
        bus: text("connected"),
        version: text("0.1.0"),
        counters: BTreeMap::from([(text("raft_syncs"), 17)]),
    }
}

pub fn job() -> JobView {
    JobView {
        id: JobId(42),
        name: text("code-model"),
        actor: text("ada"),
        namespace: text("default"),
        state: text("failed"),
        terminal: Some(Terminal::Failed),
        reason: text("job-42.7 failed"),
        tasks: counts(),
        submitted_wall_ms: WallMs(1_700_000_000_000),
        submitted_ms: LogMs(100_000),
        ended_ms: Some(LogMs(123_456)),
        priority: -1,
    }
}

pub fn job_detail() -> JobDetail {
    let spec =
        r#"{"name":"least","stages":[{"name":"one","tasks":1,"work":{"type":"process","argv":["true"]}}]}"#;
    JobDetail {
        job: job(),
        spec: serde_json::from_str(spec).expect("a job with nothing but what it must have"),
        stages: vec![StageView {
            name: text("train"),
            state: text("running"),
            needs: vec![text("data")],
            sealed: true,
            gang: true,
            formations: 2,
            tasks: counts(),
        }],
    }
}

pub fn task_page() -> TaskPage {
    let progress =
        ProgressView { seq: 300, payload_hash: Digest::of(b"weights"), body: text("{\"loss\":3.2}") };
    let view = TaskView {
        id: task(),
        stage: text("train"),
        state: text("backoff"),
        attempt: Some(attempt()),
        worker: Some(WorkerId(3)),
        worker_name: Some(text("node-a")),
        started_ms: Some(LogMs(110_000)),
        ended_ms: Some(LogMs(120_000)),
        outcome: Some(Outcome::Failed(Failed {
            exit_code: Some(7),
            signal: None,
            message: text("exit code 7"),
        })),
        retries: 1,
        progress: BTreeMap::from([(text("train"), progress)]),
    };
    TaskPage { tasks: vec![view], next: Some(8) }
}

pub fn worker() -> WorkerView {
    WorkerView {
        id: WorkerId(3),
        name: text("node-a"),
        address: text("10.0.0.7"),
        liveness: Liveness::Suspect,
        draining: true,
        capacity: resources(),
        free: resources(),
        gpus: vec![GpuInfo { index: 0, model: text("H100"), memory_mib: 81_559, uuid: text("GPU-1") }],
        labels: BTreeMap::from([(text("zone"), text("b"))]),
        attempts: vec![attempt()],
        queued: 4,
        version: text("0.1.0"),
    }
}

pub fn event() -> EventView {
    EventView {
        index: LogIndex(1_000),
        ordinal: 2,
        log_ms: LogMs(123_456),
        wall_ms: WallMs(1_700_000_000_000),
        actor: text("worker-3"),
        cause: text("ReportAttempts"),
        event: Event::AttemptEnded(AttemptEnded {
            attempt: attempt(),
            outcome: Outcome::Succeeded(Succeeded { output: text("{}") }),
            run_ms: 65_432,
        }),
    }
}

pub fn accepted() -> AcceptedView {
    AcceptedView { index: LogIndex(1_000), job: Some(JobId(42)) }
}

pub fn error() -> ErrorView {
    ErrorView {
        error: text("invalid"),
        message: text("a stage needs only stages before it"),
        field: text("stages[2].needs"),
    }
}

pub fn replay() -> ReplayView {
    ReplayView {
        coordinator: text("c1"),
        from: LogIndex(1),
        to: LogIndex(1_000),
        state_hash: Digest::of(b"state"),
        chain: chain(),
        events: 5_000,
        transitions: 3_000,
        elapsed_us: 4_321,
        verified: Some(true),
        jobs: vec![job()],
    }
}

pub fn log() -> LogView {
    LogView {
        attempt: attempt(),
        stream: Stream::Stderr,
        offset: 65_536,
        next: 65_542,
        text: text("hello\n"),
        end: true,
        error: text("rotated away"),
    }
}
