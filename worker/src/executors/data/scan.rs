//! `data.scan`: reads and filters one split of the input files; one task per split.

use super::roots;
use crate::executors::{attempt::Attempt, error::Error, wire::ScanOutput};
use muster_llm::data::scan::{ScanConfig, Split, scan};
use std::path::PathBuf;

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let params = &attempt.params;
    let split = Split { index: attempt.launch.rank, of: attempt.launch.world };
    let given: Vec<PathBuf> = params.texts("roots").into_iter().map(PathBuf::from).collect();
    let extensions = params.texts("extensions");
    let defaults = ScanConfig::default();
    let config = ScanConfig {
        roots: if given.is_empty() { roots::discovered() } else { given },
        extensions: if extensions.is_empty() { defaults.extensions } else { extensions },
        filters: defaults.filters,
        held_out_per_mille: u32::try_from(params.whole("held_out_per_mille")).unwrap_or(u32::MAX),
        bytes_max: params.whole("max_mib").saturating_mul(u64::from(split.of)) << 20,
        seed: params.whole("seed"),
    };
    for root in &config.roots {
        attempt.say(&format!("reading split {} of {} below {}", split.index, split.of, root.display()));
    }
    let found = scan(&config, split, &attempt.compute()?)?;
    let report = &found.report;
    attempt.say(&format!("{} files seen, {} kept with {} bytes", report.seen.documents, report.kept.documents, report.kept.bytes));
    for (reason, tally) in &report.dropped {
        attempt.say(&format!("{} files with {} bytes dropped: {reason:?}", tally.documents, tally.bytes));
    }
    if found.documents.is_empty() && split.of == 1 {
        return Err(Error::Unfit(format!("find text: no file below {:?} passes the filters", config.roots)));
    }
    let hash = attempt.artifacts.put(&found.to_bytes()?)?;
    let output = ScanOutput { scan: hash, documents: report.kept.documents, bytes: report.kept.bytes, seen: report.seen.documents };
    attempt.output(&output)
}
