//! Cheap checks of a completed line of Rust: does it lex, do its brackets balance, does it agree with the
//! real line?
//!
//! They judge form, not meaning: a line that passes may still not compile.

mod agreement;
mod brackets;
mod judge;
mod lexer;

pub use judge::{LineVerdict, judge_line};
