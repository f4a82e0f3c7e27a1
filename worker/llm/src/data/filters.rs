//! Cheap rules, in the manner of Gopher's, for what text is worth training on.
//!
//! A file is dropped for the first rule that it breaks, so the reasons add up to the number dropped.

use serde::{Deserialize, Serialize};

/// Why a file was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// Fewer bytes than the least.
    TooSmall,
    /// More bytes than the most.
    TooLarge,
    /// Bytes that are no UTF-8.
    NotUtf8,
    /// Control characters: not text that a person wrote.
    ControlCharacters,
    /// A marker of generated code near the top.
    Generated,
    /// A line longer than a person writes, as in minified code or embedded data.
    LongLine,
    /// Lines that are long on average.
    LongLines,
    /// Too few letters, as in tables of numbers.
    FewLetters,
    /// Too many lines that occur before in the same file.
    RepeatedLines,
    /// The same content is kept elsewhere.
    Duplicate,
    /// The scan's budget was used up.
    OverBudget,
}

/// The bounds of the rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filters {
    /// Least bytes of a document.
    pub bytes_min: u64,
    /// Most bytes of a document.
    pub bytes_max: u64,
    /// Longest line in characters.
    pub line_chars_max: usize,
    /// Greatest mean length of lines that aren't empty, in characters.
    pub line_chars_mean_max: usize,
    /// Least letters per thousand characters that aren't white space.
    pub letters_per_mille_min: usize,
    /// Most repeated lines per thousand lines of [`REPEATABLE_CHARS`] characters or more.
    pub repeated_per_mille_max: usize,
}

/// Lines shorter than this may repeat: closing brackets, attributes.
pub const REPEATABLE_CHARS: usize = 12;

impl Default for Filters {
    fn default() -> Self {
        Self {
            bytes_min: 200,
            bytes_max: 256 * 1024,
            line_chars_max: 400,
            line_chars_mean_max: 100,
            letters_per_mille_min: 500,
            repeated_per_mille_max: 500,
        }
    }
}

/// The first rule that `text` breaks, if any. Size is measured on the text.
#[must_use]
pub fn judge(text: &str, filters: &Filters) -> Option<DropReason> {
    let _ = (text, filters);
    todo!()
}
