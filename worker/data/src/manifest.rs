//! The account of a whole data set: what went in, what came out, and why the difference.

use super::Error;
use super::dedup::Selection;
use super::documents::{ScanReport, Tally};
use super::filters::DropReason;
use super::shard::{FilePair, ShardIndex};
use muster_host::durable;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// One shard's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardSummary {
    /// What its files are called, without the endings.
    pub name: String,
    /// Hash of the index, which says where each document is from.
    pub index_hash: String,
    /// The tokens' files.
    pub files: FilePair,
    /// The masks' files, if not every token is learnt from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_files: Option<FilePair>,
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens, boundaries included.
    pub tokens: u64,
}

/// The figures of one side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DatasetSide {
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens, boundaries and marks included.
    pub tokens: u64,
    /// Tokens that are learnt from.
    pub learnt: u64,
    /// Bytes per token.
    pub bytes_per_token: f64,
    /// The shards, by split and part.
    pub shards: Vec<ShardSummary>,
}

/// The layout of a manifest.
const VERSION: u32 = 2;

/// A data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The layout of this account.
    pub version: u32,
    /// Every document that was seen.
    pub seen: Tally,
    /// What became tokens.
    pub kept: Tally,
    /// What did not, by reason.
    pub dropped: BTreeMap<DropReason, Tally>,
    /// Of those dropped as contaminated: by the evaluation set that they share text with.
    pub contaminated: BTreeMap<String, Tally>,
    /// Lines that a filter took out of documents that were kept, and their bytes.
    pub lines_removed: Tally,
    /// Parts of files that were not read any more, since the budget was used up, and their bytes: not in
    /// `seen`.
    pub unread: Tally,
    /// Sequences that were cut to the context.
    pub truncated: u64,
    /// Hash of the tokenizer.
    pub tokenizer: String,
    /// Number of its tokens.
    pub vocab_size: u32,
    /// The token behind each plain text.
    pub boundary: u32,
    /// The parameters that made it, without those that leave no trace, such as where files lay and how many
    /// worked.
    pub config: BTreeMap<String, Value>,
    /// To train on.
    pub train: DatasetSide,
    /// To measure with.
    pub held_out: DatasetSide,
}

/// What packing a part of a split came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedPart {
    /// To train on.
    pub train: ShardIndex,
    /// To measure with.
    pub held_out: ShardIndex,
    /// What did not become tokens, by reason.
    pub dropped: BTreeMap<DropReason, Tally>,
}

impl Manifest {
    /// Joins the reports, the selection and the parts (all by split), and checks that every document seen is
    /// either kept or dropped for one reason.
    ///
    /// # Errors
    /// [`Error::CountMismatch`] naming the numbers that differ, [`Error::Empty`] if there is nothing to train
    /// on.
    pub fn merge(
        reports: &[ScanReport],
        selection: &Selection,
        splits: &[Vec<PackedPart>],
        config: BTreeMap<String, Value>,
    ) -> Result<Self, Error> {
        let counts = [selection.keep.len(), selection.duplicates.len(), splits.len()];
        if reports.is_empty() || counts.iter().any(|count| *count != reports.len()) {
            return Err(Error::CountMismatch(format!(
                "{} reports, but {counts:?} of what belongs to them",
                reports.len()
            )));
        }
        let mut manifest = Self { version: VERSION, config, ..Self::default() };
        for (split, (report, parts)) in reports.iter().zip(splits).enumerate() {
            check_split(split, reports.len(), report, selection, parts)?;
            manifest.seen.join(report.seen);
            manifest.lines_removed.join(report.lines_removed);
            manifest.unread.join(report.unread);
            for (set, tally) in &report.contaminated {
                manifest.contaminated.entry(set.clone()).or_default().join(*tally);
            }
            let by_packing =
                parts.iter().flat_map(|part| part.dropped.iter().map(|(reason, tally)| (*reason, *tally)));
            let by_scan = report.dropped.iter().map(|(reason, tally)| (*reason, *tally));
            for (reason, tally) in by_scan.chain(selection.dropped(split)).chain(by_packing) {
                manifest.dropped.entry(reason).or_default().join(tally);
            }
        }
        let shards = || splits.iter().flatten().flat_map(|part| [&part.train, &part.held_out]);
        let Some(first) = shards().next() else {
            return Err(Error::CountMismatch("there is no shard".to_owned()));
        };
        if let Some(other) = shards()
            .find(|shard| (&shard.tokenizer, shard.vocab_size) != (&first.tokenizer, first.vocab_size))
        {
            return Err(Error::CountMismatch(format!(
                "shards of two tokenizers, {} and {}",
                first.tokenizer, other.tokenizer
            )));
        }
        (manifest.tokenizer, manifest.vocab_size, manifest.boundary) =
            (first.tokenizer.clone(), first.vocab_size, first.boundary);
        manifest.truncated = shards().map(|shard| shard.truncated).sum();
        manifest.train = DatasetSide::of(splits.iter().flatten().map(|part| &part.train));
        manifest.held_out = DatasetSide::of(splits.iter().flatten().map(|part| &part.held_out));
        for side in [&manifest.train, &manifest.held_out] {
            manifest.kept.join(Tally { documents: side.documents, bytes: side.bytes });
        }
        manifest.check()?;
        if manifest.train.documents == 0 {
            let (seen, held_out, dropped) =
                (manifest.seen.documents, manifest.held_out.documents, &manifest.dropped);
            let reasons: Vec<String> =
                dropped.iter().map(|(reason, tally)| format!("{} {reason:?}", tally.documents)).collect();
            let why = if reasons.is_empty() {
                "none dropped".to_owned()
            } else {
                format!("dropped: {}", reasons.join(", "))
            };
            return Err(Error::Empty(format!(
                "there is no document to train on: {seen} seen, {held_out} held out, {why}"
            )));
        }
        Ok(manifest)
    }

