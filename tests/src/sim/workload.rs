//! The jobs that clients submit: small ones of every kind, drawn from the seed.

use muster_protocol::ids::StageIndex;
use muster_protocol::resources::Resources;
use muster_protocol::spec::{
    JobSpec, Noop, OnPartition, ProcessWork, RetryPolicy, StageSpec, TaskKind, Work,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Tasks of these stages add children to the stage [`OPEN`], and seal it.
pub const PLANNER: &str = "planner";
/// The stage that planners add children to.
pub const OPEN: &str = "open";

fn stage(name: &str, tasks: u32, random: &mut ChaCha8Rng) -> StageSpec {
    let work = if random.random_bool(0.4) {
        Work::Noop(Noop {})
    } else {
        Work::Process(ProcessWork {
            argv: vec!["simulated".to_string()],
            env: Vec::new(),
            cwd: String::new(),
        })
    };
    StageSpec {
        name: name.to_string(),
        needs: Vec::new(),
        tasks,
        array_first: 0,
        array_step: 1,
        work,
        request: Resources {
            cpu_milli: 500 * random.random_range(1..4),
            memory_mib: 64,
            ..Resources::default()
        },
        gang: false,
        open: false,
        kind: TaskKind::Batch,
        retry: RetryPolicy { retries: 8, backoff_ms: 50, backoff_ms_max: 1_000 },
        timeout_ms: if random.random_bool(0.2) { 6_000 } else { 0 },
        grace_ms: 300,
        on_partition: if random.random_bool(0.2) { OnPartition::Continue } else { OnPartition::Stop },
    }
}

fn process() -> Work {
    Work::Process(ProcessWork { argv: vec!["simulated".to_string()], env: Vec::new(), cwd: String::new() })
}

pub fn job(number: usize, random: &mut ChaCha8Rng) -> JobSpec {
    let stages = match number % 4 {
        0 => vec![stage("array", random.random_range(5..20), random)],
        1 => {
            let mut gang = stage("gang", random.random_range(2..4), random);
            gang.gang = true;
            gang.work = process();
            gang.request.cpu_milli = 1_000;
            vec![gang]
        }
        2 => {
            let first = stage("first", random.random_range(1..6), random);
            let mut second = stage("second", random.random_range(1..6), random);
            second.needs = vec![StageIndex(0)];
            let mut third = stage("third", 1, random);
            third.needs = vec![StageIndex(0), StageIndex(1)];
            vec![first, second, third]
        }
        _ => {
            let mut planner = stage(PLANNER, 1, random);
            planner.work = process();
            planner.timeout_ms = 0;
            let mut open = stage(OPEN, 0, random);
            open.open = true;
            vec![planner, open]
        }
    };
    JobSpec {
        name: format!("job number {number}"),
        priority: random.random_range(0..3),
        params: String::new(),
        stages,
    }
}
