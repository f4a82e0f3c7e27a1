//! All weights of a model: the trained ones as views of one flat tensor, the frozen ones each in its own
//! precision.
//!
//! The optimizer, the collective and the checkpoint see one flat vector in order of names.

use super::Error;
use crate::autograd::{GradientBuffer, Slot, Weight, WeightData};
use crate::cpu::slices;
use crate::device::Backend;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The precision in which a weight is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16: two bytes, with the range of f32.
    Bf16,
    /// GGUF's `Q8_0`: blocks of 32 with 8 bits each and a scale.
    Q8_0,
    /// GGUF's `Q4_K`: blocks of 256 with 4 bits each, and quantised scales. Not NF4.
    Q4K,
}

/// Whether a weight is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightRole {
    /// It is trained.
    Trained,
    /// It stays as it is, in this precision.
    Frozen(Precision),
}

/// A weight to be put into a store.
#[derive(Clone, Debug, PartialEq)]
pub struct InitialWeight {
    /// Its name.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its elements, row by row.
    pub numbers: Vec<f32>,
    /// Whether it is trained.
    pub role: WeightRole,
}

impl InitialWeight {
    /// Bytes that it takes in the store; trained weights are stored in `trained`.
    fn bytes(&self, trained: Precision) -> usize {
        let precision = match self.role {
            WeightRole::Trained => trained,
            WeightRole::Frozen(precision) => precision,
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
pub struct WeightStore {
    device: Device,
    backend: Backend,
    weights: BTreeMap<String, Weight>,
    slots: Arc<[Slot]>,
    /// The trained weights, in order of slots: f32, or bf16 if the optimizer keeps masters.
    flat: Tensor,
}

/// A flat tensor has at least one element, also in a model without trained weights.
const FLAT_MIN: usize = 1;

impl WeightStore {
    /// A store of these weights. `trained` is the precision of the trained ones: f32, or bf16, whose f32
    /// masters the caller keeps.
    ///
    /// # Errors
    /// When a name occurs twice, a shape does not fit its numbers, or a precision does not fit the shape or
    /// the use; [`Error::Memory`] when the device is too small.
    pub fn new(arrays: Vec<InitialWeight>, trained: Precision, device: &Device) -> Result<Self, Error> {
        let bytes = arrays.iter().map(|array| array.bytes(trained)).sum();
        Self::place(arrays, trained, device).map_err(|error| error.explain_memory(bytes))
    }

    fn place(arrays: Vec<InitialWeight>, trained: Precision, device: &Device) -> Result<Self, Error> {
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
        for array in by_name.values_mut().filter(|array| array.role == WeightRole::Trained) {
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
        // Rounded before it is sent, so that the device never holds more than the result.
        let flat = Tensor::from_vec(flat, count, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?;
        let mut weights = BTreeMap::new();
        let mut next = slots.iter();
        for (name, array) in by_name {
            let weight = match array.role {
                WeightRole::Trained => {
                    let slot = next.next().ok_or_else(|| Error::Weights(format!("{name} has no slot")))?;
                    let view = flat.narrow(0, slot.start, slot.len)?.reshape(slot.shape.as_slice())?;
                    Weight::trained(view, slot.clone())
                }
                WeightRole::Frozen(precision) => Weight::frozen(held(array, precision, device)?),
            };
            weights.insert(name, weight);
        }
        let backend = Backend::of(device);
        Ok(Self { device: device.clone(), backend, weights, slots: slots.into(), flat })
    }

    /// One weight.
    ///
    /// # Errors
    /// When there is no weight of that name.
    pub fn get(&self, name: &str) -> Result<Weight, Error> {
        self.weights.get(name).cloned().ok_or_else(|| Error::Weights(format!("there is no {name}")))
    }

    /// All weights in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Weight)> {
        self.weights.iter().map(|(name, weight)| (name.as_str(), weight))
    }

    /// The device that the weights are on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How operations on the weights are computed.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Sets how operations on the weights are computed, where the device's own choice is not wanted.
    pub fn set_backend(&mut self, backend: Backend) {
        self.backend = backend;
    }

    /// The float type of activations.
    #[must_use]
    pub fn dtype(&self) -> DType {
        // On the CPU products are made in f32, however the weights are stored.
        match self.backend {
            Backend::Fused => DType::F32,
            Backend::Composed(_) => self.flat.dtype(),
        }
    }

    /// The slots of the trained weights, in order.
    #[must_use]
    pub fn slots(&self) -> &Arc<[Slot]> {
        &self.slots
    }

    /// Number of trained parameters.
    #[must_use]
    pub fn trained_count(&self) -> usize {
        self.slots.last().map_or(0, |slot| slot.start + slot.len)
    }

    /// Bytes that all weights take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.weights.values().map(Weight::bytes).sum()
    }

    /// A copy of the trained weights, flat, in f32.
    ///
    /// # Errors
    /// When the device can't be read.
    pub fn trained(&self) -> Result<Vec<f32>, Error> {
        let mut flat = self.flat.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
        flat.truncate(self.trained_count());
        Ok(flat)
    }

    /// The trained weights themselves, flat, in their own precision: writing to the tensor changes the model.
    pub(crate) fn flat(&self) -> Result<Tensor, Error> {
        Ok(self.flat.narrow(0, 0, self.trained_count())?)
    }

    /// Writes to the trained weights in place; for f32 on the CPU.
    ///
    /// # Errors
    /// When they are stored otherwise.
    pub fn edit(&self, edit: impl FnOnce(&mut [f32])) -> Result<(), Error> {
        let count = self.trained_count();
        Ok(slices::edit(&self.flat, |flat| edit(&mut flat[..count]))?)
    }

    /// Overwrites the trained weights, rounding to their precision.
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

    /// An empty buffer for the gradients of one backward pass. `space` is a vector to use again, on the CPU.
    ///
    /// # Errors
    /// When a device has too little memory.
    pub fn gradients(&self, space: Vec<f32>) -> Result<GradientBuffer, Error> {
        let slots = Arc::clone(&self.slots);
        match self.backend {
            Backend::Fused => Ok(GradientBuffer::on_host(slots, space)),
            Backend::Composed(sizes) => Ok(GradientBuffer::on_device(slots, &self.device, sizes.flat)?),
        }
    }
}

fn held(array: InitialWeight, precision: Precision, device: &Device) -> Result<WeightData, Error> {
    let quantise = |kind: GgmlDType| -> Result<WeightData, Error> {
        let width = array.shape.last().copied().unwrap_or(0);
        if array.shape.len() != 2 || !width.is_multiple_of(kind.block_size()) {
            let block = kind.block_size();
            return Err(Error::Weights(format!(
                "{} of shape {:?} can't be held in {precision:?}: rows must be multiples of {block}",
                array.name, array.shape
            )));
        }
        let dense = Tensor::from_slice(&array.numbers, array.shape.as_slice(), device)?;
        Ok(WeightData::Quantized(Arc::new(QTensor::quantize(&dense, kind)?)))
    };
    match precision {
        Precision::Q8_0 => quantise(GgmlDType::Q8_0),
        Precision::Q4K => quantise(GgmlDType::Q4K),
        Precision::F32 | Precision::Bf16 => {
            let dtype = if precision == Precision::F32 { DType::F32 } else { DType::BF16 };
            let dense = Tensor::from_vec(array.numbers, array.shape, &Device::Cpu)?;
            Ok(WeightData::Dense(dense.to_dtype(dtype)?.to_device(device)?))
        }
    }
}
