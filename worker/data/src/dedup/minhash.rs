//! MinHash signatures: the expected share of equal numbers in two signatures is the Jaccard index of the
//! texts' shingles.
//!
//! A shingle is an n-gram of words or characters. For each of `bands * rows` permutations of the 64-bit
//! numbers a signature holds the least image of the text's shingles (the upper 32 bits, so unrelated texts
//! agree by chance once in 2^32). Broder 1997, "On the resemblance and containment of documents"; 5 words, 14
//! bands and 8 rows are what dolma and datatrove use.

use crate::Error;
use crate::shingles;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

/// The unit of a shingle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shingle {
    /// Words, without case and punctuation: for prose.
    #[default]
    Words,
    /// Characters, with each run of white space as one blank: for code.
    Characters,
}

/// Parameters of MinHash. Only signatures made with the same parameters can be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MinHashConfig {
    /// The unit of a shingle.
    pub shingle: Shingle,
    /// Units per shingle, 1 to 1000.
    pub length: usize,
    /// Bands of a signature; `bands * rows` is 1 to 4096. Texts that agree in all rows of a band are
    /// compared.
    pub bands: usize,
    /// Rows of a band.
    pub rows: usize,
    /// The seed of the permutations.
    pub seed: u64,
}

impl Default for MinHashConfig {
    fn default() -> Self {
        Self { shingle: Shingle::Words, length: 5, bands: 14, rows: 8, seed: 1 }
    }
}

impl MinHashConfig {
    /// Defaults for code: shingles of 25 characters, about 5 words.
    #[must_use]
    pub fn characters() -> Self {
        Self { shingle: Shingle::Characters, length: 25, ..Self::default() }
    }

    /// Numbers in a signature.
    #[must_use]
    pub fn hashes(&self) -> usize {
        self.bands * self.rows
    }
}

/// Numbers of a signature, at most.
const HASHES_MAX: usize = 4096;
/// Parts of a shingle, at most.
const LENGTH_MAX: usize = 1000;
/// Every number in the signature of a text without words; such a text has no near duplicates.
pub const EMPTY: u32 = u32::MAX;

/// Makes signatures.
#[derive(Clone, Debug)]
pub struct MinHasher {
    config: MinHashConfig,
    /// `x -> x * factor + offset` with an odd factor is a permutation of the 64-bit numbers.
    permutations: Vec<(u64, u64)>,
}

impl MinHasher {
    /// Draws the permutations.
    ///
    /// # Errors
    /// [`Error::Parameters`] if a parameter is out of range.
    pub fn new(config: &MinHashConfig) -> Result<Self, Error> {
        let hashes = config.bands.saturating_mul(config.rows);
        if !(1..=HASHES_MAX).contains(&hashes) || !(1..=LENGTH_MAX).contains(&config.length) {
            return Err(Error::Parameters(format!(
                "{} bands of {} rows of shingles of {}: there may be 1 to {HASHES_MAX} hashes, and a shingle may have 1 to {LENGTH_MAX} parts",
                config.bands, config.rows, config.length
            )));
        }
        let mut random = ChaCha8Rng::seed_from_u64(config.seed);
        let permutations =
            (0..hashes).map(|_| (random.random::<u64>() | 1, random.random::<u64>())).collect();
        Ok(Self { config: config.clone(), permutations })
    }

    /// The hashes of a text's shingles; a text shorter than a shingle is one shingle.
    #[must_use]
    pub fn shingles(&self, text: &str) -> Vec<u64> {
        let parts = match self.config.shingle {
            Shingle::Words => shingles::word_hashes(text),
            Shingle::Characters => shingles::character_hashes(text),
        };
        shingles::ngrams(&parts, self.config.length.min(parts.len())).collect()
    }

    /// Appends the signature of a text to `signatures`.
    pub fn sign(&self, text: &str, signatures: &mut Vec<u32>) {
        let mut least = vec![u64::MAX; self.permutations.len()];
        for shingle in self.shingles(text) {
            for (least, (factor, offset)) in least.iter_mut().zip(&self.permutations) {
                *least = (*least).min(shingle.wrapping_mul(*factor).wrapping_add(*offset));
            }
        }
        signatures.extend(least.into_iter().map(|least| (least >> 32) as u32));
    }
}

/// Whether this is the signature of a text without a word.
#[must_use]
pub fn is_empty(signature: &[u32]) -> bool {
    signature.iter().all(|number| *number == EMPTY)
}

/// How many numbers agree: of all, as large a share as the shingles that both texts have are of those that
/// either has, give or take.
#[must_use]
pub fn agreement(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).filter(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn signature(signer: &MinHasher, text: &str) -> Vec<u32> {
        let mut signature = Vec::new();
        signer.sign(text, &mut signature);
        signature
    }

    #[test]
    fn agreement_is_near_the_jaccard_index() {
        let signer =
            MinHasher::new(&MinHashConfig { bands: 64, rows: 16, length: 2, ..MinHashConfig::default() })
                .expect("is sound");
        let words: Vec<String> = (0..400).map(|number| format!("w{number}")).collect();
        for shift in [0, 20, 50, 100, 200, 399] {
            let (one, other) = (words[..300].join(" "), words[shift.min(399)..].join(" "));
            let sets = [&one, &other].map(|text| signer.shingles(text).into_iter().collect::<BTreeSet<_>>());
            let jaccard =
                sets[0].intersection(&sets[1]).count() as f64 / sets[0].union(&sets[1]).count() as f64;
            let found = agreement(&signature(&signer, &one), &signature(&signer, &other)) as f64 / 1024.0;
            // Four standard deviations of 1,024 draws.
            assert!(
                (found - jaccard).abs() <= 4.0 * (jaccard * (1.0 - jaccard) / 1024.0).sqrt() + 1e-9,
                "{found} for {jaccard}"
            );
        }
    }

    #[test]
    fn short_and_empty_texts_have_signatures_too() {
        let signer = MinHasher::new(&MinHashConfig::default()).expect("is sound");
        assert!(is_empty(&signature(&signer, " ... ")));
        assert_eq!(signature(&signer, "two words"), signature(&signer, "Two, words!"));
        assert_ne!(signature(&signer, "two words"), signature(&signer, "two other words"));
        let code = MinHasher::new(&MinHashConfig::characters()).expect("is sound");
        assert_eq!(signature(&code, "a = b;\n"), signature(&code, "a  =\tb;"));
        assert_ne!(signature(&code, "a = b;"), signature(&code, "a - b;"));
    }

    #[test]
    fn what_can_not_be_is_refused() {
        for config in [
            MinHashConfig { bands: 0, ..MinHashConfig::default() },
            MinHashConfig { rows: 1 << 20, ..MinHashConfig::default() },
            MinHashConfig { length: 0, ..MinHashConfig::default() },
        ] {
            assert!(
                MinHasher::new(&config)
                    .expect_err("refused")
                    .to_string()
                    .contains("there may be 1 to 4096 hashes")
            );
        }
    }
}
