//! Draws one token from logits: greedy, by temperature, among the `top_k` likeliest (Fan et al. 2018).

use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

/// How to sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Temperature: 0 takes the likeliest token, 1 samples from the model's distribution.
    pub temperature: f64,
    /// Samples among this many of the likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Tokens, at most.
    pub tokens_max: usize,
    /// Whether to stop at the end of a line.
    pub one_line: bool,
    /// Seed of the generator.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 40, tokens_max: 48, one_line: true, seed: 0 }
    }
}

/// Draws a token, and returns it with its log-probability in nats under the logits (at temperature 1).
pub fn sample_token(logits: &[f32], sampling: &Sampling, rng: &mut impl Rng) -> (u32, f64) {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    // Likeliest first; of equals, the lower token, so that the order is unique.
    let likelier = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let wanted = if sampling.temperature == 0.0 { 1 } else { sampling.top_k };
    if wanted > 0 && wanted < order.len() {
        order.select_nth_unstable_by(wanted - 1, likelier);
        order.truncate(wanted);
    }
    order.sort_unstable_by(likelier);

    let greatest = f64::from(logits[order[0] as usize]);
    let token =
        if order.len() == 1 { order[0] } else { draw(logits, &order, greatest, sampling.temperature, rng) };
    let total: f64 = logits.iter().map(|logit| (f64::from(*logit) - greatest).exp()).sum();
    (token, f64::from(logits[token as usize]) - greatest - total.ln())
}

fn draw(logits: &[f32], order: &[u32], greatest: f64, temperature: f64, rng: &mut impl Rng) -> u32 {
    // A temperature of 0 leaves one candidate; the bound avoids a division by zero.
    let temperature = temperature.max(f64::MIN_POSITIVE);
    let shares: Vec<f64> = order
        .iter()
        .map(|token| ((f64::from(logits[*token as usize]) - greatest) / temperature).exp())
        .collect();
    let total: f64 = shares.iter().sum();
    let mut left = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total;
    for (token, share) in order.iter().zip(&shares) {
        if left < *share {
            return *token;
        }
        left -= share;
    }
    order[order.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0f32, 2f32.ln(), 5f32.ln(), 0.0];
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        // (temperature, top_k, expected parts)
        let table = [
            (1.0, 0, [1.0 / 9.0, 2.0 / 9.0, 5.0 / 9.0, 1.0 / 9.0]),
            (1.0, 2, [0.0, 2.0 / 7.0, 5.0 / 7.0, 0.0]),
            (0.5, 0, [1.0 / 31.0, 4.0 / 31.0, 25.0 / 31.0, 1.0 / 31.0]),
            (0.0, 0, [0.0, 0.0, 1.0, 0.0]),
            (1.0, 1, [0.0, 0.0, 1.0, 0.0]),
        ];
        for (temperature, top_k, expected) in table {
            let sampling = Sampling { temperature, top_k, ..Sampling::default() };
            let mut counts = [0u32; 4];
            for _ in 0..4000 {
                let (token, logprob) = sample_token(&logits, &sampling, &mut rng);
                counts[token as usize] += 1;
                let own = [1.0, 2.0, 5.0, 1.0][token as usize] / 9.0;
                assert!((logprob - f64::ln(own)).abs() < 1e-6);
            }
            for (count, expected) in counts.iter().zip(expected) {
                assert!(
                    (f64::from(*count) / 4000.0 - expected).abs() < 0.03,
                    "{temperature} {top_k}: {counts:?}"
                );
            }
        }
    }

    #[test]
    fn of_equals_the_lower_token_is_taken() {
        let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        assert_eq!(sample_token(&[1.0, 3.0, 3.0], &sampling, &mut ChaCha8Rng::seed_from_u64(1)).0, 1);
    }
}
