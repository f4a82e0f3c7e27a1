//! A byte-level BPE tokenizer: trained from a bounded sample, kept as a Hugging Face `tokenizer.json`.

use super::Error;
use super::dedup::Choice;
use super::documents::Scan;
use super::words;
use crate::compute::Compute;
use crate::durable;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, TokenizerBuilder};

/// The token between documents; it stands for no text.
pub const BOUNDARY: &str = "<|end|>";
/// The 256 bytes and the boundary.
const VOCAB_MIN: usize = 257;
/// A larger vocabulary is refused.
const VOCAB_MAX: usize = 1 << 20;

/// How to train one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerConfig {
    /// Most tokens, with the 256 bytes and the boundary. Little text gives fewer.
    pub vocab_size: usize,
    /// Most bytes of text to learn from.
    pub sample_bytes: usize,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self { vocab_size: 2048, sample_bytes: 4 * 1024 * 1024 }
    }
}

/// A trained tokenizer.
pub struct Tokenizer {
    library: tokenizers::Tokenizer,
    json: Vec<u8>,
    hash: String,
    boundary: u32,
    /// The bytes of each token.
    pieces: Vec<Vec<u8>>,
    byte_lengths: Vec<u32>,
}

impl Tokenizer {
    /// Learns merges from the training documents that are kept, an equal share of each scan's.
    ///
    /// # Errors
    /// When the vocabulary is too small for all bytes, or there is no text.
    pub fn train(config: &TokenizerConfig, scans: &[Scan], choice: &Choice, compute: &Compute) -> Result<Self, Error> {
        if !(VOCAB_MIN..=VOCAB_MAX).contains(&config.vocab_size) {
            return Err(Error::Parameters(format!("vocab_size {} is not from {VOCAB_MIN} to {VOCAB_MAX}", config.vocab_size)));
        }
        let sample = sample(config.sample_bytes, scans, choice)?;
        let failed = |e: tokenizers::Error| Error::Tokenizer { doing: "train", reason: e.to_string() };
        let json = compute.run(|| -> Result<String, tokenizers::Error> {
            let mut trainer = BpeTrainer::builder()
                .vocab_size(config.vocab_size)
                .min_frequency(2)
                .show_progress(false)
                .special_tokens(vec![AddedToken::from(BOUNDARY, true)])
                .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
                .build();
            let level = ByteLevel::new(false, false, true);
            let mut library = TokenizerBuilder::<BPE, NormalizerWrapper, ByteLevel, ByteLevel, ByteLevel>::new()
                .with_model(BPE::default())
                .with_normalizer(None)
                .with_pre_tokenizer(Some(level))
                .with_post_processor(Some(level))
                .with_decoder(Some(level))
                .build()?;
            library.train(&mut trainer, sample.iter())?;
            library.to_string(false)
        });
        Self::from_bytes(json.map_err(failed)?.as_bytes())
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// When it is none, or not byte-level BPE, or without our boundary token.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let failed = |reason: String| Error::Tokenizer { doing: "read", reason };
        let mut library = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| failed(e.to_string()))?;
        let plain = match (library.get_model(), library.get_pre_tokenizer(), library.get_normalizer()) {
            (ModelWrapper::BPE(_), Some(PreTokenizerWrapper::ByteLevel(level)), None) => level.use_regex && !level.add_prefix_space,
            _ => false,
        };
        if !plain {
            return Err(failed("it is not byte-level BPE without a prefix space".to_owned()));
        }
        // Text that happens to spell the boundary must not end a document.
        library.set_encode_special_tokens(true);
        let boundary = library.token_to_id(BOUNDARY).ok_or_else(|| failed(format!("it has no token {BOUNDARY}")))?;
        let alphabet = alphabet();
        let mut pieces = Vec::new();
        for id in 0..u32::try_from(library.get_vocab_size(true)).map_err(|_| failed("it is too large".to_owned()))? {
            if id == boundary {
                pieces.push(Vec::new());
                continue;
            }
            let spelled = library.id_to_token(id).ok_or_else(|| failed(format!("it has no token {id}")))?;
            let piece: Option<Vec<u8>> = spelled.chars().map(|c| alphabet.get(&c).copied()).collect();
            pieces.push(piece.ok_or_else(|| failed(format!("token {id}, {spelled:?}, does not stand for bytes")))?);
        }
        let byte_lengths = pieces.iter().map(|piece| piece.len() as u32).collect();
        Ok(Self { library, json: bytes.to_vec(), hash: durable::hash(bytes), boundary, pieces, byte_lengths })
    }

    /// The `tokenizer.json`.
    #[must_use]
    pub fn to_bytes(&self) -> &[u8] {
        &self.json
    }

    /// Hash of [`Tokenizer::to_bytes`].
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Number of tokens.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The id of [`BOUNDARY`].
    #[must_use]
    pub fn boundary(&self) -> u32 {
        self.boundary
    }

    /// The tokens of a text, without a boundary; text that looks like the boundary is plain text.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let encoding = self.library.encode_fast(text, false);
        Ok(encoding.map_err(|e| Error::Tokenizer { doing: "encode with", reason: e.to_string() })?.get_ids().to_vec())
    }

    /// The bytes of some tokens; boundaries give none.
    ///
    /// # Errors
    /// When a token is outside the vocabulary.
    pub fn decode_bytes(&self, tokens: &[u32]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        for token in tokens {
            let piece = self.pieces.get(*token as usize);
            let outside = || format!("token {token} is outside the vocabulary of {}", self.pieces.len());
            bytes.extend_from_slice(piece.ok_or_else(|| Error::Tokenizer { doing: "decode with", reason: outside() })?);
        }
        Ok(bytes)
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
        &self.byte_lengths
    }

    /// An encoder for many texts.
    #[must_use]
    pub fn encoder(&self) -> Encoder<'_> {
        Encoder { tokenizer: self, known: HashMap::new() }
    }
}

