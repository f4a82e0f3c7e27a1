//! All weights of a model: the trained ones as views of one flat tensor, the frozen ones each in the form
//! that it is held in.
//!
//! One flat vector in order of names is what the optimizer, the collective and the checkpoint see.

use super::Error;
use crate::autograd::{Gradients, Held, Slot, Weight};
use crate::ops::host;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// In which numbers a weight is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Four bytes.
    #[default]
    F32,
    /// Two bytes, the range of f32.
    Bf16,
    /// Blocks of 32 with 8 bits each and a scale (GGUF).
    Q8_0,
    /// Blocks of 256 with 4 bits each, and scales of scales (GGUF). Not NF4.
    Q4K,
}

/// What becomes of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It learns.
    Trained,
    /// It stays, held so.
    Frozen(Precision),
}

/// A named array, on its way into a store.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its name.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its numbers, row by row.
    pub numbers: Vec<f32>,
    /// What becomes of it.
    pub hold: Hold,
}

impl Array {
    /// Bytes that it takes once it is held, where trained ones are in `trained`.
    fn bytes(&self, trained: Precision) -> usize {
        let precision = match self.hold {
            Hold::Trained => trained,
            Hold::Frozen(precision) => precision,
        };
        let (bytes, numbers) = match precision {
            Precision::F32 => (4, 1),
            Precision::Bf16 => (2, 1),
            Precision::Q8_0 => (GgmlDType::Q8_0.type_size(), GgmlDType::Q8_0.block_size()),
            Precision::Q4K => (GgmlDType::Q4K.type_size(), GgmlDType::Q4K.block_size()),
        };
        self.numbers.len() * bytes / numbers
    }
}

/// All weights.
pub struct Store {
    device: Device,
    weights: BTreeMap<String, Weight>,
    slots: Arc<[Slot]>,
    /// The trained ones, in order of slots: f32, or bf16 if the masters are elsewhere.
    flat: Tensor,
}

/// A flat tensor has at least one number, so that a model without trained weights has one, too.
const FLAT_MIN: usize = 1;

impl Store {
    /// Takes all arrays. `trained` is the precision that the trained ones are computed with: f32, or bf16,
    /// whose f32 masters the caller keeps.
    ///
    /// # Errors
    /// When a name occurs twice, a shape does not fit its numbers, or a precision does not fit the shape or
    /// the use; [`Error::Memory`] when the device is too small.
    pub fn new(arrays: Vec<Array>, trained: Precision, device: &Device) -> Result<Self, Error> {
        let bytes = arrays.iter().map(|array| array.bytes(trained)).sum();
        Self::place(arrays, trained, device).map_err(|error| error.for_want_of(bytes))
    }

    fn place(arrays: Vec<Array>, trained: Precision, device: &Device) -> Result<Self, Error> {
        let dtype = match trained {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
            Precision::Q8_0 | Precision::Q4K => {
                return Err(Error::Weights(format!("{trained:?} numbers can't be trained, only frozen")));
            }
        };
        let mut by_name = BTreeMap::new();
        for array in arrays {
            if array.shape.iter().product::<usize>() != array.numbers.len() {
                return Err(Error::Weights(format!(
                    "{} has {} numbers for shape {:?}",
                    array.name,
                    array.numbers.len(),
                    array.shape
                )));
            }
            if let Some(twice) = by_name.insert(array.name.clone(), array) {
                return Err(Error::Weights(format!("{} is there twice", twice.name)));
            }
        }
        let (mut slots, mut flat) = (Vec::new(), Vec::new());
        for array in by_name.values_mut().filter(|array| array.hold == Hold::Trained) {
            let slot = Slot {
                name: array.name.clone(),
                shape: array.shape.clone(),
                index: slots.len(),
                start: flat.len(),
                len: array.numbers.len(),
            };
            flat.append(&mut array.numbers);
            slots.push(slot);
        }
        flat.resize(flat.len().max(FLAT_MIN), 0.0);
        let count = flat.len();
        // Rounded first: a device never holds more than it will.
        let flat = Tensor::from_vec(flat, count, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?;
        let mut weights = BTreeMap::new();
        let mut next = slots.iter();
        for (name, array) in by_name {
            let weight = match array.hold {
                Hold::Trained => {
                    let slot = next.next().ok_or_else(|| Error::Weights(format!("{name} has no slot")))?;
                    let view = flat.narrow(0, slot.start, slot.len)?.reshape(slot.shape.as_slice())?;
                    Weight::trained(view, slot.clone())
                }
                Hold::Frozen(precision) => Weight::frozen(held(array, precision, device)?),
            };
            weights.insert(name, weight);
        }
        Ok(Self { device: device.clone(), weights, slots: slots.into(), flat })
    }

    /// One weight.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn get(&self, name: &str) -> Result<Weight, Error> {
        self.weights.get(name).cloned().ok_or_else(|| Error::Weights(format!("there is no {name}")))
    }

