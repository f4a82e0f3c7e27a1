//! A byte-level BPE tokenizer: trained from a bounded sample, kept as a Hugging Face `tokenizer.json`.

use super::Error;
use super::dedup::Choice;
use super::documents::Scan;
use crate::compute::Compute;
use serde::{Deserialize, Serialize};

/// The token between documents; it stands for no text.
pub const BOUNDARY: &str = "<|end|>";

/// How to train one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerConfig {
    /// Tokens, with the 256 bytes and the boundary.
    pub vocab_size: usize,
    /// Most bytes of text to learn from.
    pub sample_bytes: usize,
}

/// A trained tokenizer.
pub struct Tokenizer {}

impl Tokenizer {
    /// Learns merges from the training documents that are kept, an equal share of each scan's.
    ///
    /// # Errors
    /// When the vocabulary is too small or the text gives too few merges.
    pub fn train(config: &TokenizerConfig, scans: &[Scan], choice: &Choice, compute: &Compute) -> Result<Self, Error> {
        let _ = (config, scans, choice, compute);
        todo!()
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// When it is none, or not byte-level, or without our boundary token.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let _ = bytes;
        todo!()
    }

    /// The `tokenizer.json`; the same tokenizer gives the same bytes.
    #[must_use]
    pub fn to_bytes(&self) -> &[u8] {
        todo!()
    }

    /// Hash of [`Tokenizer::to_bytes`].
    #[must_use]
    pub fn hash(&self) -> &str {
        todo!()
    }

    /// Number of tokens.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        todo!()
    }

    /// The id of [`BOUNDARY`].
    #[must_use]
    pub fn boundary(&self) -> u32 {
        todo!()
    }

    /// The tokens of a text, without a boundary; text that looks like the boundary is plain text.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let _ = text;
        todo!()
    }

    /// The bytes of some tokens; boundaries give none.
    ///
    /// # Errors
    /// When a token is outside the vocabulary.
    pub fn decode_bytes(&self, tokens: &[u32]) -> Result<Vec<u8>, Error> {
        let _ = tokens;
        todo!()
    }

    /// The text of some tokens; bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// As [`Tokenizer::decode_bytes`].
    pub fn decode(&self, tokens: &[u32]) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.decode_bytes(tokens)?).into_owned())
    }

    /// The bytes of text that each token stands for, by id.
    #[must_use]
    pub fn byte_lengths(&self) -> &[u32] {
        todo!()
    }
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self { vocab_size: 2048, sample_bytes: 4 * 1024 * 1024 }
    }
}
