//! What the parts of a DiLoCo training share: leases and the trainer's state.

use super::encoding;
use super::global::Global;
use crate::error::Error;
use crate::train::rank::Rank;
use muster_llm::train::TrainState;
use muster_llm::train::adamw::Moments;
use muster_protocol::ids::Digest;

pub struct DilocoTraining<'a>(pub Rank<'a>);

impl DilocoTraining<'_> {
    pub fn each(&self) -> u64 {
        self.0.spec.train.samples_per_step()
    }

    pub fn per_round(&self) -> u64 {
        self.0.spec.rounds.replicas as u64 * self.0.spec.rounds.inner_steps * self.each()
    }

    /// Leases the next round's samples, and returns once the log has the lease.
    pub fn lease(&mut self, global: &Global) -> Result<(), Error> {
        let samples = global.allocator.clone().take(self.per_round());
        let (replicas, each) = (self.0.spec.rounds.replicas, self.0.spec.rounds.inner_steps * self.each());
        match &mut self.0.log {
            Some(log) => log.lease(self.0.attempt, global.round, &samples, replicas, each),
            None => Ok(()),
        }
    }

    /// Requests the lease of the next round, for the samples that come next if all replicas are merged. This
    /// round's samples must have been taken.
    pub fn request_lease(&mut self, global: &Global, all: u64) -> Result<(), Error> {
        let samples = global.allocator.clone().take(self.per_round());
        let (replicas, each) = (self.0.spec.rounds.replicas, self.0.spec.rounds.inner_steps * self.each());
        match &mut self.0.log {
            Some(log) if global.round + 1 < all => {
                log.request_lease(self.0.attempt, global.round + 1, &samples, replicas, each)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Puts the global weights into the trainer.
    pub fn restore(&mut self, global: &Global, state: Option<Digest>) -> Result<(), Error> {
        let count = global.weights.len();
        let moments = match state {
            Some(state) => encoding::moments(&self.0.attempt.artifacts.get(state)?, count)?,
            None => Moments::zero(count),
        };
        let step = global.round * self.0.spec.rounds.inner_steps;
        let state = TrainState { step, cursor: global.allocator.cursor(), skipped: Vec::new() };
        Ok(self.0.trainer.put(state, &global.weights, moments)?)
    }
}
