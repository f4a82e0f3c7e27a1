//! DiLoCo as a whole on a small problem: rounds of replicas that fit a line through noisy points.

use super::*;
use muster_host::durable;
use muster_protocol::interval_set::IntervalSet;
use std::collections::BTreeMap;
use std::ops::Range;

const REPLICAS: u32 = 4;
const WIDTH: usize = 24;
const SAMPLES_EACH: u64 = 32;

/// The features of a sample, and what they should give.
fn sample(number: u64) -> (Vec<f32>, f32) {
    let features: Vec<f32> =
        (0..WIDTH as u64).map(|i| ((number * 131 + i * 57 + number * i) as f32).sin()).collect();
    let noise = ((number * 7919) as f32).sin() * 0.05;
    let target = features.iter().enumerate().map(|(i, x)| x * (i as f32 / 10.0 - 1.0)).sum::<f32>() + noise;
    (features, target)
}

fn loss(weights: &[f32], samples: impl Iterator<Item = u64>) -> f32 {
    let (mut sum, mut count) = (0f32, 0f32);
    for number in samples {
        let (features, target) = sample(number);
        let given: f32 = features.iter().zip(weights).map(|(x, w)| x * w).sum();
        sum += (given - target).powi(2);
        count += 1.0;
    }
    sum / count
}

/// Inner steps of one replica: momentum in its first moments, one step a sample.
fn learn(replica: &mut ReplicaState, samples: &IntervalSet<u64>) {
    for number in samples.ranges().flatten() {
        let (features, target) = sample(number);
        let error: f32 = features.iter().zip(&replica.weights).map(|(x, w)| x * w).sum::<f32>() - target;
        for ((weight, moment), x) in replica.weights.iter_mut().zip(&mut replica.moments.first).zip(features)
        {
            *moment = 0.5 * *moment + error * x;
            *weight -= 0.02 * *moment;
        }
    }
}

/// A run on ranks that hold these replicas each; `late` says who misses which round. Gives the weights and
/// the rounds' commits.
fn train(holders: &[Range<u32>], late: impl Fn(u64, u32) -> bool) -> (Vec<f32>, Vec<RoundCommit>) {
    let mut global = vec![0f32; WIDTH];
    let mut outer = OuterOptimizer::new(OuterConfig::default(), WIDTH).expect("makes sense");
    let mut ranks: Vec<Vec<ReplicaState>> = holders
        .iter()
        .map(|range| range.clone().map(|replica| ReplicaState::new(replica, &global)).collect())
        .collect();
    let mut commits = Vec::new();
    for number in 0..12u64 {
        let lease = |replica: u64| {
            let first = (number * u64::from(REPLICAS) + replica) * SAMPLES_EACH;
            IntervalSet::from_disjoint([first..first + SAMPLES_EACH]).expect("is apart")
        };
        let bytes: Vec<u8> = global.iter().flat_map(|x| x.to_le_bytes()).collect();
        let leases: Vec<IntervalSet<u64>> = (0..u64::from(REPLICAS)).map(lease).collect();
        let plan = RoundPlan { round: number, epoch: 1, base: durable::hash(&bytes), leases: leases.clone() };
        let mut arrived = BTreeMap::new();
        for replica in ranks.iter_mut().flatten() {
            learn(replica, &leases[replica.replica as usize]);
            let delta = replica.delta(&global).expect("fits");
            if !late(number, replica.replica) {
                arrived.insert(replica.replica, Int8Delta::from_bytes(&delta.to_bytes()).expect("is one"));
            }
        }
        let hashes: Vec<(u32, String)> =
            arrived.iter().map(|(replica, delta)| (*replica, delta.hash())).collect();
        let mean = mean_delta(WIDTH, &arrived.into_iter().collect::<Vec<_>>()).expect("fits");
        let aggregate: Vec<u8> = mean.iter().flat_map(|x| x.to_le_bytes()).collect();
        let commit = plan.commit(&hashes, durable::hash(&aggregate)).expect("fits");
        outer.step(&mut global, &mean).expect("fits");
        for replica in ranks.iter_mut().flatten() {
            replica.start_round(&global).expect("fits");
        }
        commits.push(commit);
    }
    (global, commits)
}

#[test]
fn replicas_learn_together_and_their_mapping_leaves_no_trace() {
    let held_out = 1_000_000..1_000_200u64;
    let before = loss(&[0.0; WIDTH], held_out.clone());
    let (weights, commits) = train(&[0..REPLICAS], |_, _| false);
    let after = loss(&weights, held_out.clone());
    assert!(after < before * 0.02, "{before} to {after}");
    for holders in [vec![0..1, 1..4], vec![0..2, 2..4], vec![0..1, 1..2, 2..3, 3..4]] {
        assert_eq!(train(&holders, |_, _| false), (weights.clone(), commits.clone()), "{holders:?}");
    }
    // One that is late now and then costs little, and its samples are not consumed.
    let (weights, commits) = train(&[0..2, 2..4], |round, replica| replica == 3 && round % 3 == 0);
    let without = loss(&weights, held_out);
    assert!(without < before * 0.04, "{before} to {without}");
    let consumed: u64 = commits.iter().map(|commit| commit.samples().expect("is apart").len()).sum();
    assert_eq!(consumed, (12 * 4 - 4) * SAMPLES_EACH);
}
