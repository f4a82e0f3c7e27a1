//! `data.scan`: reads and filters one split of the input files; one task per split.
//!
//! It runs in steps. Each step's result is an artifact, and a record in the log lists the finished steps, so
//! a restarted attempt reads nothing twice. A small split is one step, and leaves no record.

use super::{DataError, roots};
use crate::error::Error;
use crate::launch::compute;
use crate::outputs::ScanOutput;
use crate::params::Params;
use muster_attempt::Attempt;
use muster_data::decontaminate::{Decontaminate, EvalSet};
use muster_data::dedup::minhash::MinHashConfig;
use muster_data::dedup::sketch::Sketch;
use muster_data::documents::Scan;
use muster_data::filters::{Filters, Languages};
use muster_data::normalise::Normalise;
use muster_data::read::{Fields, Format};
use muster_data::scan::{ScanConfig, Scanner, Split, Step};
use muster_protocol::ids::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The key of the records: the newest one's payload lists the steps that are done.
const STEP: &str = "step";

/// The steps that are done, as an artifact.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Steps {
    /// What was read, and how: [`Scanner::fingerprint`].
    name: String,
    /// Each step's scan, and how many parts of files it read.
    steps: Vec<(Digest, usize)>,
}

/// The body of a record.
#[derive(Debug, Serialize, Deserialize)]
struct ScanProgress {
    /// Steps done.
    steps: u64,
    /// Documents kept so far.
    documents: u64,
    /// Their bytes.
    bytes: u64,
}

/// Parameters of `data.scan`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScanParams {
    /// Directories and files to read, from `MUSTER_JOB_DIR` unless absolute; empty: the sources that cargo
    /// fetched.
    pub roots: Vec<String>,
    /// Endings of the files to read, without `.gz` and `.zst`; empty: that of the format, or `rs`.
    pub extensions: Vec<String>,
    /// `auto` (by the ending), `text` (a file is a document), `lines`, `paragraphs`, `jsonl` or `parquet`.
    pub format: String,
    /// The field of a row that holds its text; without it `messages`, `prompt` and `completion`, or `prompt`,
    /// `chosen` and `rejected`.
    pub text_field: String,
    /// `line_endings`, `control_characters`, `nfc`, `trailing_blanks`, or `none` or `all`; empty:
    /// `line_endings` for code, else all.
    pub normalise: Vec<String>,
    /// `none`, `code` (source code), or `web` (Gopher's and C4's rules).
    pub filters: String,
    /// Languages to keep, as `eng` or `deu`; empty: all.
    pub languages: Vec<String>,
    /// Evaluation sets not to train on, each as `name=file`.
    pub decontaminate: Vec<String>,
    /// Words in a row that a document may not share with an evaluation set.
    #[schemars(range(min = 8, max = 1000))]
    pub decontaminate_words: usize,
    /// The units of the runs that near duplicates share: `words` or `characters`; `none`: near duplicates are
    /// kept.
    pub near: String,
    /// Words or characters of a run; 0: 5 words, 25 characters.
    #[schemars(range(max = 1000))]
    pub near_length: usize,
    /// Bands of a signature.
    #[schemars(range(min = 1, max = 256))]
    pub near_bands: usize,
    /// Rows of a band.
    #[schemars(range(min = 1, max = 16))]
    pub near_rows: usize,
    /// The most text of each split, in MiB.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_mib: u64,
    /// A file of lines is dealt out to the splits in blocks of this size, in KiB.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub block_kib: u64,
    /// Files read before progress is recorded, in KiB; more where `max_mib` is large.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub step_kib: u64,
    /// Malformed lines or rows of a split, at most.
    #[schemars(range(max = 1_099_511_627_776_u64))]
    pub malformed_max: u64,
    /// Documents of a thousand that are held out from training.
    #[schemars(range(min = 1, max = 500))]
    pub held_out_per_mille: u32,
    /// The seed of all random choices.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub seed: u64,
}

impl Default for ScanParams {
    fn default() -> ScanParams {
        ScanParams {
            roots: Vec::new(),
            extensions: Vec::new(),
            format: "auto".to_owned(),
            text_field: "text".to_owned(),
            normalise: Vec::new(),
            filters: "code".to_owned(),
            languages: Vec::new(),
            decontaminate: Vec::new(),
            decontaminate_words: 13,
            near: "words".to_owned(),
            near_length: 0,
            near_bands: 14,
            near_rows: 8,
            max_mib: 24,
            block_kib: 4096,
            step_kib: 16_384,
            malformed_max: 100,
            held_out_per_mille: 30,
            seed: 1,
        }
    }
}

impl Params for ScanParams {}

