//! How like two lines are.

/// Characters of each line that are compared: the work grows with their product.
const CHARS_MAX: usize = 512;

/// Likeness from 0 to 1: half of it is how far the lines agree from the start, half how few edits lie between
/// them.
///
/// White space counts as one space, and none at the ends.
#[must_use]
pub fn agreement(candidate: &str, real: &str) -> f64 {
    let (candidate, real) = (normalised(candidate), normalised(real));
    let longest = candidate.len().max(real.len());
    if longest == 0 {
        return 1.0;
    }
    let common = candidate.iter().zip(&real).take_while(|(a, b)| a == b).count();
    let same_start = common as f64 / longest as f64;
    let few_edits = 1.0 - edits(&candidate, &real) as f64 / longest as f64;
    0.5 * same_start + 0.5 * few_edits
}

fn normalised(line: &str) -> Vec<char> {
    let words: Vec<&str> = line.split_whitespace().collect();
    words.join(" ").chars().take(CHARS_MAX).collect()
}

/// Insertions, deletions and replacements between two texts (Levenshtein).
fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeness_by_hand() {
        let table = [
            ("abcd", "abcd", 1.0),
            ("  a   b ", "a b", 1.0),
            ("", "", 1.0),
            ("", "abcd", 0.0),
            ("abxd", "abcd", 0.5 * 0.5 + 0.5 * 0.75),
            ("xbcd", "abcd", 0.5 * 0.75),
            ("kitten", "sitting", 0.5 * (1.0 - 3.0 / 7.0)),
            ("abcd", "ab", 0.5 * 0.5 + 0.5 * 0.5),
        ];
        for (a, b, expected) in table {
            assert!((agreement(a, b) - expected).abs() < 1e-12, "{a} {b}: {}", agreement(a, b));
            assert_eq!(agreement(a, b), agreement(b, a));
        }
    }
}
