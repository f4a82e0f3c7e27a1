//! Encodes many texts with one tokenizer, and remembers what it has seen: the library's tokens, many times
//! faster.
//!
//! A text is cut where the tokenizer's own expression is sure to end a word, whatever stands around: between
//! a character that is no white space and white space. What lies between two cuts is encoded by the library
//! once, and then known. For GPT-2's expression ASCII is cut into its words by hand ([`words`]), which are
//! shorter and so known sooner. A tokenizer whose words are not understood is asked for whole texts. The
//! price is memory, bounded by [`KNOWN_MAX`] entries for each encoder.

use super::super::Error;
use super::super::words;
use super::{Tokenizer, library};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

/// How a tokenizer's texts may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// GPT-2's expression: before any white space, and ASCII into words.
    Words,
    /// Llama 3's and Qwen 2's expressions: before white space, but a line's end belongs to the punctuation
    /// before it.
    Pieces,
    /// Not at all.
    Nowhere,
}

/// The expression of Llama 3's `tokenizer.json`.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The expression of Qwen 2's and 3's `tokenizer.json`.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Cut {
    /// What is sure for a tokenizer.
    pub(super) fn of(tokenizer: &library::Tokenizer) -> Self {
        let plain = matches!(tokenizer.get_model(), ModelWrapper::BPE(_));
        // Composition never reaches across white space.
        let composes = match tokenizer.get_normalizer() {
            None => false,
            Some(NormalizerWrapper::NFC(_)) => true,
            Some(_) => return Self::Nowhere,
        };
        // Special tokens are plain text here; others are found before words are, and may hold or swallow
        // white space.
        let added = tokenizer.get_added_tokens_decoder();
        let found_first = added.values().filter(|token| !token.special);
        let (mut any, mut spaced) = (false, false);
        for token in found_first {
            any = true;
            spaced |= token.lstrip
                || token.rstrip
                || token.single_word
                || token.content.contains(char::is_whitespace);
        }
        if !plain || spaced {
            return Self::Nowhere;
        }
        match tokenizer.get_pre_tokenizer() {
            Some(PreTokenizerWrapper::ByteLevel(level)) if level.use_regex && !level.add_prefix_space => {
                if any || composes {
                    Self::Nowhere
                } else {
                    Self::Words
                }
            }
            Some(PreTokenizerWrapper::Sequence(steps)) => match steps.as_ref() {
                [PreTokenizerWrapper::Split(split), PreTokenizerWrapper::ByteLevel(level)]
                    if !level.use_regex
                        && !level.add_prefix_space
                        && !split.invert
                        && split.behavior == SplitDelimiterBehavior::Isolated =>
                {
                    match &split.pattern {
                        SplitPattern::Regex(pattern) if pattern == LLAMA_3 || pattern == QWEN_2 => {
                            Self::Pieces
                        }
                        SplitPattern::Regex(_) | SplitPattern::String(_) => Self::Nowhere,
                    }
                }
                _ => Self::Nowhere,
            },
            _ => Self::Nowhere,
        }
    }

    /// Whether a text may be cut between two of its bytes.
    fn between(self, before: u8, after: u8) -> bool {
        let white = |byte: u8| matches!(byte, b' ' | b'\t'..=b'\r');
        match self {
            // The byte before is beyond doubt only in ASCII.
            Self::Words => white(after) && before.is_ascii() && !white(before),
            Self::Pieces => {
                white(after)
                    && (before.is_ascii_alphanumeric()
                        || (before.is_ascii_punctuation() && !matches!(after, b'\r' | b'\n')))
            }
            Self::Nowhere => false,
        }
    }
}

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
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, known: HashMap::default(), tokens: Vec::new() }
    }

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
        let cut = self.tokenizer.cut;
        if cut == Cut::Nowhere {
            tokens.extend(self.tokenizer.encode(text)?);
            return Ok(());
        }
        if cut == Cut::Words && text.is_ascii() {
            return words::ascii(text).try_for_each(|word| self.remember(word, tokens));
        }
        let bytes = text.as_bytes();
        let mut start = 0;
        while start < bytes.len() {
            let inner = bytes[start..].windows(2).position(|pair| cut.between(pair[0], pair[1]));
            let end = inner.map_or(bytes.len(), |inner| start + inner + 1);
            // Both bytes at a cut are ASCII, so it lies between characters.
            let piece = &text[start..end];
            if cut == Cut::Words && piece.is_ascii() {
                words::ascii(piece).try_for_each(|word| self.remember(word, tokens))?;
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
