//! `data.manifest`: joins all shards into a data set, with an account of every document, figures, and a page
//! for people; one task.

use super::DataError;
use crate::error::Error;
use crate::model::shard;
use crate::outputs::{DataSet, ManifestOutput, PackOutput, PartRef, ScanOutput, TokenizerOutput};
use crate::params::Params;
use muster_attempt::Attempt;
use muster_data::dedup::Selection;
use muster_data::documents::Scan;
use muster_data::manifest::{Manifest, PackedPart};
use muster_data::report;
use muster_data::statistics::Counter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Parameters of `data.manifest`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ManifestParams {
    /// The stage that ran `data.scan`.
    pub scan_stage: String,
    /// The stage that ran `data.tokenizer`.
    pub tokenizer_stage: String,
    /// The stage that ran `data.pack`.
    pub pack_stage: String,
    /// The seed of all random choices.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub seed: u64,
}

impl Default for ManifestParams {
    fn default() -> ManifestParams {
        ManifestParams {
            scan_stage: "scan".to_owned(),
            tokenizer_stage: "tokenizer".to_owned(),
            pack_stage: "pack".to_owned(),
            seed: 1,
        }
    }
}

impl Params for ManifestParams {}

/// Runs the stage's only task.
pub fn run(attempt: &mut Attempt, params: &ManifestParams) -> Result<(), Error> {
    let scans: Vec<ScanOutput> = attempt.outputs_of(&params.scan_stage)?;
    let made: TokenizerOutput = attempt.output_of(&params.tokenizer_stage)?;
    let packs: Vec<PackOutput> = attempt.outputs_of(&params.pack_stage)?;
    let choice: Selection = attempt.get_json(made.choice)?;
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
            parts.push(PackedPart {
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
    Ok(attempt.output(&output)?)
}

/// The parameters that the shards depend on, and that they don't show.
fn config(packs: &[PackOutput], made: &TokenizerOutput) -> Result<BTreeMap<String, Value>, DataError> {
    let Some(first) = packs.first() else {
        return Err(DataError::NoShards);
    };
    if packs.iter().any(|pack| pack.config != first.config) {
        return Err(DataError::MixedShards);
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
