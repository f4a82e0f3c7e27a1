//! The command line and the environment of an attempt.

use muster_attempt::artifacts::job_dir;
use muster_protocol::bus::Launch;
use muster_protocol::spec::{ProcessWork, Work};
use serde_json::{Map, Value};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Longer parameters do not fit into an environment; an attempt reads them from its launch file.
const PARAMS_BYTES_MAX: usize = 96 << 10;
/// The kernel allows 108, with the terminating zero.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// What the environments of all attempts at this worker share.
#[derive(Clone, Debug)]
pub(crate) struct SpawnEnv {
    pub(crate) cluster: String,
    /// Where other workers reach this one.
    pub(crate) address: String,
    pub(crate) artifacts: PathBuf,
    pub(crate) executor_program: PathBuf,
}

/// The files of one attempt.
#[derive(Clone, Debug)]
pub(super) struct AttemptPaths {
    pub(super) directory: PathBuf,
    pub(super) scratch: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) launch: PathBuf,
}

impl AttemptPaths {
    /// The attempt's own directory is `attempts/name`. Its socket is there too, or in `sockets` if the path
    /// would be too long.
    pub(super) fn new(attempts: &Path, sockets: &Path, name: &str) -> AttemptPaths {
        let directory = attempts.join(name);
        let socket = directory.join("socket");
        let fits = socket.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX;
        AttemptPaths {
            scratch: directory.join("scratch"),
            launch: directory.join("launch"),
            socket: if fits { socket } else { sockets.join(name) },
            directory,
        }
    }
}

/// The command of an attempt; `None` if its work needs no process.
pub(super) fn command(launch: &Launch, paths: &AttemptPaths, shared: &SpawnEnv) -> Option<Command> {
    let (mut command, own, cwd) = match &launch.work {
        Work::Noop(_) => return None,
        Work::Process(ProcessWork { argv, env, cwd }) => {
            let mut command = Command::new(argv.first().map(String::as_str).unwrap_or_default());
            command.args(argv.iter().skip(1));
            (command, env.as_slice(), cwd.as_str())
        }
        Work::Builtin(builtin) => {
            let mut command = Command::new(&shared.executor_program);
            command.arg("executor").arg(&builtin.executor);
            (command, [].as_slice(), "")
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.current_dir(if cwd.is_empty() { paths.scratch.as_path() } else { Path::new(cwd) });
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MUSTER_")) {
        command.env_remove(name);
    }
    command.envs(default_variables(launch));
    command.envs(own.iter().map(|(name, value)| (name, value)));
    command.envs(fixed_variables(launch));
    command.env("MUSTER_CLUSTER", &shared.cluster);
    command.env("MUSTER_ADDRESS", &shared.address);
    command.env("MUSTER_ARTIFACTS", &shared.artifacts);
    command.env("MUSTER_JOB_DIR", job_dir(&shared.artifacts, &shared.cluster, launch.attempt.task.job));
    command.env("MUSTER_SOCKET", &paths.socket);
    command.env("MUSTER_SCRATCH", &paths.scratch);
    command.env("MUSTER_LAUNCH", &paths.launch);
    Some(command)
}

/// Variables that other programs expect; a job may set them to something else.
fn default_variables(launch: &Launch) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("OMP_NUM_THREADS", (launch.request.cpu_milli / 1_000).max(1).to_string()),
        // candle's own pool has a thread per CPU, and they spin while they wait: two ranks on two CPUs ran at
        // half speed.
        ("CANDLE_NUM_THREADS", "1".to_string()),
        ("LOCAL_RANK", "0".to_string()),
    ];
    match &launch.gang {
        Some(gang) => variables.extend([
            ("RANK", launch.rank.to_string()),
            ("WORLD_SIZE", launch.world.to_string()),
            ("MASTER_ADDR", gang.address.clone()),
            ("MASTER_PORT", gang.port.to_string()),
        ]),
        // A task of an array is alone in its world.
        None => variables.extend([("RANK", "0".to_string()), ("WORLD_SIZE", "1".to_string())]),
    }
    variables
}

/// Variables that a job cannot change.
fn fixed_variables(launch: &Launch) -> Vec<(&'static str, String)> {
    let gpus: Vec<_> = launch.grant.gpus.iter().map(u16::to_string).collect();
    let mut variables = vec![
        ("CUDA_VISIBLE_DEVICES", gpus.join(",")),
        // Otherwise CUDA numbers the fastest GPU first, not as NVML does.
        ("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_string()),
        ("MUSTER_JOB", launch.attempt.task.job.to_string()),
        ("MUSTER_JOB_NAME", launch.job_name.clone()),
        ("MUSTER_STAGE", launch.stage_name.clone()),
        ("MUSTER_TASK", launch.attempt.task.to_string()),
        ("MUSTER_ATTEMPT", launch.attempt.to_string()),
        ("MUSTER_EPOCH", launch.attempt.epoch.to_string()),
        ("MUSTER_ARRAY_INDEX", launch.array_index.to_string()),
        ("MUSTER_RANK", launch.rank.to_string()),
        ("MUSTER_WORLD_SIZE", launch.world.to_string()),
    ];
    if let Some(gang) = &launch.gang {
        variables.push(("MUSTER_RENDEZVOUS", format!("{}:{}", gang.address, gang.port)));
        variables.push(("MUSTER_FORMATION", gang.formation.to_string()));
    }
    let params = params(launch);
    if params.len() <= PARAMS_BYTES_MAX {
        variables.push(("MUSTER_PARAMS", params));
    }
    variables
}

/// The job's parameters, overridden by the stage's, and those by the child's.
fn params(launch: &Launch) -> String {
    let stage = match &launch.work {
        Work::Builtin(builtin) => builtin.params.as_str(),
        Work::Noop(_) | Work::Process(_) => "",
    };
    let mut merged = Map::new();
    for layer in [launch.job_params.as_str(), stage, launch.child_params.as_str()] {
        // Anything but an object was rejected when the job was submitted.
        if let Ok(Value::Object(layer)) = serde_json::from_str(layer) {
            merged.extend(layer);
        }
    }
    Value::Object(merged).to_string()
}

/// Why a process did not start.
pub(super) fn why_not_started(error: &io::Error, command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let cwd = command.get_current_dir().unwrap_or(Path::new("."));
    match error.kind() {
        _ if !cwd.is_dir() => format!("no such directory: {}", cwd.display()),
        io::ErrorKind::NotFound => format!("no such program: {program}"),
        io::ErrorKind::PermissionDenied => format!("not a program that may be run: {program}"),
        io::ErrorKind::ArgumentListTooLong => {
            format!("the arguments and the environment of {program} are too long")
        }
        _ => format!("start {program}: {error}"),
    }
}
