//! Splits ASCII text exactly as GPT-2's pre-tokenizer regular expression does.
//!
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`: a general regex engine
//! takes most of the time of encoding; this is a few comparisons per byte.

/// The words of `text`, which must be ASCII. Concatenated they are the whole text.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (word, others) = rest.split_at_checked(length(rest.as_bytes()))?;
        rest = others;
        if word.is_empty() { None } else { Some(word) }
    })
}

const CONTRACTIONS: [&[u8]; 7] = [b"'s", b"'t", b"'re", b"'ve", b"'m", b"'ll", b"'d"];

#[derive(PartialEq, Eq)]
enum Class {
    Space,
    Letter,
    Digit,
    Other,
}

fn class(byte: u8) -> Class {
    match byte {
        b' ' | b'\t'..=b'\r' => Class::Space,
        b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
        b'0'..=b'9' => Class::Digit,
        _ => Class::Other,
    }
}

/// Bytes of the first word of `text`.
fn length(text: &[u8]) -> usize {
    if let Some(contraction) = CONTRACTIONS.iter().find(|c| text.starts_with(c)) {
        return contraction.len();
    }
    let start = usize::from(text.first() == Some(&b' '));
    let run =
        |from: usize, wanted: &Class| text[from..].iter().take_while(|byte| class(**byte) == *wanted).count();
    match text.get(start).map(|byte| class(*byte)) {
        Some(wanted @ (Class::Letter | Class::Digit | Class::Other)) => start + run(start, &wanted),
        Some(Class::Space) | None => {
            let spaces = run(0, &Class::Space);
            // The last space before a word belongs to the word, or stands alone.
            if spaces == text.len() || spaces == 1 { spaces } else { spaces - 1 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_expression() {
        let table: [(&str, &[&str]); 7] = [
            ("let x = 42;", &["let", " x", " =", " 42", ";"]),
            ("it's", &["it", "'s"]),
            ("a\n    b", &["a", "\n   ", " b"]),
            ("a\n\nb", &["a", "\n", "\n", "b"]),
            ("a  ", &["a", "  "]),
            ("x_1 ('s", &["x", "_", "1", " ('", "s"]),
            ("", &[]),
        ];
        for (text, expected) in table {
            assert_eq!(split(text).collect::<Vec<_>>(), expected, "{text:?}");
        }
    }
}
