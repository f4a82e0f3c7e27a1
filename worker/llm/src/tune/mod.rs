//! What of a model is trained, and what is added to it for that: one trait, one file per method.
//!
//! A method decides for each weight of the base whether it learns and in which numbers it is held, names what
//! is added, and puts that into the model. Trained weights are named as PEFT names them in
//! `adapter_model.safetensors`, or map one to one ([`peft`]). No method knows of optimizers or data; whatever
//! trains sees one flat vector of the trained numbers, in order of name.
//!
//! - [`full`]: every weight. [`lora`]: low-rank additions, and merging them. [`qlora`]: those over a base of
//!   quantised blocks.
//! - [`prefix`], [`prompt`]: learnt keys and values, or learnt rows, before each sequence.
//! - [`added`]: what new weights start from. [`check()`]: that all that should learn can. [`peft`]: files
//!   that `peft` reads and writes.

pub mod added;
pub mod check;
pub mod full;
pub mod lora;
pub mod peft;
pub mod prefix;
pub mod prompt;
pub mod qlora;

#[cfg(test)]
mod tests;

pub use added::{Added, Init};
pub use check::{Resident, check, resident};
pub use lora::merge;

use crate::autograd::Slot;
use crate::model::hub::Named;
use crate::model::store::Array;
use crate::model::weights::slots;
use crate::model::{Decoder, Hold, ModelConfig, Precision, Store};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What can fail in a method.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model refused.
    #[error(transparent)]
    Model(#[from] crate::model::Error),
    /// The tensor library refused an operation.
    #[error("compute: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The parameters of a method make no sense, or don't fit the model.
    #[error("use the method {method}: {reason}")]
    Method {
        /// Its name.
        method: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A target of LoRA names no projection.
    #[error("find the target {target:?} in the model: it matches none of {there}")]
    Target {
        /// The target.
        target: String,
        /// What there is.
        there: String,
    },
    /// A file of an adapter is damaged, of another model, or asks for something that is not built.
    #[error("read the adapter: {0}")]
    Adapter(String),
    /// A trained weight would stay as it is, or a frozen one would not.
    #[error("train what the method {method} trains: {reason}")]
    Untrained {
        /// Its name.
        method: &'static str,
        /// Which weight, and what is wrong.
        reason: String,
    },
}

/// A way to train a model.
pub trait Method {
    /// Its name, as configurations have it.
    fn name(&self) -> &'static str;

    /// Checks the parameters against the model.
    ///
    /// # Errors
    /// [`Error::Method`] or [`Error::Target`], naming what is wrong.
    fn validate(&self, config: &ModelConfig) -> Result<(), Error>;

    /// What becomes of a weight of the base; `precision` is what dense numbers are held in where the method
    /// has no opinion.
    fn hold(&self, name: &str, shape: &[usize], precision: Precision) -> Hold;

    /// The weights that are added, all of which are trained.
    ///
    /// # Errors
    /// As [`Method::validate`].
    fn added(&self, config: &ModelConfig) -> Result<Vec<Added>, Error>;

    /// Puts the added weights, which the model's store holds, where they act.
    ///
    /// # Errors
    /// When one is absent.
    fn attach(&self, decoder: &mut Decoder) -> Result<(), Error>;

    /// Whether a trained weight rightly has a gradient of zero before the first step.
    fn starts_silent(&self, _name: &str) -> bool {
        false
    }

    /// `adapter_config.json` without the base's name; `None` for a method that leaves no adapter but a whole
    /// model.
    fn peft_config(&self, _config: &ModelConfig) -> Option<Value> {
        None
    }

    /// Numbers of the trained weights (or their gradients), flat in order of `slots`, as PEFT's tensors.
    fn to_peft(&self, _config: &ModelConfig, slots: &[Slot], flat: &[f32]) -> Vec<Named> {
        slots
            .iter()
            .map(|slot| Named {
                name: slot.name.clone(),
                shape: slot.shape.clone(),
                numbers: flat[slot.range()].to_vec(),
            })
            .collect()
    }

    /// The other way: PEFT's tensors as weights under our names. Shapes are checked by whoever takes them.
    ///
    /// # Errors
    /// [`Error::Adapter`] when a tensor does not divide into what we name apart.
    fn read_peft(&self, _config: &ModelConfig, tensors: Vec<Named>) -> Result<Vec<Named>, Error> {
        Ok(tensors)
    }
}

/// A method with its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum MethodConfig {
    /// Every weight.
    Full(full::Full),
    /// Low-rank additions to projections.
    Lora(lora::Lora),
    /// Low-rank additions over a base of GGUF's quantised blocks (`Q4_K`, `Q8_0`; not NF4).
    Qlora(qlora::Qlora),
    /// Keys and values before each sequence, in each block.
    Prefix(prefix::Prefix),
    /// Rows before each sequence.
    Prompt(prompt::Prompt),
}

impl Default for MethodConfig {
    fn default() -> Self {
        Self::Full(full::Full::default())
    }
}

impl MethodConfig {
    /// What it does.
    #[must_use]
    pub fn method(&self) -> &dyn Method {
        match self {
            Self::Full(method) => method,
            Self::Lora(method) => method,
            Self::Qlora(method) => method,
            Self::Prefix(method) => method,
            Self::Prompt(method) => method,
        }
    }
}

/// A model that is trained by `method`, from the numbers of a base, flat in order of name (as
/// [`crate::model::hub::load`] gives them). `precision` (f32 or bf16) is what trained weights are computed
/// with, and what frozen ones are held in unless the method says otherwise. The vector is taken apart as its
/// weights are made, so that no second copy of the base is ever there.
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
    let mut arrays: Vec<Array> = added.into_iter().map(|added| added.array(&config, &base, seed)).collect();
    arrays.extend(apart(&config, base, |slot| method.hold(&slot.name, &slot.shape, precision)));
    let mut decoder = Decoder::new(config, Store::new(arrays, precision, device)?)?;
    method.attach(&mut decoder)?;
    Ok(decoder)
}

/// Takes the vector apart from its end, giving memory back on the way.
fn apart(config: &ModelConfig, mut flat: Vec<f32>, hold: impl Fn(&Slot) -> Hold) -> Vec<Array> {
    let take = |slot: Slot| {
        let numbers = flat.split_off(slot.start);
        flat.shrink_to_fit();
        Array { hold: hold(&slot), name: slot.name, shape: slot.shape, numbers }
    };
    slots(config).into_iter().rev().map(take).collect()
}

/// An error about parameters.
fn wrong(method: &'static str, reason: impl Into<String>) -> Error {
    Error::Method { method, reason: reason.into() }
}
