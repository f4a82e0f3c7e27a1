//! `data.manifest`: joins all shards into a data set, with an account of every document, figures, and a page
//! for people; one task.

use crate::attempt::Attempt;
use crate::error::Error;
use crate::model::shard;
use crate::wire::{DataSet, ManifestOutput, PackOutput, PartRef, ScanOutput, TokenizerOutput};
use muster_data::dedup::Choice;
use muster_data::documents::Scan;
use muster_data::manifest::{Manifest, Part};
use muster_data::report;
use muster_data::statistics::Counter;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let stages =
        ["scan_stage", "tokenizer_stage", "pack_stage"].map(|key| attempt.params.text(key).to_owned());
    let scans: Vec<ScanOutput> = attempt.outputs_of(&stages[0])?;
    let made: TokenizerOutput = attempt.output_of(&stages[1])?;
    let packs: Vec<PackOutput> = attempt.outputs_of(&stages[2])?;
    let choice: Choice = attempt.get_json(made.choice)?;
    let mut reports = Vec::new();
    for output in &scans {
        reports.push(Scan::from_bytes(&attempt.artifacts.get(output.scan)?)?.report);
    }
    let mut data = DataSet {
        manifest: Manifest::default(),
        tokenizer: made.tokenizer,
        special_tokens: made.special_tokens,
        train: Vec::new(),
        held_out: Vec::new(),
    };
    let (mut splits, mut counter) = (Vec::new(), Counter::default());
    for pack in &packs {
        let mut parts = Vec::new();
        for part in attempt.get_json::<Vec<PartRef>>(pack.parts)? {
            // One shard at a time is in memory; to open it is to check it.
            let mut index = |one| -> Result<_, Error> {
                let shard = shard(&attempt.artifacts, one)?;
                counter.add(&shard);
                Ok(shard.index().clone())
            };
            parts.push(Part {
                train: index(&part.train)?,
                held_out: index(&part.held_out)?,
                dropped: part.dropped,
            });
            data.train.push(part.train);
            data.held_out.push(part.held_out);
        }
        splits.push(parts);
    }
    data.manifest = Manifest::merge(&reports, &choice, &splits, config(&packs, &made)?)?;
    let manifest = &data.manifest;
    let statistics = counter.finish();
    attempt.say(&format!(
        "{} documents seen, {} kept with {} bytes; {} tokens to train on at {:.2} bytes each, {} held out",
        manifest.seen.documents,
        manifest.kept.documents,
        manifest.kept.bytes,
        manifest.train.tokens,
        manifest.train.bytes_per_token,
        manifest.held_out.tokens
    ));
    for (reason, tally) in &manifest.dropped {
        attempt.say(&format!("{} documents with {} bytes dropped: {reason}", tally.documents, tally.bytes));
    }
    let output = ManifestOutput {
        data: attempt.put_json(&data)?,
        manifest: attempt.put_json(manifest)?,
        statistics: attempt.put_json(&statistics)?,
        report: attempt.artifacts.put(report::markdown(manifest, &statistics).as_bytes())?,
        seen: manifest.seen.documents,
        documents: manifest.kept.documents,
        bytes: manifest.kept.bytes,
        train_tokens: manifest.train.tokens,
        held_out_tokens: manifest.held_out.tokens,
        bytes_per_token: manifest.train.bytes_per_token,
    };
    attempt.say(&format!("the report for people is {}", attempt.artifacts.path(output.report).display()));
    attempt.output(&output)
}

/// The parameters that the shards depend on, and that they don't show.
fn config(packs: &[PackOutput], made: &TokenizerOutput) -> Result<BTreeMap<String, Value>, Error> {
    let Some(first) = packs.first() else {
        return Err(Error::Unfit("join the shards: there is none".to_owned()));
    };
    if packs.iter().any(|pack| pack.config != first.config) {
        return Err(Error::Unfit("join the shards: they were packed with different parameters".to_owned()));
    }
    let values = [
        ("splits", json!(packs.len())),
        ("template", json!(first.config.template)),
        ("context", json!(first.config.context)),
        ("too_long", json!(first.config.too_long)),
        ("tokenizer_json", json!(made.tokenizer)),
        ("special_tokens_map_json", json!(made.special_tokens)),
    ];
    Ok(values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}
