//! `data.dedup`: finds near duplicates over all splits; each task looks through its share of the buckets, so
//! there may be any number.

use crate::attempt::Attempt;
use crate::error::Error;
use crate::wire::{DedupOutput, ScanOutput};
use muster_data::dedup::bands::{Share, pairs};
use muster_data::dedup::sketch::Sketch;

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let stage = attempt.params.text("scan_stage").to_owned();
    let scans: Vec<ScanOutput> = attempt.outputs_of(&stage)?;
    let share = Share { index: attempt.launch.rank, of: attempt.launch.world };
    // One sketch at a time is in memory.
    let read = |split: usize| -> Result<Sketch, Error> {
        Ok(Sketch::from_bytes(&attempt.artifacts.get(scans[split].sketch)?)?)
    };
    let found = pairs(scans.len(), read, share, attempt.params.number("threshold"))?;
    let output = DedupOutput {
        pairs: attempt.put_json(&found)?,
        found: found.pairs.len() as u64,
        compared: found.compared,
    };
    attempt.say(&format!(
        "share {} of {}: {} of {} pairs that were compared are near duplicates, among {} documents",
        share.index, share.of, output.found, output.compared, found.documents
    ));
    attempt.output(&output)
}