    /// Checks that every document seen is either kept or dropped for one reason.
    ///
    /// # Errors
    /// [`Error::CountMismatch`] with the numbers.
    pub fn check(&self) -> Result<(), Error> {
        let mut all = self.kept;
        for tally in self.dropped.values() {
            all.join(*tally);
        }
        if all != self.seen {
            return Err(Error::CountMismatch(format!(
                "{:?} were seen, and {all:?} were kept or dropped",
                self.seen
            )));
        }
        Ok(())
    }
}

/// Checks one split's shards against what was kept of its scan.
fn check_split(
    split: usize,
    splits: usize,
    report: &ScanReport,
    selection: &Selection,
    parts: &[PackedPart],
) -> Result<(), Error> {
    if (report.split as usize, report.splits as usize) != (split, splits) {
        return Err(Error::CountMismatch(format!(
            "report {split} of {splits} is of split {} of {}",
            report.split, report.splits
        )));
    }
    let mut packed = Tally::default();
    for part in parts {
        if [&part.train, &part.held_out].map(|shard| shard.held_out) != [false, true] {
            return Err(Error::CountMismatch(format!(
                "split {split}: the training and held-out shards are not in their places"
            )));
        }
        for span in [&part.train, &part.held_out].into_iter().flat_map(|shard| &shard.documents) {
            packed.add(span.bytes);
        }
        part.dropped.values().for_each(|tally| packed.join(*tally));
    }
    let chosen = selection.keep[split].len() as u64;
    if packed.documents != chosen {
        return Err(Error::CountMismatch(format!(
            "split {split}: {chosen} documents were chosen, and {} packed or too long",
            packed.documents
        )));
    }
    selection.dropped(split).values().for_each(|tally| packed.join(*tally));
    if packed != report.kept {
        return Err(Error::CountMismatch(format!(
            "split {split}: {:?} passed the filters, and {packed:?} were packed or dropped since",
            report.kept
        )));
    }
    Ok(())
}

