//! One logical replica of DiLoCo between two rounds: its weights and its inner optimizer.

use super::{Error, Int8Delta};
use crate::train::adamw::Moments;

/// A replica's own state. The inner optimizer's moments are kept from round to round, as in the paper; the
/// weights start each round as the global ones.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaState {
    /// Its number, of the job's fixed number of replicas.
    pub replica: u32,
    /// Its weights, flat in order of name.
    pub weights: Vec<f32>,
    /// Its inner optimizer's moments.
    pub moments: Moments,
}

impl ReplicaState {
    /// A replica at the start of the first round.
    #[must_use]
    pub fn new(replica: u32, global: &[f32]) -> Self {
        Self { replica, weights: global.to_vec(), moments: Moments::zero(global.len()) }
    }

    /// A replica at the start of a later round, with the moments of a checkpoint.
    ///
    /// # Errors
    /// When the lengths differ.
    pub fn resume(replica: u32, global: &[f32], moments: Moments) -> Result<Self, Error> {
        let (count, lengths) = (global.len(), [moments.first.len(), moments.second.len()]);
        if lengths != [count; 2] {
            return Err(Error::Outer(format!(
                "replica {replica} was kept with {lengths:?} numbers instead of {count}"
            )));
        }
        Ok(Self { replica, weights: global.to_vec(), moments })
    }

    /// The delta to send at the end of a round: `global` minus its weights, as int8.
    ///
    /// # Errors
    /// When the lengths differ, or a weight is NaN or infinite.
    pub fn delta(&self, global: &[f32]) -> Result<Int8Delta, Error> {
        self.check_len(global)?;
        let delta: Vec<f32> = global.iter().zip(&self.weights).map(|(old, new)| old - new).collect();
        Int8Delta::quantise(&delta)
    }

    /// Starts the next round at `global`. A replica whose delta was not merged loses what it learnt.
    ///
    /// # Errors
    /// When the lengths differ.
    pub fn start_round(&mut self, global: &[f32]) -> Result<(), Error> {
        self.check_len(global)?;
        self.weights.copy_from_slice(global);
        Ok(())
    }

    fn check_len(&self, global: &[f32]) -> Result<(), Error> {
        if global.len() == self.weights.len() {
            return Ok(());
        }
        let (given, own) = (global.len(), self.weights.len());
        Err(Error::Outer(format!("{given} global weights for a replica of {own}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_ends_at_the_global_weights_and_keeps_the_moments() {
        let mut replica = ReplicaState::new(2, &[1.0, 2.0]);
        replica.weights = vec![0.0, 4.0];
        replica.moments.first[0] = 7.0;
        assert_eq!(replica.delta(&[1.0, 2.0]).expect("fits").numbers()[1], -2.0);
        replica.start_round(&[5.0, 6.0]).expect("fits");
        assert_eq!((replica.weights.as_slice(), replica.moments.first[0]), (&[5.0, 6.0][..], 7.0));
        assert!(replica.delta(&[1.0]).is_err() && replica.start_round(&[1.0]).is_err());
        let resumed = ReplicaState::resume(2, &[5.0, 6.0], replica.moments.clone()).expect("fits");
        assert_eq!(resumed, replica);
        assert!(ReplicaState::resume(2, &[5.0, 6.0], Moments::zero(3)).is_err());
        replica.weights[0] = f32::NAN;
        assert!(replica.delta(&[1.0, 2.0]).is_err());
    }
}
