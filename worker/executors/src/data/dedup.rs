//! `data.dedup`: finds near duplicates over all splits; each task looks through its share of the buckets, so
//! there may be any number.

use crate::error::Error;
use crate::outputs::{DedupOutput, ScanOutput};
use crate::params::Params;
use muster_attempt::Attempt;
use muster_data::dedup::bands::{Share, pairs};
use muster_data::dedup::sketch::Sketch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `data.dedup`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DedupParams {
    /// The share of a signature that near duplicates have in common, at least.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub threshold: f64,
    /// The stage that ran `data.scan`.
    pub scan_stage: String,
    /// The seed of all random choices.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub seed: u64,
}

impl Default for DedupParams {
    fn default() -> DedupParams {
        DedupParams { threshold: 0.7, scan_stage: "scan".to_owned(), seed: 1 }
    }
}

impl Params for DedupParams {}

/// Runs one task of the stage.
pub fn run(attempt: &mut Attempt, params: &DedupParams) -> Result<(), Error> {
    let scans: Vec<ScanOutput> = attempt.outputs_of(&params.scan_stage)?;
    let share = Share { index: attempt.launch.rank, of: attempt.launch.world };
    // One sketch at a time is in memory.
    let read = |split: usize| -> Result<Sketch, Error> {
        Ok(Sketch::from_bytes(&attempt.artifacts.get(scans[split].sketch)?)?)
    };
    let found = pairs(scans.len(), read, share, params.threshold)?;
    let output = DedupOutput {
        pairs: attempt.put_json(&found)?,
        found: found.pairs.len() as u64,
        compared: found.compared,
    };
    attempt.say(&format!(
        "share {} of {}: {} of {} pairs that were compared are near duplicates, among {} documents",
        share.index, share.of, output.found, output.compared, found.documents
    ));
    Ok(attempt.output(&output)?)
}
