//! A named array of a model: how it is held, and where its gradient belongs if it is trained.

use crate::ops::host::{self, Floats};
use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Result, Shape, Tensor};
use std::ops::Deref;
use std::sync::Arc;

/// Where the gradient and the optimizer's state of a trained weight lie in flat vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The weight's name.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its place among the trained weights, which are ordered by name.
    pub index: usize,
    /// Its first number.
    pub start: usize,
    /// How many numbers it has.
    pub len: usize,
}

impl Slot {
    /// Its numbers in a flat vector.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start..self.start + self.len
    }
}

/// The numbers of a weight.
#[derive(Clone)]
pub enum Held {
    /// f32 or bf16, on any device.
    Dense(Tensor),
    /// Blocks of few bits, as GGUF has them (`Q4_K`, `Q8_0`); frozen.
    Quantised(Arc<QTensor>),
}

/// A weight, as operations see it; clones share the numbers.
#[derive(Clone)]
pub struct Weight {
    held: Held,
    slot: Option<Slot>,
}

impl Weight {
    /// One that stays as it is.
    #[must_use]
    pub fn frozen(held: Held) -> Self {
        Self { held, slot: None }
    }

    /// One that learns.
    #[must_use]
    pub fn trained(tensor: Tensor, slot: Slot) -> Self {
        Self { held: Held::Dense(tensor), slot: Some(slot) }
    }

    /// Where its gradient belongs; `None` if it is frozen.
    #[must_use]
    pub fn slot(&self) -> Option<&Slot> {
        self.slot.as_ref()
    }

    /// How it is held.
    #[must_use]
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Its dimensions.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        match &self.held {
            Held::Dense(tensor) => tensor.shape(),
            Held::Quantised(tensor) => tensor.shape(),
        }
    }

    /// Bytes that the numbers take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.held {
            Held::Dense(tensor) => tensor.elem_count() * tensor.dtype().size_in_bytes(),
            Held::Quantised(tensor) => tensor.storage_size_in_bytes(),
        }
    }

    /// As a dense tensor of `dtype` on `device`: itself if it is one, else a copy.
    ///
    /// # Errors
    /// When the tensor library refuses.
    pub fn dense(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        match &self.held {
            Held::Dense(tensor) => tensor.to_dtype(dtype),
            Held::Quantised(tensor) => tensor.dequantize(device)?.to_dtype(dtype),
        }
    }

    /// Its numbers as f32 on the CPU: borrowed if they are so held, else a copy that lives as long as the
    /// answer.
    ///
    /// # Errors
    /// When it is on another device.
    pub fn numbers(&self) -> Result<Numbers<'_>> {
        match &self.held {
            Held::Dense(tensor) if tensor.dtype() == DType::F32 => {
                Ok(Numbers::Borrowed(host::floats(tensor)?))
            }
            Held::Dense(tensor) => Ok(Numbers::Owned(host::to_vec(&tensor.to_dtype(DType::F32)?)?)),
            Held::Quantised(tensor) => Ok(Numbers::Owned(host::to_vec(&tensor.dequantize(&Device::Cpu)?)?)),
        }
    }
}

/// What [`Weight::numbers`] gives.
pub enum Numbers<'a> {
    /// The weight's own.
    Borrowed(Floats<'a>),
    /// A copy.
    Owned(Vec<f32>),
}

impl Deref for Numbers<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Numbers::Borrowed(floats) => floats,
            Numbers::Owned(floats) => floats,
        }
    }
}
