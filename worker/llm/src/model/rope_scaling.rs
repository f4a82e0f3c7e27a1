//! How rotary frequencies are stretched for contexts longer than a model was trained on.

use super::Error;
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// The methods of the Hugging Face models, under their names there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "snake_case")]
pub enum RopeScaling {
    /// Every frequency is divided by `factor` (Chen et al. 2023, position interpolation).
    Linear {
        /// How much longer the context becomes.
        factor: f64,
    },
    /// Low frequencies are divided, high ones stay, and those between are mixed (Llama 3.1).
    Llama3 {
        /// What low frequencies are divided by.
        factor: f64,
        /// Waves longer than the original context over this are low.
        low_freq_factor: f64,
        /// Waves shorter than the original context over this are high.
        high_freq_factor: f64,
        /// The context that the model was trained on first, in tokens.
        original_max_position_embeddings: usize,
    },
    /// As `Llama3` by a ramp over pairs, with warmer attention (Peng et al. 2023, YaRN).
    Yarn {
        /// What low frequencies are divided by.
        factor: f64,
        /// The context that the model was trained on first; that of the configuration if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        original_max_position_embeddings: Option<usize>,
        /// Turns within the context above which a pair is left alone.
        #[serde(default = "beta_fast")]
        beta_fast: f64,
        /// Turns within the context below which a pair is divided.
        #[serde(default = "beta_slow")]
        beta_slow: f64,
        /// What cosines and sines are multiplied with; from `factor` if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attention_factor: Option<f64>,
    },
}

fn beta_fast() -> f64 {
    32.0
}

fn beta_slow() -> f64 {
    1.0
}

impl RopeScaling {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Config`] naming the one that makes no sense.
    pub fn validate(&self) -> Result<(), Error> {
        let positive = |name: &str, value: f64| {
            let sound = value.is_finite() && value > 0.0;
            if sound {
                Ok(())
            } else {
                Err(Error::Config(format!("rope scaling: {name} is {value}, and must be above 0")))
            }
        };
        match self {
            RopeScaling::Linear { factor } => positive("factor", *factor),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => {
                positive("factor", *factor)?;
                positive("low_freq_factor", *low_freq_factor)?;
                positive("original_max_position_embeddings", *original_max_position_embeddings as f64)?;
                positive("high_freq_factor - low_freq_factor", high_freq_factor - low_freq_factor)
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, attention_factor, .. } => {
                positive("factor", *factor)?;
                positive("beta_fast", *beta_fast)?;
                positive("beta_slow", *beta_slow)?;
                positive("attention_factor", attention_factor.unwrap_or(1.0))
            }
        }
    }
}

/// The frequencies in radians per position of the pairs of a head `dim` wide, and what cosines and sines are
/// multiplied with.
#[must_use]
pub fn frequencies(dim: usize, theta: f64, context: usize, scaling: Option<&RopeScaling>) -> (Vec<f64>, f64) {
    let half = dim / 2;
    let mut plain: Vec<f64> = (0..half).map(|pair| theta.powf(-2.0 * pair as f64 / dim as f64)).collect();
    match scaling {
        None => (plain, 1.0),
        Some(RopeScaling::Linear { factor }) => {
            plain.iter_mut().for_each(|frequency| *frequency /= factor);
            (plain, 1.0)
        }
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        }) => {
            let original = *original_max_position_embeddings as f64;
            for frequency in &mut plain {
                let wave = TAU / *frequency;
                if wave > original / low_freq_factor {
                    *frequency /= factor;
                } else if wave >= original / high_freq_factor {
                    let smooth = (original / wave - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    *frequency = (1.0 - smooth) * *frequency / factor + smooth * *frequency;
                }
            }
            (plain, 1.0)
        }
        Some(RopeScaling::Yarn {
            factor,
            original_max_position_embeddings,
            beta_fast,
            beta_slow,
            attention_factor,
        }) => {
            let original = original_max_position_embeddings.unwrap_or(context) as f64;
            // The pair that turns this often within the original context.
            let pair = |turns: f64| dim as f64 * (original / (turns * TAU)).ln() / (2.0 * theta.ln());
            let low = pair(*beta_fast).floor().max(0.0);
            let high = pair(*beta_slow).ceil().min(dim as f64 - 1.0);
            let high = if (high - low).abs() < f64::EPSILON { high + 0.001 } else { high };
            for (pair, frequency) in plain.iter_mut().enumerate() {
                let ramp = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
                *frequency = *frequency / factor * ramp + *frequency * (1.0 - ramp);
            }
            let warmth = if *factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 };
            (plain, attention_factor.unwrap_or(warmth))
        }
    }
}
