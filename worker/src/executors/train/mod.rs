//! `train`: one rank of a gang that trains a model from scratch, in step with the others.
//!
//! All ranks hold the same weights; each computes the gradients of its share of a step's microbatches, the gang sums them, and each
//! makes the same update, so that the result does not depend on how many ranks there are. Rank 0 writes checkpoints to the artifacts and
//! their hashes into the log, and after a restart decides for all where to go on.

mod journal;

use super::{
    attempt::Attempt,
    error::Error,
    model::{checkpoint_file, corpus, data_set},
    wire::{DataSet, TrainOutput},
};
use crate::collective::{Gang, Sums, Timing};
use journal::{Journal, Resume};
use muster_llm::{
    model::{Decoder, ModelConfig, weights::initial},
    parallel::shares,
    train::{self, Gradients, Manifest, TrainConfig, Trainer, Windows},
};
use muster_protocol::limits::WORKER_LEASE_MS;
use std::{ops::Range, sync::Arc, thread, time::Duration};

/// How long a rank of a broken gang waits to be stopped, before it fails: if another's worker was lost, that is known after a lease, and
/// costs no retry.
const LINGER: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_millis(WORKER_LEASE_MS + 1_000) };

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let ended = train(attempt);
    if let Err(error @ Error::Gang(_)) = &ended {
        attempt.say(&format!("the gang broke: failed to {error}; waiting for {LINGER:?} to be stopped"));
        thread::sleep(LINGER);
    }
    ended
}

fn train(attempt: &mut Attempt) -> Result<(), Error> {
    let (rank, world) = (attempt.launch.rank, attempt.launch.world);
    let data = data_set(attempt)?;
    let config = config(attempt);
    let share = share(&config, rank, world)?;
    let mut gang = form(attempt)?;
    attempt.say(&format!("rank {rank} of {world} has joined formation {}", attempt.member().formation));

    let mut journal = if rank == 0 { Some(Journal::open(attempt)?) } else { None };
    let resume = match &journal {
        Some(journal) => journal.resume().to_bytes(),
        None => Vec::new(),
    };
    let resume = Resume::from_bytes(&gang.from_rank_0(resume)?)?;
    let tokens = Arc::new(corpus(&attempt.artifacts, &data.train)?);
    let windows = Arc::new(Windows::new(tokens, attempt.params.size("context"), false)?);
    let compute = attempt.compute()?;
    let model = model(attempt, &data);
    let model = Decoder::trained(model.clone(), &initial(&model, config.seed))?;
    let mut trainer = Trainer::new(config, model, windows, compute)?;
    if let Some(hash) = resume.checkpoint {
        let manifest = Manifest::from_bytes(&attempt.artifacts.get(hash)?)?;
        trainer.restore(&manifest, &|file| checkpoint_file(&attempt.artifacts, file))?;
    }
    attempt.say(&format!(
        "{} parameters, {} tokens a step, from step {} to {}",
        trainer.parameter_count(),
        trainer.tokens_per_step(),
        trainer.step(),
        trainer.config().steps
    ));
    // Ranks that would go on from different weights would ruin them in silence.
    gang.agree(trainer.weights_hash()?.as_bytes())?;
    if let Some(journal) = &mut journal {
        journal.started(attempt, &trainer)?;
    }

    let every = attempt.params.whole("checkpoint_every");
    let microbatches = trainer.config().microbatches;
    while trainer.step() < trainer.config().steps {
        let step = trainer.step();
        let partials = trainer.loss_and_gradients(step, share.clone())?;
        let sums = |g: Gradients| Sums { vector: g.flat, scalars: g.sums.to_array().to_vec() };
        let sum = gang.all_reduce(microbatches, partials.into_iter().map(|partial| partial.map(sums)).collect())?;
        let report = trainer.apply(step, Gradients { sums: train::Sums::from_slice(&sum.scalars)?, flat: sum.vector })?;
        if let Some(journal) = &mut journal {
            journal.stepped(attempt, &trainer, &report)?;
        }
        let done = trainer.step();
        if done.is_multiple_of(every) || done == trainer.config().steps {
            gang.agree(trainer.weights_hash()?.as_bytes())?;
            if let Some(journal) = &mut journal {
                journal.checkpoint(attempt, &trainer)?;
            }
        }
    }
    let last = match journal {
        Some(journal) => gang.from_rank_0(journal.last(&trainer).to_bytes())?,
        None => gang.from_rank_0(Vec::new())?,
    };
    let last = Resume::from_bytes(&last)?;
    let checkpoint = last.checkpoint.ok_or_else(|| Error::Unfit("end the training: it has left no checkpoint".to_owned()))?;
    let output = TrainOutput {
        rank,
        checkpoint,
        step: trainer.step(),
        loss: last.loss,
        parameters: trainer.parameter_count() as u64,
        tokens: trainer.step() * trainer.tokens_per_step(),
        tokens_per_s: last.tokens_per_s,
    };
    attempt.output(&output)
}

fn form(attempt: &Attempt) -> Result<Gang, Error> {
    match &attempt.launch.gang {
        Some(gang) => Ok(Gang::form(&attempt.member(), &format!("{}:{}", gang.address, gang.port), Timing::default())?),
        None if attempt.launch.world == 1 => Ok(Gang::alone()),
        None => Err(Error::Unfit("find the other ranks: a stage of more than one trainer must say `gang = true`".to_owned())),
    }
}

fn share(config: &TrainConfig, rank: u32, world: u32) -> Result<Range<usize>, Error> {
    let ranges = shares(config.microbatches, &vec![1; world as usize]).ok();
    let range = ranges.and_then(|ranges| ranges.get(rank as usize).cloned());
    range.ok_or_else(|| Error::Unfit(format!("share `microbatches` = {} among {world} ranks: each needs one", config.microbatches)))
}

fn model(attempt: &Attempt, data: &DataSet) -> ModelConfig {
    let params = &attempt.params;
    ModelConfig {
        vocab_size: data.manifest.vocab_size as usize,
        hidden_size: params.size("hidden_size"),
        intermediate_size: params.size("intermediate_size"),
        num_hidden_layers: params.size("layers"),
        num_attention_heads: params.size("heads"),
        num_key_value_heads: params.size("kv_heads"),
        max_position_embeddings: params.size("context"),
        ..ModelConfig::default()
    }
}

fn config(attempt: &Attempt) -> TrainConfig {
    let params = &attempt.params;
    TrainConfig {
        seed: params.whole("seed"),
        steps: params.whole("steps"),
        microbatches: params.size("microbatches"),
        sequences: params.size("sequences"),
        learning_rate: params.number("learning_rate"),
        warmup_steps: params.whole("warmup_steps"),
        weight_decay: params.number("weight_decay"),
        clip_norm: params.number("clip_norm"),
        ..TrainConfig::default()
    }
}
