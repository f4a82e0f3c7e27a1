//! `train`: one rank of a gang that trains or tunes a model, in step with the others or in rounds.
//!
//! The library computes; this module divides the work, writes the log before and after, and finds where a
//! restart resumes. Only rank 0 writes records. **Invariant**: a sample is used only under a lease in the
//! log, and consumed only by a committed round, whose checkpoint is durable.

mod accumulator;
mod checkpoint_writer;
mod diloco;
mod error;
mod export;
mod factory;
mod params;
mod rank;
mod records;
mod spec;
mod stream;
mod sync;
mod training_log;

pub use error::TrainError;
pub use params::TrainParams;

use crate::error::Error;
use crate::launch::{formation, member};
use crate::outputs::TrainOutput;
use crate::wait_times::WaitTimes;
use diloco::DilocoTraining;
use factory::TrainerFactory;
use muster_attempt::Attempt;
use muster_collective::{Gang, Timeouts};
use params::Mode;
use rank::{Finished, Rank};
use records::Resume;
use spec::TrainSpec;
use std::thread;
use sync::SyncTraining;
use training_log::TrainingLog;

/// Runs one rank.
pub fn run(attempt: &mut Attempt, params: &TrainParams, waits: &WaitTimes) -> Result<(), Error> {
    let ended = train(attempt, params, waits);
    if let Err(error @ Error::Gang(_)) = &ended {
        let wait = waits.broken_gang;
        attempt.say(&format!("the gang broke: failed to {error}; waiting for {wait:?} to be stopped"));
        thread::sleep(wait);
    }
    ended
}

fn train(attempt: &mut Attempt, params: &TrainParams, waits: &WaitTimes) -> Result<(), Error> {
    muster_llm::device::keep_freed_memory();
    let (rank, world) = (attempt.launch.rank, attempt.launch.world);
    let spec = TrainSpec::of(params);
    let (key, replicas) = match spec.mode {
        Mode::Diloco => ("replicas", spec.rounds.replicas),
        Mode::Sync | Mode::Single => ("microbatches", spec.train.microbatches),
    };
    match spec.mode {
        Mode::Single if world > 1 => return Err(TrainError::SingleOfMany { world }.into()),
        Mode::Sync | Mode::Diloco if replicas < world as usize => {
            return Err(TrainError::TooFewShares { key, count: replicas, world }.into());
        }
        Mode::Single | Mode::Sync | Mode::Diloco => {}
    }
    let mut factory = TrainerFactory::find(attempt, params, &spec)?;
    let mut gang = join_gang(attempt)?;
    attempt.say(&format!("rank {rank} of {world} has joined formation {}", formation(attempt)));

    let log = if rank == 0 { Some(TrainingLog::open(attempt, &spec)?) } else { None };
    let said =
        log.as_ref().map(|log| serde_json::to_vec(log.resume()).unwrap_or_default()).unwrap_or_default();
    let resume: Resume = serde_json::from_slice(&gang.broadcast(said)?).map_err(TrainError::Resume)?;
    // Only now: a loader may be late, and the other ranks would time out waiting for this one.
    factory.open(attempt, waits.loader_outage)?;
    let trainer = factory.trainer()?;
    attempt.say(&format!(
        "{} parameters are trained, at most {} tokens a step, {} steps",
        trainer.parameter_count(),
        trainer.tokens_per_step(),
        spec.train.steps
    ));
    let state = Rank {
        attempt: &mut *attempt,
        gang: &mut gang,
        spec: &spec,
        factory: &factory,
        trainer,
        log,
        resume,
    };
    let Finished { trainer, log, checkpoint } = match spec.mode {
        Mode::Single | Mode::Sync => SyncTraining(state).run()?,
        Mode::Diloco => DilocoTraining(state).run()?,
    };
    let checkpoint = checkpoint.ok_or(TrainError::NoCheckpoint)?;
    let model = if rank == 0 { export::merged_model(attempt, &spec, &factory, &trainer)? } else { None };
    let (loss, tokens_per_s) = log.as_ref().map_or((0.0, 0.0), TrainingLog::last_metrics);
    let output = TrainOutput {
        rank,
        checkpoint,
        model,
        weights: trainer.weights_hash()?,
        step: trainer.step(),
        loss,
        parameters: trainer.parameter_count() as u64,
        tokens: trainer.step()
            * trainer.tokens_per_step()
            * if spec.mode == Mode::Diloco { replicas as u64 } else { 1 },
        tokens_per_s,
    };
    Ok(attempt.output(&output)?)
}

fn join_gang(attempt: &Attempt) -> Result<Gang, Error> {
    match &attempt.launch.gang {
        Some(gang) => {
            Ok(Gang::join(&member(attempt), &format!("{}:{}", gang.address, gang.port), Timeouts::default())?)
        }
        None if attempt.launch.world == 1 => Ok(Gang::single()),
        None => Err(TrainError::NoGang.into()),
    }
}
