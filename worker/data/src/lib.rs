//! Data preparation: from source files to packed tokens, in steps that can run on different machines.
//!
//! `scan` (one task per split: `read`, `normalise`, `filters`, `decontaminate`) → `dedup` (any number of
//! tasks, then one, over all scans) → `tokenizer` (one task) → `pack` (one task per split) → `manifest` (one
//! task). The steps share nothing but bytes: each reads what the one before wrote.
//!
//! The crate knows nothing of jobs, stages or artifacts, and must not: it imports `muster-host` only. Its
//! results depend on the input and the parameters alone, never on the number of threads, splits or tasks.
#![warn(missing_docs)]

pub mod chat;
pub mod decontaminate;
pub mod dedup;
pub mod documents;
pub mod filters;
mod gpt2_words;
pub mod manifest;
pub mod megatron;
pub mod normalise;
pub mod pack;
pub mod read;
pub mod report;
pub mod scan;
pub mod shard;
pub mod shingles;
pub mod statistics;
pub mod tokenizer;

use std::path::PathBuf;

/// Errors of data preparation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory can't be read.
    #[error("read {path}: {source}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A parameter is out of range, unknown or contradicts another.
    #[error("use the parameters: {0}")]
    Parameters(String),
    /// A file that this crate wrote is damaged or of another kind.
    #[error("read {what}, line {line}: {reason}")]
    Damaged {
        /// The kind of file, such as "the scan".
        what: &'static str,
        /// Counted from 1; 0 where the file has no lines.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A file's length or hash differs from what its index says.
    #[error(
        "trust {file}: its {bytes} bytes hash to {found}, and its index names {bytes_expected} bytes with the hash {expected}"
    )]
    Corrupt {
        /// The file's name.
        file: String,
        /// The hash in the index, in hexadecimal.
        expected: String,
        /// The hash of the file that was read.
        found: String,
        /// Its length in bytes.
        bytes: u64,
        /// The length in the index, in bytes.
        bytes_expected: u64,
    },
    /// The `tokenizers` library returned an error, or the tokenizer can't be used.
    #[error("{doing} the tokenizer: {reason}")]
    Tokenizer {
        /// What failed: "train", "read", "encode with" or "decode with".
        doing: &'static str,
        /// The reason.
        reason: String,
    },
    /// No document is left to train on.
    #[error("make a data set: {0}")]
    Empty(String),
    /// Two things that must belong together don't, such as a tokenizer and a model.
    #[error("use {what} together: {one} against {other}")]
    Mismatch {
        /// The two things.
        what: &'static str,
        /// What the first one says.
        one: String,
        /// What the second one says.
        other: String,
    },
    /// Counts of documents that must agree don't: some were lost or counted twice.
    #[error("account for every document: {0}")]
    CountMismatch(String),
}
