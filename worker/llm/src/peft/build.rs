//! A base model becomes one that a method trains.

use super::config::MethodConfig;
use super::error::Error;
use crate::autograd::Slot;
use crate::model::store::InitialWeight;
use crate::model::weights::slots;
use crate::model::{Decoder, ModelConfig, Precision, WeightRole, WeightStore};
use candle_core::Device;

/// A model for `method` over the weights of a base, flat in order of name (as [`crate::model::hub::load`]
/// returns them). `precision` (f32 or bf16) is that of trained weights, and of frozen ones unless the method
/// says otherwise. `seed` draws the added weights. The vector is split as its weights are built, so there is
/// never a second copy of the base.
///
/// # Errors
/// When the method does not fit the model, or the vector not the configuration.
pub fn build(
    config: ModelConfig,
    base: Vec<f32>,
    method: &MethodConfig,
    precision: Precision,
    device: &Device,
    seed: u64,
) -> Result<Decoder, Error> {
    config.validate()?;
    let method = method.method();
    method.validate(&config)?;
    if base.len() != config.parameter_count() {
        let reason = format!("{} numbers for a model of {}", base.len(), config.parameter_count());
        return Err(crate::model::Error::Weights(reason).into());
    }
    let added = method.added(&config)?;
    let mut arrays: Vec<InitialWeight> =
        added.into_iter().map(|added| added.array(&config, &base, seed)).collect();
    arrays.extend(split_from_end(&config, base, |slot| method.role(&slot.name, &slot.shape, precision)));
    let mut decoder = Decoder::new(config, WeightStore::new(arrays, precision, device)?)?;
    method.attach(&mut decoder)?;
    Ok(decoder)
}

/// Splits the vector from its end, freeing memory as it goes.
fn split_from_end(
    config: &ModelConfig,
    mut flat: Vec<f32>,
    role: impl Fn(&Slot) -> WeightRole,
) -> Vec<InitialWeight> {
    let take = |slot: Slot| {
        let numbers = flat.split_off(slot.start);
        flat.shrink_to_fit();
        InitialWeight { role: role(&slot), name: slot.name, shape: slot.shape, numbers }
    };
    slots(config).into_iter().rev().map(take).collect()
}
