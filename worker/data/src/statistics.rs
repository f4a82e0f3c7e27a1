//! What a data set is like: lengths, sources, how well the tokenizer fits, how much is learnt from.
//!
//! All figures follow from the shards alone, so they are the same however the work was divided. The cost is
//! one pass over the tokens, and sixteen bytes for each document.

use super::shard::{DocumentKind, Shard};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sources that are listed by name, the largest first; the others are summed up.
const SOURCES_MAX: usize = 100;
/// What the others are called.
const OTHERS: &str = "(others)";

/// The figures of a data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// To train on.
    pub train: SideStatistics,
    /// To measure with.
    pub held_out: SideStatistics,
    /// Both sides by source: the first two parts of the documents' paths.
    pub sources: BTreeMap<String, SourceStatistics>,
}

/// The figures of one side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SideStatistics {
    /// Documents.
    pub documents: u64,
    /// The same by kind.
    pub kinds: BTreeMap<DocumentKind, u64>,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens, boundaries and marks included.
    pub tokens: u64,
    /// Tokens that are learnt from.
    pub learnt: u64,
    /// The part of the tokens that is masked out.
    pub masked_share: f64,
    /// Sequences that were cut to the context.
    pub truncated: u64,
    /// Bytes of text for each token.
    pub bytes_per_token: f64,
    /// Tokens of a document.
    pub tokens_per_document: Lengths,
    /// Bytes of a document.
    pub bytes_per_document: Lengths,
    /// How much of the vocabulary occurs.
    pub vocabulary: Vocabulary,
}

/// How a length is distributed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    /// The least.
    pub min: u64,
    /// The mean.
    pub mean: f64,
    /// Half are no longer.
    pub median: u64,
    /// Nine of ten are no longer.
    pub p90: u64,
    /// 99 of a hundred are no longer.
    pub p99: u64,
    /// The greatest.
    pub max: u64,
    /// How many lie in each range between powers of two; ranges with none are left out.
    pub histogram: Vec<Bin>,
}

/// A bar of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bin {
    /// The least length in it.
    pub from: u64,
    /// One more than the greatest.
    pub below: u64,
    /// Documents.
    pub documents: u64,
}

/// How much of a vocabulary is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vocabulary {
    /// Tokens there are.
    pub size: u64,
    /// Tokens that occur.
    pub used: u64,
    /// The part that occurs.
    pub coverage: f64,
    /// Tokens that occur fewer than ten times, but occur.
    pub rare: u64,
}

/// One source's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatistics {
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens.
    pub tokens: u64,
}

/// Counts shards, one after another.
#[derive(Default)]
pub struct Counter {
    sides: [SideCounter; 2],
    sources: BTreeMap<String, SourceStatistics>,
}

#[derive(Default)]
struct SideCounter {
    figures: SideStatistics,
    counts: Vec<u64>,
    tokens: Vec<u64>,
    bytes: Vec<u64>,
}

impl Counter {
    /// Counts a shard.
    pub fn add(&mut self, shard: &Shard) {
        let index = shard.index();
        let side = &mut self.sides[usize::from(index.held_out)];
        side.counts.resize(side.counts.len().max(index.vocab_size as usize), 0);
        for token in shard.tokens() {
            side.counts[token as usize] += 1;
        }
        side.figures.truncated += index.truncated;
        side.figures.learnt += index.learnt;
        for span in &index.documents {
            *side.figures.kinds.entry(span.kind).or_default() += 1;
            side.tokens.push(span.tokens);
            side.bytes.push(span.bytes);
            let source = self.sources.entry(source(&span.path)).or_default();
            source.documents += 1;
            source.bytes += span.bytes;
            source.tokens += span.tokens;
        }
    }

    /// The figures of all shards.
    #[must_use]
    pub fn finish(self) -> Statistics {
        let [train, held_out] = self.sides.map(SideCounter::finish);
        let mut by_bytes: Vec<_> = self.sources.into_iter().collect();
        by_bytes.sort_by(|one, two| (two.1.bytes, &one.0).cmp(&(one.1.bytes, &two.0)));
        let rest = by_bytes.split_off(by_bytes.len().min(SOURCES_MAX));
        let mut sources: BTreeMap<String, SourceStatistics> = by_bytes.into_iter().collect();
        for (_, source) in rest {
            let others = sources.entry(OTHERS.to_owned()).or_default();
            others.documents += source.documents;
            others.bytes += source.bytes;
            others.tokens += source.tokens;
        }
        Statistics { train, held_out, sources }
    }
}

/// The first two parts of a path, or what there is before the file's name.
fn source(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    let directories = parts.len().saturating_sub(1).clamp(1, 2);
    parts[..directories].join("/")
}

