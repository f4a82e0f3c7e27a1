//! Hashes of words and n-grams, for the comparison of texts.
//!
//! A word is a run of letters and digits, in lower case, so that punctuation, case and layout make no
//! difference. In scripts without blanks between words (Chinese, Japanese) each character is a word. The
//! hashes have 64 bits, so no collision is expected below a billion different n-grams.

/// The hash of each word of `text`, in order.
#[must_use]
pub fn word_hashes(text: &str) -> Vec<u64> {
    let mut hashes = Vec::with_capacity(text.len() / 6);
    let mut word = None;
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            word = Some(fnv1a(word.unwrap_or(SEED), c.to_ascii_lowercase()));
        } else if !c.is_ascii() && c.is_alphanumeric() {
            if stands_alone(c) {
                hashes.extend(word.take().map(splitmix64));
                hashes.push(splitmix64(fnv1a(SEED, c)));
            } else {
                word = Some(c.to_lowercase().fold(word.unwrap_or(SEED), fnv1a));
            }
        } else {
            hashes.extend(word.take().map(splitmix64));
        }
    }
    hashes.extend(word.map(splitmix64));
    hashes
}

/// The hash of each character, with each run of inner white space as one blank: for code, where punctuation
/// matters.
#[must_use]
pub fn character_hashes(text: &str) -> Vec<u64> {
    let mut hashes = Vec::with_capacity(text.len());
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() {
            gap = true;
            continue;
        }
        if std::mem::take(&mut gap) && !hashes.is_empty() {
            hashes.push(splitmix64(fnv1a(SEED, ' ')));
        }
        hashes.push(splitmix64(fnv1a(SEED, c)));
    }
    hashes
}

/// The rolling hash of each n-gram of `length` parts, in order: `parts.len() - length + 1` of them, or none
/// if there are fewer parts.
pub fn ngrams(parts: &[u64], length: usize) -> impl Iterator<Item = u64> {
    // Rabin-Karp: one part leaves and one enters, whatever the length.
    let length = length.max(1);
    let (mut sum, mut leaving) = (0u64, 1u64);
    for part in parts.iter().take(length) {
        sum = sum.wrapping_mul(BASE).wrapping_add(*part);
        leaving = leaving.wrapping_mul(BASE);
    }
    let first = (parts.len() >= length).then_some(sum);
    let rest = parts.iter().zip(parts.iter().skip(length)).map(move |(left, come)| {
        sum = sum.wrapping_mul(BASE).wrapping_add(*come).wrapping_sub(left.wrapping_mul(leaving));
        sum
    });
    first.into_iter().chain(rest).map(splitmix64)
}

/// A bijective mix of all 64 bits (the finalizer of SplitMix64, Steele et al. 2014).
#[must_use]
pub fn splitmix64(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The offset basis of FNV-1a.
const SEED: u64 = 0xcbf2_9ce4_8422_2325;
/// The base of the rolling hash: odd, 2^64 divided by the golden ratio.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// FNV-1a, a character at a time.
fn fnv1a(hash: u64, c: char) -> u64 {
    (hash ^ u64::from(c)).wrapping_mul(0x0000_0100_0000_01b3)
}

/// Whether the script of `c` has no blanks between words.
fn stands_alone(c: char) -> bool {
    matches!(
        u32::from(c),
        0x3040..=0x30ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x2_0000..=0x3_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_alike_whatever_the_case_and_the_layout() {
        assert_eq!(word_hashes("The cat's  HAT, 42!\n"), word_hashes("the\tcat s hat 42"));
        assert_eq!(word_hashes("\u{c9}t\u{e9}"), word_hashes("\u{e9}t\u{e9}"));
        assert_eq!(word_hashes("\u{6f22}\u{5b57} a\u{6f22}").len(), 4);
        assert_ne!(word_hashes("ab c"), word_hashes("a bc"));
        assert_eq!(word_hashes(" .,; \n").len(), 0);
        assert_eq!(character_hashes("a  =\n b;"), character_hashes(" a = b; "));
        assert_ne!(character_hashes("a=b"), character_hashes("a+b"));
    }

    #[test]
    fn a_run_is_the_same_wherever_it_stands() {
        let parts = word_hashes("a b c d e f g");
        for length in [1, 2, 3, 7] {
            let all: Vec<u64> = ngrams(&parts, length).collect();
            assert_eq!(all.len(), parts.len() + 1 - length);
            for (position, run) in all.iter().enumerate() {
                assert_eq!(ngrams(&parts[position..position + length], length).collect::<Vec<_>>(), [*run]);
            }
        }
        assert_eq!(ngrams(&parts, 8).count(), 0);
        assert_ne!(ngrams(&word_hashes("a b"), 2).next(), ngrams(&word_hashes("b a"), 2).next());
    }
}
