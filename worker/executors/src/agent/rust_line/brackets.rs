//! Whether brackets outside strings and comments match.

use super::lexer::{RustToken, SyntaxError, TokenKind};

/// Checks the brackets of a text's tokens, of which the first `given` bytes were given and the rest is to be
/// judged.
///
/// A line may open what later lines close, and what was given may close what earlier lines opened. What is
/// judged may close only what is open in this text.
///
/// # Errors
/// The first bracket that closes nothing, or another kind.
pub fn balance(tokens: &[RustToken], given: usize) -> Result<(), SyntaxError> {
    let mut open = Vec::new();
    for token in tokens {
        let closes = match token.kind {
            TokenKind::Open(bracket) => {
                open.push(bracket);
                continue;
            }
            TokenKind::Close(bracket) => bracket,
            TokenKind::Comment
            | TokenKind::Identifier
            | TokenKind::Lifetime
            | TokenKind::Literal
            | TokenKind::Punctuation => continue,
        };
        match open.pop() {
            Some(opened) if partner(opened) == closes => {}
            Some(opened) => {
                return Err(SyntaxError { at: token.start, reason: format!("{closes} closes {opened}") });
            }
            None if token.start < given => {}
            None => return Err(SyntaxError { at: token.start, reason: format!("{closes} closes nothing") }),
        }
    }
    Ok(())
}

fn partner(open: char) -> char {
    match open {
        '(' => ')',
        '[' => ']',
        _ => '}',
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::tokens;
    use super::*;

    #[test]
    fn brackets() {
        let table = [
            ("", "f(a[1], {b})", None),
            ("", "fn f() {", None),
            ("", "f(\")\", ')', /* ) */ b) // )", None),
            ("", "f(a]", Some("] closes ( at byte 3")),
            ("", "f())", Some(") closes nothing at byte 3")),
            ("} else if f(", "x) {", None),
            ("} else if f(", "x)) {", Some(") closes nothing at byte 14")),
            ("", "}", Some("} closes nothing at byte 0")),
        ];
        for (given, judged, expected) in table {
            let tokens = tokens(&format!("{given}{judged}")).expect("lexes");
            let found = balance(&tokens, given.len()).err().map(|complaint| complaint.to_string());
            assert_eq!(found.as_deref(), expected, "{given}{judged}");
        }
    }
}
