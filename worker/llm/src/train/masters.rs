//! Where the numbers are that the optimizer changes, and the one place that writes them.
//!
//! In f32 on the CPU they are the model's own: the update is made in place, and no second copy of the weights exists. Held otherwise (bf16,
//! another device), the model has them rounded, and f32 masters are kept here: without them, small updates would be rounded away.

use super::adamw::{self, Decay, Moments};
use super::{Error, TrainConfig};
use crate::autograd::Held;
use crate::model::{Precision, Store};
use candle_core::DType;

/// The numbers in f32.
pub(super) enum Masters {
    /// In the model.
    InPlace,
    /// Here; the model has them rounded, or on its device.
    Apart(Vec<f32>),
}

/// One update.
pub(super) struct Update<'a> {
    pub config: &'a TrainConfig,
    pub decay: &'a Decay,
    pub step: u64,
    pub gradients: &'a [f32],
    /// What the gradients are multiplied with.
    pub scale: f64,
}

impl Masters {
    /// Those of a model. Checks that its weights are held as the parameters say.
    pub fn of(store: &Store, config: &TrainConfig) -> Result<Self, Error> {
        let Some(slot) = store.slots().first() else {
            return Err(Error::Parameters("no weight of the model is trained".to_owned()));
        };
        let dtype = match store.get(&slot.name)?.held() {
            Held::Dense(tensor) => tensor.dtype(),
            Held::Quantised(_) => return Err(Error::Parameters(format!("{} is trained and held in few bits", slot.name))),
        };
        let wanted = if config.precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
        if dtype != wanted {
            return Err(Error::Parameters(format!("the model is held in {dtype:?}, and `precision` wants {wanted:?}")));
        }
        Ok(if dtype == DType::F32 && store.device().is_cpu() { Self::InPlace } else { Self::Apart(store.trained()?) })
    }

    /// A copy of the numbers.
    pub fn copy(&self, store: &Store) -> Result<Vec<f32>, Error> {
        match self {
            Self::InPlace => Ok(store.trained()?),
            Self::Apart(masters) => Ok(masters.clone()),
        }
    }

    /// Replaces the numbers, which are as many.
    pub fn put(&mut self, store: &Store, weights: &[f32]) -> Result<(), Error> {
        store.set(weights)?;
        if let Self::Apart(masters) = self {
            masters.copy_from_slice(weights);
        }
        Ok(())
    }

    /// Makes an update, on the calling thread's pool.
    pub fn update(&mut self, store: &Store, moments: &mut Moments, update: &Update<'_>) -> Result<(), Error> {
        let Update { config, decay, step, gradients, scale } = *update;
        match self {
            Self::InPlace => Ok(store.edit(|weights| adamw::update(config, decay, step, weights, moments, gradients, scale))?),
            Self::Apart(masters) => {
                adamw::update(config, decay, step, masters, moments, gradients, scale);
                Ok(store.set(masters)?)
            }
        }
    }

    /// Hash of the numbers.
    pub fn hash(&self, store: &Store) -> Result<String, Error> {
        Ok(match self {
            Self::InPlace => hash(&store.trained()?),
            Self::Apart(masters) => hash(masters),
        })
    }
}

/// Numbers that are turned to bytes at a time.
const HASHED_AT_A_TIME: usize = 1 << 16;

fn hash(numbers: &[f32]) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::with_capacity(HASHED_AT_A_TIME * 4);
    for part in numbers.chunks(HASHED_AT_A_TIME) {
        bytes.clear();
        bytes.extend(part.iter().flat_map(|x| x.to_le_bytes()));
        hasher.update(&bytes);
    }
    hasher.finalize().to_hex().to_string()
}
