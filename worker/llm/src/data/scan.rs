//! Reads the text files below some roots: one split of them, in a fixed order, within a budget.

use super::Error;
use super::documents::Scan;
use super::filters::Filters;
use crate::compute::Compute;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What to read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScanConfig {
    /// Directories to walk.
    pub roots: Vec<PathBuf>,
    /// Endings of the files wanted, without the dot.
    pub extensions: Vec<String>,
    /// What is worth keeping.
    pub filters: Filters,
    /// Of a thousand documents, how many are kept from training.
    pub held_out_per_mille: u32,
    /// Most bytes of text of all splits together; each gets an equal share.
    pub bytes_max: u64,
    /// Draws the order, and with it which documents fit the budget.
    pub seed: u64,
}

/// One part of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Counted from 0.
    pub index: u32,
    /// How many there are.
    pub of: u32,
}

/// Reads one split.
///
/// A file's split follows from the hash of its path alone, so all splits together hold each file once, and
/// adding files moves none. Symbolic links are not followed.
///
/// # Errors
/// When a root can't be walked or a file not be read, with its path.
pub fn scan(config: &ScanConfig, split: Split, compute: &Compute) -> Result<Scan, Error> {
    let _ = (config, split, compute);
    todo!()
}

impl Default for ScanConfig {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            extensions: vec!["rs".to_owned()],
            filters: Filters::default(),
            held_out_per_mille: 30,
            bytes_max: 64 * 1024 * 1024,
            seed: 0,
        }
    }
}