impl SideCounter {
    fn finish(self) -> SideStatistics {
        let (tokens, bytes) = (self.tokens.iter().sum::<u64>(), self.bytes.iter().sum::<u64>());
        let used = self.counts.iter().filter(|count| **count > 0).count() as u64;
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        SideStatistics {
            documents: self.tokens.len() as u64,
            bytes,
            tokens,
            masked_share: share(tokens - self.figures.learnt.min(tokens), tokens),
            bytes_per_token: share(bytes, tokens),
            tokens_per_document: Lengths::of(self.tokens),
            bytes_per_document: Lengths::of(self.bytes),
            vocabulary: Vocabulary {
                size: self.counts.len() as u64,
                used,
                coverage: share(used, self.counts.len() as u64),
                rare: self.counts.iter().filter(|count| (1..10).contains(*count)).count() as u64,
            },
            ..self.figures
        }
    }
}

impl Lengths {
    fn of(mut lengths: Vec<u64>) -> Self {
        lengths.sort_unstable();
        let (Some(min), Some(max)) = (lengths.first().copied(), lengths.last().copied()) else {
            return Self::default();
        };
        let at = |percent: usize| lengths[(lengths.len() * percent).div_ceil(100).saturating_sub(1)];
        let mut histogram: Vec<Bin> = Vec::new();
        for length in &lengths {
            let from = if *length == 0 { 0 } else { 1 << length.ilog2() };
            match histogram.last_mut().filter(|bin| bin.from == from) {
                Some(bin) => bin.documents += 1,
                None => histogram.push(Bin { from, below: from.saturating_mul(2).max(1), documents: 1 }),
            }
        }
        let mean = lengths.iter().sum::<u64>() as f64 / lengths.len() as f64;
        Self { min, mean, median: at(50), p90: at(90), p99: at(99), max, histogram }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::Entry;
    use crate::shard::{Sequence, ShardIndex, ShardWriter};

    fn shard(held_out: bool, documents: &[(&str, &[u32], usize)]) -> Shard {
        let mut writer = ShardWriter::of(ShardIndex {
            name: "s".to_owned(),
            held_out,
            vocab_size: 8,
            ..ShardIndex::default()
        });
        for (path, tokens, learnt) in documents {
            let entry = Entry {
                path: (*path).to_owned(),
                bytes: tokens.len() as u64 * 3,
                held_out,
                ..Entry::default()
            };
            let learnt = (0..tokens.len()).map(|at| at >= tokens.len() - learnt).collect();
            writer
                .push(&entry, DocumentKind::Chat, &[Sequence { tokens: tokens.to_vec(), learnt }])
                .expect("fits");
        }
        writer.finish().expect("is sound")
    }

    #[test]
    fn figures_are_those_of_a_count_by_hand() {
        let one = shard(false, &[("root/a/x.rs", &[1, 2, 3], 1), ("root/a/y/z.rs", &[1, 1, 1, 1, 5], 2)]);
        let two = shard(false, &[("lines.jsonl", &[7, 1], 1)]);
        let held_out = shard(true, &[("root/b/x.rs", &[0], 0)]);
        let mut counter = Counter::default();
        [&one, &held_out, &two].into_iter().for_each(|shard| counter.add(shard));
        let found = counter.finish();
        let train = &found.train;
        assert_eq!(
            (train.documents, train.bytes, train.tokens, train.learnt, train.bytes_per_token),
            (3, 30, 10, 4, 3.0)
        );
        assert_eq!(
            (train.masked_share, found.held_out.masked_share, &train.kinds),
            (0.6, 1.0, &[(DocumentKind::Chat, 3)].into())
        );
        let lengths = &train.tokens_per_document;
        assert_eq!((lengths.min, lengths.median, lengths.p90, lengths.max), (2, 3, 5, 5));
        let bin = |from, below, documents| Bin { from, below, documents };
        assert_eq!(lengths.histogram, [bin(2, 4, 2), bin(4, 8, 1)]);
        assert_eq!(train.vocabulary, Vocabulary { size: 8, used: 5, coverage: 0.625, rare: 5 });
        let sources: Vec<_> = found
            .sources
            .iter()
            .map(|(name, source)| (name.as_str(), source.documents, source.tokens))
            .collect();
        assert_eq!(sources, [("lines.jsonl", 1, 2), ("root/a", 2, 8), ("root/b", 1, 1)]);

        let mut other = Counter::default();
        [&two, &one, &held_out].into_iter().for_each(|shard| other.add(shard));
        assert_eq!(other.finish(), found, "the order of the shards leaves no trace");
        assert_eq!(Counter::default().finish(), Statistics::default());
    }

    #[test]
    fn small_sources_are_summed_up() {
        let paths: Vec<String> = (0..150).map(|i| format!("root/{i:03}/x.rs")).collect();
        let documents: Vec<(&str, &[u32], usize)> = paths
            .iter()
            .enumerate()
            .map(|(i, path)| (path.as_str(), if i < 100 { &[1, 2][..] } else { &[1][..] }, 0))
            .collect();
        let mut counter = Counter::default();
        counter.add(&shard(false, &documents));
        let found = counter.finish();
        assert_eq!((found.sources.len(), found.sources[OTHERS].documents), (101, 50));
        assert!(found.sources.contains_key("root/099") && !found.sources.contains_key("root/100"));
    }
}
