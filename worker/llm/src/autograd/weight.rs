//! A named array of a model: how it is stored, and where its gradient belongs if it is trained.

use crate::cpu::slices::{self, FloatSlice};
use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Result, Shape, Tensor};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Where a trained weight's gradient and optimizer state lie in flat vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The weight's name.
    pub name: String,
    /// The weight's dimensions.
    pub shape: Vec<usize>,
    /// Its index among the trained weights, which are ordered by name.
    pub index: usize,
    /// Offset of its first element.
    pub start: usize,
    /// Number of elements.
    pub len: usize,
}

impl Slot {
    /// Its elements in a flat vector.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// How a weight's elements are stored.
#[derive(Clone)]
pub enum WeightData {
    /// f32 or bf16, on any device.
    Dense(Tensor),
    /// Blocks of few bits, as GGUF has them (`Q4_K`, `Q8_0`); frozen.
    Quantized(Arc<QTensor>),
}

/// A weight, as operations see it; clones share the elements.
#[derive(Clone)]
pub struct Weight {
    data: WeightData,
    slot: Option<Slot>,
}

impl Weight {
    /// A weight that is not trained.
    #[must_use]
    pub fn frozen(data: WeightData) -> Self {
        Self { data, slot: None }
    }

    /// A weight that is trained.
    #[must_use]
    pub fn trained(tensor: Tensor, slot: Slot) -> Self {
        Self { data: WeightData::Dense(tensor), slot: Some(slot) }
    }

    /// Where its gradient belongs; `None` if it is frozen.
    #[must_use]
    pub fn slot(&self) -> Option<&Slot> {
        self.slot.as_ref()
    }

    /// How it is stored.
    #[must_use]
    pub fn data(&self) -> &WeightData {
        &self.data
    }

    /// Its dimensions.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        match &self.data {
            WeightData::Dense(tensor) => tensor.shape(),
            WeightData::Quantized(tensor) => tensor.shape(),
        }
    }

    /// Bytes that its elements take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.data {
            WeightData::Dense(tensor) => tensor.elem_count() * tensor.dtype().size_in_bytes(),
            WeightData::Quantized(tensor) => tensor.storage_size_in_bytes(),
        }
    }

    /// The weight as a dense tensor of `dtype`: itself if it is one, otherwise a copy. A quantized weight is
    /// dequantized on `device`.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn dense(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        match &self.data {
            WeightData::Dense(tensor) => tensor.to_dtype(dtype),
            WeightData::Quantized(tensor) => tensor.dequantize(device)?.to_dtype(dtype),
        }
    }

    /// Its elements as f32 on the CPU: borrowed if they are stored so, otherwise a copy that lives as long as
    /// the result.
    ///
    /// # Errors
    /// When it is on another device.
    pub fn numbers(&self) -> Result<WeightSlice<'_>> {
        match &self.data {
            WeightData::Dense(tensor) if tensor.dtype() == DType::F32 => {
                Ok(WeightSlice::Borrowed(slices::floats(tensor)?))
            }
            WeightData::Dense(tensor) => {
                Ok(WeightSlice::Owned(slices::to_vec(&tensor.to_dtype(DType::F32)?)?))
            }
            WeightData::Quantized(tensor) => {
                Ok(WeightSlice::Owned(slices::to_vec(&tensor.dequantize(&Device::Cpu)?)?))
            }
        }
    }
}

/// A weight's elements as f32 on the CPU; see [`Weight::numbers`].
pub enum WeightSlice<'a> {
    /// The weight's own elements.
    Borrowed(FloatSlice<'a>),
    /// A copy.
    Owned(Vec<f32>),
}

impl Deref for WeightSlice<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            WeightSlice::Borrowed(floats) => floats,
            WeightSlice::Owned(floats) => floats,
        }
    }
}
