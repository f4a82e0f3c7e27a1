//! A small lexer for a line or snippet of Rust.
//!
//! It knows strings, characters, lifetimes, numbers, comments, identifiers and punctuation, and nothing of
//! grammar. Every string and comment must end within the text. Doubtful cases (unusual Unicode, reserved
//! prefixes) pass.

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {at}")]
pub struct SyntaxError {
    /// Offset in bytes.
    pub at: usize,
    /// What is wrong there.
    pub reason: String,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// `// …` or `/* … */`
    Comment,
    /// A name or keyword, raw ones too.
    Identifier,
    /// `'a`
    Lifetime,
    /// A number, string, character or byte.
    Literal,
    /// One character of punctuation.
    Punctuation,
    /// `(`, `[` or `{`
    Open(char),
    /// `)`, `]` or `}`
    Close(char),
}

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RustToken {
    /// What it is.
    pub kind: TokenKind,
    /// Offset of its first byte.
    pub start: usize,
    /// Offset behind its last byte.
    pub end: usize,
}

const PUNCTUATION: &str = "+-*/%^!&|=<>@.,;:#$?~";

/// The tokens of `text`.
///
/// # Errors
/// The first place that is no token.
pub fn tokens(text: &str) -> Result<Vec<RustToken>, SyntaxError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip(char::is_whitespace);
        let start = lexer.at;
        let Some(first) = lexer.peek(0) else { return Ok(tokens) };
        let kind =
            lexer.token(first).map_err(|reason| SyntaxError { at: start, reason: reason.to_owned() })?;
        tokens.push(RustToken { kind, start, end: lexer.at });
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

