//! Where the gradients of trained weights are added: one flat f32 vector on the CPU, one flat f32 tensor on a
//! device.

use super::flat::{self, FlatVector};
use super::weight::Slot;
use crate::cpu::matmul::WriteMode;
use candle_core::{DType, Device, Result, Tensor};
use std::sync::Arc;

/// The gradients of all trained weights, in order of their slots.
pub struct GradientBuffer {
    slots: Arc<[Slot]>,
    storage: GradientStorage,
    touched: Vec<bool>,
}

enum GradientStorage {
    /// A slot that is not touched yet holds what an earlier use left there.
    Host(Vec<f32>),
    /// A slot that is not touched yet holds zeros.
    Device { flat: Tensor, piece: usize },
}

impl GradientBuffer {
    /// An empty buffer on the CPU. `space` is a vector to use again, of any length.
    #[must_use]
    pub fn on_host(slots: Arc<[Slot]>, mut space: Vec<f32>) -> Self {
        let len = slots.last().map_or(0, |slot| slot.start + slot.len);
        space.resize(len, 0.0);
        Self { touched: vec![false; slots.len()], slots, storage: GradientStorage::Host(space) }
    }

    /// An empty buffer on a device, whose sums are made in pieces of `piece` elements.
    ///
    /// # Errors
    /// When the device has too little memory.
    pub fn on_device(slots: Arc<[Slot]>, device: &Device, piece: usize) -> Result<Self> {
        let len = slots.last().map_or(0, |slot| slot.start + slot.len);
        let storage = GradientStorage::Device { flat: flat::zeros(len, device)?, piece };
        Ok(Self { touched: vec![false; slots.len()], storage, slots })
    }

    /// Lets `write` store the gradient of a slot in place, or add it to what is there, as the mode says.
    ///
    /// # Errors
    /// Those of `write`, and when the buffer is not on the CPU.
    pub fn write(
        &mut self,
        slot: &Slot,
        write: impl FnOnce(&mut [f32], WriteMode) -> Result<()>,
    ) -> Result<()> {
        let GradientStorage::Host(flat) = &mut self.storage else {
            candle_core::bail!("the gradient of {} is not on the host", slot.name);
        };
        let mode = if self.touched[slot.index] { WriteMode::Accumulate } else { WriteMode::Overwrite };
        write(&mut flat[slot.range()], mode)?;
        self.touched[slot.index] = true;
        Ok(())
    }

    /// Adds a gradient of the weight's shape, of any float type and on any device.
    ///
    /// # Errors
    /// When the tensor library fails.
    pub fn accumulate(&mut self, slot: &Slot, gradient: &Tensor) -> Result<()> {
        let gradient = gradient.to_dtype(DType::F32)?;
        match &mut self.storage {
            GradientStorage::Host(_) => {
                let numbers = gradient.flatten_all()?.to_vec1::<f32>()?;
                self.write(slot, |held, mode| {
                    match mode {
                        WriteMode::Overwrite => held.copy_from_slice(&numbers),
                        WriteMode::Accumulate => {
                            held.iter_mut().zip(&numbers).for_each(|(held, number)| *held += number);
                        }
                    }
                    Ok(())
                })
            }
            GradientStorage::Device { flat: held, .. } => {
                let mut sum = gradient.flatten_all()?.contiguous()?;
                if self.touched[slot.index] {
                    sum = (flat::part(held, &slot.range())? + sum)?;
                }
                held.slice_set(&sum, 0, slot.start)?;
                self.touched[slot.index] = true;
                Ok(())
            }
        }
    }

    /// Takes all gradients out and leaves an empty buffer: for a tape within a tape.
    pub(super) fn take(&mut self) -> Self {
        let empty =
            Self { slots: Arc::from([]), storage: GradientStorage::Host(Vec::new()), touched: Vec::new() };
        std::mem::replace(self, empty)
    }

    /// The names of trained weights that got no gradient.
    pub fn untouched(&self) -> impl Iterator<Item = &str> {
        self.slots
            .iter()
            .zip(&self.touched)
            .filter(|(_, touched)| !**touched)
            .map(|(slot, _)| slot.name.as_str())
    }

    /// All gradients as one vector on the CPU, in order of slots; zero for weights that got none.
    ///
    /// # Errors
    /// When a device can't be read.
    pub fn into_vec(self) -> Result<Vec<f32>> {
        self.into_flat().into_host()
    }

    /// All gradients in order of slots, where they are; zero for weights that got none.
    #[must_use]
    pub fn into_flat(self) -> FlatVector {
        match self.storage {
            GradientStorage::Host(mut flat) => {
                for (slot, _) in self.slots.iter().zip(&self.touched).filter(|(_, touched)| !**touched) {
                    flat[slot.range()].fill(0.0);
                }
                FlatVector::Host(flat)
            }
            GradientStorage::Device { flat, piece } => FlatVector::Device { tensor: flat, piece },
        }
    }
}
