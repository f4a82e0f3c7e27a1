//! What a scan found: texts with their names and hashes, and an account of what was left out.

use super::Error;
use super::filters::DropReason;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A number of documents and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Documents.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What is known of a document without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name of its root, and the path below, with `/`.
    pub path: String,
    /// Hash of the text.
    pub hash: String,
    /// Bytes of the text.
    pub bytes: u64,
    /// Whether it is kept from training, to measure with.
    pub held_out: bool,
}

/// One text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Its name and hash.
    #[serde(flatten)]
    pub entry: Entry,
    /// The text, with `\n` between lines.
    pub text: String,
}

/// An account of one split: every file that was seen is in `kept` or under one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanReport {
    /// Which split.
    pub split: u32,
    /// Of how many.
    pub splits: u32,
    /// All files of the split.
    pub seen: Tally,
    /// Those that were kept.
    pub kept: Tally,
    /// The others.
    pub dropped: BTreeMap<DropReason, Tally>,
}

/// The documents of one split, in the order that was drawn for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The account.
    pub report: ScanReport,
    /// The texts.
    pub documents: Vec<Document>,
}

impl Scan {
    /// JSON lines: the report, then a document each.
    ///
    /// # Errors
    /// When the format refuses, which it doesn't for what a scan gives.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        todo!()
    }

    /// Reads what [`Scan::to_bytes`] wrote, and checks each text against its hash.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the line.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let _ = bytes;
        todo!()
    }

    /// The entries, for [`super::dedup::choose`].
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.documents.iter().map(|document| document.entry.clone()).collect()
    }
}
