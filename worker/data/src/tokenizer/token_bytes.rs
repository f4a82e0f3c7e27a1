//! The bytes of each token, for bits per byte and lossless decoding.

use std::collections::HashMap;
use tokenizers::{DecoderWrapper, ModelWrapper, PreTokenizerWrapper};

/// How a vocabulary writes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Byte-level BPE: a character for each byte, as in GPT-2.
    ByteLevel,
    /// Text, with `▁` for a space and `<0x0A>` for a byte that has no token: SentencePiece.
    SentencePiece,
    /// Text, with `##` before a continuation: WordPiece.
    WordPiece,
    /// Plain text.
    Plain,
}

impl Spelling {
    /// Detects the spelling of a tokenizer.
    pub(super) fn of(tokenizer: &tokenizers::Tokenizer) -> Self {
        let decodes = |decoder: &DecoderWrapper| matches!(decoder, DecoderWrapper::ByteLevel(_));
        let divides = |step: &PreTokenizerWrapper| matches!(step, PreTokenizerWrapper::ByteLevel(_));
        let decoder = tokenizer.get_decoder();
        let by_decoder = match decoder {
            Some(DecoderWrapper::Sequence(steps)) => steps.get_decoders().iter().any(decodes),
            Some(decoder) => decodes(decoder),
            None => false,
        };
        let by_words = match tokenizer.get_pre_tokenizer() {
            Some(PreTokenizerWrapper::Sequence(steps)) => steps.as_ref().iter().any(divides),
            Some(step) => divides(step),
            None => false,
        };
        if by_decoder || by_words {
            return Self::ByteLevel;
        }
        match tokenizer.get_model() {
            ModelWrapper::WordPiece(_) => Self::WordPiece,
            ModelWrapper::BPE(_) | ModelWrapper::Unigram(_) => Self::SentencePiece,
            ModelWrapper::WordLevel(_) => Self::Plain,
        }
    }

    /// The bytes of a token; `None` if `spelled` is not valid.
    pub(super) fn bytes(self, spelled: &str, alphabet: &HashMap<char, u8>) -> Option<Vec<u8>> {
        match self {
            Self::ByteLevel => spelled.chars().map(|c| alphabet.get(&c).copied()).collect(),
            Self::SentencePiece => {
                let byte = spelled
                    .strip_prefix("<0x")
                    .and_then(|rest| rest.strip_suffix('>'))
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok());
                Some(byte.map_or_else(|| spelled.replace('\u{2581}', " ").into_bytes(), |byte| vec![byte]))
            }
            Self::WordPiece => Some(spelled.strip_prefix("##").unwrap_or(spelled).as_bytes().to_vec()),
            Self::Plain => Some(spelled.as_bytes().to_vec()),
        }
    }
}

/// The characters that byte-level BPE writes for bytes: printable ones as themselves, others from U+0100 on.
pub(super) fn alphabet() -> HashMap<char, u8> {
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
