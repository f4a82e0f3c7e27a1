//! Every limit of the protocol, checked against each other at compile time. Each is a maximum unless it says
//! otherwise.

/// The version byte of every envelope on wire and disk.
pub const FORMAT_VERSION: u8 = 1;
/// The newest version of `decide` that this build supports.
pub const DECIDE_VERSION: u32 = 1;

/// One encoded command.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;
/// One Raft entry (a batch of commands).
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Commands in one batch.
pub const BATCH_COMMANDS_MAX: usize = 4096;
/// One message between coordinators.
pub const PEER_FRAME_BYTES_MAX: usize = 16 << 20;
/// One message on the bus (1 MiB is NATS's own default limit).
pub const BUS_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// One HTTP request body.
pub const HTTP_BODY_BYTES_MAX: usize = 1 << 20;
/// One job file.
pub const JOB_FILE_BYTES_MAX: usize = 512 << 10;

/// Stages in a job.
pub const STAGES_MAX: usize = 256;
/// Tasks in a job, children included.
pub const TASKS_PER_JOB_MAX: u32 = 16_000_000;
/// Ranks in a gang.
pub const GANG_TASKS_MAX: u32 = 4096;
/// Children added by one command.
pub const CHILDREN_PER_COMMAND_MAX: usize = 1024;
/// One name: job, stage, namespace, actor, key.
pub const NAME_BYTES_MAX: usize = 128;
/// The parameters of a job, a stage or a child.
pub const PARAMS_BYTES_MAX: usize = 64 << 10;
/// The body of one record, or a task's output.
pub const PROGRESS_BODY_BYTES_MAX: usize = 1 << 10;
/// Distinct record keys of one task.
pub const PROGRESS_KEYS_PER_TASK_MAX: usize = 1024;
/// Jobs that have not ended.
pub const OPEN_JOBS_MAX: usize = 100_000;
/// Ended jobs whose details the state keeps; older ones live in the ledger only.
pub const ENDED_JOBS_KEPT: usize = 2_000;
/// Registered workers.
pub const WORKERS_MAX: usize = 10_000;
/// Remembered request ids, whatever their age.
pub const REQUESTS_KEPT: usize = 200_000;
/// How long a request id is remembered, in log time.
pub const REQUEST_KEPT_MS: u64 = 24 * 3600 * 1000;
/// Attempts queued at one worker beyond its resources.
pub const QUEUED_PER_WORKER_MAX: u32 = 4096;

/// How often a worker's agent sends a heartbeat.
pub const HEARTBEAT_INTERVAL_MS: u64 = 300;
/// After this silence a worker is suspect: it gets no new work.
pub const WORKER_SUSPECT_MS: u64 = 1_500;
/// After this silence a worker is lost: its attempts end, and their tasks run elsewhere.
pub const WORKER_LEASE_MS: u64 = 4_000;
/// Time from SIGTERM to SIGKILL when an agent fences itself.
pub const FENCE_GRACE_MS: u64 = 300;
/// An agent fences itself this long after *sending* its last acknowledged heartbeat.
pub const FENCE_AFTER_MS: u64 = 3_500;
/// Time from SIGTERM to SIGKILL, unless the task sets it.
pub const KILL_GRACE_MS_DEFAULT: u64 = 5_000;
/// How long the leader waits for a command to commit before it tells the client that the outcome is unknown.
pub const COMMIT_TIMEOUT_MS: u64 = 10_000;

const _: () = {
    assert!(COMMAND_BYTES_MAX <= BATCH_BYTES_MAX);
    assert!(BATCH_BYTES_MAX * 2 <= PEER_FRAME_BYTES_MAX);
    assert!(JOB_FILE_BYTES_MAX < HTTP_BODY_BYTES_MAX && HTTP_BODY_BYTES_MAX <= COMMAND_BYTES_MAX);
    // What is fenced is dead before its work may start elsewhere, counted from the sending of the heartbeat.
    assert!(FENCE_AFTER_MS + FENCE_GRACE_MS < WORKER_LEASE_MS);
    assert!(HEARTBEAT_INTERVAL_MS * 4 < WORKER_SUSPECT_MS);
    assert!(WORKER_SUSPECT_MS < FENCE_AFTER_MS);
    assert!(CHILDREN_PER_COMMAND_MAX * PROGRESS_BODY_BYTES_MAX <= COMMAND_BYTES_MAX);
};
