//! The account of a whole data set: what went in, what came out, and why the difference.

use super::Error;
use super::dedup::Choice;
use super::documents::{ScanReport, Tally};
use super::filters::DropReason;
use super::shard::ShardIndex;
use crate::durable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One shard's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardSummary {
    /// Hash of the packed tokens.
    pub tokens_hash: String,
    /// Hash of the index.
    pub index_hash: String,
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens, boundaries included.
    pub tokens: u64,
}

/// The figures of one side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens, boundaries included.
    pub tokens: u64,
    /// Bytes per token.
    pub bytes_per_token: f64,
    /// The shards, by split.
    pub shards: Vec<ShardSummary>,
}

/// A data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Every file that was seen.
    pub seen: Tally,
    /// What became tokens.
    pub kept: Tally,
    /// What did not, by reason.
    pub dropped: BTreeMap<DropReason, Tally>,
    /// Hash of the tokenizer.
    pub tokenizer: String,
    /// Number of its tokens.
    pub vocab_size: u32,
    /// To train on.
    pub train: Side,
    /// To measure with.
    pub held_out: Side,
}

impl Manifest {
    /// Joins the reports, the choice and the shards' indices (all by split), and checks that every document seen
    /// is either kept or dropped for one reason.
    ///
    /// # Errors
    /// [`Error::Books`] naming the numbers that differ.
    pub fn merge(reports: &[ScanReport], choice: &Choice, train: &[ShardIndex], held_out: &[ShardIndex]) -> Result<Self, Error> {
        let splits = reports.len();
        let counts = [choice.keep.len(), choice.duplicates.len(), train.len(), held_out.len()];
        if splits == 0 || counts.iter().any(|count| *count != splits) {
            return Err(Error::Books(format!("{splits} reports, but {counts:?} of what belongs to them")));
        }
        let (mut seen, mut dropped) = (Tally::default(), BTreeMap::<DropReason, Tally>::new());
        for (split, report) in reports.iter().enumerate() {
            check_split(split, splits, report, choice, [&train[split], &held_out[split]])?;
            seen.join(report.seen);
            for (reason, tally) in &report.dropped {
                dropped.entry(*reason).or_default().join(*tally);
            }
            for (reason, tally) in choice.dropped(split) {
                dropped.entry(reason).or_default().join(tally);
            }
        }
        let Some(tokenizer) = train.first() else {
            return Err(Error::Books("there is no shard".to_owned()));
        };
        if let Some(other) = train.iter().chain(held_out).find(|shard| shard.tokenizer != tokenizer.tokenizer) {
            return Err(Error::Books(format!("shards of two tokenizers, {} and {}", tokenizer.tokenizer, other.tokenizer)));
        }
        let (train, held_out) = (Side::of(train), Side::of(held_out));
        let kept = Tally { documents: train.documents + held_out.documents, bytes: train.bytes + held_out.bytes };
        let manifest =
            Self { seen, kept, dropped, tokenizer: tokenizer.tokenizer.clone(), vocab_size: tokenizer.vocab_size, train, held_out };
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks that every document seen is either kept or dropped for one reason.
    ///
    /// # Errors
    /// [`Error::Books`] with the numbers.
    pub fn check(&self) -> Result<(), Error> {
        let mut all = self.kept;
        for tally in self.dropped.values() {
            all.join(*tally);
        }
        if all != self.seen {
            return Err(Error::Books(format!("{:?} were seen, and {all:?} were kept or dropped", self.seen)));
        }
        Ok(())
    }
}

/// Checks one split's shards against what was kept of its scan.
fn check_split(split: usize, splits: usize, report: &ScanReport, choice: &Choice, shards: [&ShardIndex; 2]) -> Result<(), Error> {
    if (report.split as usize, report.splits as usize) != (split, splits) {
        return Err(Error::Books(format!("report {split} of {splits} is of split {} of {}", report.split, report.splits)));
    }
    if shards.map(|shard| shard.held_out) != [false, true] {
        return Err(Error::Books(format!("split {split}: the training and held-out shards are not in their places")));
    }
    let mut packed = Tally::default();
    for span in shards.iter().flat_map(|shard| &shard.documents) {
        packed.add(span.bytes);
    }
    let chosen = choice.keep[split].len() as u64;
    if packed.documents != chosen {
        return Err(Error::Books(format!("split {split}: {chosen} documents were chosen and {} packed", packed.documents)));
    }
    choice.dropped(split).values().for_each(|tally| packed.join(*tally));
    if packed != report.kept {
        return Err(Error::Books(format!("split {split}: {:?} passed the filters, and {packed:?} were packed or duplicates", report.kept)));
    }
    Ok(())
}

impl Side {
    fn of(shards: &[ShardIndex]) -> Self {
        let mut side = Self::default();
        for index in shards {
            let documents = index.documents.len() as u64;
            let index_bytes = serde_json::to_vec(index).expect("strings and numbers are JSON");
            side.documents += documents;
            side.bytes += index.text_bytes;
            side.tokens += index.tokens;
            side.shards.push(ShardSummary {
                tokens_hash: index.hash.clone(),
                index_hash: durable::hash(&index_bytes),
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
    use crate::data::shard::Span;

    fn index(held_out: bool, bytes: &[u64]) -> ShardIndex {
        let span = |bytes: &u64| Span { path: "p".to_owned(), hash: "h".to_owned(), start: 0, tokens: 3, bytes: *bytes };
        ShardIndex {
            held_out,
            vocab_size: 300,
            tokenizer: "t".to_owned(),
            tokens: bytes.len() as u64 * 4,
            text_bytes: bytes.iter().sum(),
            documents: bytes.iter().map(span).collect(),
            ..ShardIndex::default()
        }
    }

    fn books() -> (Vec<ScanReport>, Choice, Vec<ShardIndex>, Vec<ShardIndex>) {
        let tally = |documents, bytes| Tally { documents, bytes };
        let report = |split, kept, small: Tally| ScanReport {
            split,
            splits: 2,
            seen: Tally { documents: kept + small.documents, bytes: kept * 10 + small.bytes },
            kept: tally(kept, kept * 10),
            dropped: [(DropReason::TooSmall, small)].into(),
            ..ScanReport::default()
        };
        let choice = Choice { keep: vec![vec![0, 2], vec![0, 1, 2]], duplicates: vec![tally(1, 10), tally(0, 0)], ..Choice::default() };
        let reports = vec![report(0, 3, tally(2, 4)), report(1, 3, tally(1, 1))];
        (reports, choice, vec![index(false, &[10, 10]), index(false, &[10, 10])], vec![index(true, &[]), index(true, &[10])])
    }

    #[test]
    fn every_document_is_kept_or_dropped_for_one_reason() {
        let (reports, choice, train, held_out) = books();
        let manifest = Manifest::merge(&reports, &choice, &train, &held_out).expect("balances");
        let tally = |documents, bytes| Tally { documents, bytes };
        assert_eq!((manifest.seen, manifest.kept), (tally(9, 65), tally(5, 50)));
        assert_eq!(manifest.dropped, [(DropReason::TooSmall, tally(3, 5)), (DropReason::Duplicate, tally(1, 10))].into());
        assert_eq!((manifest.train.tokens, manifest.train.bytes_per_token), (16, 2.5));
        let json = serde_json::to_vec(&manifest).expect("writes");
        assert_eq!(serde_json::from_slice::<Manifest>(&json).expect("reads"), manifest);
    }

    #[test]
    fn books_that_do_not_balance_are_refused() {
        type Break = fn(&mut (Vec<ScanReport>, Choice, Vec<ShardIndex>, Vec<ShardIndex>));
        let table: [(&str, Break); 7] = [
            ("were seen", |b| b.0[0].seen.documents += 1),
            ("passed the filters", |b| b.0[1].kept.bytes += 1),
            ("chosen", |b| b.1.keep[0].push(3)),
            ("is of split", |b| b.0[1].split = 0),
            ("two tokenizers", |b| b.3[1].tokenizer = "u".to_owned()),
            ("in their places", |b| b.3[0].held_out = false),
            ("2 reports", |b| b.2.truncate(1)),
        ];
        for (expected, break_it) in table {
            let mut books = books();
            break_it(&mut books);
            let message = Manifest::merge(&books.0, &books.1, &books.2, &books.3).expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
