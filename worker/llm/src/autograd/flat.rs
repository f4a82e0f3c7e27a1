//! One f32 per trained parameter, in order of slots, where the model is: a vector on the CPU, a tensor on a
//! device.
//!
//! On a device, whatever is done to all of them is done piece by piece, so that a result needs little memory
//! beside what it replaces.

use super::weight::Slot;
use crate::cpu::slices::CHUNK;
use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// A flat vector of f32.
#[derive(Clone, Debug)]
pub enum FlatVector {
    /// On the CPU.
    Host(Vec<f32>),
    /// On a device.
    Device {
        /// The elements, in f32. Clones share it: only what is not shared may be added to.
        tensor: Tensor,
        /// How many elements are worked on at a time; see [`crate::device::BlockSizes::flat`].
        piece: usize,
    },
    /// A device failed to add them up, for this reason. Reading the sum returns the error.
    Failed(String),
}

impl From<Vec<f32>> for FlatVector {
    fn from(numbers: Vec<f32>) -> Self {
        Self::Host(numbers)
    }
}

impl PartialEq for FlatVector {
    fn eq(&self, other: &Self) -> bool {
        matches!((self.clone().into_host(), other.clone().into_host()), (Ok(a), Ok(b)) if a == b)
    }
}

/// The ranges of at most `piece` elements that make up a vector of `len`.
pub fn pieces(len: usize, piece: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(piece).map(move |start| start..(start + piece).min(len))
}

/// A range of a flat tensor, without a copy.
///
/// # Errors
/// When the range is outside.
pub fn part(flat: &Tensor, range: &Range<usize>) -> Result<Tensor> {
    flat.narrow(0, range.start, range.len())
}

impl FlatVector {
    /// Number of elements; 0 if adding them up failed.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Host(numbers) => numbers.len(),
            Self::Device { tensor, .. } => tensor.elem_count(),
            Self::Failed(_) => 0,
        }
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements on the CPU; a copy if they are on a device.
    ///
    /// # Errors
    /// When the device can't be read, or failed to add.
    pub fn into_host(self) -> Result<Vec<f32>> {
        match self {
            Self::Host(numbers) => Ok(numbers),
            Self::Device { tensor, .. } => tensor.to_device(&Device::Cpu)?.to_vec1::<f32>(),
            Self::Failed(reason) => candle_core::bail!("{reason}"),
        }
    }

    /// The elements as a tensor on `device`; a copy unless they are there.
    ///
    /// # Errors
    /// When the device has too little memory, or failed to add.
    pub fn on(&self, device: &Device) -> Result<Tensor> {
        match self {
            Self::Host(numbers) => Tensor::from_slice(numbers, numbers.len(), device),
            Self::Device { tensor, .. } => tensor.to_device(device),
            Self::Failed(reason) => candle_core::bail!("{reason}"),
        }
    }

    /// Adds `other`, element by element and in place, so this vector must not be shared. If a device fails,
    /// the vector becomes [`FlatVector::Failed`].
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn add(&mut self, other: &Self) {
        if let (Self::Host(sum), Self::Host(other)) = (&mut *self, other) {
            return add(sum, other);
        }
        if let Err(error) = self.try_add(other) {
            *self = Self::Failed(error.to_string());
        }
    }

    fn try_add(&mut self, other: &Self) -> Result<()> {
        match self {
            Self::Host(sum) => {
                let other = other.clone().into_host()?;
                add(sum, &other);
                Ok(())
            }
            Self::Device { tensor: sum, piece } => {
                let other = other.on(sum.device())?;
                assert_eq!(sum.elem_count(), other.elem_count(), "parts of a sum have one length");
                for range in pieces(other.elem_count(), *piece) {
                    sum.slice_set(&(part(sum, &range)? + part(&other, &range)?)?, 0, range.start)?;
                }
                Ok(())
            }
            Self::Failed(_) => Ok(()),
        }
    }

    /// The first slot whose elements are all zero.
    ///
    /// # Errors
    /// As [`FlatVector::into_host`].
    pub fn all_zeros<'a>(&self, slots: &'a [Slot]) -> Result<Option<&'a Slot>> {
        match self {
            Self::Host(numbers) => {
                Ok(slots.iter().find(|slot| numbers[slot.range()].iter().all(|x| *x == 0.0)))
            }
            Self::Device { tensor, .. } => {
                // One number per slot leaves the device, not all.
                let greatest = slots
                    .iter()
                    .map(|slot| part(tensor, &slot.range())?.abs()?.max(0))
                    .collect::<Result<Vec<_>>>()?;
                if greatest.is_empty() {
                    return Ok(None);
                }
                let greatest = Tensor::stack(&greatest, 0)?.to_vec1::<f32>()?;
                Ok(slots.iter().zip(greatest).find(|(_, greatest)| *greatest == 0.0).map(|(slot, _)| slot))
            }
            Self::Failed(reason) => candle_core::bail!("{reason}"),
        }
    }
}

/// Adds `other` to `sum`, element by element, on all threads.
///
/// # Panics
/// When the lengths differ.
pub fn add(sum: &mut [f32], other: &[f32]) {
    assert_eq!(sum.len(), other.len(), "parts of a sum have one length");
    sum.par_chunks_mut(CHUNK).zip(other.par_chunks(CHUNK)).for_each(|(sum, other)| {
        for (sum, other) in sum.iter_mut().zip(other) {
            *sum += other;
        }
    });
}

/// A flat tensor of zeros on a device.
///
/// # Errors
/// When the device has too little memory.
pub fn zeros(len: usize, device: &Device) -> Result<Tensor> {
    Tensor::zeros(len, DType::F32, device)
}
