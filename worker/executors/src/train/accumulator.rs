//! The gradients of some logical replicas: reads their samples, measures the wait, and computes a batch in
//! parts when memory is short.

use super::error::TrainError;
use crate::error::Error;
use muster_collective as collective;
use muster_llm::parallel::{Partial, Tree};
use muster_llm::train::{self, GradientSum, LossSums, Trainer, order};
use std::ops::Range;
use std::time::{Duration, Instant};

/// What a CUDA driver's error says when memory is short.
const TOO_SMALL: &str = "out of memory";

/// Sums the gradients of one rank in one step.
pub struct Accumulator<'a> {
    trainer: &'a Trainer,
    /// Whether a microbatch may be computed in parts.
    may_cut: bool,
    /// The time spent waiting for samples.
    pub waited: Duration,
}

impl Accumulator<'_> {
    pub fn new(trainer: &Trainer, may_cut: bool) -> Accumulator<'_> {
        Accumulator { trainer, may_cut, waited: Duration::ZERO }
    }

    /// The gradient sums of the replicas in `share`, as far as the tree over all `replicas` allows. `samples`
    /// gives a replica's numbers.
    pub fn gradients(
        &mut self,
        share: Range<usize>,
        replicas: usize,
        samples: impl Fn(usize) -> Vec<Range<u64>> + Sync,
    ) -> Result<Vec<Partial<GradientSum>>, Error> {
        let trainer = self.trainer;
        // Sums, too, are made by the threads that were granted, and no others.
        trainer.compute().run(|| {
            let mut tree = Tree::new(replicas);
            for replica in share {
                let gradients = self.of(&samples(replica))?;
                tree.push(Partial::leaf(replica, gradients), |sum, other| trainer.join(sum, other))?;
            }
            Ok(tree.partials())
        })
    }

    /// The gradients of the samples with these numbers.
    pub fn of(&mut self, numbers: &[Range<u64>]) -> Result<GradientSum, Error> {
        let began = Instant::now();
        let batch = self.trainer.batch(numbers)?;
        self.waited += began.elapsed();
        let first = numbers.first().map_or(0, |range| range.start);
        let count: u64 = numbers.iter().map(|range| range.end - range.start).sum();
        match self.trainer.gradients_of(&batch, first) {
            Err(error) if is_short(&error) => {
                let tokens = batch.tokens.len();
                if !self.may_cut || count < 2 {
                    let hint = if count < 2 {
                        "a smaller `context`"
                    } else {
                        "fewer `sequences`, or `allow_accumulation`,"
                    };
                    return Err(TrainError::TooLittleMemory {
                        samples: count,
                        tokens,
                        source: Box::new(error),
                        hint,
                    }
                    .into());
                }
                drop(batch);
                let mut sum = self.of(&order::part(numbers, 0, count / 2))?;
                let rest = self.of(&order::part(numbers, count / 2, count - count / 2))?;
                self.trainer.join(&mut sum, rest);
                Ok(sum)
            }
            given => Ok(given?),
        }
    }
}

/// Whether memory was too small for a batch, by the estimate or by the driver's error.
fn is_short(error: &train::Error) -> bool {
    matches!(error, train::Error::Budget { .. }) || error.to_string().contains(TOO_SMALL)
}

/// A partial sum as the gang takes it: on the CPU, whatever device it was computed on.
pub fn sums(partial: Partial<GradientSum>) -> Result<Partial<collective::Sums>, TrainError> {
    let Partial { first, len, values } = partial;
    let vector = values.flat.into_host().map_err(|e| TrainError::ReadDevice(e.to_string()))?;
    Ok(Partial { first, len, values: collective::Sums { vector, scalars: values.sums.to_array().to_vec() } })
}

/// The sums of the gang.
pub fn total(sums: collective::Sums) -> Result<GradientSum, Error> {
    Ok(GradientSum { sums: LossSums::from_slice(&sums.scalars)?, flat: sums.vector.into() })
}
