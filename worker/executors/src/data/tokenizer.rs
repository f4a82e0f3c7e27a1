//! `data.tokenizer`: drops exact duplicates over all splits, unless `data.choose` did more, and trains the
//! tokenizer or takes the one that is given; one task.

use crate::attempt::Attempt;
use crate::error::Error;
use crate::model::open_tokenizer;
use crate::wire::{ChooseOutput, ScanOutput, TokenizerOutput};
use muster_data::chat::ChatTemplate;
use muster_data::dedup::{self, Choice};
use muster_data::documents::{Body, Scan};
use muster_data::tokenizer::{Specials, Tokenizer, TokenizerConfig};
use std::path::Path;
use std::{fs, io};

/// Larger files are no `tokenizer.json`.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let stage = attempt.params.text("scan_stage").to_owned();
    let outputs: Vec<ScanOutput> = attempt.outputs_of(&stage)?;
    let mut scans = Vec::new();
    for output in &outputs {
        scans.push(Scan::from_bytes(&attempt.artifacts.get(output.scan)?)?);
    }
    let chosen = attempt.params.text("choose_stage").to_owned();
    let choice: Choice = if chosen.is_empty() {
        dedup::choose(&scans.iter().map(Scan::entries).collect::<Vec<_>>())
    } else {
        let made: ChooseOutput = attempt.output_of(&chosen)?;
        attempt.get_json(made.choice)?
    };
    let kept: usize = choice.keep.iter().map(Vec::len).sum();
    let duplicates: u64 =
        choice.duplicates.iter().chain(&choice.near_duplicates).map(|tally| tally.documents).sum();
    attempt.say(&format!("{} splits: {kept} documents kept, {duplicates} duplicates dropped", scans.len()));
    let [given, of_base] =
        ["tokenizer", "base_tokenizer_stage"].map(|key| attempt.params.text(key).to_owned());
    let tokenizer = match (given.is_empty(), of_base.is_empty()) {
        (true, true) => train(attempt, &scans, &choice)?,
        (false, true) => load(&attempt.path(&given))?,
        (true, false) => {
            let made: TokenizerOutput = attempt.output_of(&of_base)?;
            open_tokenizer(&attempt.artifacts, made.tokenizer, made.special_tokens)?
        }
        (false, false) => {
            let why = format!(
                "`tokenizer` = {given} and `base_tokenizer_stage` = {of_base} are two tokenizers: give one"
            );
            return Err(Error::Unfit(format!("use the parameters of the stage: {why}")));
        }
    };
    attempt.say(&format!(
        "a tokenizer of {} tokens; token {} ends a document",
        tokenizer.vocab_size(),
        tokenizer.boundary()
    ));
    let specials = tokenizer.specials();
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
    attempt.output(&output)
}

fn train(attempt: &Attempt, scans: &[Scan], choice: &Choice) -> Result<Tokenizer, Error> {
    let mut special_tokens = attempt.params.texts("special_tokens");
    // Conversations need their marks; a data set without any does not.
    if scans.iter().flat_map(|scan| &scan.documents).any(|document| !matches!(document.body, Body::Text(_))) {
        special_tokens.extend(ChatTemplate::Chatml.special_tokens().iter().map(|token| (*token).to_owned()));
    }
    let (vocab_size, sample_bytes) =
        (attempt.params.size("vocab_size"), attempt.params.size("sample_mib") << 20);
    let config = TokenizerConfig { vocab_size, sample_bytes, special_tokens };
    Ok(Tokenizer::train(&config, scans, choice, &attempt.compute()?)?)
}

/// Reads a Hugging Face tokenizer: the file, and what lies beside it.
fn load(path: &Path) -> Result<Tokenizer, Error> {
    let json = read(path)?
        .ok_or_else(|| Error::Unfit(format!("read the tokenizer: there is no file {}", path.display())))?;
    let config = read(&path.with_file_name("tokenizer_config.json"))?;
    let map = read(&path.with_file_name("special_tokens_map.json"))?;
    Ok(Tokenizer::load(&json, Specials::from_files(config.as_deref(), map.as_deref())?)?)
}

/// A file; `None` if there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let failed = |e: io::Error| Error::Unfit(format!("read {}: {e}", path.display()));
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(e)),
        Ok(found) if found.len() > FILE_BYTES_MAX => Err(Error::Unfit(format!(
            "read {}: its {} bytes are more than {FILE_BYTES_MAX}",
            path.display(),
            found.len()
        ))),
        Ok(_) => fs::read(path).map(Some).map_err(failed),
    }
}
