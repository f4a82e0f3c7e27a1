//! The optimizer's state, masters and moments, on the model's device; the only file that writes it.
//!
//! In f32 the masters are the model's own weights: the update is in place, and no second copy exists. In bf16
//! the model has rounded weights, and f32 masters are kept here (mixed precision, Micikevicius et al. 2018):
//! without them, small updates would be rounded away. On a device, all of it stays there, and of the
//! gradients only the norm leaves it; a checkpoint holds a bit-exact copy.

use super::adamw::{self, Moments, StepFactors, WeightDecayMask, composed};
use super::{Error, TrainConfig};
use crate::autograd::{FlatVector, Slot, WeightData, flat};
use crate::device::Backend;
use crate::model::{self, Precision, WeightStore};
use candle_core::{DType, Device, Tensor};

/// Masters and moments.
pub(super) struct Optimizer {
    decay: WeightDecayMask,
    state: OptimizerState,
}

enum OptimizerState {
    /// On the CPU; no masters where the model's own weights are f32.
    Host { masters: Option<Vec<f32>>, moments: Moments },
    /// On the model's device.
    Device { masters: Option<Tensor>, first: Tensor, second: Tensor, piece: usize },
}

/// One update.
pub(super) struct OptimizerStep<'a> {
    pub config: &'a TrainConfig,
    pub step: u64,
    pub gradients: &'a FlatVector,
    /// What the gradients are multiplied with.
    pub scale: f64,
}

impl Optimizer {
    /// The state at step 0. Checks that the model's weights have the precision of the parameters.
    pub fn of(store: &WeightStore, config: &TrainConfig) -> Result<Self, Error> {
        let Some(slot) = store.slots().first() else {
            return Err(Error::Parameters("no weight of the model is trained".to_owned()));
        };
        let dtype = match store.get(&slot.name)?.data() {
            WeightData::Dense(tensor) => tensor.dtype(),
            WeightData::Quantized(_) => {
                return Err(Error::Parameters(format!("{} is trained and held in few bits", slot.name)));
            }
        };
        let wanted = if config.precision == Precision::Bf16 { DType::BF16 } else { DType::F32 };
        if dtype != wanted {
            return Err(Error::Parameters(format!(
                "the model is held in {dtype:?}, and `precision` wants {wanted:?}"
            )));
        }
        let (count, apart) = (store.trained_count(), dtype != DType::F32);
        let state = match store.backend() {
            Backend::Fused => OptimizerState::Host {
                masters: apart.then(|| store.trained()).transpose()?,
                moments: Moments::zero(count),
            },
            Backend::Composed(sizes) => {
                let zeros = || flat::zeros(count, store.device()).map_err(model::Error::from);
                let masters =
                    apart.then(|| Ok::<_, model::Error>(store.flat()?.to_dtype(DType::F32)?)).transpose()?;
                OptimizerState::Device { masters, first: zeros()?, second: zeros()?, piece: sizes.flat }
            }
        };
        Ok(Self { decay: WeightDecayMask::of(store.slots()), state })
    }

    /// A copy of the masters.
    pub fn weights(&self, store: &WeightStore) -> Result<Vec<f32>, Error> {
        match &self.state {
            OptimizerState::Host { masters: None, .. } | OptimizerState::Device { masters: None, .. } => {
                Ok(store.trained()?)
            }
            OptimizerState::Host { masters: Some(masters), .. } => Ok(masters.clone()),
            OptimizerState::Device { masters: Some(masters), .. } => read(masters),
        }
    }

    /// A copy of the moments.
    pub fn moments(&self) -> Result<Moments, Error> {
        match &self.state {
            OptimizerState::Host { moments, .. } => Ok(moments.clone()),
            OptimizerState::Device { first, second, .. } => {
                Ok(Moments { first: read(first)?, second: read(second)? })
            }
        }
    }

    /// Moves the moments out: [`Optimizer::put`] must follow.
    pub fn take_moments(&mut self) -> Result<Moments, Error> {
        match &mut self.state {
            OptimizerState::Host { moments, .. } => {
                Ok(std::mem::replace(moments, Moments { first: Vec::new(), second: Vec::new() }))
            }
            OptimizerState::Device { .. } => self.moments(),
        }
    }

    /// Replaces weights and moments.
    pub fn put(&mut self, store: &WeightStore, weights: &[f32], given: Moments) -> Result<(), Error> {
        store.set(weights)?;
        match &mut self.state {
            OptimizerState::Host { masters, moments } => {
                if let Some(masters) = masters {
                    masters.copy_from_slice(weights);
                }
                *moments = given;
                Ok(())
            }
            OptimizerState::Device { masters, first, second, .. } => {
                let given = [
                    (Some(&*first), given.first.as_slice()),
                    (Some(&*second), &given.second),
                    (masters.as_ref(), weights),
                ];
                for (held, numbers) in given {
                    let Some(held) = held else { continue };
                    write(held, numbers)?;
                }
                Ok(())
            }
        }
    }

