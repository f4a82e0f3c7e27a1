//! NATS subjects and patterns: tokens separated by dots. In patterns, `*` matches one token and a final `>`
//! one or more.

/// Whether `subject` is valid to publish to.
pub fn is_literal(subject: &[u8]) -> bool {
    is_pattern(subject) && subject.split(|b| *b == b'.').all(|token| token != b"*" && token != b">")
}

/// Whether `pattern` is valid to subscribe to.
pub fn is_pattern(pattern: &[u8]) -> bool {
    let mut tokens = pattern.split(|b| *b == b'.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() || (token == b">" && tokens.peek().is_some()) {
            return false;
        }
    }
    true
}

/// `pattern` must be valid.
pub fn has_wildcard(pattern: &[u8]) -> bool {
    pattern.split(|b| *b == b'.').any(|token| token == b"*" || token == b">")
}

/// `pattern` must be valid.
pub fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    let mut tokens = subject.split(|b| *b == b'.');
    for expected in pattern.split(|b| *b == b'.') {
        match (expected, tokens.next()) {
            (b">", rest) => return rest.is_some(),
            (_, None) => return false,
            (b"*", Some(_)) => {}
            (expected, Some(token)) if expected == token => {}
            (_, Some(_)) => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_the_protocol() {
        let table: &[(&str, &str, bool)] = &[
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.b", "a.b.c", false),
            ("a.b.c", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("*.b", "a.b", true),
            ("a.>", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("a.*b", "a.*b", true),
            ("a.*b", "a.cb", false),
        ];
        for (pattern, subject, expected) in table {
            assert_eq!(matches(pattern.as_bytes(), subject.as_bytes()), *expected, "{pattern} on {subject}");
        }
        for (pattern, expected) in [
            ("a.b", true),
            ("", false),
            ("a..b", false),
            (".a", false),
            ("a.", false),
            ("a.>", true),
            (">.a", false),
        ] {
            assert_eq!(is_pattern(pattern.as_bytes()), expected, "{pattern}");
        }
        for (subject, expected) in
            [("a.b", true), ("a.*", false), (">", false), ("a.*b", true), ("a..b", false)]
        {
            assert_eq!(is_literal(subject.as_bytes()), expected, "{subject}");
        }
    }
}
