//! Encodes many texts with one tokenizer, and remembers what it has seen: the library's tokens, many times
//! faster.
//!
//! A text is cut where the tokenizer's own expression is sure to end a word, whatever stands around: between
//! a character that is no white space and white space. What lies between two cuts is encoded by the library
//! once, and then known. For GPT-2's expression ASCII is cut into its words by hand ([`gpt2_words`]), which are
//! shorter and so known sooner. A tokenizer whose words are not understood is asked for whole texts. The
//! price is memory, bounded by [`KNOWN_MAX`] entries for each encoder.

use super::Tokenizer;
use super::split_rule::SplitRule;
use crate::Error;
use crate::gpt2_words;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Encodes many texts.
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    known: HashMap<Box<str>, Known, BuildHasherDefault<WordHasher>>,
    /// The tokens of everything known, in a row.
    tokens: Vec<u32>,
}

/// Where the tokens of something known are.
#[derive(Clone, Copy)]
struct Known {
    start: u32,
    count: u32,
}

/// Words and pieces that an encoder remembers.
const KNOWN_MAX: usize = 256 * 1024;
/// Longer ones are not worth remembering.
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
            return gpt2_words::split(text).try_for_each(|word| self.remember(word, tokens));
        }
        let bytes = text.as_bytes();
        let mut start = 0;
        while start < bytes.len() {
            let inner =
                bytes[start..].windows(2).position(|pair| split_rule.allows_between(pair[0], pair[1]));
            let end = inner.map_or(bytes.len(), |inner| start + inner + 1);
            // Both bytes at a cut are ASCII, so it lies between characters.
            let piece = &text[start..end];
            if split_rule == SplitRule::Gpt2 && piece.is_ascii() {
                gpt2_words::split(piece).try_for_each(|word| self.remember(word, tokens))?;
            } else {
                self.remember(piece, tokens)?;
            }
            start = end;
        }
        Ok(())
    }

    fn remember(&mut self, piece: &str, tokens: &mut Vec<u32>) -> Result<(), Error> {
        if let Some(known) = self.known.get(piece) {
            let found = &self.tokens[known.start as usize..][..known.count as usize];
            tokens.extend_from_slice(found);
            return Ok(());
        }
        let found = self.tokenizer.encode(piece)?;
        tokens.extend_from_slice(&found);
        let place = (u32::try_from(self.tokens.len()), u32::try_from(found.len()));
        if let (Ok(start), Ok(count)) = place
            && self.known.len() < KNOWN_MAX
            && piece.len() <= BYTES_MAX
        {
            self.known.insert(piece.into(), Known { start, count });
            self.tokens.extend_from_slice(&found);
        }
        Ok(())
    }
}

impl Tokenizer {
    /// Creates an encoder for many texts.
    #[must_use]
    pub fn encoder(&self) -> Encoder<'_> {
        Encoder { tokenizer: self, known: HashMap::default(), tokens: Vec::new() }
    }
}

/// A hash for short texts: eight bytes at a time, multiplied and folded. Hostile texts can only make it slow,
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
        // The end mark of a text, which says nothing.
        let _ = byte;
    }

    fn finish(&self) -> u64 {
        self.state
    }
}
