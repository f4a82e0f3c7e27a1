//! What executors pass to each other: outputs, which hold hashes and figures, and JSON artifacts.

use crate::agent::rust_line::LineVerdict;
use muster_data::documents::Tally;
use muster_data::filters::DropReason;
use muster_data::manifest::Manifest;
use muster_data::pack::PackConfig;
use muster_llm::generate::Completion;
use muster_protocol::ids::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The output of `data.scan`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ScanOutput {
    /// The artifact with the texts.
    pub scan: Digest,
    /// The artifact with the texts' signatures for deduplication.
    pub sketch: Digest,
    /// Documents kept so far.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files seen.
    pub seen: u64,
}

/// The output of `data.dedup`, for each share of the buckets.
#[derive(Debug, Serialize, Deserialize)]
pub struct DedupOutput {
    /// The artifact with the pairs.
    pub pairs: Digest,
    /// Pairs that are near duplicates.
    pub found: u64,
    /// Pairs that were compared.
    pub compared: u64,
}

/// The output of `data.choose`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChooseOutput {
    /// The artifact that says which documents are kept.
    pub choice: Digest,
    /// Documents kept.
    pub documents: u64,
    /// Documents dropped since an equal one is kept.
    pub duplicates: u64,
    /// Documents dropped since a near duplicate is kept.
    pub near_duplicates: u64,
}

/// The output of `data.tokenizer`.
#[derive(Debug, Serialize, Deserialize)]
pub struct TokenizerOutput {
    /// The artifact `tokenizer.json`.
    pub tokenizer: Digest,
    /// The artifact `special_tokens_map.json`, if the tokenizer was given with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub special_tokens: Option<Digest>,
    /// The artifact that says which documents are kept.
    pub choice: Digest,
    /// Tokens in the vocabulary.
    pub vocab_size: u64,
    /// Documents dropped as duplicates.
    pub duplicates: u64,
}

/// The artifacts of a shard.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ShardRef {
    /// Its index.
    pub index: Digest,
    /// Its tokens.
    pub tokens: DatasetRef,
    /// Its masks, if not every token is learnt from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<DatasetRef>,
}

/// The two artifacts of a dataset in Megatron-LM's layout.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct DatasetRef {
    /// The elements.
    pub bin: Digest,
    /// Where the sequences are.
    pub idx: Digest,
}

/// The result of packing a part of a split.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartRef {
    /// To train on.
    pub train: ShardRef,
    /// To measure with.
    pub held_out: ShardRef,
    /// Documents and turns that did not become tokens, by reason.
    pub dropped: BTreeMap<DropReason, Tally>,
    /// Tokens to train on.
    pub train_tokens: u64,
    /// Tokens to measure with.
    pub held_out_tokens: u64,
}

/// The output of `data.pack`.
#[derive(Debug, Serialize, Deserialize)]
pub struct PackOutput {
    /// The artifact that lists the parts, each a [`PartRef`].
    pub parts: Digest,
    /// How documents became tokens.
    pub config: PackConfig,
    /// Tokens to train on.
    pub train_tokens: u64,
    /// Tokens to measure with.
    pub held_out_tokens: u64,
}

/// The artifact that is a data set.
#[derive(Debug, Serialize, Deserialize)]
pub struct DataSet {
    /// Its account.
    pub manifest: Manifest,
    /// The artifact `tokenizer.json`.
    pub tokenizer: Digest,
    /// The artifact `special_tokens_map.json`, if the tokenizer was given with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub special_tokens: Option<Digest>,
    /// To train on, by split and part.
    pub train: Vec<ShardRef>,
    /// To measure with, by split and part.
    pub held_out: Vec<ShardRef>,
}

/// The output of `data.manifest`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ManifestOutput {
    /// The data set.
    pub data: Digest,
    /// The artifact with its account: `manifest.json`.
    pub manifest: Digest,
    /// The artifact with its figures: `statistics.json`.
    pub statistics: Digest,
    /// The artifact with both for people: `report.md`.
    pub report: Digest,
    /// Files seen.
    pub seen: u64,
    /// Documents kept.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Tokens to train on.
    pub train_tokens: u64,
    /// Tokens to measure with.
    pub held_out_tokens: u64,
    /// Bytes per token of the training text.
    pub bytes_per_token: f64,
}

/// The output of `train`, for each rank.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrainOutput {
    /// The rank.
    pub rank: u32,
    /// The last checkpoint.
    pub checkpoint: Digest,
    /// The artifact that lists the files of a whole model, with LoRA layers merged, if the checkpoint holds
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Digest>,
    /// Hash of the trained weights.
    #[serde(default)]
    pub weights: String,
    /// Steps done.
    pub step: u64,
    /// The last steps' mean loss, in nats per token.
    pub loss: f64,
    /// Parameters of the model.
    pub parameters: u64,
    /// Tokens learnt from, over all ranks.
    pub tokens: u64,
    /// Tokens per second of this attempt, over all ranks.
    pub tokens_per_s: f64,
}

/// A line to complete: an artifact, since the log holds no texts.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeldOutLine {
    /// The document it is from.
    pub path: String,
    /// Which line there, from 1.
    pub line: u64,
    /// The text before it that the model sees.
    pub context: String,
    /// The line's beginning, which is given.
    pub prefix: String,
    /// The line's rest, which only the verifier sees.
    pub rest: String,
}

/// The candidates for a line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Candidates {
    /// In the order in which they were drawn.
    pub completions: Vec<Completion>,
}

/// The output of `agent.complete`.
#[derive(Debug, Serialize, Deserialize)]
pub struct CompleteOutput {
    /// Which line.
    pub n: u64,
    /// The artifact [`Candidates`].
    pub candidates: Digest,
    /// Model calls that this attempt made.
    pub calls: u64,
    /// Model calls that an earlier attempt had made, and that were not repeated.
    pub reused: u64,
}

/// The verifier's results for a line: an artifact.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verdicts {
    /// For each candidate, against the real line.
    pub verdicts: Vec<LineVerdict>,
    /// The candidate that the verifier picks without a look at the real line.
    pub picked: usize,
    /// The candidate that is most like the real line.
    pub best: usize,
}

/// The output of `agent.verify`.
#[derive(Debug, Serialize, Deserialize)]
pub struct VerifyOutput {
    /// Which line.
    pub n: u64,
    /// The artifact [`Verdicts`].
    pub verdicts: Digest,
    /// Candidates.
    pub candidates: u64,
    /// How many of them pass the checks of form.
    pub well_formed: u64,
    /// The first candidate.
    pub one: Judged,
    /// The one that was picked by form and by agreement with the others.
    pub picked: Judged,
    /// The one most like the real line: what a perfect pick would have.
    pub best: Judged,
}

/// The verifier's result for a candidate.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Judged {
    /// Whether it lexes and its brackets balance.
    pub well_formed: bool,
    /// How like it is to the real line, from 0 to 1.
    pub agreement: f64,
}

/// The mean of several.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Mean {
    /// The part that is well formed.
    pub well_formed: f64,
    /// The mean agreement.
    pub agreement: f64,
}

/// The output of `agent.join`.
#[derive(Debug, Serialize, Deserialize)]
pub struct JoinOutput {
    /// Lines completed.
    pub lines: u64,
    /// Candidates of each.
    pub samples: u64,
    /// With one sample.
    pub one: Mean,
    /// With the best of n as picked without the real line.
    pub best_of_n: Mean,
    /// With the best of n as a perfect pick would have it.
    pub perfect_pick: Mean,
    /// How the verifier picks.
    pub verifier: String,
}
