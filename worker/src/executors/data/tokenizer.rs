//! `data.tokenizer`: drops exact duplicates over all splits, and trains the tokenizer; one task.

use crate::executors::{
    attempt::Attempt,
    error::Error,
    wire::{ScanOutput, TokenizerOutput},
};
use muster_llm::data::{
    dedup,
    documents::Scan,
    tokenizer::{Tokenizer, TokenizerConfig},
};

/// Runs it.
pub fn run(attempt: &mut Attempt) -> Result<(), Error> {
    let stage = attempt.params.text("scan_stage").to_owned();
    let outputs: Vec<ScanOutput> = attempt.outputs_of(&stage)?;
    let mut scans = Vec::new();
    for output in &outputs {
        scans.push(Scan::from_bytes(&attempt.artifacts.get(output.scan)?)?);
    }
    let choice = dedup::choose(&scans.iter().map(Scan::entries).collect::<Vec<_>>());
    let kept: usize = choice.keep.iter().map(Vec::len).sum();
    let duplicates: u64 = choice.duplicates.iter().map(|tally| tally.documents).sum();
    attempt.say(&format!("{} splits: {kept} documents kept, {duplicates} duplicates dropped", scans.len()));
    let config = TokenizerConfig { vocab_size: attempt.params.size("vocab_size"), sample_bytes: attempt.params.size("sample_mib") << 20 };
    let tokenizer = Tokenizer::train(&config, &scans, &choice, &attempt.compute()?)?;
    attempt.say(&format!("a tokenizer of {} tokens", tokenizer.vocab_size()));
    let output = TokenizerOutput {
        tokenizer: attempt.artifacts.put(tokenizer.to_bytes())?,
        choice: attempt.put_json(&choice)?,
        vocab_size: tokenizer.vocab_size() as u64,
        duplicates,
    };
    attempt.output(&output)
}
