//! DiLoCo's outer optimizer: SGD with Nesterov momentum on the mean of the replicas' deltas (Douillard et al.
//! 2023), computed as PyTorch's `SGD` does.
//!
//! The paper's momentum is 0.9, for hundreds of rounds. Over the tens of rounds that `cargo xtask bench
//! diloco` measures, 0.8 was better for every learning rate and number of inner steps; it is the default.
//!
//! A delta is *old global weights minus a replica's weights*, so it has the sign of a gradient. Means are
//! taken in order of replica, in f64.

use super::Error;
use super::int8::{BLOCK, Int8Delta};
use serde::{Deserialize, Serialize};

/// Settings of the outer optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OuterConfig {
    /// Learning rate. 1 with a momentum of 0 is plain averaging.
    pub learning_rate: f64,
    /// Momentum, from 0 to below 1.
    pub momentum: f64,
}

impl Default for OuterConfig {
    fn default() -> Self {
        Self { learning_rate: 0.7, momentum: 0.8 }
    }
}

/// The outer optimizer; every rank has the same.
#[derive(Clone, Debug, PartialEq)]
pub struct OuterOptimizer {
    config: OuterConfig,
    momentum: Vec<f32>,
}

impl OuterOptimizer {
    /// The optimizer at round 0, for `parameters` weights.
    ///
    /// # Errors
    /// When the settings are out of bounds.
    pub fn new(config: OuterConfig, parameters: usize) -> Result<Self, Error> {
        Self::with_momentum(config, vec![0.0; parameters])
    }

    /// The optimizer with the momentum of a checkpoint.
    ///
    /// # Errors
    /// When the settings are out of bounds.
    pub fn with_momentum(config: OuterConfig, momentum: Vec<f32>) -> Result<Self, Error> {
        let sound = config.learning_rate.is_finite()
            && config.learning_rate > 0.0
            && (0.0..1.0).contains(&config.momentum);
        if !sound {
            return Err(Error::Outer(format!(
                "{config:?} is out of bounds: a positive learning rate and a momentum in 0..1 would do"
            )));
        }
        Ok(Self { config, momentum })
    }

    /// The momentum, which a checkpoint must keep.
    #[must_use]
    pub fn momentum(&self) -> &[f32] {
        &self.momentum
    }

    /// Moves the global weights by a round's mean delta.
    ///
    /// # Errors
    /// When the lengths differ, or a number is NaN or infinite; nothing is then changed.
    pub fn step(&mut self, global: &mut [f32], delta: &[f32]) -> Result<(), Error> {
        if global.len() != self.momentum.len() || delta.len() != self.momentum.len() {
            let reason = format!(
                "{} weights and {} numbers of a delta for {} of momentum",
                global.len(),
                delta.len(),
                self.momentum.len()
            );
            return Err(Error::Outer(reason));
        }
        if let Some(place) = delta.iter().position(|x| !x.is_finite()) {
            return Err(Error::Outer(format!("number {place} of the delta is {}", delta[place])));
        }
        let (rate, keep) = (self.config.learning_rate as f32, self.config.momentum as f32);
        for ((weight, momentum), delta) in global.iter_mut().zip(&mut self.momentum).zip(delta) {
            *momentum = keep * *momentum + delta;
            *weight -= rate * (delta + keep * *momentum);
        }
        Ok(())
    }
}

