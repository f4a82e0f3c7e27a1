//! Packed tokens: little-endian integers without a header, and an index in JSON beside them.

use super::Error;
use serde::{Deserialize, Serialize};

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
        let _ = (index, packed);
        todo!()
    }

    /// The index.
    #[must_use]
    pub fn index(&self) -> &ShardIndex {
        &self.index
    }

    /// The index as JSON.
    #[must_use]
    pub fn index_bytes(&self) -> Vec<u8> {
        todo!()
    }

    /// The tokens as they are kept.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }
}
