//! The numbers that the optimizer changes and keeps, and the one place that writes them: masters and moments,
//! where the model is.
//!
//! In f32 the masters are the model's own: the update is made in place, and no second copy of the weights
//! exists. Held otherwise (bf16), the model has them rounded, and f32 masters are kept here: without them,
//! small updates would be rounded away. On a device all of them stay there, and of the gradients only their
//! norm comes back; what a checkpoint holds is a copy, bit for bit.

use super::adamw::{self, Decay, Moments, Numbers, composed};
use super::{Error, TrainConfig};
use crate::autograd::{Flat, Held as WeightHeld, Slot, flat};
use crate::model::{self, Precision, Store};
use crate::ops::host;
use candle_core::{DType, Tensor};

/// Masters and moments.
pub(super) struct Optimizer {
    decay: Decay,
    held: Held,
}

enum Held {
    /// On the CPU; no masters where they are the model's own numbers.
    Host { masters: Option<Vec<f32>>, moments: Moments },
    /// On the model's device.
    Device { masters: Option<Tensor>, first: Tensor, second: Tensor },
}

/// One update.
pub(super) struct Update<'a> {
    pub config: &'a TrainConfig,
    pub step: u64,
    pub gradients: &'a Flat,
    /// What the gradients are multiplied with.
    pub scale: f64,
}

impl Optimizer {
    /// That of a model at step 0. Checks that its weights are held as the parameters say.
    pub fn of(store: &Store, config: &TrainConfig) -> Result<Self, Error> {
        let Some(slot) = store.slots().first() else {
            return Err(Error::Parameters("no weight of the model is trained".to_owned()));
        };
        let dtype = match store.get(&slot.name)?.held() {
            WeightHeld::Dense(tensor) => tensor.dtype(),
            WeightHeld::Quantised(_) => {
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
        let held = if host::slices(store.device()) {
            Held::Host { masters: apart.then(|| store.trained()).transpose()?, moments: Moments::zero(count) }
        } else {
            let zeros = || flat::zeros(count, store.device()).map_err(model::Error::from);
            let masters =
                apart.then(|| Ok::<_, model::Error>(store.flat()?.to_dtype(DType::F32)?)).transpose()?;
            Held::Device { masters, first: zeros()?, second: zeros()? }
        };
        Ok(Self { decay: Decay::of(store.slots()), held })
    }

    /// A copy of the masters.
    pub fn weights(&self, store: &Store) -> Result<Vec<f32>, Error> {
        match &self.held {
            Held::Host { masters: None, .. } | Held::Device { masters: None, .. } => Ok(store.trained()?),
            Held::Host { masters: Some(masters), .. } => Ok(masters.clone()),
            Held::Device { masters: Some(masters), .. } => read(masters),
        }
    }

    /// A copy of the moments.
    pub fn moments(&self) -> Result<Moments, Error> {
        match &self.held {
            Held::Host { moments, .. } => Ok(moments.clone()),
            Held::Device { first, second, .. } => Ok(Moments { first: read(first)?, second: read(second)? }),
        }
    }

    /// The moments, which are then gone here: [`Optimizer::put`] must follow.
    pub fn take_moments(&mut self) -> Result<Moments, Error> {
        match &mut self.held {
            Held::Host { moments, .. } => {
                Ok(std::mem::replace(moments, Moments { first: Vec::new(), second: Vec::new() }))
            }
            Held::Device { .. } => self.moments(),
        }
    }

    /// Replaces all numbers by as many.
    pub fn put(&mut self, store: &Store, weights: &[f32], given: Moments) -> Result<(), Error> {
        store.set(weights)?;
        match &mut self.held {
            Held::Host { masters, moments } => {
                if let Some(masters) = masters {
                    masters.copy_from_slice(weights);
                }
                *moments = given;
                Ok(())
            }
            Held::Device { masters, first, second } => {
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

    /// Gradients where the masters are: those that came from other ranks are sent to the device, once a step.
    pub fn place(&self, store: &Store, gradients: Flat) -> Result<Flat, Error> {
        match (&self.held, gradients) {
            (_, Flat::Failed(reason)) => Err(failed(&reason)),
            (Held::Device { .. }, Flat::Host(numbers)) => {
                Ok(Flat::Device(Flat::Host(numbers).on(store.device()).map_err(model::Error::from)?))
            }
            (Held::Host { .. }, Flat::Device(_)) => Err(elsewhere()),
            (Held::Host { .. }, there @ Flat::Host(_)) | (Held::Device { .. }, there @ Flat::Device(_)) => {
                Ok(there)
            }
        }
    }

    /// Whether any step was made that counted: the first moments are not all zeros.
    pub fn has_moved(&self) -> Result<bool, Error> {
        match &self.held {
            Held::Host { moments, .. } => Ok(moments.first.iter().any(|moment| *moment != 0.0)),
            Held::Device { first, .. } => Ok(composed::norm(first).map_err(model::Error::from)? > 0.0),
        }
    }

    /// The norm of the gradients, times `scale`, on the calling thread's pool.
    pub fn norm(&self, gradients: &Flat, scale: f64) -> Result<f64, Error> {
        match gradients {
            Flat::Host(gradients) => Ok(adamw::norm(gradients, scale)),
            Flat::Device(gradients) => Ok(composed::norm(gradients).map_err(model::Error::from)? * scale),
            Flat::Failed(reason) => Err(failed(reason)),
        }
    }

    /// The first trained weight whose gradient is all zeros.
    pub fn unmoved<'a>(&self, store: &'a Store, gradients: &Flat) -> Result<Option<&'a Slot>, Error> {
        Ok(gradients.all_zeros(store.slots()).map_err(model::Error::from)?)
    }

    /// Makes an update, on the calling thread's pool.
    pub fn update(&mut self, store: &Store, update: &Update<'_>) -> Result<(), Error> {
        let Update { config, step, gradients, scale } = *update;
        let decay = &self.decay;
        match &mut self.held {
            Held::Host { masters, moments } => {
                let Flat::Host(gradients) = gradients else { return Err(elsewhere()) };
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
            Held::Device { masters, first, second } => {
                let own = store.flat()?;
                let (weights, rounded) = match masters {
                    Some(masters) => (&*masters, Some(&own)),
                    None => (&own, None),
                };
                let held = composed::Held { weights, rounded, first, second };
                let Flat::Device(gradients) = gradients else { return Err(elsewhere()) };
                Ok(composed::update(Numbers::of(config, step, scale), decay, &held, gradients)
                    .map_err(model::Error::from)?)
            }
        }
    }

    /// Hash of the masters.
    pub fn hash(&self, store: &Store) -> Result<String, Error> {
        match &self.held {
            Held::Host { masters: Some(masters), .. } => Ok(hash(masters)),
            Held::Host { .. } | Held::Device { .. } => Ok(hash(&self.weights(store)?)),
        }
    }
}

fn elsewhere() -> Error {
    Error::Parameters("the gradients and the model are on different devices".to_owned())
}

/// What a device failed at before.
fn failed(reason: &str) -> Error {
    Error::Model(model::Error::Tensor(candle_core::Error::Msg(reason.to_owned())))
}

fn read(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(Flat::Device(tensor.clone()).into_host().map_err(model::Error::from)?)
}

fn write(tensor: &Tensor, numbers: &[f32]) -> Result<(), Error> {
    let given = Tensor::from_slice(numbers, numbers.len(), tensor.device()).map_err(model::Error::from)?;
    Ok(tensor.slice_set(&given, 0, 0).map_err(model::Error::from)?)
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
