//! Tokenizes the documents that are kept into a training shard and a held-out shard.

use super::Error;
use super::documents::Scan;
use super::shard::Shard;
use super::tokenizer::Tokenizer;
use crate::compute::Compute;

/// The two shards of one split; either may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// To train on.
    pub train: Shard,
    /// To measure with.
    pub held_out: Shard,
}

/// Packs the documents of `scan` at the positions `keep` (one of [`super::dedup::Choice::keep`]).
///
/// # Errors
/// When a position is not in the scan, or the tokenizer refuses a text.
pub fn pack(scan: &Scan, keep: &[u32], tokenizer: &Tokenizer, compute: &Compute) -> Result<Packed, Error> {
    let _ = (scan, keep, tokenizer, compute);
    todo!()
}