    /// Moves gradients to where the masters are: those from other ranks are sent to the device once a step.
    pub fn place(&self, store: &WeightStore, gradients: FlatVector) -> Result<FlatVector, Error> {
        match (&self.state, gradients) {
            (_, FlatVector::Failed(reason)) => Err(failed(&reason)),
            (OptimizerState::Device { piece, .. }, FlatVector::Host(numbers)) => {
                let tensor = FlatVector::Host(numbers).on(store.device()).map_err(model::Error::from)?;
                Ok(FlatVector::Device { tensor, piece: *piece })
            }
            (OptimizerState::Host { .. }, FlatVector::Device { .. }) => Err(elsewhere()),
            (OptimizerState::Host { .. }, there @ FlatVector::Host(_))
            | (OptimizerState::Device { .. }, there @ FlatVector::Device { .. }) => Ok(there),
        }
    }

    /// Whether any update was made: the first moments are not all zero.
    pub fn has_moved(&self) -> Result<bool, Error> {
        match &self.state {
            OptimizerState::Host { moments, .. } => Ok(moments.first.iter().any(|moment| *moment != 0.0)),
            OptimizerState::Device { first, piece, .. } => {
                Ok(composed::norm(first, *piece).map_err(model::Error::from)? > 0.0)
            }
        }
    }

    /// The L2 norm of the gradients, times `scale`.
    pub fn norm(&self, gradients: &FlatVector, scale: f64) -> Result<f64, Error> {
        match gradients {
            FlatVector::Host(gradients) => Ok(adamw::norm(gradients, scale)),
            FlatVector::Device { tensor, piece } => {
                Ok(composed::norm(tensor, *piece).map_err(model::Error::from)? * scale)
            }
            FlatVector::Failed(reason) => Err(failed(reason)),
        }
    }

    /// The first trained weight whose gradient is all zeros.
    pub fn unmoved<'a>(
        &self,
        store: &'a WeightStore,
        gradients: &FlatVector,
    ) -> Result<Option<&'a Slot>, Error> {
        Ok(gradients.all_zeros(store.slots()).map_err(model::Error::from)?)
    }

    /// Makes an update.
    pub fn update(&mut self, store: &WeightStore, update: &OptimizerStep<'_>) -> Result<(), Error> {
        let OptimizerStep { config, step, gradients, scale } = *update;
        let decay = &self.decay;
        match &mut self.state {
            OptimizerState::Host { masters, moments } => {
                let FlatVector::Host(gradients) = gradients else { return Err(elsewhere()) };
                match masters {
                    None => Ok(store.edit(|weights| {
                        adamw::update(config, decay, step, weights, moments, gradients, scale)
                    })?),
                    Some(masters) => {
                        adamw::update(config, decay, step, masters, moments, gradients, scale);
                        Ok(store.set(masters)?)
                    }
                }
            }
            OptimizerState::Device { masters, first, second, piece } => {
                let own = store.flat()?;
                let (weights, rounded) = match masters {
                    Some(masters) => (&*masters, Some(&own)),
                    None => (&own, None),
                };
                let held = composed::DeviceState { weights, rounded, first, second };
                let FlatVector::Device { tensor: gradients, .. } = gradients else { return Err(elsewhere()) };
                Ok(composed::update(StepFactors::of(config, step, scale), decay, &held, gradients, *piece)
                    .map_err(model::Error::from)?)
            }
        }
    }

    /// Hash of the masters.
    pub fn hash(&self, store: &WeightStore) -> Result<String, Error> {
        match &self.state {
            OptimizerState::Host { masters: Some(masters), .. } => Ok(hash(masters)),
            OptimizerState::Host { .. } | OptimizerState::Device { .. } => Ok(hash(&self.weights(store)?)),
        }
    }
}

fn elsewhere() -> Error {
    Error::Parameters("the gradients and the model are on different devices".to_owned())
}

/// A device failed earlier, for this reason.
fn failed(reason: &str) -> Error {
    Error::Model(model::Error::Tensor(candle_core::Error::Msg(reason.to_owned())))
}

fn read(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    let read = || tensor.to_device(&Device::Cpu)?.to_vec1::<f32>();
    Ok(read().map_err(model::Error::from)?)
}

fn write(tensor: &Tensor, numbers: &[f32]) -> Result<(), Error> {
    let given = Tensor::from_slice(numbers, numbers.len(), tensor.device()).map_err(model::Error::from)?;
    Ok(tensor.slice_set(&given, 0, 0).map_err(model::Error::from)?)
}

/// Elements that are converted to bytes at a time.
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
