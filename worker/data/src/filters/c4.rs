//! C4's rules for web pages (Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified
//! Text-to-Text Transformer", section 2.2).
//!
//! Lines that are not sentences, or that mention scripts and cookies, are removed; the other rules apply to
//! the rest. Not for code, which is nearly all braces and lines without a full stop.

use super::reason::DropReason;
use crate::documents::Tally;
use serde::{Deserialize, Serialize};

/// Which rules apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct C4 {
    /// Removes lines that don't end with terminal punctuation.
    pub terminal_punctuation: bool,
    /// Removes lines with fewer words.
    pub line_words_min: usize,
    /// Removes lines that mention JavaScript, cookies and terms of use.
    pub no_boilerplate: bool,
    /// Drops text that contains `lorem ipsum`.
    pub no_lorem_ipsum: bool,
    /// Drops text with a curly brace.
    pub no_curly_braces: bool,
    /// Drops text with fewer sentences.
    pub sentences_min: usize,
}

impl Default for C4 {
    fn default() -> Self {
        Self {
            terminal_punctuation: true,
            line_words_min: 3,
            no_boilerplate: true,
            no_lorem_ipsum: true,
            no_curly_braces: true,
            sentences_min: 5,
        }
    }
}

const TERMINAL: [char; 8] = ['.', '!', '?', '"', '\u{201d}', '\u{3002}', '\u{ff01}', '\u{ff1f}'];
const BOILERPLATE: [&str; 8] = [
    "javascript",
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
    "terms of service",
];

impl C4 {
    /// Removes lines, and counts them and their bytes. Blank lines stay, except at the start and after
    /// another blank line.
    #[must_use]
    pub fn clean(&self, text: String) -> (String, Tally) {
        let mut removed = Tally::default();
        let mut kept = String::with_capacity(text.len());
        for line in text.lines() {
            let blank = line.trim().is_empty();
            if !blank && !self.keeps(line) {
                removed.add(line.len() as u64 + 1);
            } else if !blank || !kept.is_empty() && !kept.ends_with("\n\n") {
                kept.push_str(line);
                kept.push('\n');
            }
        }
        if removed.documents == 0 { (text, removed) } else { (kept, removed) }
    }

    fn keeps(&self, line: &str) -> bool {
        let line = line.trim();
        let ends = !self.terminal_punctuation || line.ends_with(TERMINAL) && !line.ends_with("...");
        let words = line.split_whitespace().take(self.line_words_min).count() >= self.line_words_min;
        ends && words
            && !(self.no_boilerplate && {
                let line = line.to_lowercase();
                BOILERPLATE.iter().any(|phrase| line.contains(phrase))
            })
    }

    /// The first rule that `text` breaks, if any.
    #[must_use]
    pub fn drop_reason(&self, text: &str) -> Option<DropReason> {
        if self.no_lorem_ipsum && text.to_lowercase().contains("lorem ipsum") {
            Some(DropReason::LoremIpsum)
        } else if self.no_curly_braces && text.contains(['{', '}']) {
            Some(DropReason::CurlyBraces)
        } else if sentences(text, self.sentences_min) < self.sentences_min {
            Some(DropReason::FewSentences)
        } else {
            None
        }
    }
}

/// Sentences, counted up to `enough`: a mark that ends one, with white space or the end behind it and behind
/// closing quotes.
fn sentences(text: &str, enough: usize) -> usize {
    let mut count = 0;
    let mut ended = false;
    for c in text.chars() {
        match c {
            '\u{3002}' | '\u{ff01}' | '\u{ff1f}' => count += 1,
            '.' | '!' | '?' => ended = true,
            '"' | '\'' | ')' | '\u{201d}' | '\u{2019}' => {}
            c => {
                count += usize::from(ended && c.is_whitespace());
                ended = false;
            }
        }
        if count >= enough {
            return count;
        }
    }
    count + usize::from(ended)
}
