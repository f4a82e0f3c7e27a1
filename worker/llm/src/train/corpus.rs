//! All training tokens, as one sequence over the shards, and as the sequences that their documents are.
//!
//! Pretraining reads windows of the one sequence, and may cut attention where a document begins; fine-tuning
//! reads whole sequences.

use super::Error;
use muster_data::shard::{DocumentKind, Sequence, Shard};

/// Tokens of several shards in a row.
pub struct Corpus {
    shards: Vec<Shard>,
    /// How many sequences come before each shard's, and the sum.
    sequences: Vec<u64>,
    /// How many preferences come before each shard's, and the sum.
    preferences: Vec<u64>,
    vocab_size: usize,
    len: u64,
    hash: String,
}

impl Corpus {
    /// Joins shards, in this order.
    ///
    /// # Errors
    /// When there is none, or they come from different tokenizers.
    pub fn new(shards: Vec<Shard>) -> Result<Self, Error> {
        let Some(first) = shards.first().map(|shard| shard.index().clone()) else {
            return Err(Error::Parameters("there are no shards".to_owned()));
        };
        let mut hasher = blake3::Hasher::new();
        let mut len = 0;
        let (mut sequences, mut preferences) = (vec![0], vec![0]);
        for index in shards.iter().map(Shard::index) {
            if (&index.tokenizer, index.vocab_size) != (&first.tokenizer, first.vocab_size) {
                return Err(Error::Parameters(format!(
                    "shards of two tokenizers, {} and {}",
                    first.tokenizer, index.tokenizer
                )));
            }
            hasher.update(index.tokenizer.as_bytes());
            for files in [Some(&index.files), index.mask_files.as_ref()].into_iter().flatten() {
                hasher.update(files.bin.hash.as_bytes()).update(files.idx.hash.as_bytes());
            }
            len += index.tokens;
            let pairs =
                index.documents.iter().filter(|span| span.kind == DocumentKind::Preference).count() as u64;
            sequences.push(sequences.last().copied().unwrap_or(0) + index.documents.len() as u64 + pairs);
            preferences.push(preferences.last().copied().unwrap_or(0) + pairs);
        }
        let hash = hasher.finalize().to_hex().to_string();
        Ok(Self { shards, sequences, preferences, vocab_size: first.vocab_size as usize, len, hash })
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of sequences.
    #[must_use]
    pub fn sequences(&self) -> u64 {
        self.sequences.last().copied().unwrap_or(0)
    }

    /// Number of preferences.
    #[must_use]
    pub fn preferences(&self) -> u64 {
        self.preferences.last().copied().unwrap_or(0)
    }

    /// Hash of the tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &str {
        self.shards.first().map_or("", |shard| shard.index().tokenizer.as_str())
    }

    /// Number of tokens in the vocabulary.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Names the tokens and their order.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether some of its tokens are not learnt from.
    #[must_use]
    pub fn is_masked(&self) -> bool {
        self.shards.iter().any(|shard| shard.index().mask_files.is_some())
    }

    /// The sequences that a model should give: that of each document in order; of a preference the chosen
    /// one.
    pub fn wanted(&self) -> impl Iterator<Item = Sequence> {
        self.shards.iter().flat_map(|shard| {
            let first = shard.index().documents.iter().scan(0, |next, span| {
                let at = *next;
                *next += span.kind.sequences();
                Some(at)
            });
            first.map(|at| sequence(shard, at))
        })
    }

