//! The parameters of a scan.

use crate::decontaminate::Decontaminate;
use crate::filters::Filters;
use crate::normalise::Normalise;
use crate::read::{Fields, Format};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a scan reads and how it filters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScanConfig {
    /// Directories to walk, and files to read.
    pub roots: Vec<PathBuf>,
    /// Extensions of the files to read in directories, without the dot and without `.gz` or `.zst`.
    pub extensions: Vec<String>,
    /// The format of the files.
    pub format: Format,
    /// Which fields of a row hold the document.
    pub fields: Fields,
    /// Bytes of the blocks that files of lines are divided into; the blocks are dealt out to the splits.
    pub block_bytes: u64,
    /// Least bytes that a step reads; more where the budget is large.
    pub step_bytes: u64,
    /// How texts are normalised.
    pub normalise: Normalise,
    /// Which documents are kept.
    pub filters: Filters,
    /// Evaluation sets to keep out of the training data.
    pub decontaminate: Decontaminate,
    /// Documents held out for evaluation, per thousand; 0 to 1000.
    pub held_out_per_mille: u32,
    /// Budget of all splits together, in bytes of text; each split gets an equal share.
    pub bytes_max: u64,
    /// A split with more malformed records fails.
    pub malformed_max: u64,
    /// The seed of the order of files, which decides which documents fit the budget, and of the held-out
    /// draw.
    pub seed: u64,
}

impl Default for ScanConfig {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            extensions: vec!["rs".to_owned()],
            format: Format::Auto,
            fields: Fields::default(),
            block_bytes: 4 * 1024 * 1024,
            step_bytes: 16 * 1024 * 1024,
            normalise: Normalise::default(),
            filters: Filters::default(),
            decontaminate: Decontaminate::default(),
            held_out_per_mille: 30,
            bytes_max: 64 * 1024 * 1024,
            malformed_max: 100,
            seed: 0,
        }
    }
}

/// One of the parts that the documents are divided into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Counted from 0.
    pub index: u32,
    /// The number of splits.
    pub of: u32,
}
