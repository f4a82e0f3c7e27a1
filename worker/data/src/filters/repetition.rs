//! Gopher's rules against repetitive text (Rae et al. 2021, table A1), counted as in datatrove.
//!
//! They bound the share of duplicate lines and paragraphs, by number and by characters; the characters of the
//! most frequent 2- to 4-gram; and the characters in duplicate 5- to 10-grams. Memory is proportional to the
//! document.

use super::per_mille::per_mille;
use super::reason::DropReason;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// The bounds, in thousandths. A duplicate is a repetition of something earlier in the same document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Repetition {
    /// Duplicate lines.
    pub lines_per_mille_max: usize,
    /// Characters in duplicate lines.
    pub line_text_per_mille_max: usize,
    /// Duplicate paragraphs.
    pub paragraphs_per_mille_max: usize,
    /// Characters in duplicate paragraphs.
    pub paragraph_text_per_mille_max: usize,
    /// Characters in all occurrences of the most frequent 2-, 3- and 4-gram of words.
    pub top_per_mille_max: [usize; 3],
    /// Characters in duplicate 5- to 10-grams of words.
    pub ngrams_per_mille_max: [usize; 6],
}

impl Default for Repetition {
    fn default() -> Self {
        Self {
            lines_per_mille_max: 300,
            line_text_per_mille_max: 200,
            paragraphs_per_mille_max: 300,
            paragraph_text_per_mille_max: 200,
            top_per_mille_max: [200, 180, 160],
            ngrams_per_mille_max: [150, 140, 130, 120, 110, 100],
        }
    }
}

impl Repetition {
    /// The reason of the first rule that `text` breaks, if any.
    #[must_use]
    pub fn drop_reason(&self, text: &str) -> Option<DropReason> {
        let whole = text.chars().count();
        let lines = repeats(text.split('\n'));
        let paragraphs = repeats(text.split("\n\n"));
        let rules = [
            (per_mille(lines.parts, lines.of), self.lines_per_mille_max, DropReason::DuplicateLines),
            (per_mille(lines.chars, whole), self.line_text_per_mille_max, DropReason::DuplicateLineText),
            (
                per_mille(paragraphs.parts, paragraphs.of),
                self.paragraphs_per_mille_max,
                DropReason::DuplicateParagraphs,
            ),
            (
                per_mille(paragraphs.chars, whole),
                self.paragraph_text_per_mille_max,
                DropReason::DuplicateParagraphText,
            ),
        ];
        if let Some((_, _, reason)) = rules.into_iter().find(|(found, most, _)| found > most) {
            return Some(reason);
        }
        // Number the words, so that comparing n-grams needs no copies of text.
        let mut numbers = HashMap::new();
        let mut words = Vec::new();
        for word in text.split_whitespace() {
            let next = numbers.len() as u32;
            words.push((*numbers.entry(word).or_insert(next), word.chars().count()));
        }
        let (ids, lengths): (Vec<u32>, Vec<usize>) = words.into_iter().unzip();
        for (most, length) in self.top_per_mille_max.iter().zip(2..) {
            if per_mille(top_ngram_chars(&ids, &lengths, length), whole) > *most {
                return Some(DropReason::TopNgram);
            }
        }
        for (most, length) in self.ngrams_per_mille_max.iter().zip(5..) {
            if per_mille(duplicate_ngram_chars(&ids, &lengths, length), whole) > *most {
                return Some(DropReason::DuplicateNgrams);
            }
        }
        None
    }
}

#[derive(Default)]
struct Repeats {
    /// Parts that are not blank.
    of: usize,
    /// Duplicates.
    parts: usize,
    /// Characters of the duplicates.
    chars: usize,
}

fn repeats<'a>(parts: impl Iterator<Item = &'a str>) -> Repeats {
    let mut known = HashSet::new();
    let mut repeats = Repeats::default();
    for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
        repeats.of += 1;
        if !known.insert(part) {
            repeats.parts += 1;
            repeats.chars += part.chars().count();
        }
    }
    repeats
}

/// Characters in all occurrences of the most frequent n-gram, without the blanks in it; 0 if none repeats.
fn top_ngram_chars(words: &[u32], lengths: &[usize], length: usize) -> usize {
    let mut counts: HashMap<&[u32], (usize, usize)> = HashMap::new();
    for (run, lengths) in words.windows(length).zip(lengths.windows(length)) {
        let entry = counts.entry(run).or_insert_with(|| (0, lengths.iter().sum()));
        entry.0 += 1;
    }
    // Of equally frequent ones take the longest: the result must not depend on the order of a map.
    let (count, chars) = counts.into_values().max().unwrap_or_default();
    if count > 1 { count * chars } else { 0 }
}

/// Characters in duplicate n-grams; overlapping ones are counted once.
fn duplicate_ngram_chars(words: &[u32], lengths: &[usize], length: usize) -> usize {
    let mut known = HashSet::new();
    let (mut chars, mut at) = (0, 0);
    while at + length <= words.len() {
        if known.insert(&words[at..at + length]) {
            at += 1;
        } else {
            chars += lengths[at..at + length].iter().sum::<usize>();
            at += length;
        }
    }
    chars
}
