//! Encodes many texts with a cache of words: the same tokens as the library gives, many times faster.
//!
//! A text is split where the tokenizer's pre-tokenizer surely ends a word, whatever the context (see
//! [`SplitRule`]). The library encodes each piece once; then it comes from the cache. For GPT-2's expression,
//! ASCII is split into words directly ([`gpt2_words`]), which are shorter and repeat more often. Without a
//! safe split rule the library encodes whole texts. The cache has at most [`CACHE_MAX`] entries per encoder.

use super::Tokenizer;
use super::split_rule::SplitRule;
use crate::Error;
use crate::gpt2_words;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Encodes many texts with one tokenizer. Not shared between threads.
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    cache: HashMap<Box<str>, Cached, BuildHasherDefault<WordHasher>>,
    /// The tokens of all cached pieces, concatenated.
    tokens: Vec<u32>,
}

/// Where the tokens of a cached piece are.
#[derive(Clone, Copy)]
struct Cached {
    start: u32,
    count: u32,
}

/// Most cached pieces.
const CACHE_MAX: usize = 256 * 1024;
/// Longest cached piece, in bytes; longer ones rarely repeat.
const BYTES_MAX: usize = 64;

impl<'a> Encoder<'a> {
    /// The tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &'a Tokenizer {
        self.tokenizer
    }

    /// Appends the tokens of `text` to `tokens`.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode(&mut self, text: &str, tokens: &mut Vec<u32>) -> Result<(), Error> {
        let split_rule = self.tokenizer.split_rule;
        if split_rule == SplitRule::Never {
            tokens.extend(self.tokenizer.encode(text)?);
            return Ok(());
        }
        if split_rule == SplitRule::Gpt2 && text.is_ascii() {
            return gpt2_words::split(text).try_for_each(|word| self.encode_piece(word, tokens));
        }
        let bytes = text.as_bytes();
        let mut start = 0;
        while start < bytes.len() {
            let inner =
                bytes[start..].windows(2).position(|pair| split_rule.allows_between(pair[0], pair[1]));
            let end = inner.map_or(bytes.len(), |inner| start + inner + 1);
            // Both bytes at a split are ASCII, so it is a character boundary.
            let piece = &text[start..end];
            if split_rule == SplitRule::Gpt2 && piece.is_ascii() {
                gpt2_words::split(piece).try_for_each(|word| self.encode_piece(word, tokens))?;
            } else {
                self.encode_piece(piece, tokens)?;
            }
            start = end;
        }
        Ok(())
    }

    fn encode_piece(&mut self, piece: &str, tokens: &mut Vec<u32>) -> Result<(), Error> {
        if let Some(cached) = self.cache.get(piece) {
            let found = &self.tokens[cached.start as usize..][..cached.count as usize];
            tokens.extend_from_slice(found);
            return Ok(());
        }
        let found = self.tokenizer.encode(piece)?;
        tokens.extend_from_slice(&found);
        let place = (u32::try_from(self.tokens.len()), u32::try_from(found.len()));
        if let (Ok(start), Ok(count)) = place
            && self.cache.len() < CACHE_MAX
            && piece.len() <= BYTES_MAX
        {
            self.cache.insert(piece.into(), Cached { start, count });
            self.tokens.extend_from_slice(&found);
        }
        Ok(())
    }
}

impl Tokenizer {
    /// Creates an encoder for many texts.
    #[must_use]
    pub fn encoder(&self) -> Encoder<'_> {
        Encoder { tokenizer: self, cache: HashMap::default(), tokens: Vec::new() }
    }
}

/// A hash for short texts: eight bytes at a time, multiplied and folded. Chosen collisions only make it slow,
/// and the table is bounded.
#[derive(Default)]
struct WordHasher {
    state: u64,
}

impl WordHasher {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * 0x9e37_79b9_7f4a_7c15_u128 + u128::from(word);
        self.state = (product as u64) ^ ((product >> 64) as u64).rotate_left(23);
    }
}

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        let mut last = [0; 8];
        last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        self.mix(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    fn write_u8(&mut self, byte: u8) {
        // The terminator that `str` appends: it adds nothing here.
        let _ = byte;
    }

    fn finish(&self) -> u64 {
        self.state
    }
}
