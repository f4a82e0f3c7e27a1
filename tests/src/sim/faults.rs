//! What goes wrong, and when: drawn from the seed before anything happens, so that a trace names it all.

use super::settings::Settings;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Whoever leads is killed; at once, or in the midst of the so-many-th disk operation from then.
    KillLeader { midst: Option<u32>, away_ms: u64 },
    /// A coordinator that does not lead is killed, and comes back soon.
    KillFollower { away_ms: u64 },
    /// A coordinator that does not lead is killed, and comes back when the others no longer have the entries
    /// that it lacks.
    LoseFollower,
    /// Every coordinator is killed at once.
    KillAll { away_ms: u64 },
    /// A coordinator hangs.
    PauseCoordinator { which: usize, pause_ms: u64 },
    /// A coordinator hears nothing of the others, or is not heard, or both.
    IsolateCoordinator { which: usize, hears: bool, is_heard: bool, for_ms: u64 },
    /// A wall clock jumps.
    StepClock { which: usize, by_ms: i64 },
    /// An agent is killed.
    KillAgent { which: usize, away_ms: u64 },
    /// An agent hangs; its attempts go on.
    PauseAgent { which: usize, pause_ms: u64 },
    /// A worker hears nothing, or is not heard, or both.
    IsolateWorker { which: usize, hears: bool, is_heard: bool, for_ms: u64 },
    /// The broker is gone.
    StopBroker { for_ms: u64 },
    /// The network is as bad as this from here on.
    Weather { lost_per_mille: u32, repeated_per_mille: u32, late_per_mille: u32 },
}

/// What goes wrong in a run, in order of time.
pub fn plan(settings: &Settings, random: &mut ChaCha8Rng) -> Vec<(u64, Fault)> {
    let rough_ms = settings.rough_ms;
    let mut plan = vec![
        // Every seed sees these: an election that was lost and one that was won, and a follower that was away
        // for long.
        (random.random_range(3_000..5_000), kill_leader(random)),
        (random.random_range(6_000..8_000), Fault::LoseFollower),
        (random.random_range(18_000..rough_ms), kill_leader(random)),
        (0, weather(random)),
        (rough_ms / 2, weather(random)),
    ];
    for _ in 0..random.random_range(4..10) {
        let at = random.random_range(2_000..rough_ms);
        plan.push((at, any(settings, random)));
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

fn kill_leader(random: &mut ChaCha8Rng) -> Fault {
    let midst = random.random_bool(0.5).then(|| random.random_range(0..6));
    Fault::KillLeader { midst, away_ms: random.random_range(200..4_000) }
}

fn weather(random: &mut ChaCha8Rng) -> Fault {
    let mut at_most = |most: u32| if random.random_bool(0.3) { 0 } else { random.random_range(0..most) };
    Fault::Weather {
        lost_per_mille: at_most(80),
        repeated_per_mille: at_most(80),
        late_per_mille: at_most(150),
    }
}

fn any(settings: &Settings, random: &mut ChaCha8Rng) -> Fault {
    let (coordinator, worker) =
        (random.random_range(0..settings.coordinators), random.random_range(0..settings.workers));
    let (hears, is_heard) = [(false, false), (false, true), (true, false)][random.random_range(0..3)];
    let for_ms = random.random_range(300..6_000);
    match random.random_range(0..12) {
        0 | 1 => kill_leader(random),
        2 => Fault::KillFollower { away_ms: for_ms },
        3 => Fault::KillAll { away_ms: random.random_range(100..2_000) },
        4 => Fault::PauseCoordinator { which: coordinator, pause_ms: for_ms },
        5 => Fault::IsolateCoordinator { which: coordinator, hears, is_heard, for_ms },
        6 => Fault::StepClock {
            which: coordinator,
            by_ms: random.random_range(-40_000_000_000..40_000_000_000),
        },
        7 => Fault::KillAgent { which: worker, away_ms: random.random_range(100..8_000) },
        8 => Fault::PauseAgent { which: worker, pause_ms: random.random_range(300..8_000) },
        9 | 10 => {
            Fault::IsolateWorker { which: worker, hears, is_heard, for_ms: random.random_range(300..9_000) }
        }
        _ => Fault::StopBroker { for_ms },
    }
}
