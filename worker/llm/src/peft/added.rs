//! Weights that a method adds, and their initial values: a function of the seed and their name.

use crate::model::ModelConfig;
use crate::model::store::{InitialWeight, WeightRole};
use crate::model::weights::{drawn, slots};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The name of the embedding.
pub const EMBEDDING: &str = "model.embed_tokens.weight";

/// How a weight is initialised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WeightInit {
    /// Zeros.
    Zeros,
    /// Normal, with this standard deviation.
    Normal(f64),
    /// Uniform from minus to plus this bound.
    Uniform(f64),
    /// Rows of the model's embedding, of randomly drawn tokens.
    Vocabulary,
}

/// A weight that is added to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct AddedWeight {
    /// Its name.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// How it is initialised.
    pub init: WeightInit,
}

impl AddedWeight {
    /// The initialised weight, over a base that is flat in order of name.
    pub(super) fn array(self, config: &ModelConfig, base: &[f32], seed: u64) -> InitialWeight {
        let count = self.shape.iter().product();
        let numbers = match self.init {
            WeightInit::Zeros => vec![0.0; count],
            WeightInit::Normal(spread) => drawn(seed, &self.name, count, spread),
            WeightInit::Uniform(bound) => {
                let mut rng = generator(seed, &self.name);
                let unit = |rng: &mut ChaCha8Rng| f64::from(rng.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0;
                (0..count).map(|_| (unit(&mut rng) * bound) as f32).collect()
            }
            WeightInit::Vocabulary => rows(config, base, count, &mut generator(seed, &self.name)),
        };
        InitialWeight { name: self.name, shape: self.shape, numbers, role: WeightRole::Trained }
    }
}

/// Rows of the embedding of randomly drawn tokens: `count` elements.
fn rows(config: &ModelConfig, base: &[f32], count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let start = slots(config).iter().find(|slot| slot.name == EMBEDDING).map_or(0, |slot| slot.start);
    let embedding = &base[start..start + config.vocab_size * config.hidden_size];
    let mut numbers = Vec::with_capacity(count);
    while numbers.len() < count {
        let token = (u64::from(rng.next_u32()) * config.vocab_size as u64) >> 32;
        numbers.extend_from_slice(&embedding[token as usize * config.hidden_size..][..config.hidden_size]);
    }
    numbers
}

fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    let mut key = blake3::Hasher::new();
    key.update(&seed.to_le_bytes());
    key.update(name.as_bytes());
    ChaCha8Rng::from_seed(*key.finalize().as_bytes())
}