    /// How often each token occurs; where some are not learnt from, how often it is to be given.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.vocab_size];
        if self.is_masked() {
            for sequence in self.wanted() {
                for (token, _) in sequence.tokens.iter().zip(&sequence.learnt).filter(|(_, learnt)| **learnt)
                {
                    counts[*token as usize] += 1;
                }
            }
            return counts;
        }
        for token in self.shards.iter().flat_map(Shard::tokens) {
            counts[token as usize] += 1;
        }
        counts
    }

    /// The tokens from `start` on, at most `count`; fewer only at the end.
    #[must_use]
    pub fn tokens(&self, start: u64, count: usize) -> Vec<u32> {
        let mut tokens = Vec::with_capacity(count);
        let mut skip = start;
        for shard in &self.shards {
            let len = shard.index().tokens;
            if skip < len {
                tokens.extend(shard.tokens_from(skip).take(count - tokens.len()));
            }
            if tokens.len() == count {
                break;
            }
            skip = skip.saturating_sub(len);
        }
        tokens
    }

    /// Whether each of the tokens from `start` on is learnt from, as many as [`Corpus::tokens`] gives.
    #[must_use]
    pub fn learnt(&self, start: u64, count: usize) -> Vec<bool> {
        let mut learnt = Vec::with_capacity(count);
        let mut skip = start;
        for shard in &self.shards {
            let len = shard.index().tokens;
            if skip < len {
                let take = (count - learnt.len()).min(usize::try_from(len - skip).unwrap_or(usize::MAX));
                match shard.learnt_from(skip) {
                    Some(flags) => learnt.extend(flags.take(take)),
                    None => learnt.extend(std::iter::repeat_n(true, take)),
                }
            }
            if learnt.len() == count {
                break;
            }
            skip = skip.saturating_sub(len);
        }
        learnt
    }

    /// Where sequences begin among the `count` tokens from `start` on, counted from `start`; 0 is always one.
    #[must_use]
    pub fn starts(&self, start: u64, count: usize) -> Vec<u32> {
        let mut found = vec![0];
        let end = start.saturating_add(count as u64);
        let mut before = 0;
        for shard in &self.shards {
            let starts = shard.starts();
            let first = starts.partition_point(|at| before + at <= start);
            // The end of the last sequence is the start of the next shard's first.
            let inside = starts[first..].iter().map(|at| before + at).take_while(|at| *at < end);
            found.extend(inside.map(|at| (at - start) as u32));
            before += shard.index().tokens;
            if before >= end {
                break;
            }
        }
        found.dedup();
        found
    }

    /// A sequence, whole, with a flag for each token; `None` past the last.
    #[must_use]
    pub fn sequence(&self, number: u64) -> Option<Sequence> {
        let place = self.sequences.partition_point(|before| *before <= number).checked_sub(1)?;
        let shard = self.shards.get(place)?;
        let at = usize::try_from(number - self.sequences[place]).ok()?;
        Some(sequence(shard, at))
    }

    /// Number of tokens of each sequence.
    pub fn lengths(&self) -> impl Iterator<Item = u64> {
        self.shards.iter().flat_map(|shard| shard.starts().windows(2).map(|ends| ends[1] - ends[0]))
    }

    /// The two sequences of a preference: chosen, rejected. `None` past the last.
    #[must_use]
    pub fn preference(&self, number: u64) -> Option<[Sequence; 2]> {
        let place = self.preferences.partition_point(|before| *before <= number).checked_sub(1)?;
        let shard = self.shards.get(place)?;
        let mut left = number - self.preferences[place];
        let mut at = 0;
        for span in &shard.index().documents {
            if span.kind == DocumentKind::Preference {
                if left == 0 {
                    return Some([sequence(shard, at), sequence(shard, at + 1)]);
                }
                left -= 1;
            }
            at += span.kind.sequences();
        }
        None
    }
}

/// The sequence at a place of a shard, which is there.
fn sequence(shard: &Shard, at: usize) -> Sequence {
    let (start, end) = (shard.starts()[at], shard.starts()[at + 1]);
    let count = (end - start) as usize;
    let learnt = match shard.learnt_from(start) {
        Some(flags) => flags.take(count).collect(),
        None => vec![true; count],
    };
    Sequence { tokens: shard.tokens_from(start).take(count).collect(), learnt }
}
