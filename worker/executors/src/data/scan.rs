//! `data.scan`: reads and filters one split of the input files; one task per split.
//!
//! It goes in steps. What a step found is kept as an artifact, and a record in the log lists the steps done,
//! so an attempt that is started again reads nothing twice. A small split is one step, and leaves no record.

use super::roots;
use crate::attempt::Attempt;
use crate::error::Error;
use crate::params::Params;
use crate::wire::ScanOutput;
use muster_data::decontaminate::{Decontaminate, EvalSet};
use muster_data::dedup::minhash::MinHash;
use muster_data::dedup::sketch::Sketch;
use muster_data::documents::Scan;
use muster_data::filters::{Filters, Languages};
use muster_data::normalise::Normalise;
use muster_data::read::{Fields, Format};
use muster_data::scan::{ScanConfig, Scanner, Split, Step};
use muster_protocol::ids::Digest;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The key of the records: the newest one's payload lists the steps that are done.
const STEP: &str = "step";

/// The steps that are done, as an artifact.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Steps {
    /// What was read, and how: [`Scanner::name`].
    name: String,
    /// Each step's scan, and how many parts of files it read.
    steps: Vec<(Digest, usize)>,
}

/// The body of a record.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    /// Steps done.
    steps: u64,
    /// Documents kept so far.
    documents: u64,
    /// Their bytes.
    bytes: u64,
}

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let split = Split { index: attempt.launch.rank, of: attempt.launch.world };
    let config = config(attempt, split.of)?;
    let minhash = minhash(&attempt.params)?;
    for root in &config.roots {
        attempt.say(&format!("reading split {} of {} in {}", split.index, split.of, root.display()));
    }
    let compute = attempt.compute()?;
    let mut scanner = Scanner::open(&config, split)?;
    let (mut steps, mut seq) = resume(attempt, &mut scanner)?;
    while let Some(step) = scanner.step(&compute)? {
        if scanner.goes_on_after(&step) {
            steps.steps.push((attempt.artifacts.put(&step.scan.to_bytes()?)?, step.parts));
            scanner.take(step)?;
            let kept = scanner.report().kept;
            let body = Done { steps: steps.steps.len() as u64, documents: kept.documents, bytes: kept.bytes };
            seq += 1;
            let list = attempt.put_json(&steps)?;
            attempt.record(STEP, seq, list, &body, true)?;
            attempt.say(&format!(
                "step {}: {} documents kept so far, with {} bytes",
                body.steps, body.documents, body.bytes
            ));
        } else {
            scanner.take(step)?;
        }
    }
    let found = scanner.finish()?;
    tell(attempt, &found);
    let report = &found.report;
    if found.documents.is_empty() && split.of == 1 {
        return Err(Error::Unfit(format!(
            "find text: of {} documents in {:?} none is kept",
            report.seen.documents, config.roots
        )));
    }
    let sketch = Sketch::of(&found, minhash.as_ref(), &compute)?;
    let output = ScanOutput {
        scan: attempt.artifacts.put(&found.to_bytes()?)?,
        sketch: attempt.artifacts.put(&sketch.to_bytes()?)?,
        documents: report.kept.documents,
        bytes: report.kept.bytes,
        seen: report.seen.documents,
    };
    attempt.output(&output)
}

/// Takes the steps that an earlier attempt left; with the number of the last record.
fn resume(attempt: &mut Attempt, scanner: &mut Scanner) -> Result<(Steps, u64), Error> {
    let mut steps = Steps { name: scanner.name()?, steps: Vec::new() };
    let records = attempt.progress(attempt.task(), STEP)?;
    let Some(record) = records.into_iter().find(|record| record.key == STEP) else {
        return Ok((steps, 0));
    };
    let left: Steps = match attempt.get_json(record.payload_hash) {
        Ok(left) => left,
        // What an artifact that is gone held can be found again.
        Err(error) => {
            attempt.say(&format!(
                "the steps of an earlier attempt are done again, since this one failed to {error}"
            ));
            return Ok((steps, record.seq));
        }
    };
    if left.name != steps.name {
        attempt
            .say("the files or the parameters are not those of an earlier attempt: its steps are done again");
        return Ok((steps, record.seq));
    }
    for (hash, parts) in left.steps {
        let bytes = match attempt.artifacts.get(hash) {
            Ok(bytes) => bytes,
            Err(error) => {
                attempt.say(&format!(
                    "the steps from {} on are done again, since this attempt failed to {error}",
                    steps.steps.len() + 1
                ));
                break;
            }
        };
        scanner.take(Step { scan: Scan::from_bytes(&bytes)?, parts })?;
        steps.steps.push((hash, parts));
    }
    attempt.say(&format!("{} steps were done by an earlier attempt", steps.steps.len()));
    Ok((steps, record.seq))
}