/// Encodes many texts, and remembers words: the same tokens as [`Tokenizer::encode`], many times faster.
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    known: HashMap<Box<str>, Box<[u32]>>,
}

/// Words that an encoder remembers.
const WORDS_KNOWN_MAX: usize = 64 * 1024;
/// Longer words are not worth remembering.
const WORD_BYTES_MAX: usize = 64;

impl Encoder<'_> {
    /// Appends the tokens of `text` to `tokens`.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode(&mut self, text: &str, tokens: &mut Vec<u32>) -> Result<(), Error> {
        // Only ASCII is divided into words here: its classes of characters are beyond doubt.
        if !text.is_ascii() {
            tokens.extend(self.tokenizer.encode(text)?);
            return Ok(());
        }
        for word in words::ascii(text) {
            if let Some(known) = self.known.get(word) {
                tokens.extend_from_slice(known);
                continue;
            }
            let found = self.tokenizer.encode(word)?;
            tokens.extend_from_slice(&found);
            if self.known.len() < WORDS_KNOWN_MAX && word.len() <= WORD_BYTES_MAX {
                self.known.insert(word.into(), found.into());
            }
        }
        Ok(())
    }
}

/// The first training documents of each scan that fit its share.
fn sample<'a>(bytes: usize, scans: &'a [Scan], choice: &Choice) -> Result<Vec<Cow<'a, str>>, Error> {
    if choice.keep.len() != scans.len() {
        return Err(Error::Parameters(format!("the choice is of {} scans, not of {}", choice.keep.len(), scans.len())));
    }
    let share = bytes / scans.len().max(1);
    let mut sample = Vec::new();
    for (scan, keep) in scans.iter().zip(&choice.keep) {
        let mut used = 0;
        for position in keep {
            let document = scan.documents.get(*position as usize);
            let document = document.ok_or_else(|| Error::Parameters(format!("the scan has no document {position}")))?;
            if document.entry.held_out || used + document.entry.bytes as usize > share {
                continue;
            }
            used += document.entry.bytes as usize;
            sample.push(document.body.plain());
        }
    }
    if sample.is_empty() {
        return Err(Error::Parameters(format!("no training document fits a sample of {bytes} bytes")));
    }
    Ok(sample)
}

