//! `data.pack`: tokenizes one split into a training shard and a held-out shard; one task per split.

use crate::executors::{
    attempt::Attempt,
    error::Error,
    wire::{PackOutput, ScanOutput, ShardRef, TokenizerOutput},
};
use muster_llm::data::{dedup::Choice, documents::Scan, pack::pack, shard::Shard, tokenizer::Tokenizer};

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let stages = ["scan_stage", "tokenizer_stage"].map(|key| attempt.params.text(key).to_owned());
    let scans: Vec<ScanOutput> = attempt.outputs_of(&stages[0])?;
    let made: TokenizerOutput = attempt.output_of(&stages[1])?;
    let (rank, world) = (attempt.launch.rank as usize, attempt.launch.world as usize);
    let choice: Choice = attempt.get_json(made.choice)?;
    let (Some(mine), Some(keep), true) = (scans.get(rank), choice.keep.get(rank), scans.len() == world) else {
        return Err(Error::Unfit(format!("pack split {rank} of {world}: stage `{}` made {} splits", stages[0], scans.len())));
    };
    let scan = Scan::from_bytes(&attempt.artifacts.get(mine.scan)?)?;
    let tokenizer = Tokenizer::from_bytes(&attempt.artifacts.get(made.tokenizer)?)?;
    let packed = pack(&scan, keep, &tokenizer, &attempt.compute()?)?;
    let output = PackOutput {
        train: put(attempt, &packed.train)?,
        held_out: put(attempt, &packed.held_out)?,
        train_tokens: packed.train.index().tokens,
        held_out_tokens: packed.held_out.index().tokens,
    };
    attempt.say(&format!("split {rank}: {} tokens to train on, {} held out", output.train_tokens, output.held_out_tokens));
    attempt.output(&output)
}

fn put(attempt: &Attempt, shard: &Shard) -> Result<ShardRef, Error> {
    Ok(ShardRef { index: attempt.artifacts.put(&shard.index_bytes())?, tokens: attempt.artifacts.put(shard.packed())? })
}
