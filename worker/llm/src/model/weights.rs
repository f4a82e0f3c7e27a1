//! The numbers of a model: named, ordered by name, and seeded by us.
//!
//! candle's CPU generator can't be seeded and its variable map iterates in random order; both would make
//! two workers that start from one seed differ. Every flat vector in this library is these weights in order of name.

use super::{Error, ModelConfig};
use candle_core::{DType, Device, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// All weights of one model.
pub struct Weights {
    by_name: BTreeMap<String, Var>,
}

/// Where one weight lies in a flat vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The weight's name.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its numbers in the flat vector.
    pub range: Range<usize>,
}

/// The slots of all weights of `config`, in order of name.
#[must_use]
pub fn slots(config: &ModelConfig) -> Vec<Slot> {
    let mut start = 0;
    config
        .weight_shapes()
        .into_iter()
        .map(|(name, shape)| {
            let end = start + shape.iter().product::<usize>();
            let range = start..end;
            start = end;
            Slot { name, shape, range }
        })
        .collect()
}

/// The initial weights of a seed, as one flat vector.
///
/// Each weight has its own stream, keyed by its name, so that adding a layer leaves the others alone.
#[must_use]
pub fn initial(config: &ModelConfig, seed: u64) -> Vec<f32> {
    let mut flat = vec![1f32; config.parameter_count()];
    // Layers that write to the residual stream start smaller, so that its spread doesn't grow with depth.
    let residual_scale = 1.0 / (2.0 * config.num_hidden_layers as f64).sqrt();
    for slot in slots(config) {
        if slot.shape.len() == 1 {
            continue;
        }
        let writes_residual = slot.name.contains("o_proj") || slot.name.contains("down_proj");
        let spread = config.initializer_range * if writes_residual { residual_scale } else { 1.0 };
        let mut key = blake3::Hasher::new();
        key.update(&seed.to_le_bytes());
        key.update(slot.name.as_bytes());
        let mut rng = ChaCha8Rng::from_seed(*key.finalize().as_bytes());
        for value in &mut flat[slot.range] {
            *value = (normal(&mut rng) * spread) as f32;
        }
    }
    flat
}

/// A nearly normal number: twelve uniforms summed. Unlike a logarithm or cosine, this has the same bits everywhere.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let total: u64 = (0..12).map(|_| u64::from(rng.next_u32())).sum();
    total as f64 / f64::from(u32::MAX) - 6.0
}

impl Weights {
    /// Weights from a flat vector in order of name.
    ///
    /// # Errors
    /// When the vector's length is not the model's.
    pub fn from_flat(config: &ModelConfig, flat: &[f32]) -> Result<Self, Error> {
        config.validate()?;
        if flat.len() != config.parameter_count() {
            return Err(Error::Weights(format!("{} numbers for a model of {}", flat.len(), config.parameter_count())));
        }
        let by_name = slots(config)
            .into_iter()
            .map(|slot| {
                let tensor = Tensor::from_slice(&flat[slot.range], slot.shape, &Device::Cpu)?;
                Ok((slot.name, Var::from_tensor(&tensor)?))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self { by_name })
    }

    /// One weight.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn get(&self, name: &str) -> Result<&Var, Error> {
        self.by_name.get(name).ok_or_else(|| Error::Weights(format!("there is no {name}")))
    }

    /// All weights in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.by_name.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// Overwrites all weights from a flat vector.
    ///
    /// # Errors
    /// When the lengths differ.
    pub fn set_flat(&self, flat: &[f32]) -> Result<(), Error> {
        let mut rest = flat;
        for var in self.by_name.values() {
            let Some((mine, others)) = rest.split_at_checked(var.elem_count()) else {
                return Err(Error::Weights("the flat vector is too short".to_owned()));
            };
            var.set(&Tensor::from_slice(mine, var.shape(), var.device())?)?;
            rest = others;
        }
        if rest.is_empty() { Ok(()) } else { Err(Error::Weights("the flat vector is too long".to_owned())) }
    }
}

