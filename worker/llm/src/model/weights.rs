//! Initial weights, and flat vectors as safetensors.
//!
//! candle's CPU generator can't be seeded, and workers that start from one seed must not differ. A flat
//! vector is always in order of names.

use super::store::{InitialWeight, WeightRole};
use super::{Error, ModelConfig};
use crate::autograd::Slot;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;

/// The slots of all weights of `config`, in order of name, as in a model whose every weight is trained.
#[must_use]
pub fn slots(config: &ModelConfig) -> Vec<Slot> {
    let mut start = 0;
    let shapes = config.weight_shapes().into_iter().enumerate();
    shapes
        .map(|(index, (name, shape))| {
            let len = shape.iter().product::<usize>();
            let slot = Slot { name, shape, index, start, len };
            start += len;
            slot
        })
        .collect()
}

/// Nearly normal numbers with mean 0 and this standard deviation; a function of the seed and the name.
#[must_use]
pub fn drawn(seed: u64, name: &str, count: usize, spread: f64) -> Vec<f32> {
    let mut key = blake3::Hasher::new();
    key.update(&seed.to_le_bytes());
    key.update(name.as_bytes());
    let mut rng = ChaCha8Rng::from_seed(*key.finalize().as_bytes());
    (0..count).map(|_| (normal(&mut rng) * spread) as f32).collect()
}

/// The initial weights of a seed, as one flat vector.
///
/// Each weight has its own stream, keyed by its name, so that adding a layer leaves the others alone.
#[must_use]
pub fn initial(config: &ModelConfig, seed: u64) -> Vec<f32> {
    let mut flat = Vec::with_capacity(config.parameter_count());
    // Projections that write to the residual stream start smaller, so that its variance doesn't grow with
    // depth (GPT-2).
    let residual_scale = 1.0 / (2.0 * config.num_hidden_layers as f64).sqrt();
    for slot in slots(config) {
        if slot.name.ends_with(".bias") {
            flat.resize(flat.len() + slot.len, 0.0);
        } else if slot.shape.len() == 1 {
            flat.resize(flat.len() + slot.len, 1.0);
        } else {
            let writes_residual = slot.name.contains("o_proj") || slot.name.contains("down_proj");
            let spread = config.initializer_range * if writes_residual { residual_scale } else { 1.0 };
            flat.extend(drawn(seed, &slot.name, slot.len, spread));
        }
    }
    flat
}

/// Splits a flat vector of all weights; all get one role.
///
/// # Errors
/// When the vector's length is not the model's.
pub fn split_flat(config: &ModelConfig, flat: &[f32], role: WeightRole) -> Result<Vec<InitialWeight>, Error> {
    if flat.len() != config.parameter_count() {
        return Err(Error::Weights(format!(
            "{} numbers for a model of {}",
            flat.len(),
            config.parameter_count()
        )));
    }
    let array = |slot: Slot| InitialWeight {
        numbers: flat[slot.range()].to_vec(),
        name: slot.name,
        shape: slot.shape,
        role,
    };
    Ok(slots(config).into_iter().map(array).collect())
}

/// A nearly normal number: the sum of twelve uniforms (Irwin-Hall). Unlike a logarithm or cosine, it has the
/// same bits on every platform.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let total: u64 = (0..12).map(|_| u64::from(rng.next_u32())).sum();
    total as f64 / f64::from(u32::MAX) - 6.0
}

/// The only key of the metadata: with several, their order would differ from run to run.
const ABOUT: &str = "muster";

