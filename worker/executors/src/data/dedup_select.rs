//! `data.choose`: joins equal documents and near duplicates, and keeps one of each; one task.

use super::DataError;
use crate::error::Error;
use crate::outputs::{ChooseOutput, DedupOutput, ScanOutput};
use crate::params::Params;
use muster_attempt::Attempt;
use muster_data::dedup::bands::Pairs;
use muster_data::dedup::components;
use muster_data::dedup::sketch::Sketch;
use muster_data::documents::Tally;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `data.choose`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DedupSelectParams {
    /// The stage that ran `data.scan`.
    pub scan_stage: String,
    /// The stage that ran `data.dedup`; empty: only equal documents are dropped.
    pub dedup_stage: String,
    /// The seed of all random choices.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub seed: u64,
}

impl Default for DedupSelectParams {
    fn default() -> DedupSelectParams {
        DedupSelectParams { scan_stage: "scan".to_owned(), dedup_stage: "dedup".to_owned(), seed: 1 }
    }
}

impl Params for DedupSelectParams {}

/// Runs the stage's only task.
pub fn run(attempt: &mut Attempt, params: &DedupSelectParams) -> Result<(), Error> {
    let DedupSelectParams { scan_stage, dedup_stage, .. } = params;
    let scans: Vec<ScanOutput> = attempt.outputs_of(scan_stage)?;
    let mut splits = Vec::new();
    for scan in &scans {
        splits.push(Sketch::from_bytes(&attempt.artifacts.get(scan.sketch)?)?.entries);
    }
    let documents: u64 = splits.iter().map(|entries| entries.len() as u64).sum();
    let mut found = Vec::new();
    let shares: Vec<DedupOutput> =
        if dedup_stage.is_empty() { Vec::new() } else { attempt.outputs_of(dedup_stage)? };
    for share in &shares {
        let pairs: Pairs = attempt.get_json(share.pairs)?;
        if pairs.documents != documents {
            return Err(DataError::OtherDocuments {
                dedup_stage: dedup_stage.clone(),
                compared: pairs.documents,
                scan_stage: scan_stage.clone(),
                documents,
            }
            .into());
        }
        found.extend(pairs.pairs);
    }
    let choice = components::select(&splits, found)?;
    let sum = |tallies: &[Tally]| tallies.iter().map(|tally| tally.documents).sum();
    let output = ChooseOutput {
        choice: attempt.put_json(&choice)?,
        documents: choice.keep.iter().map(|keep| keep.len() as u64).sum(),
        duplicates: sum(&choice.duplicates),
        near_duplicates: sum(&choice.near_duplicates),
    };
    attempt.say(&format!(
        "{} of {documents} documents kept; {} are equal to one that is kept, {} nearly the same",
        output.documents, output.duplicates, output.near_duplicates
    ));
    Ok(attempt.output(&output)?)
}
