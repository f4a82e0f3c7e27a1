//! Where the gradients of trained weights are added: one flat f32 vector on the CPU, one flat f32 tensor
//! elsewhere.

use super::flat::{self, Flat};
use super::weight::Slot;
use crate::ops::matrix::Into;
use candle_core::{DType, Device, Result, Tensor};
use std::sync::Arc;

/// The gradients of all trained weights, in order of their slots.
pub struct Gradients {
    slots: Arc<[Slot]>,
    held: Held,
    touched: Vec<bool>,
}

enum Held {
    /// One vector; what is not touched yet holds what an earlier use left there.
    Host(Vec<f32>),
    /// One tensor, with zeros where nothing is touched yet.
    Device(Tensor),
}

impl Gradients {
    /// None yet, for weights on the CPU. `space` is a vector to use again, of any length.
    #[must_use]
    pub fn on_host(slots: Arc<[Slot]>, mut space: Vec<f32>) -> Self {
        let len = slots.last().map_or(0, |slot| slot.start + slot.len);
        space.resize(len, 0.0);
        Self { touched: vec![false; slots.len()], slots, held: Held::Host(space) }
    }

    /// None yet, for weights on another device.
    ///
    /// # Errors
    /// When there is no room.
    pub fn on_device(slots: Arc<[Slot]>, device: &Device) -> Result<Self> {
        let len = slots.last().map_or(0, |slot| slot.start + slot.len);
        Ok(Self { touched: vec![false; slots.len()], held: Held::Device(flat::zeros(len, device)?), slots })
    }

    /// Lets `write` put a gradient (`Into::Replace`) or add it (`Into::Add`) to what is there, in place.
    ///
    /// # Errors
    /// Those of `write`, and when the gradients are not on the host.
    pub fn write(&mut self, slot: &Slot, write: impl FnOnce(&mut [f32], Into) -> Result<()>) -> Result<()> {
        let Held::Host(flat) = &mut self.held else {
            candle_core::bail!("the gradient of {} is not on the host", slot.name);
        };
        let into = if self.touched[slot.index] { Into::Add } else { Into::Replace };
        write(&mut flat[slot.start..slot.start + slot.len], into)?;
        self.touched[slot.index] = true;
        Ok(())
    }

    /// Adds a gradient of the weight's shape, of any device and float type.
    ///
    /// # Errors
    /// When the tensor library refuses.
    pub fn give(&mut self, slot: &Slot, gradient: &Tensor) -> Result<()> {
        let gradient = gradient.to_dtype(DType::F32)?;
        match &mut self.held {
            Held::Host(_) => {
                let numbers = gradient.flatten_all()?.to_vec1::<f32>()?;
                self.write(slot, |held, into| {
                    match into {
                        Into::Replace => held.copy_from_slice(&numbers),
                        Into::Add => held.iter_mut().zip(&numbers).for_each(|(held, number)| *held += number),
                    }
                    Ok(())
                })
            }
            Held::Device(held) => {
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

    /// Takes them all away, and leaves none: for a tape within a tape.
    pub(super) fn take(&mut self) -> Self {
        let empty = Self { slots: Arc::from([]), held: Held::Host(Vec::new()), touched: Vec::new() };
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

    /// All gradients as one vector on the CPU, in order of slots; zero where there is none.
    ///
    /// # Errors
    /// When a device can't be read.
    pub fn into_flat(self) -> Result<Vec<f32>> {
        self.finish().into_host()
    }

    /// All gradients in order of slots, where they are; zero where there is none.
    #[must_use]
    pub fn finish(self) -> Flat {
        match self.held {
            Held::Host(mut flat) => {
                for (slot, _) in self.slots.iter().zip(&self.touched).filter(|(_, touched)| !**touched) {
                    flat[slot.start..slot.start + slot.len].fill(0.0);
                }
                Flat::Host(flat)
            }
            Held::Device(flat) => Flat::Device(flat),
        }
    }
}