/// Flat vectors as the bytes of a safetensors file. Each name gets its part's prefix; `about` is stored as
/// metadata.
///
/// # Errors
/// When serialization fails.
pub fn to_safetensors(
    slots: &[Slot],
    parts: &[(&str, &[f32])],
    about: Option<&str>,
) -> Result<Vec<u8>, Error> {
    let refuse = |e: safetensors::SafeTensorError| Error::Weights(e.to_string());
    let bytes: Vec<Vec<u8>> =
        parts.iter().map(|(_, flat)| flat.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let mut views = Vec::new();
    for ((prefix, _), bytes) in parts.iter().zip(&bytes) {
        for slot in slots {
            let range = slot.start * 4..(slot.start + slot.len) * 4;
            let view = TensorView::new(Dtype::F32, slot.shape.clone(), &bytes[range]).map_err(refuse)?;
            views.push((format!("{prefix}{}", slot.name), view));
        }
    }
    let about = about.map(|about| HashMap::from([(ABOUT.to_owned(), about.to_owned())]));
    safetensors::serialize(views, about).map_err(refuse)
}

/// Reads what [`to_safetensors`] wrote under `prefix`, checking each name and shape.
///
/// # Errors
/// [`Error::Weights`] naming the tensor that is absent, misshapen or of another type.
pub fn from_safetensors(slots: &[Slot], bytes: &[u8], prefix: &str) -> Result<Vec<f32>, Error> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| Error::Weights(e.to_string()))?;
    let mut flat = Vec::with_capacity(slots.last().map_or(0, |slot| slot.start + slot.len));
    for slot in slots {
        let name = format!("{prefix}{}", slot.name);
        let tensor =
            file.tensor(&name).map_err(|_| Error::Weights(format!("the file has no tensor {name}")))?;
        if tensor.shape() != slot.shape {
            return Err(Error::Weights(format!(
                "{name} has shape {:?} where the configuration wants {:?}",
                tensor.shape(),
                slot.shape
            )));
        }
        if tensor.dtype() != Dtype::F32 {
            return Err(Error::Weights(format!("{name} is {:?}, not {:?}", tensor.dtype(), Dtype::F32)));
        }
        flat.extend(
            tensor
                .data()
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
        );
    }
    Ok(flat)
}

/// The metadata that [`to_safetensors`] was given.
///
/// # Errors
/// When the bytes are not a safetensors file, or it has no such metadata.
pub fn about(bytes: &[u8]) -> Result<String, Error> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| Error::Weights(e.to_string()))?;
    let about = metadata.metadata().as_ref().and_then(|about| about.get(ABOUT).cloned());
    about.ok_or_else(|| Error::Weights("the file says nothing about itself".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> ModelConfig {
        ModelConfig {
            vocab_size: 32,
            hidden_size: 16,
            intermediate_size: 24,
            num_hidden_layers: 2,
            ..ModelConfig::default()
        }
    }

    #[test]
    fn a_seed_gives_the_same_weights_and_the_right_spread() {
        let config = small();
        let flat = initial(&config, 7);
        assert_eq!(flat, initial(&config, 7));
        assert_ne!(flat, initial(&config, 8));
        let slots = slots(&config);
        let embedding = slots.iter().find(|s| s.name.contains("embed")).expect("has an embedding");
        let values = &flat[embedding.range()];
        let variance = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / values.len() as f64;
        assert!((variance.sqrt() - 0.02).abs() < 0.003, "{}", variance.sqrt());
    }

    #[test]
    fn safetensors_round_trip_and_name_what_is_wrong() {
        let config = small();
        let flat = initial(&config, 1);
        let bytes = to_safetensors(&slots(&config), &[("", &flat)], None).expect("serializes");
        assert_eq!(from_safetensors(&slots(&config), &bytes, "").expect("reads"), flat);

        let deeper = ModelConfig { num_hidden_layers: 3, ..config.clone() };
        let missing = from_safetensors(&slots(&deeper), &bytes, "").expect_err("a layer is absent");
        assert!(missing.to_string().contains("model.layers.2."), "{missing}");

        let wider = ModelConfig { intermediate_size: 32, ..config };
        let misshapen = from_safetensors(&slots(&wider), &bytes, "").expect_err("a shape differs");
        assert!(misshapen.to_string().contains("mlp."), "{misshapen}");
    }
}
