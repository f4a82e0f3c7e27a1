//! Errors in a job file with their place: a message, the line, and the nearest valid name.

use std::fmt;
use std::ops::Range;

/// The least similarity at which a name is suggested.
const SIMILARITY_MIN: f64 = 0.6;
/// Longer lines are cut.
const SHOWN_CHARS_MAX: usize = 120;

/// An error at a span of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpannedError {
    /// Names the key and says what would be valid.
    pub message: String,
    /// In bytes of the text.
    pub at: Range<usize>,
}

impl SpannedError {
    pub fn at(at: Range<usize>, message: impl Into<String>) -> SpannedError {
        SpannedError { message: message.into(), at }
    }
}

/// The error as it is shown: message, file, line, column and the line itself, underlined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    file: String,
    message: String,
    line: usize,
    column: usize,
    shown: String,
    width: usize,
}

impl Diagnostic {
    /// Line and column count from 1, columns in characters.
    pub fn new(file: &str, text: &str, wrong: SpannedError) -> Diagnostic {
        let start = floor_boundary(text, wrong.at.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let end = floor_boundary(text, wrong.at.end).clamp(start, line_end);
        Diagnostic {
            file: file.to_string(),
            message: wrong.message,
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            shown: text[line_start..line_end]
                .trim_end()
                .chars()
                .take(SHOWN_CHARS_MAX)
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
            width: text[start..end].trim_end().chars().count().max(1),
        }
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "{}", self.message)?;
        writeln!(f, "{margin}--> {}:{}:{}", self.file, self.line, self.column)?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", self.shown)?;
        let room = SHOWN_CHARS_MAX.saturating_sub(self.column - 1);
        if room == 0 {
            return write!(f, "{margin} |");
        }
        write!(f, "{margin} | {}{}", " ".repeat(self.column - 1), "^".repeat(self.width.min(room)))
    }
}

/// `; did you mean `x`?` for the most similar valid name, or the list of names if it is short.
pub fn suggestion<'a>(wrong: &str, valid: impl IntoIterator<Item = &'a str>) -> String {
    let valid: Vec<&str> = valid.into_iter().collect();
    let score = |name: &str| strsim::jaro_winkler(&wrong.to_lowercase(), &name.to_lowercase());
    let nearest = valid.iter().map(|name| (score(name), *name)).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((score, name)) if score >= SIMILARITY_MIN => format!("; did you mean `{name}`?"),
        Some(_) if valid.len() <= 8 => format!("; there is `{}`", valid.join("`, `")),
        Some(_) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters() {
        let text = "a = 1\nübel = \"x\"\n";
        let at = text.find("\"x\"").unwrap();
        let shown = Diagnostic::new("f", text, SpannedError::at(at..at + 3, "no")).to_string();
        assert_eq!(shown, "no\n --> f:2:8\n  |\n2 | übel = \"x\"\n  |        ^^^");
    }

    #[test]
    fn a_place_beyond_the_end_or_within_a_character_is_no_panic() {
        for at in [0..100, 1..2, 99..100] {
            let _ = Diagnostic::new("f", "ü", SpannedError::at(at, "no")).to_string();
        }
        let _ = Diagnostic::new("f", "", SpannedError::at(0..0, "no")).to_string();
    }

    #[test]
    fn the_nearest_is_offered() {
        assert_eq!(suggestion("comand", ["name", "command"]), "; did you mean `command`?");
        assert_eq!(suggestion("qqq", ["name", "command"]), "; there is `name`, `command`");
        assert_eq!(suggestion("qqq", []), "");
    }
}
