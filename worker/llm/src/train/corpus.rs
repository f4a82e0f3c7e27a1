//! All training tokens, as one sequence over the shards.

use super::Error;
use crate::data::shard::Shard;

/// Tokens of several shards in a row.
pub struct Corpus {
    shards: Vec<Shard>,
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
        for index in shards.iter().map(Shard::index) {
            if (&index.tokenizer, index.vocab_size) != (&first.tokenizer, first.vocab_size) {
                return Err(Error::Parameters(format!("shards of two tokenizers, {} and {}", first.tokenizer, index.tokenizer)));
            }
            hasher.update(index.tokenizer.as_bytes()).update(index.hash.as_bytes());
            len += index.tokens;
        }
        let hash = hasher.finalize().to_hex().to_string();
        Ok(Self { shards, vocab_size: first.vocab_size as usize, len, hash })
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

    /// How often each token occurs.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.vocab_size];
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
}
