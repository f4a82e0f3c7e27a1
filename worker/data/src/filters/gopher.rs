//! Gopher's quality rules (Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from
//! Training Gopher", appendix A.1.1).
//!
//! Words are separated by white space. The default bounds are the paper's; ratios are in thousandths.

use super::per_mille::per_mille;
use super::reason::DropReason;
use serde::{Deserialize, Serialize};

/// The bounds. Each rule is off at its loosest value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gopher {
    /// Least words.
    pub words_min: usize,
    /// Most words.
    pub words_max: usize,
    /// Least mean length of a word, in thousandths of a character.
    pub word_length_milli_min: usize,
    /// Greatest mean length of a word, in thousandths of a character.
    pub word_length_milli_max: usize,
    /// Most `#`, and most ellipses, per thousand words.
    pub symbols_per_mille_max: usize,
    /// Most lines that begin with a bullet, of a thousand that aren't blank.
    pub bullets_per_mille_max: usize,
    /// Most lines that end with an ellipsis, of a thousand that aren't blank.
    pub ellipses_per_mille_max: usize,
    /// Least words with a letter, of a thousand.
    pub alphabetic_per_mille_min: usize,
    /// Least number of different [`STOP_WORDS`]: English prose has them, lists of keywords don't. 0 for other
    /// languages.
    pub stop_words_min: usize,
}

/// The paper's stop words.
pub const STOP_WORDS: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];
const BULLETS: [char; 9] =
    ['\u{2022}', '\u{2023}', '\u{25b6}', '\u{25c0}', '\u{25e6}', '\u{25a0}', '\u{25a1}', '\u{25aa}', '-'];

impl Default for Gopher {
    fn default() -> Self {
        Self {
            words_min: 50,
            words_max: 100_000,
            word_length_milli_min: 3000,
            word_length_milli_max: 10_000,
            symbols_per_mille_max: 100,
            bullets_per_mille_max: 900,
            ellipses_per_mille_max: 300,
            alphabetic_per_mille_min: 800,
            stop_words_min: 2,
        }
    }
}

impl Gopher {
    /// The reason of the first rule that `text` breaks, if any.
    #[must_use]
    pub fn drop_reason(&self, text: &str) -> Option<DropReason> {
        let (mut words, mut chars, mut alphabetic) = (0, 0, 0);
        let mut stop_words = [false; STOP_WORDS.len()];
        for word in text.split_whitespace() {
            words += 1;
            chars += word.chars().count();
            alphabetic += usize::from(word.chars().any(char::is_alphabetic));
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
            if let Some(at) = STOP_WORDS.iter().position(|stop| bare.eq_ignore_ascii_case(stop)) {
                stop_words[at] = true;
            }
        }
        let hashes = text.matches('#').count();
        let ellipses = text.matches("...").count() + text.matches('\u{2026}').count();
        let (mut lines, mut bulleted, mut unfinished) = (0, 0, 0);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            lines += 1;
            bulleted += usize::from(line.starts_with(BULLETS));
            unfinished += usize::from(line.ends_with("...") || line.ends_with('\u{2026}'));
        }
        if words < self.words_min {
            Some(DropReason::FewWords)
        } else if words > self.words_max {
            Some(DropReason::ManyWords)
        } else if !(self.word_length_milli_min..=self.word_length_milli_max)
            .contains(&per_mille(chars, words))
            && words > 0
        {
            Some(DropReason::WordLength)
        } else if hashes.max(ellipses).saturating_mul(1000) > self.symbols_per_mille_max.saturating_mul(words)
        {
            Some(DropReason::Symbols)
        } else if per_mille(bulleted, lines) > self.bullets_per_mille_max {
            Some(DropReason::Bullets)
        } else if per_mille(unfinished, lines) > self.ellipses_per_mille_max {
            Some(DropReason::Ellipses)
        } else if words > 0 && per_mille(alphabetic, words) < self.alphabetic_per_mille_min {
            Some(DropReason::FewAlphabeticWords)
        } else if stop_words.iter().filter(|seen| **seen).count() < self.stop_words_min {
            Some(DropReason::FewStopWords)
        } else {
            None
        }
    }
}
