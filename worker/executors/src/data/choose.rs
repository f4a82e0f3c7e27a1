//! `data.choose`: joins equal documents and near duplicates, and keeps one of each; one task.

use crate::attempt::Attempt;
use crate::error::Error;
use crate::wire::{ChooseOutput, DedupOutput, ScanOutput};
use muster_data::dedup::bands::Pairs;
use muster_data::dedup::components;
use muster_data::dedup::sketch::Sketch;
use muster_data::documents::Tally;

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let [scan_stage, dedup_stage] =
        ["scan_stage", "dedup_stage"].map(|key| attempt.params.text(key).to_owned());
    let scans: Vec<ScanOutput> = attempt.outputs_of(&scan_stage)?;
    let mut splits = Vec::new();
    for scan in &scans {
        splits.push(Sketch::from_bytes(&attempt.artifacts.get(scan.sketch)?)?.entries);
    }
    let documents: u64 = splits.iter().map(|entries| entries.len() as u64).sum();
    let mut found = Vec::new();
    let shares: Vec<DedupOutput> =
        if dedup_stage.is_empty() { Vec::new() } else { attempt.outputs_of(&dedup_stage)? };
    for share in &shares {
        let pairs: Pairs = attempt.get_json(share.pairs)?;
        if pairs.documents != documents {
            let both = format!(
                "stage `{dedup_stage}` looked through {} documents, stage `{scan_stage}` has {documents}",
                pairs.documents
            );
            return Err(Error::Unfit(format!("choose among duplicates: {both}")));
        }
        found.extend(pairs.pairs);
    }
    let choice = components::choose(&splits, found)?;
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
    attempt.output(&output)
}