/// The key of the one line of metadata: with several, their order would differ from run to run.
const ABOUT: &str = "muster";

/// Writes flat vectors as a safetensors file's bytes, each name preceded by its part's prefix, with a text about them.
///
/// # Errors
/// When the format refuses a tensor.
pub fn to_safetensors(config: &ModelConfig, parts: &[(&str, &[f32])], about: Option<&str>) -> Result<Vec<u8>, Error> {
    let refuse = |e: safetensors::SafeTensorError| Error::Weights(e.to_string());
    let bytes: Vec<Vec<u8>> = parts.iter().map(|(_, flat)| flat.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let mut views = Vec::new();
    for ((prefix, _), bytes) in parts.iter().zip(&bytes) {
        for slot in slots(config) {
            let range = slot.range.start * 4..slot.range.end * 4;
            let view = TensorView::new(Dtype::F32, slot.shape, &bytes[range]).map_err(refuse)?;
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
pub fn from_safetensors(config: &ModelConfig, bytes: &[u8], prefix: &str) -> Result<Vec<f32>, Error> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| Error::Weights(e.to_string()))?;
    let mut flat = vec![0f32; config.parameter_count()];
    for slot in slots(config) {
        let name = format!("{prefix}{}", slot.name);
        let tensor = file.tensor(&name).map_err(|_| Error::Weights(format!("the file has no tensor {name}")))?;
        if tensor.shape() != slot.shape {
            return Err(Error::Weights(format!("{name} has shape {:?} where the configuration wants {:?}", tensor.shape(), slot.shape)));
        }
        if tensor.dtype() != Dtype::F32 {
            return Err(Error::Weights(format!("{name} is {:?}, not {:?}", tensor.dtype(), DType::F32)));
        }
        let numbers = tensor.data().chunks_exact(4);
        for (value, bytes) in flat[slot.range].iter_mut().zip(numbers) {
            *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
    }
    Ok(flat)
}

/// The text that [`to_safetensors`] was given about the vectors.
///
/// # Errors
/// When the bytes are no safetensors file, or it has no such text.
pub fn about(bytes: &[u8]) -> Result<String, Error> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| Error::Weights(e.to_string()))?;
    let about = metadata.metadata().as_ref().and_then(|about| about.get(ABOUT).cloned());
    about.ok_or_else(|| Error::Weights("the file says nothing about itself".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> ModelConfig {
        ModelConfig { vocab_size: 32, hidden_size: 16, intermediate_size: 24, num_hidden_layers: 2, ..ModelConfig::default() }
    }

    #[test]
    fn a_seed_gives_the_same_weights_and_the_right_spread() {
        let config = small();
        let flat = initial(&config, 7);
        assert_eq!(flat, initial(&config, 7));
        assert_ne!(flat, initial(&config, 8));
        let slots = slots(&config);
        let embedding = slots.iter().find(|s| s.name.contains("embed")).expect("has an embedding");
        let values = &flat[embedding.range.clone()];
        let variance = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / values.len() as f64;
        assert!((variance.sqrt() - 0.02).abs() < 0.003, "{}", variance.sqrt());
    }

    #[test]
    fn safetensors_round_trip_and_name_what_is_wrong() {
        let config = small();
        let flat = initial(&config, 1);
        let bytes = to_safetensors(&config, &[("", &flat)], None).expect("serializes");
        assert_eq!(from_safetensors(&config, &bytes, "").expect("reads"), flat);

        let deeper = ModelConfig { num_hidden_layers: 3, ..config.clone() };
        let missing = from_safetensors(&deeper, &bytes, "").expect_err("a layer is absent");
        assert!(missing.to_string().contains("model.layers.2."), "{missing}");

        let wider = ModelConfig { intermediate_size: 32, ..config };
        let misshapen = from_safetensors(&wider, &bytes, "").expect_err("a shape differs");
        assert!(misshapen.to_string().contains("mlp."), "{misshapen}");
    }
}
