//! What a scan found: texts with their names and hashes, and an account of what was left out.

use super::Error;
use super::filters::DropReason;
use crate::durable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const SCAN: &str = "the scan";

/// A number of documents and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Documents.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Tally {
    /// Counts a document of so many bytes.
    pub fn add(&mut self, bytes: u64) {
        self.documents += 1;
        self.bytes += bytes;
    }

    /// Counts all of another tally.
    pub fn join(&mut self, other: Self) {
        self.documents += other.documents;
        self.bytes += other.bytes;
    }
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
        let refuse = |line: usize| move |e: serde_json::Error| Error::Damaged { what: SCAN, line, reason: e.to_string() };
        let mut bytes = serde_json::to_vec(&self.report).map_err(refuse(1))?;
        bytes.push(b'\n');
        for (position, document) in self.documents.iter().enumerate() {
            serde_json::to_writer(&mut bytes, document).map_err(refuse(position + 2))?;
            bytes.push(b'\n');
        }
        Ok(bytes)
    }

    /// Reads what [`Scan::to_bytes`] wrote, and checks each text against its hash.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the line.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |line: usize, reason: String| Error::Damaged { what: SCAN, line, reason };
        let Some(body) = bytes.strip_suffix(b"\n") else {
            return Err(damaged(0, "it does not end with a line".to_owned()));
        };
        let mut lines = body.split(|byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default();
        let report: ScanReport = serde_json::from_slice(first).map_err(|e| damaged(1, e.to_string()))?;
        let mut documents = Vec::new();
        for (line, bytes) in lines.enumerate().map(|(position, bytes)| (position + 2, bytes)) {
            let document: Document = serde_json::from_slice(bytes).map_err(|e| damaged(line, e.to_string()))?;
            if document.entry.hash != durable::hash(document.text.as_bytes()) || document.entry.bytes != document.text.len() as u64 {
                return Err(damaged(line, format!("the text of {} is not what its hash names", document.entry.path)));
            }
            documents.push(document);
        }
        if report.kept.documents != documents.len() as u64 {
            return Err(damaged(1, format!("{} documents are announced and {} follow", report.kept.documents, documents.len())));
        }
        Ok(Self { report, documents })
    }

    /// The entries, for [`super::dedup::choose`].
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.documents.iter().map(|document| document.entry.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan() -> Scan {
        let documents = ["fn a() {}\n", "\"quoted\"\n\u{e9}"].map(|text| Document {
            entry: Entry {
                path: format!("root/{}.rs", text.len()),
                hash: durable::hash(text.as_bytes()),
                bytes: text.len() as u64,
                held_out: text.len() > 10,
            },
            text: text.to_owned(),
        });
        let kept = Tally { documents: 2, bytes: documents.iter().map(|d| d.entry.bytes).sum() };
        Scan { report: ScanReport { splits: 1, seen: kept, kept, ..ScanReport::default() }, documents: documents.into() }
    }

    #[test]
    fn a_scan_comes_back_and_damage_is_named_by_line() {
        let scan = scan();
        let bytes = scan.to_bytes().expect("writes");
        assert_eq!(Scan::from_bytes(&bytes).expect("reads"), scan);

        let text = String::from_utf8(bytes).expect("is text");
        let table = [
            (text.replace("fn a", "fn b"), "line 2: the text of root/10.rs"),
            (text.replace("\"path\"", "\"pat\""), "line 2: missing field"),
            (text.lines().take(2).map(|line| line.to_owned() + "\n").collect(), "line 1: 2 documents are announced and 1 follow"),
            (text[..text.len() - 1].to_owned(), "does not end"),
            (String::new(), "does not end"),
        ];
        for (damaged, expected) in table {
            let message = Scan::from_bytes(damaged.as_bytes()).expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
