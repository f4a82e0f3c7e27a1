//! Cheap checks of a completed line of Rust: does it lex, do its brackets balance, does it agree with the real line?
//!
//! These judge form, not meaning: a line that passes may still not compile.

use serde::{Deserialize, Serialize};

/// What the checks found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether prefix and completion lex.
    pub lexes: bool,
    /// Whether no bracket is closed that is not open, and no kind by another.
    pub balances: bool,
    /// Likeness to the real line, from 0 to 1.
    pub agreement: f64,
    /// All in one, from 0 to 1.
    pub score: f64,
    /// What is wrong, if anything.
    pub complaint: Option<String>,
}

/// Judges `prefix` + `completion` as one line; `real` is the real completion, when known.
#[must_use]
pub fn judge(prefix: &str, completion: &str, real: Option<&str>) -> Verdict {
    let _ = (prefix, completion, real);
    todo!()
}
