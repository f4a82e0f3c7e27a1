//! What a scan found: texts with their names and hashes, and an account of what was left out.

use super::Error;
use super::filters::DropReason;
use muster_host::durable;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

const SCAN: &str = "the scan";
/// Malformed places that a report names, at most.
pub const MALFORMED_NAMED: usize = 10;

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

/// Where in its file a document stands. Places of one file are in the order of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// It is the whole file.
    #[default]
    Whole,
    /// Its bytes in the file, or in what a compressed file unpacks to.
    Bytes {
        /// The first.
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// A row of a table, counted from 0 over the whole file.
    Row(u64),
}

/// What is known of a document without its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name of its root, and the path below, with `/`.
    pub path: String,
    /// Where in that file.
    #[serde(default)]
    pub place: Place,
    /// [`Body::hash`] of its content.
    pub hash: String,
    /// [`Body::bytes`] of its content.
    pub bytes: u64,
    /// Whether it is kept from training, to measure with.
    pub held_out: bool,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Who speaks: `system`, `user`, `assistant`, `tool`, or what the data say.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// What a document holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Running text, with `\n` between lines.
    Text(String),
    /// A conversation, at least one turn. A `prompt`/`completion` row is one turn of `user` and one of
    /// `assistant`.
    Chat(Vec<Turn>),
    /// Two answers to one conversation, of which the first is preferred. A prompt that is one string is one
    /// turn of `user`.
    Preference {
        /// The conversation so far.
        prompt: Vec<Turn>,
        /// The better answer.
        chosen: String,
        /// The worse answer.
        rejected: String,
    },
}

impl Body {
    /// All of its text, for filters and for comparison: the parts in order, an empty line between two.
    #[must_use]
    pub fn plain(&self) -> Cow<'_, str> {
        match self {
            Body::Text(text) => Cow::Borrowed(text),
            Body::Chat(_) | Body::Preference { .. } => {
                Cow::Owned(self.parts().collect::<Vec<_>>().join("\n\n"))
            }
        }
    }

    /// Its texts, without roles.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        let (turns, last): (&[Turn], [Option<&str>; 2]) = match self {
            Body::Text(text) => (&[], [Some(text), None]),
            Body::Chat(turns) => (turns, [None, None]),
            Body::Preference { prompt, chosen, rejected } => (prompt, [Some(chosen), Some(rejected)]),
        };
        turns.iter().map(|turn| turn.content.as_str()).chain(last.into_iter().flatten())
    }

    /// The bytes of its texts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts().map(|part| part.len() as u64).sum()
    }

    /// Names the content: of a text the hash of its bytes, of the others that of their kind, roles and texts,
    /// each with its length.
    #[must_use]
    pub fn hash(&self) -> String {
        let (kind, turns, last): (&str, &[Turn], [&str; 2]) = match self {
            Body::Text(text) => return durable::hash(text.as_bytes()),
            Body::Chat(turns) => ("chat", turns, ["", ""]),
            Body::Preference { prompt, chosen, rejected } => ("preference", prompt, [chosen, rejected]),
        };
        let mut hasher = blake3::Hasher::new();
        let mut part = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        };
        part(kind);
        for turn in turns {
            part(&turn.role);
            part(&turn.content);
        }
        last.into_iter().for_each(part);
        hasher.finalize().to_hex().to_string()
    }
}

/// One document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Its name and hash.
    #[serde(flatten)]
    pub entry: Entry,
    /// Its content.
    #[serde(flatten)]
    pub body: Body,
}

impl Document {
    /// A document of that content.
    #[must_use]
    pub fn new(path: String, place: Place, body: Body, held_out: bool) -> Self {
        Self { entry: Entry { path, place, hash: body.hash(), bytes: body.bytes(), held_out }, body }
    }
}

/// An account of one split: every document that was seen is in `kept` or under one reason.
///
/// Bytes are those of the text as it was when its fate was decided: for a document kept, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScanReport {
    /// Which split.
    pub split: u32,
    /// Of how many.
    pub splits: u32,
    /// All documents of the split.
    pub seen: Tally,
    /// Those that were kept.
    pub kept: Tally,
    /// The others.
    pub dropped: BTreeMap<DropReason, Tally>,
    /// Of those dropped as contaminated: by the evaluation set that they share text with, the first that was
    /// named.
    pub contaminated: BTreeMap<String, Tally>,
    /// Lines that a filter took out of documents that were kept, and their bytes.
    pub lines_removed: Tally,
    /// Parts of files of many documents that were not read any more, since the budget was used up, and their
    /// bytes: not in `seen`.
    pub unread: Tally,
    /// The first places that are malformed: `file:line: what is wrong`.
    pub malformed: Vec<String>,
}