/// The account, for people.
fn tell(attempt: &Attempt, found: &Scan) {
    let report = &found.report;
    attempt.say(&format!(
        "{} documents seen, {} kept with {} bytes",
        report.seen.documents, report.kept.documents, report.kept.bytes
    ));
    for (reason, tally) in &report.dropped {
        attempt.say(&format!("{} documents with {} bytes dropped: {reason}", tally.documents, tally.bytes));
    }
    for (set, tally) in &report.contaminated {
        attempt.say(&format!("{} documents share text with the evaluation set {set}", tally.documents));
    }
    if report.lines_removed.documents > 0 {
        attempt.say(&format!(
            "{} lines with {} bytes taken out",
            report.lines_removed.documents, report.lines_removed.bytes
        ));
    }
    if report.unread.documents > 0 {
        attempt.say(&format!(
            "{} parts of files with {} bytes not read: over budget",
            report.unread.documents, report.unread.bytes
        ));
    }
    for place in &report.malformed {
        attempt.say(&format!("malformed: {place}"));
    }
}

fn config(attempt: &Attempt, splits: u32) -> Result<ScanConfig, Error> {
    let params = &attempt.params;
    let roots: Vec<PathBuf> = params.texts("roots").iter().map(|root| attempt.path(root)).collect();
    let format = Format::named(params.text("format"))?;
    let ending = match format {
        Format::Auto => "rs",
        Format::Text | Format::Lines | Format::Paragraphs => "txt",
        Format::Jsonl => "jsonl",
        Format::Parquet => "parquet",
    };
    let (extensions, normalise, languages) =
        (params.texts("extensions"), params.texts("normalise"), params.texts("languages"));
    let mut filters = Filters::preset(params.text("filters"))?;
    let normalise = match (normalise.is_empty(), &filters.code) {
        (false, _) => Normalise::named(&normalise)?,
        (true, Some(_)) => Normalise::default(),
        (true, None) => Normalise::ALL,
    };
    if !languages.is_empty() {
        filters.languages = Some(Languages::of(&languages)?);
    }
    let fields = Fields { text: params.text("text_field").to_owned(), ..Fields::default() };
    let sets = params.texts("decontaminate");
    let sets: Result<Vec<EvalSet>, Error> = sets.iter().map(|set| eval_set(attempt, set)).collect();
    Ok(ScanConfig {
        roots: if roots.is_empty() { roots::discovered() } else { roots },
        extensions: if extensions.is_empty() { vec![ending.to_owned()] } else { extensions },
        format,
        decontaminate: Decontaminate {
            sets: sets?,
            words: params.size("decontaminate_words"),
            fields: fields.clone(),
        },
        fields,
        block_bytes: params.whole("block_kib") << 10,
        step_bytes: params.whole("step_kib") << 10,
        normalise,
        filters,
        held_out_per_mille: u32::try_from(params.whole("held_out_per_mille")).unwrap_or(u32::MAX),
        bytes_max: params.whole("max_mib").saturating_mul(u64::from(splits)) << 20,
        malformed_max: params.whole("malformed_max"),
        seed: params.whole("seed"),
    })
}

fn eval_set(attempt: &Attempt, text: &str) -> Result<EvalSet, Error> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok(EvalSet { name: name.to_owned(), path: attempt.path(file) })
        }
        Some(_) | None => Err(Error::Unfit(format!(
            "use the parameters of the stage: `decontaminate` has name=file, not {text:?}"
        ))),
    }
}

fn minhash(params: &Params) -> Result<Option<MinHash>, Error> {
    let kind = match params.text("near") {
        "none" => return Ok(None),
        "words" => MinHash::default(),
        "characters" => MinHash::characters(),
        other => {
            return Err(Error::Unfit(format!(
                "use the parameters of the stage: `near` is words, characters or none, not {other:?}"
            )));
        }
    };
    let length = match params.size("near_length") {
        0 => kind.length,
        length => length,
    };
    Ok(Some(MinHash {
        length,
        bands: params.size("near_bands"),
        rows: params.size("near_rows"),
        seed: params.whole("seed"),
        ..kind
    }))
}
