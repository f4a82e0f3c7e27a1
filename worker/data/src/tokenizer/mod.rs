//! Tokenizers: a byte-level BPE trained on a bounded sample, or any Hugging Face `tokenizer.json` that the
//! `tokenizers` library reads.
//!
//! Encoding a text never gives a special token, even if the text spells one; chat templates and packing
//! insert them. The truncation, padding and post-processor of a `tokenizer.json` are not used.

mod encoder;
#[cfg(test)]
mod golden;
mod special_tokens;
mod split_rule;
#[cfg(test)]
mod tests;
mod token_bytes;

pub use encoder::Encoder;
pub use special_tokens::SpecialTokens;

use super::Error;
use super::dedup::Selection;
use super::documents::Scan;
use muster_host::compute::Compute;
use serde::{Deserialize, Serialize};
use split_rule::SplitRule;
use std::borrow::Cow;
use std::collections::BTreeSet;
use token_bytes::Spelling;
use tokenizers as library;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, ModelWrapper, NormalizerWrapper, TokenizerBuilder};

/// The end-of-sequence token of tokenizers trained here; it decodes to nothing.
pub const EOS: &str = "<|end|>";
/// Taken for the end-of-sequence token, the first that exists, if no `eos_token` is named.
const EOS_KNOWN: [&str; 5] = [EOS, "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"];
/// The 256 bytes and the end-of-sequence token.
const VOCAB_MIN: usize = 257;
/// The largest vocabulary.
const VOCAB_MAX: usize = 1 << 20;

/// Parameters of training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerConfig {
    /// Most tokens, including the 256 bytes and the special tokens; 257 to 2^20. Little text gives fewer.
    pub vocab_size: usize,
    /// Most bytes of text to train on.
    pub sample_bytes: usize,
    /// Special tokens besides [`EOS`], such as those of a chat template.
    pub special_tokens: Vec<String>,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self { vocab_size: 2048, sample_bytes: 4 * 1024 * 1024, special_tokens: Vec::new() }
    }
}

/// A tokenizer with its vocabulary as bytes.
pub struct Tokenizer {
    library: library::Tokenizer,
    json: Vec<u8>,
    specials: SpecialTokens,
    hash: String,
    boundary: u32,
    split_rule: SplitRule,
    spelling: Spelling,
    /// The bytes of each token; empty for special tokens.
    pieces: Vec<Vec<u8>>,
    byte_lengths: Vec<u32>,
}

