//! Every limit of the vocabulary, and the checks that they fit each other.

/// The version byte of every envelope on wire and disk.
pub const FORMAT_VERSION: u8 = 1;
/// The newest `decide` that this build knows.
pub const DECIDE_VERSION: u32 = 1;

/// One encoded command at most.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;
/// One Raft entry (a batch of commands) at most.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Commands in one batch at most.
pub const BATCH_COMMANDS_MAX: usize = 4096;
/// One message between coordinators at most.
pub const PEER_FRAME_BYTES_MAX: usize = 16 << 20;
/// One message on the bus at most (NATS's own default limit is 1 MiB).
pub const BUS_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// One HTTP request body at most.
pub const HTTP_BODY_BYTES_MAX: usize = 1 << 20;
/// One job file at most.
pub const JOB_FILE_BYTES_MAX: usize = 512 << 10;

/// Stages in a job at most.
pub const STAGES_MAX: usize = 256;
/// Tasks in a job at most, children included.
pub const TASKS_PER_JOB_MAX: u32 = 16_000_000;
/// Ranks in a gang at most.
pub const GANG_TASKS_MAX: u32 = 4096;
/// Children added by one command at most.
pub const CHILDREN_PER_COMMAND_MAX: usize = 1024;
/// One name (job, stage, namespace, actor, key) at most.
pub const NAME_BYTES_MAX: usize = 128;
/// The parameters of a job, a stage or a child at most.
pub const PARAMS_BYTES_MAX: usize = 64 << 10;
/// The body of one progress record, or a task's output, at most.
pub const PROGRESS_BODY_BYTES_MAX: usize = 1 << 10;
/// Distinct progress keys of one task at most.
pub const PROGRESS_KEYS_PER_TASK_MAX: usize = 1024;
/// Jobs that have not ended, at most.
pub const OPEN_JOBS_MAX: usize = 100_000;
/// Ended jobs whose details the state keeps; older ones live in the ledger only.
pub const ENDED_JOBS_KEPT: usize = 2_000;
/// Workers that are registered at most.
pub const WORKERS_MAX: usize = 10_000;
/// Remembered request ids at most, whatever their age.
pub const REQUESTS_KEPT: usize = 200_000;
/// How long a request id is remembered, in log time.
pub const REQUEST_KEPT_MS: u64 = 24 * 3600 * 1000;
/// Attempts queued at one worker beyond what its resources hold, at most.
pub const QUEUED_PER_WORKER_MAX: u32 = 4096;

/// How often a worker's agent says that it is there.
pub const HEARTBEAT_INTERVAL_MS: u64 = 300;
/// A worker not heard of for so long is suspect: it gets no new work.
pub const WORKER_SUSPECT_MS: u64 = 1_500;
/// A worker not heard of for so long is lost: its attempts end, and their tasks run elsewhere.
pub const WORKER_LEASE_MS: u64 = 4_000;
/// From SIGTERM to SIGKILL when an agent fences itself.
pub const FENCE_GRACE_MS: u64 = 300;
/// An agent starts to end its attempts when its last acknowledged heartbeat was sent so long ago.
pub const FENCE_AFTER_MS: u64 = 3_500;
/// From SIGTERM to SIGKILL when a task does not say otherwise.
pub const KILL_GRACE_MS_DEFAULT: u64 = 5_000;
/// How long the leader waits for an answer to commit before it tells the client that the outcome is unknown.
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
