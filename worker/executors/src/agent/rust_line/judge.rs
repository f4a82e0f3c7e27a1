//! Cheap checks of a completed line of Rust: does it lex, do its brackets balance, does it agree with the
//! real line?
//!
//! These judge form, not meaning: a line that passes may still not compile.

use super::agreement::agreement;
use super::brackets::balance;
use super::lexer::tokens;
use serde::{Deserialize, Serialize};

/// What the checks found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LineVerdict {
    /// Whether prefix and completion lex.
    pub lexes: bool,
    /// Whether the completion closes no bracket that is not open, and no kind by another.
    pub balances: bool,
    /// Likeness to the real line, from 0 to 1; 0 when that is not known.
    pub agreement: f64,
    /// All in one, from 0 to 1.
    pub score: f64,
    /// What is wrong, if anything.
    pub complaint: Option<String>,
}

/// Longer texts are judged by their first bytes.
const BYTES_MAX: usize = 4096;

/// Judges `prefix` + `completion`; `real` is the real completion, when known.
///
/// Form (lexing, brackets) gives one half of the score, and likeness to the real line the other; when there
/// is no real line, form gives all. An empty completion gets nothing: saying nothing is never wrong.
#[must_use]
pub fn judge_line(prefix: &str, completion: &str, real: Option<&str>) -> LineVerdict {
    let completion = head(completion);
    let agreement = real.map_or(0.0, |real| agreement(completion, head(real)));
    if completion.trim().is_empty() {
        let complaint = Some("nothing was completed".to_owned());
        return LineVerdict { lexes: false, balances: false, agreement, score: 0.0, complaint };
    }
    let (lexes, balances) = match tokens(&format!("{prefix}{completion}")) {
        Ok(tokens) => (Ok(()), balance(&tokens, prefix.len())),
        Err(complaint) => (Err(complaint.clone()), Err(complaint)),
    };
    let form = if lexes.is_ok() { 0.5 } else { 0.0 } + if balances.is_ok() { 0.5 } else { 0.0 };
    let score = if real.is_some() { 0.5 * form + 0.5 * agreement } else { form };
    let (lexes_well, balances_well) = (lexes.is_ok(), balances.is_ok());
    let complaint = lexes.and(balances).err().map(|complaint| complaint.to_string());
    LineVerdict { lexes: lexes_well, balances: balances_well, agreement, score, complaint }
}

/// The first bytes of a text, up to a whole character.
fn head(text: &str) -> &str {
    &text[..text.floor_char_boundary(BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        // (prefix, completion, real, lexes, balances, score)
        let table = [
            ("let x =", " 1;", Some(" 1;"), true, true, 1.0),
            ("let x =", " 1;", None, true, true, 1.0),
            ("let x =", " \"1;", None, false, false, 0.0),
            ("f(a", "));", None, true, false, 0.5),
            ("f(a", ");", Some(");"), true, true, 1.0),
            ("let x =", "  ", Some(" 1;"), false, false, 0.0),
        ];
        for (prefix, completion, real, lexes, balances, score) in table {
            let verdict = judge_line(prefix, completion, real);
            assert_eq!(
                (verdict.lexes, verdict.balances, verdict.score),
                (lexes, balances, score),
                "{prefix}{completion}: {verdict:?}"
            );
            assert_eq!(verdict.complaint.is_none(), lexes && balances);
        }
        let (near, far) = (
            judge_line("x =", " abcd;", Some(" abce;")).score,
            judge_line("x =", " zzzz;", Some(" abce;")).score,
        );
        assert!(near > far && far >= 0.5 && near < 1.0, "{near} {far}");
        let _ = judge_line("", &"\u{e9}".repeat(5000), Some(&"x".repeat(9000)));
    }
}