impl ScanReport {
    /// Counts all of another report of the same split, that goes on from this one.
    pub fn join(&mut self, other: Self) {
        self.seen.join(other.seen);
        self.kept.join(other.kept);
        self.lines_removed.join(other.lines_removed);
        self.unread.join(other.unread);
        for (reason, tally) in other.dropped {
            self.dropped.entry(reason).or_default().join(tally);
        }
        for (set, tally) in other.contaminated {
            self.contaminated.entry(set).or_default().join(tally);
        }
        let room = MALFORMED_NAMED.saturating_sub(self.malformed.len());
        self.malformed.extend(other.malformed.into_iter().take(room));
    }

    /// Checks that every document seen is kept or dropped for one reason.
    ///
    /// # Errors
    /// [`Error::CountMismatch`] with the numbers.
    pub fn check(&self) -> Result<(), Error> {
        let mut all = self.kept;
        self.dropped.values().for_each(|tally| all.join(*tally));
        if all != self.seen {
            return Err(Error::CountMismatch(format!(
                "split {}: {:?} were seen, and {all:?} were kept or dropped",
                self.split, self.seen
            )));
        }
        Ok(())
    }
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
        let refuse = |line: usize| {
            move |e: serde_json::Error| Error::Damaged { what: SCAN, line, reason: e.to_string() }
        };
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
            let document: Document =
                serde_json::from_slice(bytes).map_err(|e| damaged(line, e.to_string()))?;
            if document.entry.hash != document.body.hash() || document.entry.bytes != document.body.bytes() {
                return Err(damaged(
                    line,
                    format!("the text of {} is not what its hash names", document.entry.path),
                ));
            }
            documents.push(document);
        }
        if report.kept.documents != documents.len() as u64 {
            return Err(damaged(
                1,
                format!("{} documents are announced and {} follow", report.kept.documents, documents.len()),
            ));
        }
        Ok(Self { report, documents })
    }

    /// The entries, for [`super::dedup::select`].
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.documents.iter().map(|document| document.entry.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan() -> Scan {
        let turn = |role: &str, content: &str| Turn { role: role.to_owned(), content: content.to_owned() };
        let bodies = [
            Body::Text("fn a() {}\n".to_owned()),
            Body::Text("\"quoted\"\n\u{e9}".to_owned()),
            Body::Chat(vec![turn("user", "Why?"), turn("assistant", "Because.")]),
            Body::Preference {
                prompt: vec![turn("user", "Why?")],
                chosen: "Because.".to_owned(),
                rejected: "No.".to_owned(),
            },
        ];
        let documents = bodies.map(|body| {
            Document::new(format!("root/{}.rs", body.bytes()), Place::Row(body.bytes()), body, false)
        });
        let kept = Tally { documents: 4, bytes: documents.iter().map(|d| d.entry.bytes).sum() };
        Scan {
            report: ScanReport { splits: 1, seen: kept, kept, ..ScanReport::default() },
            documents: documents.into(),
        }
    }

    #[test]
    fn a_hash_tells_apart_what_reads_alike() {
        let turn = |role: &str, content: &str| Turn { role: role.to_owned(), content: content.to_owned() };
        let bodies = [
            Body::Text("a\n\nb".to_owned()),
            Body::Chat(vec![turn("user", "a"), turn("assistant", "b")]),
            Body::Chat(vec![turn("assistant", "a"), turn("user", "b")]),
            Body::Chat(vec![turn("user", "a\n\nb")]),
            Body::Preference { prompt: vec![], chosen: "a".to_owned(), rejected: "b".to_owned() },
        ];
        let mut hashes = bodies.each_ref().map(Body::hash).to_vec();
        assert!(bodies.iter().all(|body| body.plain() == "a\n\nb"));
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), bodies.len());
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
            (
                text.lines().take(2).map(|line| line.to_owned() + "\n").collect(),
                "line 1: 4 documents are announced and 1 follow",
            ),
            (text[..text.len() - 1].to_owned(), "does not end"),
            (String::new(), "does not end"),
        ];
        for (damaged, expected) in table {
            let message = Scan::from_bytes(damaged.as_bytes()).expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
