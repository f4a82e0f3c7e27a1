//! The parameters of a scan.

use crate::decontaminate::Decontaminate;
use crate::filters::Filters;
use crate::normalise::Normalise;
use crate::read::{Fields, Format};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What to read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScanConfig {
    /// Directories to walk, and files to read.
    pub roots: Vec<PathBuf>,
    /// Endings of the files wanted in the directories, without the dot, and without that of a compression.
    pub extensions: Vec<String>,
    /// What the files hold.
    pub format: Format,
    /// Which fields of a row hold the document.
    pub fields: Fields,
    /// A file of lines is cut into blocks of so many bytes, which are dealt out to the splits.
    pub block_bytes: u64,
    /// A step reads so many bytes, or more where the budget is large.
    pub step_bytes: u64,
    /// What is made alike.
    pub normalise: Normalise,
    /// What is worth keeping.
    pub filters: Filters,
    /// What not to train on.
    pub decontaminate: Decontaminate,
    /// Of a thousand documents, how many are kept from training.
    pub held_out_per_mille: u32,
    /// Most bytes of text of all splits together; each gets an equal share.
    pub bytes_max: u64,
    /// Most malformed records of a split: with more, the file is not what it should be.
    pub malformed_max: u64,
    /// Draws the order, and with it which documents fit the budget.
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

/// One share of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Counted from 0.
    pub index: u32,
    /// How many there are.
    pub of: u32,
}
