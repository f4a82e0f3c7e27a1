//! Checks at the start of training: exactly the right weights are trained, and what the base takes in memory.

use super::config::MethodConfig;
use super::error::Error;
use crate::model::{Decoder, Precision, WeightRole};
use candle_core::DType;
use std::collections::BTreeSet;

/// Checks the gradients of one batch, flat in order of slots, that were computed after `steps` steps: every
/// weight that the method trains must have a finite gradient that is not zero, and no other weight may have a
/// slot. LoRA's A has a gradient of zero before the first step (B is zero), so call it after 0 steps and
/// after 1.
///
/// # Errors
/// [`Error::Untrained`] naming the first weight.
pub fn check_trainable(
    method: &MethodConfig,
    decoder: &Decoder,
    gradients: &[f32],
    steps: u64,
) -> Result<(), Error> {
    let method = method.method();
    let wrong = |reason: String| Err(Error::Untrained { method: method.name(), reason });
    let config = decoder.config();
    // The precision does not change what is trained.
    let trained = |(name, shape): &(String, Vec<usize>)| {
        method.role(name, shape, Precision::F32) == WeightRole::Trained
    };
    let mut wanted: BTreeSet<String> =
        config.weight_shapes().into_iter().filter(trained).map(|(name, _)| name).collect();
    wanted.extend(method.added(config)?.into_iter().map(|added| added.name));
    for slot in decoder.store().slots().iter() {
        if !wanted.remove(&slot.name) {
            return wrong(format!("{} is trained, and should be frozen", slot.name));
        }
        let Some(gradient) = gradients.get(slot.range()) else {
            return wrong(format!("{} has no place among {} gradients", slot.name, gradients.len()));
        };
        if let Some(number) = gradient.iter().find(|number| !number.is_finite()) {
            return wrong(format!("{} has a gradient of {number}", slot.name));
        }
        let silent = steps == 0 && method.starts_without_gradient(&slot.name);
        if !silent && gradient.iter().all(|number| *number == 0.0) {
            return wrong(format!("{} has no gradient after {steps} steps", slot.name));
        }
    }
    match wanted.first() {
        Some(name) => wrong(format!("{name} is frozen or absent, and should be trained")),
        None if gradients.len() != decoder.store().trained_count() => wrong(format!(
            "there are {} gradients for {} numbers",
            gradients.len(),
            decoder.store().trained_count()
        )),
        None => Ok(()),
    }
}

/// The memory of a model's base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseFootprint {
    /// Bytes of the base as it is stored.
    pub base_bytes: usize,
    /// Bytes that it would take in bf16.
    pub bf16_bytes: usize,
    /// Number of trained parameters.
    pub trained: usize,
    /// Weights that are stored in a finer precision than asked for, because no block divides their rows: one
    /// line per kind.
    pub fallbacks: Vec<String>,
}

/// The memory of the base of a model that `method` built.
///
/// # Errors
/// When a weight is absent.
pub fn base_footprint(method: &MethodConfig, decoder: &Decoder) -> Result<BaseFootprint, Error> {
    let (config, store) = (decoder.config(), decoder.store());
    let mut found =
        BaseFootprint { base_bytes: 0, bf16_bytes: 0, trained: store.trained_count(), fallbacks: Vec::new() };
    for (name, shape) in config.weight_shapes() {
        let weight = store.get(&name)?;
        found.base_bytes += weight.bytes();
        found.bf16_bytes += weight.shape().elem_count() * DType::BF16.size_in_bytes();
        if let MethodConfig::Qlora(method) = method {
            let (wanted, held) = (method.wanted(&name, &shape), method.held(&name, &shape));
            if wanted != held {
                // All layers are alike, so the first stands for them.
                if !name.starts_with("model.layers.") || name.starts_with("model.layers.0.") {
                    let width = shape.last().copied().unwrap_or(0);
                    found.fallbacks.push(format!(
                        "{name}: rows of {width} don't divide into blocks of {wanted:?}; held in {held:?}"
                    ));
                }
            }
        }
    }
    Ok(found)
}