    /// All weights in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Weight)> {
        self.weights.iter().map(|(name, weight)| (name.as_str(), weight))
    }

    /// Where they are.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The float type that activations have.
    #[must_use]
    pub fn dtype(&self) -> DType {
        // On the CPU products are made in f32 whatever the weights are held in.
        if host::slices(&self.device) { DType::F32 } else { self.flat.dtype() }
    }

    /// The slots of the trained weights, in order.
    #[must_use]
    pub fn slots(&self) -> &Arc<[Slot]> {
        &self.slots
    }

    /// How many numbers are trained.
    #[must_use]
    pub fn trained_count(&self) -> usize {
        self.slots.last().map_or(0, |slot| slot.start + slot.len)
    }

    /// Bytes that all weights take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.weights.values().map(Weight::bytes).sum()
    }

    /// A copy of the trained numbers.
    ///
    /// # Errors
    /// When the device can't be read.
    pub fn trained(&self) -> Result<Vec<f32>, Error> {
        let mut flat = self.flat.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
        flat.truncate(self.trained_count());
        Ok(flat)
    }

    /// The trained numbers themselves, where they are and as they are held: whoever writes to them changes
    /// the model.
    pub(crate) fn flat(&self) -> Result<Tensor, Error> {
        Ok(self.flat.narrow(0, 0, self.trained_count())?)
    }

    /// Writes to the trained numbers in place; for f32 on the CPU.
    ///
    /// # Errors
    /// When they are held otherwise.
    pub fn edit(&self, edit: impl FnOnce(&mut [f32])) -> Result<(), Error> {
        let count = self.trained_count();
        Ok(host::edit(&self.flat, |flat| edit(&mut flat[..count]))?)
    }

    /// Overwrites the trained numbers, rounding them to the precision that they are held in.
    ///
    /// # Errors
    /// When the length differs.
    pub fn set(&self, numbers: &[f32]) -> Result<(), Error> {
        if numbers.len() != self.trained_count() {
            return Err(Error::Weights(format!(
                "{} numbers for {} that are trained",
                numbers.len(),
                self.trained_count()
            )));
        }
        if numbers.is_empty() {
            return Ok(());
        }
        let given = Tensor::from_slice(numbers, numbers.len(), &Device::Cpu)?
            .to_device(&self.device)?
            .to_dtype(self.flat.dtype())?;
        Ok(self.flat.slice_set(&given, 0, 0)?)
    }

    /// Room for the gradients of one backward. `space` is a vector to use again, for a model on the CPU.
    ///
    /// # Errors
    /// When a device has no room.
    pub fn gradients(&self, space: Vec<f32>) -> Result<Gradients, Error> {
        let slots = Arc::clone(&self.slots);
        if host::slices(&self.device) {
            Ok(Gradients::on_host(slots, space))
        } else {
            Ok(Gradients::on_device(slots, &self.device)?)
        }
    }
}

fn held(array: Array, precision: Precision, device: &Device) -> Result<Held, Error> {
    let quantise = |kind: GgmlDType| -> Result<Held, Error> {
        let width = array.shape.last().copied().unwrap_or(0);
        if array.shape.len() != 2 || !width.is_multiple_of(kind.block_size()) {
            let block = kind.block_size();
            return Err(Error::Weights(format!(
                "{} of shape {:?} can't be held in {precision:?}: rows must be multiples of {block}",
                array.name, array.shape
            )));
        }
        let dense = Tensor::from_slice(&array.numbers, array.shape.as_slice(), device)?;
        Ok(Held::Quantised(Arc::new(QTensor::quantize(&dense, kind)?)))
    };
    match precision {
        Precision::Q8_0 => quantise(GgmlDType::Q8_0),
        Precision::Q4K => quantise(GgmlDType::Q4K),
        Precision::F32 | Precision::Bf16 => {
            let dtype = if precision == Precision::F32 { DType::F32 } else { DType::BF16 };
            let dense = Tensor::from_vec(array.numbers, array.shape, &Device::Cpu)?;
            Ok(Held::Dense(dense.to_dtype(dtype)?.to_device(device)?))
        }
    }
}