impl Tokenizer {
    /// Trains a byte-level BPE on selected documents that are not held out, with an equal share from each
    /// scan.
    ///
    /// # Errors
    /// [`Error::Parameters`] if the vocabulary size is out of range or no document fits the sample,
    /// [`Error::Empty`] if no document is selected.
    pub fn train(
        config: &TokenizerConfig,
        scans: &[Scan],
        selection: &Selection,
        compute: &Compute,
    ) -> Result<Self, Error> {
        if !(VOCAB_MIN..=VOCAB_MAX).contains(&config.vocab_size) {
            return Err(Error::Parameters(format!(
                "vocab_size {} is not from {VOCAB_MIN} to {VOCAB_MAX}",
                config.vocab_size
            )));
        }
        let sample = sample(config.sample_bytes, scans, selection)?;
        let mut seen = BTreeSet::new();
        let specials = std::iter::once(EOS).chain(config.special_tokens.iter().map(String::as_str));
        let specials = specials
            .filter(|special| seen.insert(*special))
            .map(|special| AddedToken::from(special, true))
            .collect();
        let failed = |e: tokenizers::Error| Error::Tokenizer { doing: "train", reason: e.to_string() };
        let json = compute.run(|| -> Result<String, tokenizers::Error> {
            let mut trainer = BpeTrainer::builder()
                .vocab_size(config.vocab_size)
                .min_frequency(2)
                .show_progress(false)
                .special_tokens(specials)
                .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
                .build();
            let level = ByteLevel::new(false, false, true);
            let mut library =
                TokenizerBuilder::<BPE, NormalizerWrapper, ByteLevel, ByteLevel, ByteLevel>::new()
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

    /// Reads a `tokenizer.json` without further special tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::load(bytes, SpecialTokens::default())
    }

    /// Reads a `tokenizer.json` with these special tokens.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the library can't read it, its BPE uses dropout, a named special token is not
    /// in the vocabulary, or no end-of-sequence token is known.
    pub fn load(bytes: &[u8], specials: SpecialTokens) -> Result<Self, Error> {
        let failed = |reason: String| Error::Tokenizer { doing: "read", reason };
        let mut library = library::Tokenizer::from_bytes(bytes).map_err(|e| failed(e.to_string()))?;
        if let ModelWrapper::BPE(bpe) = library.get_model()
            && bpe.dropout.is_some_and(|dropout| dropout > 0.0)
        {
            return Err(failed(
                "its BPE leaves out merges at random (`dropout`), so no two runs would agree".to_owned(),
            ));
        }
        library.with_truncation(None).map_err(|e| failed(e.to_string()))?;
        library.with_padding(None);
        // Text that happens to spell a special token must not become one.
        library.set_encode_special_tokens(true);
        let named = [
            ("bos_token", &specials.bos_token),
            ("eos_token", &specials.eos_token),
            ("pad_token", &specials.pad_token),
        ];
        for (role, token) in named.iter().filter_map(|(role, token)| Some((role, token.as_ref()?))) {
            library
                .token_to_id(token)
                .ok_or_else(|| failed(format!("its `{role}` {token:?} is not in its vocabulary")))?;
        }
        let boundary = match &specials.eos_token {
            Some(token) => library.token_to_id(token),
            None => EOS_KNOWN.iter().find_map(|token| library.token_to_id(token)),
        };
        let boundary = boundary.ok_or_else(|| {
            failed(format!("nothing says which token ends a document, and it has none of {EOS_KNOWN:?}; name its `eos_token` in special_tokens_map.json"))
        })?;
        let vocab = library.get_vocab(true);
        let size = vocab.values().max().map_or(0, |id| *id as usize + 1);
        if size > VOCAB_MAX {
            return Err(failed(format!(
                "its ids go up to {size}, and at most {VOCAB_MAX} tokens can be used"
            )));
        }
        let added = library.get_added_tokens_decoder();
        let (spelling, alphabet) = (Spelling::of(&library), token_bytes::alphabet());
        let mut pieces = vec![Vec::new(); size];
        for (spelled, id) in &vocab {
            pieces[*id as usize] = match added.get(id) {
                Some(token) if token.special || *id == boundary => Vec::new(),
                Some(token) => token.content.as_bytes().to_vec(),
                None if *id == boundary => Vec::new(),
                None => {
                    let bytes = spelling.bytes(spelled, &alphabet);
                    bytes
                        .ok_or_else(|| failed(format!("token {id}, {spelled:?}, does not stand for bytes")))?
                }
            };
        }
        let byte_lengths = pieces.iter().map(|piece| piece.len() as u32).collect();
        let split_rule = SplitRule::of(&library);
        let mut hasher = blake3::Hasher::new();
        hasher.update(bytes);
        if !specials.is_empty() {
            hasher.update(&[0]).update(&specials.to_bytes());
        }
        let hash = hasher.finalize().to_hex().to_string();
        Ok(Self {
            library,
            json: bytes.to_vec(),
            specials,
            hash,
            boundary,
            split_rule,
            spelling,
            pieces,
            byte_lengths,
        })
    }

    /// The `tokenizer.json`.
    #[must_use]
    pub fn to_bytes(&self) -> &[u8] {
        &self.json
    }

    /// Its named special tokens.
    #[must_use]
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.specials
    }

    /// BLAKE3 hash of [`Tokenizer::to_bytes`] and the named special tokens, in hexadecimal.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Number of tokens: one more than the highest id.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The end-of-sequence token, placed after each document.
    #[must_use]
    pub fn eos(&self) -> u32 {
        self.boundary
    }

    /// The beginning-of-sequence token, if named.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.specials.bos_token.as_deref().and_then(|token| self.library.token_to_id(token))
    }

    /// The padding token, or the end-of-sequence token if none is named.
    #[must_use]
    pub fn pad(&self) -> u32 {
        self.specials
            .pad_token
            .as_deref()
            .and_then(|token| self.library.token_to_id(token))
            .unwrap_or(self.boundary)
    }

    /// The id of a special token by its text; `None` if there is no such special token.
    #[must_use]
    pub fn special(&self, spelled: &str) -> Option<u32> {
        self.library
            .get_added_vocabulary()
            .is_special_token(spelled)
            .then(|| self.library.token_to_id(spelled))
            .flatten()
    }

