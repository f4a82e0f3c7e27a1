//! One number for each trained weight, in order of slots, where the model is: a vector on the CPU, a tensor
//! on a device.
//!
//! What is done to all of them on a device is done in pieces, so that a result needs little room beside what
//! it replaces.

use super::weight::Slot;
use crate::ops::host::CHUNK;
use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// The numbers.
#[derive(Clone, Debug)]
pub enum Flat {
    /// On the CPU.
    Host(Vec<f32>),
    /// f32 on a device. Clones share it: only what is not shared may be added to.
    Device(Tensor),
    /// They were to be added up on a device, which could not: why. Whoever takes the sum is told.
    Failed(String),
}

impl From<Vec<f32>> for Flat {
    fn from(numbers: Vec<f32>) -> Self {
        Self::Host(numbers)
    }
}

impl PartialEq for Flat {
    fn eq(&self, other: &Self) -> bool {
        matches!((self.clone().into_host(), other.clone().into_host()), (Ok(a), Ok(b)) if a == b)
    }
}

/// How many numbers are worked on at a time on a device: enough to keep it busy, few beside its memory.
pub const PIECE: usize = if cfg!(test) { 1 << 10 } else { 1 << 24 };

/// The pieces of a vector.
pub fn pieces(len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(PIECE).map(move |start| start..(start + PIECE).min(len))
}

/// The numbers of a range of a flat tensor, without a copy.
///
/// # Errors
/// When the range is outside.
pub fn part(flat: &Tensor, range: &Range<usize>) -> Result<Tensor> {
    flat.narrow(0, range.start, range.len())
}

impl Flat {
    /// How many numbers; none where they failed.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Host(numbers) => numbers.len(),
            Self::Device(tensor) => tensor.elem_count(),
            Self::Failed(_) => 0,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// On the CPU: itself, or a copy.
    ///
    /// # Errors
    /// When the device can't be read, or could not add.
    pub fn into_host(self) -> Result<Vec<f32>> {
        match self {
            Self::Host(numbers) => Ok(numbers),
            Self::Device(tensor) => tensor.to_device(&Device::Cpu)?.to_vec1::<f32>(),
            Self::Failed(reason) => candle_core::bail!("{reason}"),
        }
    }

    /// On `device`: itself, or a copy.
    ///
    /// # Errors
    /// When there is no room, or a device could not add.
    pub fn on(&self, device: &Device) -> Result<Tensor> {
        match self {
            Self::Host(numbers) => Tensor::from_slice(numbers, numbers.len(), device),
            Self::Device(tensor) => tensor.to_device(device),
            Self::Failed(reason) => candle_core::bail!("{reason}"),
        }
    }

    /// Adds others, number by number, where the sum is; in place, so the sum must not be shared. What a
    /// device fails at is kept.
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
            Self::Device(sum) => {
                let other = other.on(sum.device())?;
                assert_eq!(sum.elem_count(), other.elem_count(), "parts of a sum have one length");
                for piece in pieces(other.elem_count()) {
                    sum.slice_set(&(part(sum, &piece)? + part(&other, &piece)?)?, 0, piece.start)?;
                }
                Ok(())
            }
            Self::Failed(_) => Ok(()),
        }
    }

    /// The first slot whose numbers are all zeros.
    ///
    /// # Errors
    /// As [`Flat::into_host`].
    pub fn all_zeros<'a>(&self, slots: &'a [Slot]) -> Result<Option<&'a Slot>> {
        match self {
            Self::Host(numbers) => {
                Ok(slots.iter().find(|slot| numbers[slot.range()].iter().all(|x| *x == 0.0)))
            }
            Self::Device(tensor) => {
                // One number of each travels, not all.
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

/// Adds `other` to `sum`, number by number, on all threads.
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

/// Zeros on a device.
///
/// # Errors
/// When there is no room.
pub fn zeros(len: usize, device: &Device) -> Result<Tensor> {
    Tensor::zeros(len, DType::F32, device)
}
