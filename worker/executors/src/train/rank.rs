//! A rank of a training, and its agreements with the other ranks.

use super::accumulator::Accumulator;
use super::error::TrainError;
use super::factory::TrainerFactory;
use super::records::Resume;
use super::spec::TrainSpec;
use super::training_log::TrainingLog;
use crate::error::Error;
use muster_attempt::Attempt;
use muster_collective::Gang;
use muster_llm::parallel::shares;
use muster_llm::train::{Trainer, order};
use muster_protocol::ids::Digest;
use std::ops::Range;
use std::time::Instant;

/// If the fastest rank exceeds the slowest by less than this, shares are equal: the difference is noise.
const UNEQUAL_FROM: f64 = 1.5;
/// Measurements of a rank's speed; the fastest counts.
const PROBES: usize = 3;

/// A rank: what the modes of training have in common.
pub struct Rank<'a> {
    pub attempt: &'a mut Attempt,
    pub gang: &'a mut Gang,
    pub spec: &'a TrainSpec,
    pub factory: &'a TrainerFactory,
    pub trainer: Trainer,
    /// Only rank 0 has it.
    pub log: Option<TrainingLog>,
    pub resume: Resume,
}

/// A training that is done.
pub struct Finished {
    pub trainer: Trainer,
    /// Only rank 0 has it.
    pub log: Option<TrainingLog>,
    /// The last checkpoint.
    pub checkpoint: Option<Digest>,
}

impl Rank<'_> {
    /// The checkpoint of the last committed round, as rank 0 knows it and all ranks then do.
    pub fn last_checkpoint(&mut self) -> Result<Option<Digest>, Error> {
        let round = self.log.as_ref().and_then(|log| log.resume().round.as_ref());
        let said = self
            .gang
            .broadcast(round.map(|round| round.checkpoint.to_string()).unwrap_or_default().into_bytes())?;
        if said.is_empty() {
            return Ok(None);
        }
        let hash = std::str::from_utf8(&said).ok().and_then(|text| text.parse().ok());
        Ok(Some(hash.ok_or(TrainError::CheckpointName)?))
    }

    /// Announces what this rank will take of some samples, in order, so that it is fetched ahead:
    /// microbatches, by their place among all of them.
    pub fn prefetch(&self, samples: &[Range<u64>], microbatches: impl Iterator<Item = u64> + Send + 'static) {
        let (samples, each) = (samples.to_vec(), self.spec.train.sequences as u64);
        self.trainer.prefetch(microbatches.map(move |place| order::part(&samples, place * each, each)));
    }

    /// How many times in 1,000 s these samples could be learnt from, by some tries that change nothing; 0 if
    /// speeds don't count.
    pub fn measure_speed(&self, samples: &[Range<u64>]) -> Result<u64, Error> {
        if !self.spec.measured || self.attempt.launch.world == 1 {
            return Ok(0);
        }
        // The best counts, since a machine may be busy with something else.
        let mut best = f64::MAX;
        for _ in 0..PROBES {
            let began = Instant::now();
            // It changes nothing, so it may be done in parts in any case.
            Accumulator::new(&self.trainer, true).of(samples)?;
            best = best.min(began.elapsed().as_secs_f64());
        }
        Ok((1e3 / best.max(1e-6)) as u64)
    }

    /// Which microbatches or replicas each rank holds, by the speeds of all; speeds that hardly differ count
    /// as equal. All ranks compute the same shares.
    pub fn assign_shares(&mut self, replicas: usize, speed: u64) -> Result<Vec<Range<usize>>, Error> {
        let said = self.gang.all_gather(speed.to_le_bytes().to_vec())?;
        let read = |bytes: Vec<u8>| {
            let wrong = |bytes: Vec<u8>| TrainError::Speed { bytes: bytes.len() };
            bytes.try_into().map(u64::from_le_bytes).map_err(wrong)
        };
        let speeds = said.into_iter().map(read).collect::<Result<Vec<u64>, TrainError>>()?;
        let (least, most) =
            (speeds.iter().min().copied().unwrap_or(0), speeds.iter().max().copied().unwrap_or(0));
        let equal = (most as f64) < least as f64 * UNEQUAL_FROM;
        let ranges = shares(replicas, &if equal { vec![0; speeds.len()] } else { speeds.clone() })?;
        if let Some(log) = &mut self.log
            && speeds.len() > 1
        {
            log.record_shares(
                self.attempt,
                &speeds,
                &ranges.iter().map(ExactSizeIterator::len).collect::<Vec<usize>>(),
            )?;
        }
        Ok(ranges)
    }

    /// The part of `ranges` that this rank holds.
    pub fn share(&self, ranges: &[Range<usize>]) -> Result<Range<usize>, TrainError> {
        let rank = self.attempt.launch.rank as usize;
        ranges.get(rank).cloned().ok_or(TrainError::NoShare { rank })
    }
}
