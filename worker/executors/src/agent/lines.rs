//! Which held-out lines are worth completing, and where to cut them.

use crate::outputs::HeldOutLine;
use muster_protocol::ids::Digest;

/// Characters of a line that is worth completing, without its indentation.
const LINE_CHARS: std::ops::RangeInclusive<usize> = 24..=80;
/// The part of a line that is not given.
const REST_CHARS_MIN: usize = 6;

/// A line that can be cut, with its place in a draw.
#[derive(Debug)]
pub struct Candidate {
    /// Orders the draw: a hash of the seed and the line's place.
    pub draw: Digest,
    /// The line.
    pub line: HeldOutLine,
}

/// The one line of `text` that the draw gives, with at most `context_bytes` of text before it; `None` if no
/// line is worth it.
pub fn choose(path: &str, text: &str, context_bytes: usize, seed: u64) -> Option<Candidate> {
    let mut start = 0;
    let mut chosen: Option<(Digest, usize, usize, &str)> = None;
    for (index, line) in text.split('\n').enumerate() {
        let cut = cut(line);
        if let Some(cut) = cut.filter(|_| index > 0) {
            let draw = Digest::of(format!("{seed} {path} {index}").as_bytes());
            if chosen.is_none_or(|(best, ..)| draw < best) {
                chosen = Some((draw, index, start + cut, line));
            }
        }
        start += line.len() + 1;
    }
    let (draw, index, cut, line) = chosen?;
    let line_start = text[..cut].rfind('\n').map_or(0, |at| at + 1);
    let context = tail(&text[..line_start], context_bytes);
    let given = cut - line_start;
    let line = HeldOutLine {
        path: path.to_owned(),
        line: index as u64 + 1,
        context: context.to_owned(),
        prefix: line[..given].to_owned(),
        rest: line[given..].to_owned(),
    };
    Some(Candidate { draw, line })
}

/// Where to cut a line, in bytes: at the first boundary of a word past its middle. `None`: it is not worth
/// completing.
fn cut(line: &str) -> Option<usize> {
    let trimmed = line.trim();
    let code = !trimmed.starts_with("//") && !trimmed.starts_with("#");
    if !code || !LINE_CHARS.contains(&trimmed.chars().count()) || !line.is_ascii() {
        return None;
    }
    let indent = line.len() - line.trim_start().len();
    let middle = indent + trimmed.len() / 2;
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = line.as_bytes();
    let at = (middle..line.len()).find(|at| !word(bytes[*at - 1]) && word(bytes[*at]))?;
    (line.trim_end().len() >= at + REST_CHARS_MIN).then_some(at)
}

/// The end of `text`, at most `bytes` long, from the beginning of a line.
fn tail(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let from = (text.len() - bytes..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let rest = &text[from..];
    rest.find('\n').map_or("", |at| &rest[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "use std::fmt;\n\n/// Says hello to everybody who is there.\npub fn greet(name: &str) -> String {\n    let greeting = format!(\"hello {name}\");\n    greeting\n}\n";

    #[test]
    fn a_line_is_cut_at_a_word_past_its_middle() {
        let table = [
            ("    let greeting = format!(name, other);", Some("    let greeting = format!(")),
            ("// a comment that is long enough to be completed", None),
            ("#[derive(Clone, Copy, Debug, PartialEq)]", None),
            ("    short();", None),
            ("    let größe = berechne(irgend, etwas);", None),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", None),
        ];
        for (line, given) in table {
            assert_eq!(cut(line).map(|at| &line[..at]), given, "{line}");
        }
    }

    #[test]
    fn the_parts_make_up_the_text() {
        let chosen = choose("a.rs", TEXT, 60, 1).unwrap().line;
        let whole = format!("{}{}{}", chosen.context, chosen.prefix, chosen.rest);
        assert!(TEXT.contains(&whole), "{chosen:?}");
        assert_eq!(
            TEXT.split('\n').nth(chosen.line as usize - 1).unwrap(),
            format!("{}{}", chosen.prefix, chosen.rest)
        );
        assert!(chosen.context.len() <= 60 && chosen.rest.len() >= REST_CHARS_MIN);
        assert_eq!(choose("a.rs", TEXT, 60, 1).unwrap().draw, choose("a.rs", TEXT, 0, 1).unwrap().draw);
        assert!(choose("a.rs", "", 60, 1).is_none());
    }
}
