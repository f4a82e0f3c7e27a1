//! All training tokens: as one sequence over all shards, and as one or two sequences per document.
//!
//! Pre-training reads windows of the one sequence, and may cut attention where a document begins; fine-tuning
//! reads the documents' sequences.

use super::Error;
use muster_data::shard::{DocumentKind, Sequence, Shard};

/// Tokens of several shards in a row.
pub struct Corpus {
    shards: Vec<Shard>,
    /// Number of sequences before each shard, and the total.
    sequences: Vec<u64>,
    /// Number of preferences before each shard, and the total.
    preferences: Vec<u64>,
    vocab_size: usize,
    len: u64,
    hash: String,
}

impl Corpus {
    /// Joins shards, in this order.
    ///
    /// # Errors
    /// When there are no shards, or they come from different tokenizers.
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

    /// Hash of the tokens and their order.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether it has masks: some tokens are not learnt from.
    #[must_use]
    pub fn is_masked(&self) -> bool {
        self.shards.iter().any(|shard| shard.index().mask_files.is_some())
    }

    /// The sequences that a model should produce: one per document, in order; of a preference the chosen one.
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

    /// How often each token occurs; of masked data, how often among the tokens that are learnt from.
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

    /// Where sequences begin among the `count` tokens from `start` on, relative to `start`; 0 is always
    /// included.
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

/// The sequence at a place of a shard, which must exist.
fn sequence(shard: &Shard, at: usize) -> Sequence {
    let (start, end) = (shard.starts()[at], shard.starts()[at + 1]);
    let count = (end - start) as usize;
    let learnt = match shard.learnt_from(start) {
        Some(flags) => flags.take(count).collect(),
        None => vec![true; count],
    };
    Sequence { tokens: shard.tokens_from(start).take(count).collect(), learnt }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_data::chat::ChatTemplate;
    use muster_data::dedup::Selection;
    use muster_data::documents::{Body, Document, Place, Scan, Turn};
    use muster_data::pack::{PackConfig, TooLong, pack};
    use muster_data::tokenizer::{Tokenizer, TokenizerConfig};
    use muster_host::compute::Compute;

    /// Running text, chats and a preference, packed: four documents of 1, 1, 2 and 1 sequences.
    fn shard() -> Shard {
        let compute = Compute::new(1).expect("starts");
        let turn = |role: &str, content: &str| Turn { role: role.to_owned(), content: content.to_owned() };
        let talk = |answer: &str| Body::Chat(vec![turn("user", "Why?"), turn("assistant", answer)]);
        let pair = Body::Preference {
            prompt: vec![turn("user", "Why?")],
            chosen: "So.".to_owned(),
            rejected: "No, never.".to_owned(),
        };
        let text = Body::Text("Why so? Why not? So. ".repeat(50));
        let bodies =
            [text, talk("So."), pair, talk(&"So. ".repeat(90)), Body::Chat(vec![turn("user", "Why?")])];
        let documents: Vec<_> = (0..)
            .zip(bodies)
            .map(|(row, body)| Document::new("x".to_owned(), Place::Row(row), body, false))
            .collect();
        let scan = Scan { documents, ..Scan::default() };
        let choice = Selection { keep: vec![vec![0]], ..Selection::default() };
        let special_tokens =
            ChatTemplate::Chatml.special_tokens().iter().map(|token| (*token).to_owned()).collect();
        let config = TokenizerConfig { vocab_size: 300, special_tokens, ..TokenizerConfig::default() };
        let tokenizer =
            Tokenizer::train(&config, std::slice::from_ref(&scan), &choice, &compute).expect("trains");
        let config = PackConfig { template: ChatTemplate::Chatml, context: 40, too_long: TooLong::Truncate };
        pack(&scan, &[0, 1, 2, 3, 4], "0", &config, &tokenizer, &compute).expect("packs").train
    }

    #[test]
    fn preferences_are_found_across_shards_and_share_their_prompt() {
        let shard = shard();
        let corpus = Corpus::new(vec![shard.clone(), shard]).expect("joins");
        let [chosen, rejected] = corpus.preference(1).expect("is there");
        let shared = chosen.learnt.iter().position(|learnt| *learnt).expect("is learnt from");
        assert_eq!(
            (chosen.tokens[..shared] == rejected.tokens[..shared], rejected.learnt[shared]),
            (true, true)
        );
        assert_eq!((corpus.preferences(), corpus.sequences(), corpus.preference(2)), (2, 10, None));
    }
}
