//! `data.manifest`: joins all shards into a data set, with an account of every file; one task.

use crate::executors::{
    attempt::Attempt,
    error::Error,
    model::shards,
    wire::{DataSet, ManifestOutput, PackOutput, ScanOutput, TokenizerOutput},
};
use muster_llm::data::{dedup::Choice, documents::Scan, manifest::Manifest, shard::ShardIndex};

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let stages = ["scan_stage", "tokenizer_stage", "pack_stage"].map(|key| attempt.params.text(key).to_owned());
    let scans: Vec<ScanOutput> = attempt.outputs_of(&stages[0])?;
    let made: TokenizerOutput = attempt.output_of(&stages[1])?;
    let packs: Vec<PackOutput> = attempt.outputs_of(&stages[2])?;
    let choice: Choice = attempt.get_json(made.choice)?;
    let mut reports = Vec::new();
    for output in &scans {
        reports.push(Scan::from_bytes(&attempt.artifacts.get(output.scan)?)?.report);
    }
    let train: Vec<_> = packs.iter().map(|pack| pack.train).collect();
    let held_out: Vec<_> = packs.iter().map(|pack| pack.held_out).collect();
    let indices = |refs: &[_]| -> Result<Vec<ShardIndex>, Error> {
        Ok(shards(&attempt.artifacts, refs)?.iter().map(|shard| shard.index().clone()).collect())
    };
    let manifest = Manifest::merge(&reports, &choice, &indices(&train)?, &indices(&held_out)?)?;
    attempt.say(&format!(
        "{} files seen, {} kept with {} bytes; {} tokens to train on at {:.2} bytes each, {} held out",
        manifest.seen.documents,
        manifest.kept.documents,
        manifest.kept.bytes,
        manifest.train.tokens,
        manifest.train.bytes_per_token,
        manifest.held_out.tokens
    ));
    let data = DataSet { manifest, tokenizer: made.tokenizer, train, held_out };
    let output = ManifestOutput {
        data: attempt.put_json(&data)?,
        seen: data.manifest.seen.documents,
        documents: data.manifest.kept.documents,
        bytes: data.manifest.kept.bytes,
        train_tokens: data.manifest.train.tokens,
        held_out_tokens: data.manifest.held_out.tokens,
        bytes_per_token: data.manifest.train.bytes_per_token,
    };
    attempt.output(&output)
}
