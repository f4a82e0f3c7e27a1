//! `data.tokenizer`: drops exact duplicates over all splits, unless `data.choose` did more, and trains the
//! tokenizer or takes the one that is given; one task.

use super::DataError;
use crate::error::Error;
use crate::launch::compute;
use crate::model::open_tokenizer;
use crate::outputs::{ChooseOutput, ScanOutput, TokenizerOutput};
use crate::params::Params;
use muster_attempt::Attempt;
use muster_data::chat::ChatTemplate;
use muster_data::dedup::{self, Selection};
use muster_data::documents::{Body, Scan};
use muster_data::tokenizer::{SpecialTokens, Tokenizer, TokenizerConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::{fs, io};

/// Larger files are not a `tokenizer.json`.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Parameters of `data.tokenizer`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerParams {
    /// Tokens, with the 256 bytes.
    #[schemars(range(min = 300, max = 65_536))]
    pub vocab_size: usize,
    /// Most text to learn merges from, in MiB.
    #[schemars(range(min = 1, max = 4096))]
    pub sample_mib: usize,
    /// More special tokens to train with, besides the document boundary.
    pub special_tokens: Vec<String>,
    /// A Hugging Face `tokenizer.json` to take instead of training one; the files beside it name its special
    /// tokens.
    pub tokenizer: String,
    /// A stage that ran `data.tokenizer`, whose tokenizer to take instead: that of the data a base learnt
    /// from.
    pub base_tokenizer_stage: String,
    /// The stage that ran `data.scan`.
    pub scan_stage: String,
    /// The stage that ran `data.choose`; empty: equal documents are dropped here, and near duplicates stay.
    pub choose_stage: String,
    /// The seed of all random choices.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub seed: u64,
}

impl Default for TokenizerParams {
    fn default() -> TokenizerParams {
        TokenizerParams {
            vocab_size: 2048,
            sample_mib: 4,
            special_tokens: Vec::new(),
            tokenizer: String::new(),
            base_tokenizer_stage: String::new(),
            scan_stage: "scan".to_owned(),
            choose_stage: String::new(),
            seed: 1,
        }
    }
}

impl Params for TokenizerParams {}

/// Runs the stage's only task.
pub fn run(attempt: &mut Attempt, params: &TokenizerParams) -> Result<(), Error> {
    let outputs: Vec<ScanOutput> = attempt.outputs_of(&params.scan_stage)?;
    let mut scans = Vec::new();
    for output in &outputs {
        scans.push(Scan::from_bytes(&attempt.artifacts.get(output.scan)?)?);
    }
    let choice: Selection = if params.choose_stage.is_empty() {
        dedup::select(&scans.iter().map(Scan::entries).collect::<Vec<_>>())
    } else {
        let made: ChooseOutput = attempt.output_of(&params.choose_stage)?;
        attempt.get_json(made.choice)?
    };
    let kept: usize = choice.keep.iter().map(Vec::len).sum();
    let duplicates: u64 =
        choice.duplicates.iter().chain(&choice.near_duplicates).map(|tally| tally.documents).sum();
    attempt.say(&format!("{} splits: {kept} documents kept, {duplicates} duplicates dropped", scans.len()));
    let (given, of_base) = (&params.tokenizer, &params.base_tokenizer_stage);
    let tokenizer = match (given.is_empty(), of_base.is_empty()) {
        (true, true) => train(attempt, params, &scans, &choice)?,
        (false, true) => load(&attempt.path(given))?,
        (true, false) => {
            let made: TokenizerOutput = attempt.output_of(of_base)?;
            open_tokenizer(&attempt.artifacts, made.tokenizer, made.special_tokens)?
        }
        (false, false) => {
            let (tokenizer, stage) = (given.clone(), of_base.clone());
            return Err(DataError::TwoTokenizers { tokenizer, stage }.into());
        }
    };
    attempt.say(&format!(
        "a tokenizer of {} tokens; token {} ends a document",
        tokenizer.vocab_size(),
        tokenizer.eos()
    ));
    let specials = tokenizer.special_tokens();
    let output = TokenizerOutput {
        tokenizer: attempt.artifacts.put(tokenizer.to_bytes())?,
        special_tokens: if specials.is_empty() {
            None
        } else {
            Some(attempt.artifacts.put(&specials.to_bytes())?)
        },
        choice: attempt.put_json(&choice)?,
        vocab_size: tokenizer.vocab_size() as u64,
        duplicates,
    };
    Ok(attempt.output(&output)?)
}

fn train(
    attempt: &Attempt,
    params: &TokenizerParams,
    scans: &[Scan],
    choice: &Selection,
) -> Result<Tokenizer, Error> {
    let mut special_tokens = params.special_tokens.clone();
    // Conversations need their marks; a data set without any does not.
    if scans.iter().flat_map(|scan| &scan.documents).any(|document| !matches!(document.body, Body::Text(_))) {
        special_tokens.extend(ChatTemplate::Chatml.special_tokens().iter().map(|token| (*token).to_owned()));
    }
    let (vocab_size, sample_bytes) = (params.vocab_size, params.sample_mib << 20);
    let config = TokenizerConfig { vocab_size, sample_bytes, special_tokens };
    Ok(Tokenizer::train(&config, scans, choice, &compute(attempt)?)?)
}

/// Reads a Hugging Face tokenizer: the file, and those beside it.
fn load(path: &Path) -> Result<Tokenizer, Error> {
    let json = read(path)?.ok_or_else(|| DataError::NoTokenizer { path: path.to_owned() })?;
    let config = read(&path.with_file_name("tokenizer_config.json"))?;
    let map = read(&path.with_file_name("special_tokens_map.json"))?;
    Ok(Tokenizer::load(&json, SpecialTokens::from_files(config.as_deref(), map.as_deref())?)?)
}

/// A file; `None` if it does not exist.
fn read(path: &Path) -> Result<Option<Vec<u8>>, DataError> {
    let failed = |source: io::Error| DataError::Read { path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(e)),
        Ok(found) if found.len() > FILE_BYTES_MAX => {
            Err(DataError::TooLarge { path: path.to_owned(), bytes: found.len(), most: FILE_BYTES_MAX })
        }
        Ok(_) => fs::read(path).map(Some).map_err(failed),
    }
}
