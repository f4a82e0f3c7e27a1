//! Packed tokens: little-endian integers without a header, and an index in JSON beside them.

use super::Error;
use super::documents::Entry;
use super::tokenizer::Tokenizer;
use crate::durable;
use serde::{Deserialize, Serialize};

const SHARD: &str = "the shard";

/// One document in a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The document's path.
    pub path: String,
    /// Hash of its text.
    pub hash: String,
    /// Position of its first token.
    pub start: u64,
    /// Number of its tokens, without the boundary that follows.
    pub tokens: u64,
    /// Bytes of its text.
    pub bytes: u64,
}

/// What a shard holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardIndex {
    /// Whether its documents are kept from training.
    pub held_out: bool,
    /// Bytes of a token: 2 or 4.
    pub token_bytes: u32,
    /// Number of tokens in the vocabulary.
    pub vocab_size: u32,
    /// Hash of the tokenizer.
    pub tokenizer: String,
    /// Number of tokens, boundaries included.
    pub tokens: u64,
    /// Bytes of text.
    pub text_bytes: u64,
    /// Hash of the packed tokens.
    pub hash: String,
    /// The documents, in order.
    pub documents: Vec<Span>,
}

/// Packed tokens with their index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    index: ShardIndex,
    packed: Vec<u8>,
}

impl Shard {
    /// Joins what was read from two files, and checks them against each other.
    ///
    /// # Errors
    /// When the index is no JSON of ours, or the tokens are not those it names.
    pub fn open(index: &[u8], packed: Vec<u8>) -> Result<Self, Error> {
        let damaged = |reason: String| Error::Damaged { what: SHARD, line: 0, reason };
        let index: ShardIndex = serde_json::from_slice(index).map_err(|e| damaged(format!("its index: {e}")))?;
        if index.token_bytes != token_bytes(index.vocab_size) {
            return Err(damaged(format!("tokens of {} bytes for a vocabulary of {}", index.token_bytes, index.vocab_size)));
        }
        if index.tokens.checked_mul(u64::from(index.token_bytes)) != Some(packed.len() as u64) {
            return Err(damaged(format!("{} bytes are no {} tokens of {}", packed.len(), index.tokens, index.token_bytes)));
        }
        if durable::hash(&packed) != index.hash {
            return Err(damaged("the tokens are not those that the index names".to_owned()));
        }
        let shard = Self { index, packed };
        let mut next = 0;
        for span in &shard.index.documents {
            // A boundary follows each document, so the next starts one further.
            let end = span.start.checked_add(span.tokens).filter(|end| span.start == next && *end < shard.index.tokens);
            next = 1 + end.ok_or_else(|| damaged(format!("{} does not follow the document before it", span.path)))?;
        }
        if next != shard.index.tokens {
            return Err(damaged(format!("the documents end at token {next} of {}", shard.index.tokens)));
        }
        if shard.tokens().any(|token| token >= shard.index.vocab_size) {
            return Err(damaged("a token is outside the vocabulary".to_owned()));
        }
        Ok(shard)
    }

    /// The tokens, in order.
    pub fn tokens(&self) -> impl Iterator<Item = u32> {
        self.tokens_from(0)
    }

    /// The tokens from a position on; none when it is past the end.
    pub fn tokens_from(&self, position: u64) -> impl Iterator<Item = u32> {
        let width = self.index.token_bytes as usize;
        let skipped = usize::try_from(position).ok().and_then(|position| position.checked_mul(width));
        let packed = skipped.and_then(|skipped| self.packed.get(skipped..)).unwrap_or_default();
        packed.chunks_exact(width).map(|bytes| match *bytes {
            [a, b] => u32::from(u16::from_le_bytes([a, b])),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
            _ => unreachable!("a shard's tokens have 2 or 4 bytes"),
        })
    }

    /// The index.
    #[must_use]
    pub fn index(&self) -> &ShardIndex {
        &self.index
    }

    /// The index as JSON.
    #[must_use]
    pub fn index_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.index).expect("strings and numbers are JSON")
    }

    /// The tokens as they are kept.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }
}

/// Bytes of a token in a shard.
fn token_bytes(vocab_size: u32) -> u32 {
    if vocab_size <= 1 << 16 { 2 } else { 4 }
}

/// A shard being written.
pub struct ShardWriter {
    shard: Shard,
    boundary: u32,
}

impl ShardWriter {
    /// An empty shard for tokens of `tokenizer`.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer, held_out: bool) -> Self {
        let vocab_size = tokenizer.vocab_size() as u32;
        let index = ShardIndex {
            held_out,
            token_bytes: token_bytes(vocab_size),
            vocab_size,
            tokenizer: tokenizer.hash().to_owned(),
            ..ShardIndex::default()
        };
        Self { shard: Shard { index, packed: Vec::new() }, boundary: tokenizer.boundary() }
    }

    /// Appends a document's tokens and a boundary.
    pub fn push(&mut self, entry: &Entry, tokens: &[u32]) {
        let index = &mut self.shard.index;
        let (start, count) = (index.tokens, tokens.len() as u64);
        index.documents.push(Span { path: entry.path.clone(), hash: entry.hash.clone(), start, tokens: count, bytes: entry.bytes });
        index.tokens += count + 1;
        index.text_bytes += entry.bytes;
        let packed = &mut self.shard.packed;
        for token in tokens.iter().chain([&self.boundary]) {
            if index.token_bytes == 2 {
                packed.extend_from_slice(&token.to_le_bytes()[..2]);
            } else {
                packed.extend_from_slice(&token.to_le_bytes());
            }
        }
    }

    /// The shard, with its hash.
    #[must_use]
    pub fn finish(mut self) -> Shard {
        self.shard.index.hash = durable::hash(&self.shard.packed);
        self.shard
    }
}