/// Runs one task of the stage.
pub fn run(attempt: &mut Attempt, params: &ScanParams) -> Result<(), Error> {
    let split = Split { index: attempt.launch.rank, of: attempt.launch.world };
    let config = config(attempt, params, split.of)?;
    let minhash = minhash(params)?;
    for root in &config.roots {
        attempt.say(&format!("reading split {} of {} in {}", split.index, split.of, root.display()));
    }
    let compute = compute(attempt)?;
    let mut scanner = Scanner::open(&config, split)?;
    let (mut steps, mut seq) = resume(attempt, &mut scanner)?;
    while let Some(step) = scanner.step(&compute)? {
        if scanner.has_more_after(&step) {
            steps.steps.push((attempt.artifacts.put(&step.scan.to_bytes()?)?, step.parts));
            scanner.add_step(step)?;
            let kept = scanner.report().kept;
            let body = ScanProgress {
                steps: steps.steps.len() as u64,
                documents: kept.documents,
                bytes: kept.bytes,
            };
            seq += 1;
            let list = attempt.put_json(&steps)?;
            attempt.record(STEP, seq, list, &body, true)?;
            attempt.say(&format!(
                "step {}: {} documents kept so far, with {} bytes",
                body.steps, body.documents, body.bytes
            ));
        } else {
            scanner.add_step(step)?;
        }
    }
    let found = scanner.finish()?;
    tell(attempt, &found);
    let report = &found.report;
    if found.documents.is_empty() && split.of == 1 {
        return Err(
            DataError::NothingKept { seen: report.seen.documents, roots: config.roots.clone() }.into()
        );
    }
    let sketch = Sketch::of(&found, minhash.as_ref(), &compute)?;
    let output = ScanOutput {
        scan: attempt.artifacts.put(&found.to_bytes()?)?,
        sketch: attempt.artifacts.put(&sketch.to_bytes()?)?,
        documents: report.kept.documents,
        bytes: report.kept.bytes,
        seen: report.seen.documents,
    };
    Ok(attempt.output(&output)?)
}

/// Takes the steps that an earlier attempt left; with the number of the last record.
fn resume(attempt: &mut Attempt, scanner: &mut Scanner) -> Result<(Steps, u64), Error> {
    let mut steps = Steps { name: scanner.fingerprint()?, steps: Vec::new() };
    let records = attempt.progress(attempt.task(), STEP)?;
    let Some(record) = records.into_iter().find(|record| record.key == STEP) else {
        return Ok((steps, 0));
    };
    let left: Steps = match attempt.get_json(record.payload_hash) {
        Ok(left) => left,
        // The contents of a missing artifact can be computed again.
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
        scanner.add_step(Step { scan: Scan::from_bytes(&bytes)?, parts })?;
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

fn config(attempt: &Attempt, params: &ScanParams, splits: u32) -> Result<ScanConfig, Error> {
    let roots: Vec<PathBuf> = params.roots.iter().map(|root| attempt.path(root)).collect();
    let format = Format::named(&params.format)?;
    let ending = match format {
        Format::Auto => "rs",
        Format::Text | Format::Lines | Format::Paragraphs => "txt",
        Format::Jsonl => "jsonl",
        Format::Parquet => "parquet",
    };
    let mut filters = Filters::preset(&params.filters)?;
    let normalise = match (params.normalise.is_empty(), &filters.code) {
        (false, _) => Normalise::named(&params.normalise)?,
        (true, Some(_)) => Normalise::default(),
        (true, None) => Normalise::ALL,
    };
    if !params.languages.is_empty() {
        filters.languages = Some(Languages::of(&params.languages)?);
    }
    let fields = Fields { text: params.text_field.clone(), ..Fields::default() };
    let sets: Result<Vec<EvalSet>, DataError> =
        params.decontaminate.iter().map(|set| eval_set(attempt, set)).collect();
    Ok(ScanConfig {
        roots: if roots.is_empty() { roots::discovered() } else { roots },
        extensions: if params.extensions.is_empty() {
            vec![ending.to_owned()]
        } else {
            params.extensions.clone()
        },
        format,
        decontaminate: Decontaminate {
            sets: sets?,
            words: params.decontaminate_words,
            fields: fields.clone(),
        },
        fields,
        block_bytes: params.block_kib << 10,
        step_bytes: params.step_kib << 10,
        normalise,
        filters,
        held_out_per_mille: params.held_out_per_mille,
        bytes_max: params.max_mib.saturating_mul(u64::from(splits)) << 20,
        malformed_max: params.malformed_max,
        seed: params.seed,
    })
}

fn eval_set(attempt: &Attempt, text: &str) -> Result<EvalSet, DataError> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok(EvalSet { name: name.to_owned(), path: attempt.path(file) })
        }
        Some(_) | None => Err(DataError::EvalSet { found: text.to_owned() }),
    }
}

fn minhash(params: &ScanParams) -> Result<Option<MinHashConfig>, DataError> {
    let kind = match params.near.as_str() {
        "none" => return Ok(None),
        "words" => MinHashConfig::default(),
        "characters" => MinHashConfig::characters(),
        other => return Err(DataError::Near { found: other.to_owned() }),
    };
    let length = match params.near_length {
        0 => kind.length,
        length => length,
    };
    Ok(Some(MinHashConfig {
        length,
        bands: params.near_bands,
        rows: params.near_rows,
        seed: params.seed,
        ..kind
    }))
}
