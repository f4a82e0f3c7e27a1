//! A way to train a model: which weights are trained, what is added, and its PEFT layout.

use super::added::AddedWeight;
use super::error::Error;
use crate::autograd::Slot;
use crate::model::hub::NamedTensor;
use crate::model::{Decoder, ModelConfig, Precision, WeightRole};
use serde_json::Value;

/// A way to train a model.
pub trait Method {
    /// Its name, as configurations have it.
    fn name(&self) -> &'static str;

    /// Checks the parameters against the model.
    ///
    /// # Errors
    /// [`Error::Method`] or [`Error::Target`], naming what is wrong.
    fn validate(&self, config: &ModelConfig) -> Result<(), Error>;

    /// Whether a weight of the base is trained, and its precision if not; `precision` is the default for
    /// dense weights.
    fn role(&self, name: &str, shape: &[usize], precision: Precision) -> WeightRole;

    /// The added weights; all are trained.
    ///
    /// # Errors
    /// As [`Method::validate`].
    fn added(&self, config: &ModelConfig) -> Result<Vec<AddedWeight>, Error>;

    /// Attaches the added weights, which the model's store holds, to the layers.
    ///
    /// # Errors
    /// When one is absent.
    fn attach(&self, decoder: &mut Decoder) -> Result<(), Error>;

    /// Whether a trained weight rightly has a gradient of zero before the first step.
    fn starts_without_gradient(&self, _name: &str) -> bool {
        false
    }

    /// `adapter_config.json` without the base's name; `None` for a method that gives a whole model, not an
    /// adapter.
    fn peft_config(&self, _config: &ModelConfig) -> Option<Value> {
        None
    }

    /// Trained weights (or their gradients), flat in order of `slots`, as PEFT's tensors.
    fn to_peft(&self, _config: &ModelConfig, slots: &[Slot], flat: &[f32]) -> Vec<NamedTensor> {
        slots
            .iter()
            .map(|slot| NamedTensor {
                name: slot.name.clone(),
                shape: slot.shape.clone(),
                numbers: flat[slot.range()].to_vec(),
            })
            .collect()
    }

    /// PEFT's tensors as weights under our names; the inverse of [`Method::to_peft`]. Does not check shapes.
    ///
    /// # Errors
    /// [`Error::Adapter`] when a tensor can't be split into our weights.
    fn read_peft(&self, _config: &ModelConfig, tensors: Vec<NamedTensor>) -> Result<Vec<NamedTensor>, Error> {
        Ok(tensors)
    }
}