/// The characters that byte-level BPE writes for bytes: printable ones as themselves, others from U+0100 on.
fn alphabet() -> HashMap<char, u8> {
    let mut next = 0x100u32;
    (0..=255u8)
        .map(|byte| {
            let itself = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
            let code = if itself { u32::from(byte) } else { next };
            next += u32::from(!itself);
            (char::from_u32(code).expect("codes below 0x200 are characters"), byte)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::documents::{Body, Document, Place};

    const TEXT: &str = include_str!("tokenizer.rs");

    fn trained(vocab_size: usize) -> Tokenizer {
        let document = |held_out, text: &str| Document::new("a".to_owned(), Place::Whole, Body::Text(text.to_owned()), held_out);
        let scan = Scan { documents: vec![document(true, &"zq".repeat(99)), document(false, TEXT)], ..Scan::default() };
        let choice = Choice { keep: vec![vec![0, 1]], ..Choice::default() };
        let config = TokenizerConfig { vocab_size, ..TokenizerConfig::default() };
        Tokenizer::train(&config, &[scan], &choice, &Compute::new(1).expect("starts")).expect("trains")
    }

    #[test]
    fn any_text_comes_back_and_lengths_are_of_bytes() {
        let tokenizer = trained(400);
        assert_eq!(tokenizer.vocab_size(), 400);
        let every_char: String = (1..0x300).filter_map(char::from_u32).collect();
        for text in ["", "fn main() {}\n", "\t  \n\n x", "<|end|> inside", "caf\u{e9} \u{1f980}", every_char.as_str(), TEXT] {
            let tokens = tokenizer.encode(text).expect("encodes");
            assert!(!tokens.contains(&tokenizer.boundary()));
            assert_eq!(tokenizer.decode(&tokens).expect("decodes"), text);
            let bytes: u32 = tokens.iter().map(|t| tokenizer.byte_lengths()[*t as usize]).sum();
            assert_eq!(bytes as usize, text.len());
        }
        assert_eq!(tokenizer.decode(&[tokenizer.boundary()]).expect("decodes"), "");
        assert!(tokenizer.decode(&[400]).expect_err("outside").to_string().contains("token 400"));
        let tokens = tokenizer.encode(TEXT).expect("encodes").len();
        assert!(tokens * 3 < TEXT.len() * 2, "{tokens} tokens for {} bytes", TEXT.len());
    }

    #[test]
    fn training_twice_gives_the_same_bytes_and_sees_no_held_out_text() {
        let (one, two) = (trained(700), trained(700));
        assert_eq!(one.hash(), two.hash());
        let read = Tokenizer::from_bytes(one.to_bytes()).expect("reads");
        assert_eq!(read.encode(TEXT).expect("encodes"), one.encode(TEXT).expect("encodes"));
        assert!(!one.pieces.contains(&b"zqzq".to_vec()));
    }

    #[test]
    fn the_encoder_gives_the_librarys_tokens() {
        let tokenizer = trained(600);
        let ascii: String = (1..0x80).filter_map(char::from_u32).collect();
        let reversed: String = ascii.chars().rev().collect();
        let spaces = " a  b   c \n d\n\n  e \t\t f  \n";
        let quotes = "it's 'a b'static 'll' '' x'd\"'re 've12's";
        for text in [TEXT, ascii.as_str(), reversed.as_str(), spaces, quotes, "", " ", "a ", "\n", "\u{e9} x"] {
            let mut tokens = Vec::new();
            tokenizer.encoder().encode(text, &mut tokens).expect("encodes");
            assert_eq!(tokens, tokenizer.encode(text).expect("encodes"), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_tokenizer_of_ours_is_refused() {
        let tokenizer = trained(300);
        let json = String::from_utf8(tokenizer.to_bytes().to_vec()).expect("is text");
        let table = [
            ("nonsense".to_owned(), "read the tokenizer"),
            (json.replace(BOUNDARY, "<|other|>"), "no token <|end|>"),
            (json.replace("\"add_prefix_space\":false", "\"add_prefix_space\":true"), "not byte-level BPE"),
        ];
        for (json, expected) in table {
            let message = Tokenizer::from_bytes(json.as_bytes()).err().expect(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
