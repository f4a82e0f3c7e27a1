//! The faults of a run: drawn from the seed before the run starts.

use super::settings::Settings;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The leader is killed: at once, or during a disk operation, this many operations later.
    KillLeader { disk_operations: Option<u32>, away_ms: u64 },
    /// A follower is killed, and restarts soon.
    KillFollower { away_ms: u64 },
    /// A follower is killed, and restarts when the others have truncated the entries that it lacks.
    LoseFollower,
    /// All coordinators are killed at once.
    KillAll { away_ms: u64 },
    /// A coordinator hangs.
    PauseCoordinator { node: usize, pause_ms: u64 },
    /// A coordinator receives nothing from the others, or they receive nothing from it, or both.
    IsolateCoordinator { node: usize, receives: bool, sends: bool, for_ms: u64 },
    /// A wall clock jumps.
    StepClock { node: usize, by_ms: i64 },
    /// An agent is killed.
    KillAgent { node: usize, away_ms: u64 },
    /// An agent hangs; its attempts keep running.
    PauseAgent { node: usize, pause_ms: u64 },
    /// A worker receives nothing, or nobody receives anything from it, or both.
    IsolateWorker { node: usize, receives: bool, sends: bool, for_ms: u64 },
    /// The broker is down.
    StopBroker { for_ms: u64 },
    /// How bad the network is from now on.
    NetworkQuality { lost_per_mille: u32, repeated_per_mille: u32, late_per_mille: u32 },
}

/// The faults of a run with their times, in order.
pub fn plan(settings: &Settings, random: &mut ChaCha8Rng) -> Vec<(u64, Fault)> {
    let fault_phase_ms = settings.fault_phase_ms;
    let mut plan = vec![
        // Every seed has these: two lost leaders, and a follower that needs a snapshot.
        (random.random_range(3_000..5_000), kill_leader(random)),
        (random.random_range(6_000..8_000), Fault::LoseFollower),
        (random.random_range(18_000..fault_phase_ms), kill_leader(random)),
        (0, network_quality(random)),
        (fault_phase_ms / 2, network_quality(random)),
    ];
    for _ in 0..random.random_range(4..10) {
        let at = random.random_range(2_000..fault_phase_ms);
        plan.push((at, any_fault(settings, random)));
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

fn kill_leader(random: &mut ChaCha8Rng) -> Fault {
    let disk_operations = random.random_bool(0.5).then(|| random.random_range(0..6));
    Fault::KillLeader { disk_operations, away_ms: random.random_range(200..4_000) }
}

fn network_quality(random: &mut ChaCha8Rng) -> Fault {
    let mut at_most = |most: u32| if random.random_bool(0.3) { 0 } else { random.random_range(0..most) };
    Fault::NetworkQuality {
        lost_per_mille: at_most(80),
        repeated_per_mille: at_most(80),
        late_per_mille: at_most(150),
    }
}

fn any_fault(settings: &Settings, random: &mut ChaCha8Rng) -> Fault {
    let (coordinator, worker) =
        (random.random_range(0..settings.coordinators), random.random_range(0..settings.workers));
    let (receives, sends) = [(false, false), (false, true), (true, false)][random.random_range(0..3)];
    let for_ms = random.random_range(300..6_000);
    match random.random_range(0..12) {
        0 | 1 => kill_leader(random),
        2 => Fault::KillFollower { away_ms: for_ms },
        3 => Fault::KillAll { away_ms: random.random_range(100..2_000) },
        4 => Fault::PauseCoordinator { node: coordinator, pause_ms: for_ms },
        5 => Fault::IsolateCoordinator { node: coordinator, receives, sends, for_ms },
        6 => Fault::StepClock {
            node: coordinator,
            by_ms: random.random_range(-40_000_000_000..40_000_000_000),
        },
        7 => Fault::KillAgent { node: worker, away_ms: random.random_range(100..8_000) },
        8 => Fault::PauseAgent { node: worker, pause_ms: random.random_range(300..8_000) },
        9 | 10 => {
            Fault::IsolateWorker { node: worker, receives, sends, for_ms: random.random_range(300..9_000) }
        }
        _ => Fault::StopBroker { for_ms },
    }
}
