//! Makes alike what reads alike: line endings, control characters, Unicode's composed form, blanks at line
//! ends.
//!
//! Each step can be left out. To normalise twice is the same as once, whatever is left out.

use super::Error;
use super::documents::Body;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Which steps are done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Normalise {
    /// `\r\n` and `\r` become `\n`.
    pub line_endings: bool,
    /// Control characters go, except line endings and tabs; so does a byte order mark at the start.
    pub control_characters: bool,
    /// Unicode normalisation form C.
    pub nfc: bool,
    /// White space at the end of a line goes.
    pub trailing_blanks: bool,
}

impl Default for Normalise {
    /// Line endings only: all other characters of code may matter.
    fn default() -> Self {
        Self { line_endings: true, ..Self::NONE }
    }
}

impl Normalise {
    /// Nothing.
    pub const NONE: Self =
        Self { line_endings: false, control_characters: false, nfc: false, trailing_blanks: false };
    /// Everything.
    pub const ALL: Self =
        Self { line_endings: true, control_characters: true, nfc: true, trailing_blanks: true };

    /// The steps of those names: `line_endings`, `control_characters`, `nfc`, `trailing_blanks`; or `none` or
    /// `all` alone.
    ///
    /// # Errors
    /// [`Error::Parameters`] with a name that is none of them.
    pub fn named(names: &[String]) -> Result<Self, Error> {
        let mut steps = Self::NONE;
        for name in names {
            match name.as_str() {
                "line_endings" => steps.line_endings = true,
                "control_characters" => steps.control_characters = true,
                "nfc" => steps.nfc = true,
                "trailing_blanks" => steps.trailing_blanks = true,
                "none" if names.len() == 1 => {}
                "all" if names.len() == 1 => steps = Self::ALL,
                other => {
                    return Err(Error::Parameters(format!(
                        "{other:?} can't be normalised; there are line_endings, control_characters, nfc and trailing_blanks, or none or all alone"
                    )));
                }
            }
        }
        Ok(steps)
    }

    /// Normalises a text. It costs a look at each byte where nothing is to be done.
    #[must_use]
    pub fn text(&self, text: String) -> String {
        let mut text = text;
        // Blanks that a step leaves at the start of the text are no business of another, so the order is
        // enough for one pass.
        if self.line_endings && (text.contains('\r') || text.starts_with(MARK)) {
            text = text.replace("\r\n", "\n").replace('\r', "\n");
        }
        if self.control_characters && text.chars().any(is_control) {
            text.retain(|c| !is_control(c));
        }
        if (self.line_endings || self.control_characters) && text.starts_with(MARK) {
            text = text.trim_start_matches(MARK).to_owned();
        }
        if self.nfc && is_nfc_quick(text.chars()) != IsNormalized::Yes {
            text = text.nfc().collect();
        }
        if self.trailing_blanks {
            let trimmed = trim_lines(&text);
            if let Cow::Owned(trimmed) = trimmed {
                text = trimmed;
            }
        }
        text
    }

    /// Normalises each text of a document.
    #[must_use]
    pub fn body(&self, body: Body) -> Body {
        let turns = |turns: Vec<super::documents::Turn>| {
            let turn = |turn: super::documents::Turn| super::documents::Turn {
                content: self.text(turn.content),
                ..turn
            };
            turns.into_iter().map(turn).collect()
        };
        match body {
            Body::Text(text) => Body::Text(self.text(text)),
            Body::Chat(chat) => Body::Chat(turns(chat)),
            Body::Preference { prompt, chosen, rejected } => Body::Preference {
                prompt: turns(prompt),
                chosen: self.text(chosen),
                rejected: self.text(rejected),
            },
        }
    }
}

/// The byte order mark.
const MARK: char = '\u{feff}';

fn is_control(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t' | '\r')
}

/// The text without white space before line ends and at its own end; a line end at its end stays.
fn trim_lines(text: &str) -> Cow<'_, str> {
    let blank = |line: &str| line.ends_with(char::is_whitespace);
    if !text.split('\n').any(blank) {
        return Cow::Borrowed(text);
    }
    let mut trimmed = String::with_capacity(text.len());
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            trimmed.push('\n');
        }
        trimmed.push_str(line.trim_end());
    }
    Cow::Owned(trimmed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn each_step_does_what_it_names_and_no_more() {
        let line_endings = Normalise { line_endings: true, ..Normalise::NONE };
        let control = Normalise { control_characters: true, ..Normalise::NONE };
        let nfc = Normalise { nfc: true, ..Normalise::NONE };
        let blanks = Normalise { trailing_blanks: true, ..Normalise::NONE };
        let table = [
            (Normalise::NONE, "\u{feff}a \r\n\u{1}e\u{301}", "\u{feff}a \r\n\u{1}e\u{301}"),
            (line_endings, "\u{feff}a\r\nb\rc\n", "a\nb\nc\n"),
            (control, "\u{1}\u{feff}a\u{0}\t\u{85}b\r\n\u{c}", "a\tb\r\n"),
            (nfc, "e\u{301} \u{fb01} \u{212b}", "\u{e9} \u{fb01} \u{c5}"),
            (blanks, "a \t\n  b\u{a0}\n\n ", "a\n  b\n\n"),
            (Normalise::ALL, "\u{1}\u{feff}e\u{1}\u{301} \r\n", "\u{e9}\n"),
        ];
        for (steps, text, expected) in table {
            assert_eq!(steps.text(text.to_owned()), expected, "{text:?}");
        }
    }

    #[test]
    fn twice_is_the_same_as_once() {
        let alphabet = [
            "a",
            "e",
            "\u{301}",
            "\u{327}",
            " ",
            "\t",
            "\n",
            "\r",
            "\r\n",
            "\u{1}",
            "\u{feff}",
            "\u{2000}",
            "\u{1100}",
            "\u{1161}",
            "\u{11a8}",
            "\u{a0}",
            "\u{85}",
            "\u{2028}",
            "\u{344}",
            "\u{1f980}",
        ];
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for round in 0..4000 {
            let text: String = (0..12).map(|_| alphabet[random.random_range(0..alphabet.len())]).collect();
            let on = |bit: u32| round >> bit & 1 == 1;
            let steps = Normalise {
                line_endings: on(0),
                control_characters: on(1),
                nfc: on(2),
                trailing_blanks: on(3),
            };
            let once = steps.text(text.clone());
            assert_eq!(steps.text(once.clone()), once, "{text:?} with {steps:?}");
        }
    }

    #[test]
    fn steps_have_names() {
        let named = |names: &[&str]| {
            Normalise::named(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(named(&["all"]).expect("is known"), Normalise::ALL);
        assert_eq!(named(&["none"]).expect("is known"), Normalise::NONE);
        assert!(
            named(&["nfc", "line_endings"])
                .is_ok_and(|steps| steps.nfc && steps.line_endings && !steps.trailing_blanks)
        );
        assert!(
            named(&["nfc", "all"]).expect_err("alone").to_string().contains("\"all\" can't be normalised")
        );
    }
}