    /// Checks that a model with `vocab_size` embeddings covers this vocabulary.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with both numbers.
    pub fn check_vocabulary(&self, vocab_size: usize) -> Result<(), Error> {
        if self.vocab_size() > vocab_size {
            let (ours, theirs) =
                (format!("{} tokens", self.vocab_size()), format!("a vocabulary of {vocab_size}"));
            return Err(Error::Mismatch { what: "the tokenizer and the model", one: ours, other: theirs });
        }
        Ok(())
    }

    /// Checks this tokenizer against `model`, the tokenizer that a model was trained with: an id in both must
    /// be the same token. An id in only one of them may be a reserved row of the embedding.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with the first id that differs.
    pub fn check_tokens(&self, model: &Self) -> Result<(), Error> {
        let last = self.vocab_size().min(model.vocab_size()) as u32;
        for id in 0..last {
            if let (Some(ours), Some(theirs)) = (self.library.id_to_token(id), model.library.id_to_token(id))
                && ours != theirs
            {
                let (one, other) =
                    (format!("token {id} is {ours:?}"), format!("for the model it is {theirs:?}"));
                return Err(Error::Mismatch { what: "the tokenizer and the model", one, other });
            }
        }
        Ok(())
    }

    /// Checks the tokenizer hash of shards against this tokenizer.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with both hashes.
    pub fn check_hash(&self, hash: &str) -> Result<(), Error> {
        if self.hash != hash {
            return Err(Error::Mismatch {
                what: "the tokenizer and the shards",
                one: self.hash.clone(),
                other: format!("shards made with {hash}"),
            });
        }
        Ok(())
    }

    /// Encodes a text, without an end-of-sequence token. Text that spells a special token is plain text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if the library fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let encoding = self.library.encode_fast(text, false);
        Ok(encoding
            .map_err(|e| Error::Tokenizer { doing: "encode with", reason: e.to_string() })?
            .get_ids()
            .to_vec())
    }

    /// Decodes tokens to bytes; special tokens give none.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if a token is outside the vocabulary.
    pub fn decode_bytes(&self, tokens: &[u32]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        for token in tokens {
            let piece = self.pieces.get(*token as usize);
            let outside = || format!("token {token} is outside the vocabulary of {}", self.pieces.len());
            bytes.extend_from_slice(
                piece.ok_or_else(|| Error::Tokenizer { doing: "decode with", reason: outside() })?,
            );
        }
        Ok(bytes)
    }

    /// Decodes tokens to text, without special tokens; invalid UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// As [`Tokenizer::decode_bytes`].
    pub fn decode(&self, tokens: &[u32]) -> Result<String, Error> {
        let bytes = self.decode_bytes(tokens)?;
        match self.spelling {
            Spelling::ByteLevel => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            // Only the decoders of these know how to join tokens.
            Spelling::SentencePiece | Spelling::WordPiece | Spelling::Plain => {
                let text = self.library.decode(tokens, true);
                text.map_err(|e| Error::Tokenizer { doing: "decode with", reason: e.to_string() })
            }
        }
    }

    /// Bytes of text of each token, by id; 0 for special tokens.
    #[must_use]
    pub fn byte_lengths(&self) -> &[u32] {
        &self.byte_lengths
    }
}

/// The first selected training documents of each scan that fit its share of `bytes`.
fn sample<'a>(bytes: usize, scans: &'a [Scan], selection: &Selection) -> Result<Vec<Cow<'a, str>>, Error> {
    if selection.keep.len() != scans.len() {
        return Err(Error::Parameters(format!(
            "the selection is of {} scans, not of {}",
            selection.keep.len(),
            scans.len()
        )));
    }
    if selection.keep.iter().all(Vec::is_empty) {
        return Err(Error::Empty(format!(
            "there is no document to learn a tokenizer from: {} scans kept none",
            scans.len()
        )));
    }
    let share = bytes / scans.len().max(1);
    let mut sample = Vec::new();
    for (scan, keep) in scans.iter().zip(&selection.keep) {
        let mut used = 0;
        for position in keep {
            let document = scan.documents.get(*position as usize);
            let document =
                document.ok_or_else(|| Error::Parameters(format!("the scan has no document {position}")))?;
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
