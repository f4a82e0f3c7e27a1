//! The command of an attempt, with its environment.

use muster_attempt::artifacts::job_dir;
use muster_protocol::bus::Launch;
use muster_protocol::spec::{ProcessWork, Work};
use serde_json::{Map, Value};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A longer text does not fit into an environment; it stands in the file of the launch.
const PARAMS_BYTES_MAX: usize = 96 << 10;

/// What all attempts at this worker share.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) cluster: String,
    /// Where other workers reach this one.
    pub(crate) address: String,
    pub(crate) artifacts: PathBuf,
    pub(crate) executor_program: PathBuf,
}

/// Where an attempt has what.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) directory: PathBuf,
    pub(crate) scratch: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) launch: PathBuf,
}

/// The command of an attempt; `None` if its work needs no process.
pub(crate) fn command(launch: &Launch, places: &Places, surroundings: &Surroundings) -> Option<Command> {
    let (mut command, own, cwd) = match &launch.work {
        Work::Noop(_) => return None,
        Work::Process(ProcessWork { argv, env, cwd }) => {
            let mut command = Command::new(argv.first().map(String::as_str).unwrap_or_default());
            command.args(argv.iter().skip(1));
            (command, env.as_slice(), cwd.as_str())
        }
        Work::Builtin(builtin) => {
            let mut command = Command::new(&surroundings.executor_program);
            command.arg("executor").arg(&builtin.executor);
            (command, [].as_slice(), "")
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.current_dir(if cwd.is_empty() { places.scratch.as_path() } else { Path::new(cwd) });
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MUSTER_")) {
        command.env_remove(name);
    }
    command.envs(customs(launch));
    command.envs(own.iter().map(|(name, value)| (name, value)));
    command.envs(facts(launch));
    command.env("MUSTER_CLUSTER", &surroundings.cluster);
    command.env("MUSTER_ADDRESS", &surroundings.address);
    command.env("MUSTER_ARTIFACTS", &surroundings.artifacts);
    command.env(
        "MUSTER_JOB_DIR",
        job_dir(&surroundings.artifacts, &surroundings.cluster, launch.attempt.task.job),
    );
    command.env("MUSTER_SOCKET", &places.socket);
    command.env("MUSTER_SCRATCH", &places.scratch);
    command.env("MUSTER_LAUNCH", &places.launch);
    Some(command)
}

/// What other programs expect by custom; a job may say otherwise.
fn customs(launch: &Launch) -> Vec<(&'static str, String)> {
    let mut customs = vec![
        ("OMP_NUM_THREADS", (launch.request.cpu_milli / 1_000).max(1).to_string()),
        // candle's own pool is as wide as the machine and spins while it waits: two ranks on two cores ran at
        // half their speed.
        ("CANDLE_NUM_THREADS", "1".to_string()),
        ("LOCAL_RANK", "0".to_string()),
    ];
    match &launch.gang {
        Some(gang) => customs.extend([
            ("RANK", launch.rank.to_string()),
            ("WORLD_SIZE", launch.world.to_string()),
            ("MASTER_ADDR", gang.address.clone()),
            ("MASTER_PORT", gang.port.to_string()),
        ]),
        // A task of an array is a world of its own.
        None => customs.extend([("RANK", "0".to_string()), ("WORLD_SIZE", "1".to_string())]),
    }
    customs
}

/// What holds, whatever the job says.
fn facts(launch: &Launch) -> Vec<(&'static str, String)> {
    let gpus: Vec<_> = launch.grant.gpus.iter().map(u16::to_string).collect();
    let mut facts = vec![
        ("CUDA_VISIBLE_DEVICES", gpus.join(",")),
        // Otherwise the fastest would come first, and not the one with that index.
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
        facts.push(("MUSTER_RENDEZVOUS", format!("{}:{}", gang.address, gang.port)));
        facts.push(("MUSTER_FORMATION", gang.formation.to_string()));
    }
    let params = params(launch);
    if params.len() <= PARAMS_BYTES_MAX {
        facts.push(("MUSTER_PARAMS", params));
    }
    facts
}

/// The job's parameters, the stage's laid over them, and the child's over both.
fn params(launch: &Launch) -> String {
    let stage = match &launch.work {
        Work::Builtin(builtin) => builtin.params.as_str(),
        Work::Noop(_) | Work::Process(_) => "",
    };
    let mut merged = Map::new();
    for layer in [launch.job_params.as_str(), stage, launch.child_params.as_str()] {
        // What is not an object was turned away when the job was submitted.
        if let Ok(Value::Object(layer)) = serde_json::from_str(layer) {
            merged.extend(layer);
        }
    }
    Value::Object(merged).to_string()
}

/// Why a process did not start, for people.
pub(crate) fn why_not_started(error: &io::Error, command: &Command) -> String {
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
