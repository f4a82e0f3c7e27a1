//! The list of reasons for which a document is left out.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a document was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// Fewer bytes than `bytes_min`.
    TooSmall,
    /// More bytes than `bytes_max`.
    TooLarge,
    /// Not UTF-8.
    NotUtf8,
    /// A line or row that is not of the declared format.
    Malformed,
    /// Control characters: not text that a person wrote.
    ControlCharacters,
    /// Code: a marker of generated code near the top.
    Generated,
    /// Code: a line longer than a person writes, as in minified code or embedded data.
    LongLine,
    /// Code: lines that are long on average.
    LongLines,
    /// Code: too few letters, as in tables of numbers.
    FewLetters,
    /// Code: too many lines that are repeated in the file.
    RepeatedLines,
    /// It is in another language, or its language can't be told.
    Language,
    /// Gopher: too few words.
    FewWords,
    /// Gopher: too many words.
    ManyWords,
    /// Gopher: words that are short or long on average.
    WordLength,
    /// Gopher: too many `#` or `…` for its words.
    Symbols,
    /// Gopher: too many lines that begin with a bullet.
    Bullets,
    /// Gopher: too many lines that end with an ellipsis.
    Ellipses,
    /// Gopher: too few words with a letter.
    FewAlphabeticWords,
    /// Gopher: too few of the words that every English text has.
    FewStopWords,
    /// Repetition: too many duplicate lines.
    DuplicateLines,
    /// Repetition: too much text in duplicate lines.
    DuplicateLineText,
    /// Repetition: too many duplicate paragraphs.
    DuplicateParagraphs,
    /// Repetition: too much text in duplicate paragraphs.
    DuplicateParagraphText,
    /// Repetition: too much text in one 2- to 4-gram.
    TopNgram,
    /// Repetition: too much text in duplicate 5- to 10-grams.
    DuplicateNgrams,
    /// C4: it contains `lorem ipsum`.
    LoremIpsum,
    /// C4: it has a curly brace.
    CurlyBraces,
    /// C4: too few sentences are left.
    FewSentences,
    /// It shares text with an evaluation set.
    Contaminated,
    /// The same content is kept elsewhere.
    Duplicate,
    /// Nearly the same content is kept elsewhere.
    NearDuplicate,
    /// The scan's budget was used up.
    OverBudget,
    /// More tokens than the context.
    TooLong,
    /// A conversation in which the loss mask is zero everywhere.
    NothingToLearn,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The same name as in reports.
        self.serialize(f)
    }
}
