//! Tells comments and string literals in Rust source from code, one byte at a time.
//!
//! It must cope with text that does not compile.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Code,
    Comment,
    /// A string literal, its quotes included.
    Text,
}

/// The kind of each byte of `source`.
pub fn kinds(source: &str) -> Vec<Kind> {
    let bytes = source.as_bytes();
    let mut kinds = vec![Kind::Code; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (kind, length) = if rest.starts_with(b"//") {
            (Kind::Comment, find(rest, 0, b"\n"))
        } else if rest.starts_with(b"/*") {
            (Kind::Comment, block_comment(rest))
        } else if let Some(hashes) = raw_string(bytes, at) {
            let end = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
            let begin = find(rest, 0, b"\"") + 1;
            (Kind::Text, (find(rest, begin, &end) + end.len()).min(rest.len()))
        } else if rest[0] == b'"' {
            (Kind::Text, string(rest))
        } else {
            (Kind::Code, character(rest))
        };
        kinds[at..at + length].fill(kind);
        at += length;
    }
    kinds
}

/// `source` with each byte of a comment replaced by a space; lines stay lines.
pub fn without_comments(source: &str) -> String {
    let blanked = source.bytes().zip(kinds(source)).map(|(byte, kind)| match kind {
        Kind::Comment if byte != b'\n' => b' ',
        _ => byte,
    });
    String::from_utf8_lossy(&blanked.collect::<Vec<u8>>()).into_owned()
}

/// Where `pattern` begins in `bytes`, at or after `from`; else the end.
fn find(bytes: &[u8], from: usize, pattern: &[u8]) -> usize {
    let rest = &bytes[from..];
    rest.windows(pattern.len()).position(|window| window == pattern).map_or(bytes.len(), |at| from + at)
}

/// The length of the block comment that `bytes` begin with; they nest.
fn block_comment(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// How many `#` a raw string literal that begins at `at` has; `None` if none begins there.
fn raw_string(bytes: &[u8], at: usize) -> Option<usize> {
    let within_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    let rest = bytes[at..].strip_prefix(b"br").or_else(|| bytes[at..].strip_prefix(b"r"))?;
    let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
    (!within_word && rest.get(hashes) == Some(&b'"')).then_some(hashes)
}

/// The length of the string literal that `bytes` begin with.
fn string(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The length of the character literal that `bytes` begin with, or one byte: `'"'` must not begin a string.
fn character(bytes: &[u8]) -> usize {
    match bytes {
        [b'\'', b'\\', _, rest @ ..] => {
            3 + rest.iter().position(|byte| *byte == b'\'').map_or(0, |at| at + 1)
        }
        [b'\'', _, b'\'', ..] => 3,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(source: &str) -> String {
        let texts = source.bytes().zip(kinds(source)).filter(|(_, kind)| *kind == Kind::Text);
        String::from_utf8(texts.map(|(byte, _)| byte).collect()).unwrap()
    }

    #[test]
    fn strings_and_comments_are_told_apart() {
        assert_eq!(text(r#"let a = "x // y"; // "z""#), r#""x // y""#);
        assert_eq!(text(r##"f('"', r#"a"b"#, '\'', "c")"##), r##"r#"a"b"#"c""##);
        assert_eq!(text(r#"f("a\"b", 'x', "\\")"#), r#""a\"b""\\""#);
        assert_eq!(
            without_comments("a /* b /* c */ d */ e // f\n\"// g\""),
            "a                   e     \n\"// g\""
        );
        assert_eq!(text("let unfinished = \"abc"), "\"abc");
        assert_eq!(text("r"), "");
    }
}
