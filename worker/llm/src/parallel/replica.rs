//! One logical replica of DiLoCo between two rounds: its weights, its inner optimizer, and what quantisation
//! has cost it.

use super::{Error, Int8};
use crate::train::adamw::Moments;

/// Whether a replica remembers what quantisation loses (error feedback); it costs two more vectors of the
/// weights' length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// What is lost is lost.
    Off,
    /// It is added to the next delta.
    On,
}

/// A replica's own state. The moments stay from round to round, as in the paper; the weights start each round
/// as the global ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// Which one, of the job's fixed number.
    pub replica: u32,
    /// Its weights, flat in order of name.
    pub weights: Vec<f32>,
    /// Its inner optimizer's moments.
    pub moments: Moments,
    residual: Residual,
}

#[derive(Clone, Debug, PartialEq)]
enum Residual {
    Off,
    /// What earlier rounds that counted lost, and what the delta that is on its way loses.
    On {
        kept: Vec<f32>,
        pending: Vec<f32>,
    },
}

impl Replica {
    /// A replica at the start of the first round.
    #[must_use]
    pub fn new(replica: u32, global: &[f32], feedback: Feedback) -> Self {
        let residual = match feedback {
            Feedback::Off => Residual::Off,
            Feedback::On => Residual::On { kept: vec![0.0; global.len()], pending: Vec::new() },
        };
        Self { replica, weights: global.to_vec(), moments: Moments::zero(global.len()), residual }
    }

    /// What this replica has learnt since the round began, to be sent: `global` minus its weights, as int8.
    ///
    /// # Errors
    /// When the lengths differ, or a weight is not finite.
    pub fn delta(&mut self, global: &[f32]) -> Result<Int8, Error> {
        if global.len() != self.weights.len() {
            return Err(Error::Outer(format!(
                "{} global weights for a replica of {}",
                global.len(),
                self.weights.len()
            )));
        }
        let delta: Vec<f32> = global.iter().zip(&self.weights).map(|(old, new)| old - new).collect();
        match &mut self.residual {
            Residual::Off => Int8::quantise(&delta),
            Residual::On { kept, pending } => {
                let (delta, lost) = Int8::quantise_with_feedback(delta, kept)?;
                *pending = lost;
                Ok(delta)
            }
        }
    }

    /// The round has ended, and the next begins at `global`. `merged` says whether this replica's delta was
    /// part of it; if it was left out, what it learnt is gone, and what quantisation lost is what it was
    /// before.
    ///
    /// # Errors
    /// When the lengths differ.
    pub fn adopt(&mut self, global: &[f32], merged: bool) -> Result<(), Error> {
        if global.len() != self.weights.len() {
            return Err(Error::Outer(format!(
                "{} global weights for a replica of {}",
                global.len(),
                self.weights.len()
            )));
        }
        self.weights.copy_from_slice(global);
        if let Residual::On { kept, pending } = &mut self.residual {
            let pending = std::mem::take(pending);
            if merged && pending.len() == kept.len() {
                *kept = pending;
            }
        }
        Ok(())
    }

    /// What quantisation has cost so far, for a checkpoint; `None` without error feedback.
    #[must_use]
    pub fn residual(&self) -> Option<&[f32]> {
        match &self.residual {
            Residual::Off => None,
            Residual::On { kept, .. } => Some(kept),
        }
    }

    /// A replica at the start of a later round, from what a checkpoint kept.
    ///
    /// # Errors
    /// When the lengths differ.
    pub fn resume(
        replica: u32,
        global: &[f32],
        moments: Moments,
        residual: Option<Vec<f32>>,
    ) -> Result<Self, Error> {
        let count = global.len();
        let lengths =
            [Some(moments.first.len()), Some(moments.second.len()), residual.as_ref().map(Vec::len)];
        if lengths.into_iter().flatten().any(|len| len != count) {
            return Err(Error::Outer(format!(
                "replica {replica} was kept with {lengths:?} numbers instead of {count}"
            )));
        }
        let residual = match residual {
            None => Residual::Off,
            Some(kept) => Residual::On { kept, pending: Vec::new() },
        };
        Ok(Self { replica, weights: global.to_vec(), moments, residual })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_ends_at_the_global_weights_and_keeps_the_moments() {
        let mut replica = Replica::new(2, &[1.0, 2.0], Feedback::Off);
        replica.weights = vec![0.0, 4.0];
        replica.moments.first[0] = 7.0;
        assert_eq!(replica.delta(&[1.0, 2.0]).expect("fits").numbers()[1], -2.0);
        replica.adopt(&[5.0, 6.0], true).expect("fits");
        assert_eq!(
            (replica.weights.as_slice(), replica.moments.first[0], replica.residual()),
            (&[5.0, 6.0][..], 7.0, None)
        );
        assert!(replica.delta(&[1.0]).is_err() && replica.adopt(&[1.0], true).is_err());
        replica.weights[0] = f32::NAN;
        assert!(replica.delta(&[1.0, 2.0]).is_err());
    }

    #[test]
    fn only_a_delta_that_counted_leaves_a_residual() {
        let mut replica = Replica::new(0, &[0.0, 0.0], Feedback::On);
        replica.weights = vec![1.0, 0.001];
        replica.delta(&[0.0, 0.0]).expect("fits");
        replica.adopt(&[0.0, 0.0], false).expect("fits");
        assert_eq!(replica.residual(), Some(&[0.0, 0.0][..]));
        replica.weights = vec![1.0, 0.001];
        replica.delta(&[0.0, 0.0]).expect("fits");
        replica.adopt(&[0.0, 0.0], true).expect("fits");
        assert!((replica.residual().expect("is on")[1] + 0.001).abs() < 1e-9, "{:?}", replica.residual());
        let kept = replica.residual().map(<[f32]>::to_vec);
        let resumed = Replica::resume(0, &[0.0, 0.0], replica.moments.clone(), kept).expect("fits");
        assert_eq!(resumed, replica);
        assert!(Replica::resume(0, &[0.0, 0.0], Moments::zero(3), None).is_err());
    }
}