fn starts_name(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

fn continues_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.rest().chars().nth(ahead)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn skip(&mut self, wanted: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    }

    fn eat(&mut self, wanted: &str) -> bool {
        let found = self.rest().starts_with(wanted);
        self.at += if found { wanted.len() } else { 0 };
        found
    }

    fn token(&mut self, first: char) -> Result<TokenKind, &'static str> {
        if self.eat("//") {
            self.skip(|c| c != '\n');
            return Ok(TokenKind::Comment);
        }
        if self.eat("/*") {
            return self.block_comment();
        }
        for prefix in ["br", "cr", "r"] {
            let hashes =
                self.rest().strip_prefix(prefix).map(|rest| rest.chars().take_while(|c| *c == '#').count());
            if let Some(hashes) = hashes
                && self.rest()[prefix.len() + hashes..].starts_with('"')
            {
                self.at += prefix.len() + hashes + 1;
                return self.raw_string(hashes);
            }
        }
        if self.eat("\"") || self.eat("b\"") || self.eat("c\"") {
            return self.string();
        }
        if self.eat("b'") {
            return self.character();
        }
        if first == '\'' {
            return self.quote();
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        if starts_name(first) {
            if self.rest().starts_with("r#") && self.peek(2).is_some_and(starts_name) {
                self.at += 2;
            }
            self.skip(continues_name);
            return Ok(TokenKind::Identifier);
        }
        self.next();
        match first {
            '(' | '[' | '{' => Ok(TokenKind::Open(first)),
            ')' | ']' | '}' => Ok(TokenKind::Close(first)),
            _ if PUNCTUATION.contains(first) => Ok(TokenKind::Punctuation),
            _ => Err("a character that begins no token"),
        }
    }

    fn block_comment(&mut self) -> Result<TokenKind, &'static str> {
        let mut depth = 1;
        while depth > 0 {
            if self.eat("/*") {
                depth += 1;
            } else if self.eat("*/") {
                depth -= 1;
            } else if self.next().is_none() {
                return Err("a comment that does not end");
            }
        }
        Ok(TokenKind::Comment)
    }

    fn raw_string(&mut self, hashes: usize) -> Result<TokenKind, &'static str> {
        let end = format!("\"{}", "#".repeat(hashes));
        let length = self.rest().find(&end).ok_or("a raw string that does not end")?;
        self.at += length + end.len();
        Ok(TokenKind::Literal)
    }

    fn string(&mut self) -> Result<TokenKind, &'static str> {
        loop {
            match self.next().ok_or("a string that does not end")? {
                '"' => return Ok(TokenKind::Literal),
                '\\' => self.escape(true)?,
                _ => {}
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, in_string: bool) -> Result<(), &'static str> {
        match self.next().ok_or("a string that does not end")? {
            'n' | 'r' | 't' | '\\' | '0' | '\'' | '"' => Ok(()),
            // A line's end may be escaped, and the white space after it goes too.
            '\n' if in_string => Ok(()),
            'x' => {
                let digits = self.rest().bytes().take(2).filter(u8::is_ascii_hexdigit).count();
                self.at += digits;
                if digits == 2 { Ok(()) } else { Err("an escape without two hexadecimal digits") }
            }
            'u' => {
                let inner = self
                    .rest()
                    .strip_prefix('{')
                    .and_then(|rest| rest.split_once('}'))
                    .map(|(inner, _)| inner);
                let inner = inner.ok_or("an escape without its braces")?;
                let code = u32::from_str_radix(&inner.replace('_', ""), 16).ok().and_then(char::from_u32);
                self.at += inner.len() + 2;
                code.map(|_| ()).ok_or("an escape that is no character")
            }
            _ => Err("an unknown escape"),
        }
    }

    /// The rest of a character, after its quote.
    fn character(&mut self) -> Result<TokenKind, &'static str> {
        match self.next() {
            Some('\\') => self.escape(false)?,
            Some('\'' | '\n') | None => return Err("a character that is empty"),
            Some(_) => {}
        }
        if self.eat("'") { Ok(TokenKind::Literal) } else { Err("a character that does not end") }
    }

    /// A lifetime or a character.
    fn quote(&mut self) -> Result<TokenKind, &'static str> {
        self.next();
        let lifetime = self.peek(0).is_some_and(starts_name) && self.peek(1) != Some('\'');
        if !lifetime {
            return self.character();
        }
        self.skip(continues_name);
        Ok(TokenKind::Lifetime)
    }

    fn number(&mut self) -> Result<TokenKind, &'static str> {
        for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
            if self.eat(prefix) {
                let start = self.at;
                self.skip(|c| c == '_' || c.is_digit(radix));
                let digits = self.text[start..self.at].chars().any(|c| c != '_');
                // A suffix such as `u8`; a digit beyond the radix is no suffix.
                let suffix = !self.peek(0).is_some_and(|c| c.is_ascii_digit());
                self.skip(continues_name);
                return if digits && suffix {
                    Ok(TokenKind::Literal)
                } else {
                    Err("a number without the digits of its base")
                };
            }
        }
        let digit = |c: char| c == '_' || c.is_ascii_digit();
        self.skip(digit);
        // `1..2` is a range and `1.max(2)` a call.
        let fraction = self.peek(0) == Some('.') && !self.peek(1).is_some_and(|c| c == '.' || starts_name(c));
        if fraction {
            self.next();
            self.skip(digit);
        }
        if self.peek(0).is_some_and(|c| c == 'e' || c == 'E') {
            let signed = self.peek(1).is_some_and(|c| c == '+' || c == '-');
            self.at += if signed { 2 } else { 1 };
            let start = self.at;
            self.skip(digit);
            if !self.text[start..self.at].chars().any(|c| c.is_ascii_digit()) {
                return Err("an exponent without digits");
            }
        }
        self.skip(continues_name);
        Ok(TokenKind::Literal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A letter for each token: comment, identifier, lifetime, literal ("x"), punctuation, bracket.
    fn kinds(text: &str) -> String {
        let letter = |token: &RustToken| match token.kind {
            TokenKind::Comment => 'c',
            TokenKind::Identifier => 'i',
            TokenKind::Lifetime => 'l',
            TokenKind::Literal => 'x',
            TokenKind::Punctuation => 'p',
            TokenKind::Open(c) | TokenKind::Close(c) => c,
        };
        match tokens(text) {
            Ok(tokens) => tokens.iter().map(letter).collect(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn tokens_of_rust() {
        let table = [
            ("let x: u32 = 0x_ff_u8;", "iipipxp"),
            ("fn f<'a>(x: &'a str) {}", "iiplp(ippli){}"),
            ("'x' '\\'' '\\u{1F600}' 'static '_ b'\\x7f'", "xxxllx"),
            ("\"a\\\"b\\n\" b\"x\" c\"y\" r\"\\\" r#\"a\"b\"# br##\"\"#\"##", "xxxxxx"),
            ("1 1.5 1. 2e3 2.5e-3f64 1..2 1.max(2) 1_000usize x.0.1", "xxxxxxppxxpi(x)xipx"),
            ("0b101 0o17 0xE+1", "xxxpx"),
            ("a /* b /* c */ d */ e // f\ng", "icici"),
            ("r#type r\"\" rust", "ixi"),
            ("#![deny(x)] a?; |x| x => _", "pp[i(i)]ipppipippi"),
            ("\u{e9}t\u{e9} = \"\u{1f980}\";", "ipxp"),
            ("", ""),
            ("\"open", "a string that does not end at byte 0"),
            ("x = \"\\q\";", "an unknown escape at byte 4"),
            ("/* open", "a comment that does not end at byte 0"),
            ("r#\"open\"", "a raw string that does not end at byte 0"),
            ("a = ''", "a character that is empty at byte 4"),
            ("'1x'", "a character that does not end at byte 0"),
            ("a ` b", "a character that begins no token at byte 2"),
            ("a \\ b", "a character that begins no token at byte 2"),
            ("0x", "a number without the digits of its base at byte 0"),
            ("0b12", "a number without the digits of its base at byte 0"),
            ("1e+", "an exponent without digits at byte 0"),
            ("\"\\x4\"", "an escape without two hexadecimal digits at byte 0"),
            ("'\\u{d800}'", "an escape that is no character at byte 0"),
            ("\u{1f980}", "a character that begins no token at byte 0"),
        ];
        for (text, expected) in table {
            assert_eq!(
                kinds(text),
                expected.replace(' ', if expected.contains("at byte") { " " } else { "" }),
                "{text:?}"
            );
        }
    }

    #[test]
    fn this_file_lexes_and_no_text_panics() {
        let text = include_str!("lexer.rs");
        assert!(tokens(text).is_ok());
        for (at, _) in text.char_indices().step_by(7) {
            let _ = tokens(&text[at..text.floor_char_boundary(at + 40)]);
        }
    }
}
