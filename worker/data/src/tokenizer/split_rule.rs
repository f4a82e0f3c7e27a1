//! Where a text can be split before encoding without changing its tokens.

use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

/// Where texts of a tokenizer can be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SplitRule {
    /// GPT-2's expression: before white space; ASCII text at every word.
    Gpt2,
    /// Llama 3's and Qwen 2's expressions: before white space, except between punctuation and a line ending,
    /// which they join.
    Llama3,
    /// Nowhere: whole texts only.
    Never,
}

/// The expression of Llama 3's `tokenizer.json`.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The expression of Qwen 2's and 3's `tokenizer.json`.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl SplitRule {
    /// The rule that is safe for a tokenizer.
    pub(super) fn of(tokenizer: &tokenizers::Tokenizer) -> Self {
        let plain = matches!(tokenizer.get_model(), ModelWrapper::BPE(_));
        // NFC never composes across white space.
        let composes = match tokenizer.get_normalizer() {
            None => false,
            Some(NormalizerWrapper::NFC(_)) => true,
            Some(_) => return Self::Never,
        };
        // Special tokens are plain text here. Other added tokens are matched before pre-tokenization, and may
        // contain or strip white space.
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
            return Self::Never;
        }
        match tokenizer.get_pre_tokenizer() {
            Some(PreTokenizerWrapper::ByteLevel(level)) if level.use_regex && !level.add_prefix_space => {
                if any || composes {
                    Self::Never
                } else {
                    Self::Gpt2
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
                            Self::Llama3
                        }
                        SplitPattern::Regex(_) | SplitPattern::String(_) => Self::Never,
                    }
                }
                _ => Self::Never,
            },
            _ => Self::Never,
        }
    }

    /// Whether a text can be split between two adjacent bytes.
    pub(super) fn allows_between(self, before: u8, after: u8) -> bool {
        let white = |byte: u8| matches!(byte, b' ' | b'\t'..=b'\r');
        match self {
            // Only an ASCII byte is surely a character other than white space.
            Self::Gpt2 => white(after) && before.is_ascii() && !white(before),
            Self::Llama3 => {
                white(after)
                    && (before.is_ascii_alphanumeric()
                        || (before.is_ascii_punctuation() && !matches!(after, b'\r' | b'\n')))
            }
            Self::Never => false,
        }
    }
}
