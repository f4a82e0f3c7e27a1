//! From source files to packed tokens, in steps that can run on different machines.
//!
//! `scan` (one task per split: `read`, `normalise`, `filters`, `decontaminate`) → `dedup` (any number of
//! tasks, then one, over all scans) → `tokenizer` (one task) → `pack` (one task per split) → `manifest` (one
//! task). Each step's result is bytes that the next one reads; nothing is shared but those.
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

/// What can fail in preparing data.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("read {path}: {source}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The parameters contradict each other.
    #[error("use the parameters: {0}")]
    Parameters(String),
    /// A file of ours is damaged or of another kind.
    #[error("read {what}, line {line}: {reason}")]
    Damaged {
        /// Which kind of file.
        what: &'static str,
        /// Counted from 1; 0 where the file has no lines.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A file is not the one that was written.
    #[error(
        "trust {file}: its {bytes} bytes hash to {found}, and its index names {bytes_expected} bytes with the hash {expected}"
    )]
    Corrupt {
        /// The file's name.
        file: String,
        /// The hash that it should have.
        expected: String,
        /// The hash that it has.
        found: String,
        /// Its length.
        bytes: u64,
        /// The length that it should have.
        bytes_expected: u64,
    },
    /// The tokenizer library refused.
    #[error("{doing} the tokenizer: {reason}")]
    Tokenizer {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        reason: String,
    },
    /// Nothing is left to make a data set of.
    #[error("make a data set: {0}")]
    Empty(String),
    /// Two things that must belong together do not.
    #[error("use {what} together: {one} against {other}")]
    Mismatch {
        /// What.
        what: &'static str,
        /// The one.
        one: String,
        /// The other.
        other: String,
    },
    /// Counts that must agree do not.
    #[error("balance the books: {0}")]
    CountMismatch(String),
}