impl DatasetSide {
    fn of<'a>(shards: impl Iterator<Item = &'a ShardIndex>) -> Self {
        let mut side = Self::default();
        for index in shards {
            let documents = index.documents.len() as u64;
            side.documents += documents;
            side.bytes += index.text_bytes;
            side.tokens += index.tokens;
            side.learnt += index.learnt;
            side.shards.push(ShardSummary {
                name: index.name.clone(),
                index_hash: durable::hash(&index.to_bytes()),
                files: index.files.clone(),
                mask_files: index.mask_files.clone(),
                documents,
                bytes: index.text_bytes,
                tokens: index.tokens,
            });
        }
        side.bytes_per_token = side.bytes as f64 / side.tokens.max(1) as f64;
        side
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::Place;
    use crate::shard::{DocumentKind, Span};

    fn index(held_out: bool, bytes: &[u64]) -> ShardIndex {
        let span = |bytes: &u64| Span {
            path: "p".to_owned(),
            place: Place::Whole,
            hash: "h".to_owned(),
            kind: DocumentKind::Text,
            start: 0,
            tokens: 4,
            learnt: 4,
            bytes: *bytes,
        };
        ShardIndex {
            held_out,
            vocab_size: 300,
            tokenizer: "t".to_owned(),
            tokens: bytes.len() as u64 * 4,
            learnt: bytes.len() as u64 * 4,
            text_bytes: bytes.iter().sum(),
            documents: bytes.iter().map(span).collect(),
            ..ShardIndex::default()
        }
    }

    struct Books {
        reports: Vec<ScanReport>,
        selection: Selection,
        splits: Vec<Vec<PackedPart>>,
    }

    impl Books {
        fn merge(&self) -> Result<Manifest, Error> {
            Manifest::merge(&self.reports, &self.selection, &self.splits, BTreeMap::new())
        }
    }

    fn tally(documents: u64, bytes: u64) -> Tally {
        Tally { documents, bytes }
    }

    fn books() -> Books {
        let report = |split, kept, small: Tally| ScanReport {
            split,
            splits: 2,
            seen: tally(kept + small.documents, kept * 10 + small.bytes),
            kept: tally(kept, kept * 10),
            dropped: [(DropReason::TooSmall, small)].into(),
            contaminated: [("e".to_owned(), tally(1, 1))].into(),
            lines_removed: tally(2, 3),
            unread: tally(1, 4),
            ..ScanReport::default()
        };
        let keep = vec![vec![0, 2], vec![0, 1, 2]];
        let selection =
            Selection { keep, duplicates: vec![tally(1, 10), tally(0, 0)], ..Selection::default() };
        let part = |train: &[u64], held_out: &[u64], too_long| {
            let dropped = if too_long > 0 {
                [(DropReason::TooLong, tally(too_long, too_long * 10))].into()
            } else {
                BTreeMap::new()
            };
            PackedPart { train: index(false, train), held_out: index(true, held_out), dropped }
        };
        // The second split in two parts, of which one left a document out.
        let splits = vec![vec![part(&[10, 10], &[], 0)], vec![part(&[10], &[], 1), part(&[], &[10], 0)]];
        Books { reports: vec![report(0, 3, tally(2, 4)), report(1, 3, tally(1, 1))], selection, splits }
    }

    #[test]
    fn every_document_is_kept_or_dropped_for_one_reason() {
        let manifest = books().merge().expect("balances");
        assert_eq!((manifest.seen, manifest.kept), (tally(9, 65), tally(4, 40)));
        let dropped = [
            (DropReason::TooSmall, tally(3, 5)),
            (DropReason::Duplicate, tally(1, 10)),
            (DropReason::TooLong, tally(1, 10)),
        ];
        assert_eq!(manifest.dropped, dropped.into());
        assert_eq!(
            (manifest.lines_removed, manifest.unread, &manifest.contaminated),
            (tally(4, 6), tally(2, 8), &[("e".to_owned(), tally(2, 2))].into())
        );
        assert_eq!(
            (manifest.train.tokens, manifest.train.learnt, manifest.train.bytes_per_token),
            (12, 12, 2.5)
        );
        assert_eq!((manifest.train.shards.len(), manifest.held_out.documents), (3, 1));
        let json = serde_json::to_vec(&manifest).expect("writes");
        assert_eq!(serde_json::from_slice::<Manifest>(&json).expect("reads"), manifest);
    }

    #[test]
    fn books_that_do_not_balance_are_refused() {
        type Break = fn(&mut Books);
        let table: [(&str, Break); 9] = [
            ("were seen", |b| b.reports[0].seen.documents += 1),
            ("passed the filters", |b| b.reports[1].kept.bytes += 1),
            ("chosen", |b| b.selection.keep[0].push(3)),
            ("chosen", |b| b.splits[1][0].dropped.clear()),
            ("is of split", |b| b.reports[1].split = 0),
            ("two tokenizers", |b| b.splits[1][1].held_out.tokenizer = "u".to_owned()),
            ("in their places", |b| b.splits[0][0].held_out.held_out = false),
            ("2 reports", |b| b.splits.truncate(1)),
            ("2 documents were chosen, and 0", |b| b.splits[0].clear()),
        ];
        for (expected, break_it) in table {
            let mut books = books();
            break_it(&mut books);
            let message = books.merge().expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn an_empty_data_set_says_where_the_documents_went() {
        let mut books = books();
        for part in books.splits.iter_mut().flatten() {
            let lost = std::mem::take(&mut part.train.documents);
            lost.iter().for_each(|span| part.dropped.entry(DropReason::TooLong).or_default().add(span.bytes));
            part.train = index(false, &[]);
        }
        let message = books.merge().expect_err("is empty").to_string();
        let expected = "make a data set: there is no document to train on: 9 seen, 1 held out, dropped: 3 TooSmall, 1 Duplicate, 4 TooLong";
        assert_eq!(message, expected);
    }
}