/// The mean of the deltas of some replicas, each of `parameters` numbers, given in order of replica.
///
/// # Errors
/// When there are no deltas, the order is wrong, or a length differs.
pub fn mean_delta(parameters: usize, deltas: &[(u32, Int8Delta)]) -> Result<Vec<f32>, Error> {
    if deltas.is_empty() || !deltas.is_sorted_by(|a, b| a.0 < b.0) {
        let order: Vec<u32> = deltas.iter().map(|(replica, _)| *replica).collect();
        return Err(Error::Outer(format!("replicas {order:?} are not some replicas in order")));
    }
    if let Some((replica, delta)) = deltas.iter().find(|(_, delta)| delta.len() != parameters) {
        return Err(Error::Outer(format!(
            "the delta of replica {replica} has {} numbers instead of {parameters}",
            delta.len()
        )));
    }
    let count = deltas.len() as f64;
    let mut mean = vec![0f32; parameters];
    let mut blocks: Vec<_> = deltas.iter().map(|(_, delta)| delta.blocks()).collect();
    let mut sums = [0f64; BLOCK];
    for mean in mean.chunks_mut(BLOCK) {
        let sums = &mut sums[..mean.len()];
        sums.fill(0.0);
        for (scale, codes) in blocks.iter_mut().filter_map(Iterator::next) {
            let scale = f64::from(scale);
            sums.iter_mut().zip(codes).for_each(|(sum, code)| *sum += f64::from(*code) * scale);
        }
        mean.iter_mut().zip(sums).for_each(|(mean, sum)| *mean = (*sum / count) as f32);
    }
    Ok(mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_agree_with_the_definition() {
        let mut outer = OuterOptimizer::new(OuterConfig::default(), 2).expect("makes sense");
        let mut global = vec![1f32, -2.0];
        let (mut weight, mut momentum) = (1f64, 0f64);
        for delta in [0.5f32, 0.25, -1.0] {
            outer.step(&mut global, &[delta, 0.0]).expect("fits");
            momentum = 0.8 * momentum + f64::from(delta);
            weight -= 0.7 * (f64::from(delta) + 0.8 * momentum);
            assert!((f64::from(global[0]) - weight).abs() < 1e-5);
        }
        assert_eq!(global[1], -2.0);
        let mut resumed = OuterOptimizer::with_momentum(OuterConfig::default(), outer.momentum().to_vec())
            .expect("makes sense");
        assert_eq!(resumed, outer);
        let mut same = global.clone();
        resumed.step(&mut same, &[1.0, 1.0]).expect("fits");
        outer.step(&mut global, &[1.0, 1.0]).expect("fits");
        assert_eq!(same, global);
    }

    #[test]
    fn averaging_is_the_plain_case() {
        let mut outer =
            OuterOptimizer::new(OuterConfig { learning_rate: 1.0, momentum: 0.0 }, 3).expect("makes sense");
        let mut global = vec![1f32, 2.0, 3.0];
        let replicas = [[0f32, 2.0, 1.0], [2.0, 4.0, 1.0]];
        let deltas = replicas.iter().enumerate().map(|(replica, weights)| {
            let delta: Vec<f32> = global.iter().zip(weights).map(|(old, new)| old - new).collect();
            (replica as u32, Int8Delta::quantise(&delta).expect("is finite"))
        });
        let mean = mean_delta(3, &deltas.collect::<Vec<_>>()).expect("fits");
        outer.step(&mut global, &mean).expect("fits");
        assert!(global.iter().zip([1f32, 3.0, 1.0]).all(|(x, y)| (x - y).abs() < 0.02), "{global:?}");
    }

    #[test]
    fn the_mean_goes_by_replica_and_block() {
        let numbers = |seed: usize| {
            (0..2500).map(|i| ((i * 17 + seed * 7) as f32).cos() * (i / 700 + 1) as f32).collect::<Vec<f32>>()
        };
        let deltas: Vec<(u32, Int8Delta)> =
            [1, 4, 5].map(|r| (r, Int8Delta::quantise(&numbers(r as usize)).expect("is finite"))).to_vec();
        let mean = mean_delta(2500, &deltas).expect("fits");
        for (place, mean) in mean.iter().enumerate() {
            let sum: f64 = deltas.iter().map(|(_, delta)| f64::from(delta.numbers()[place])).sum();
            assert!((f64::from(*mean) - sum / 3.0).abs() < 1e-6, "number {place}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        for config in [(0.0, 0.9), (0.7, 1.0), (f64::NAN, 0.9), (0.7, -0.1)] {
            assert!(
                OuterOptimizer::new(OuterConfig { learning_rate: config.0, momentum: config.1 }, 1).is_err(),
                "{config:?}"
            );
        }
        let mut outer = OuterOptimizer::new(OuterConfig::default(), 2).expect("makes sense");
        let (before, mut global) = (outer.clone(), vec![1f32, 2.0]);
        assert!(
            outer
                .step(&mut global, &[1.0])
                .is_err_and(|e| e.to_string().contains("1 numbers of a delta for 2"))
        );
        assert!(
            outer
                .step(&mut global, &[1.0, f32::NAN])
                .is_err_and(|e| e.to_string().contains("number 1 of the delta is NaN"))
        );
        assert_eq!((outer, global), (before, vec![1.0, 2.0]));
        let delta = |len: usize| Int8Delta::quantise(&vec![1.0; len]).expect("is finite");
        let table = [
            (vec![], "replicas []"),
            (vec![(1, delta(2)), (0, delta(2))], "[1, 0]"),
            (vec![(3, delta(1))], "replica 3 has 1 numbers"),
        ];
        for (deltas, expected) in table {
            let message = mean_delta(2, &deltas).expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
