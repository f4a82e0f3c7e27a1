//! The account of a whole data set: what went in, what came out, and why the difference.

use super::Error;
use super::dedup::Choice;
use super::documents::{ScanReport, Tally};
use super::filters::DropReason;
use super::shard::ShardIndex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One shard's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardSummary {
    /// Hash of the packed tokens.
    pub tokens_hash: String,
    /// Hash of the index.
    pub index_hash: String,
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens, boundaries included.
    pub tokens: u64,
}

/// The figures of one side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens, boundaries included.
    pub tokens: u64,
    /// Bytes per token.
    pub bytes_per_token: f64,
    /// The shards, by split.
    pub shards: Vec<ShardSummary>,
}

/// A data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Every file that was seen.
    pub seen: Tally,
    /// What became tokens.
    pub kept: Tally,
    /// What did not, by reason.
    pub dropped: BTreeMap<DropReason, Tally>,
    /// Hash of the tokenizer.
    pub tokenizer: String,
    /// Number of its tokens.
    pub vocab_size: u32,
    /// To train on.
    pub train: Side,
    /// To measure with.
    pub held_out: Side,
}

impl Manifest {
    /// Joins the reports, the choice and the shards' indices (all by split), and checks that every document seen
    /// is either kept or dropped for one reason.
    ///
    /// # Errors
    /// [`Error::Books`] naming the numbers that differ.
    pub fn merge(reports: &[ScanReport], choice: &Choice, train: &[ShardIndex], held_out: &[ShardIndex]) -> Result<Self, Error> {
        let _ = (reports, choice, train, held_out);
        todo!()
    }
}
