//! The numbers of tensors on the CPU, as slices: to read, to write in place, and to make without filling them
//! twice.
//!
//! [`filled`] is unsafe inside: a buffer of some megabytes that is set to zero first costs a tenth of the
//! product that is then written to it.

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Shape, Storage, Tensor};
use parking_lot::RwLockReadGuard;
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::{Deref, Range};

/// The f32 numbers of a contiguous tensor on the CPU.
pub struct Floats<'a> {
    storage: RwLockReadGuard<'a, Storage>,
    range: Range<usize>,
}

impl Deref for Floats<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(numbers)) => &numbers[self.range.clone()],
            Storage::Cpu(_) | Storage::Cuda(_) | Storage::Metal(_) => {
                unreachable!("checked when it was borrowed")
            }
        }
    }
}

/// Borrows the numbers of a tensor.
///
/// # Errors
/// When it is not contiguous, not f32, or not on the CPU.
pub fn floats(tensor: &Tensor) -> Result<Floats<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("a contiguous tensor is needed, not {layout:?}");
    };
    if !matches!(&*storage, Storage::Cpu(CpuStorage::F32(_))) {
        candle_core::bail!(
            "f32 numbers on the CPU are needed, not {:?} on {:?}",
            tensor.dtype(),
            tensor.device().location()
        );
    }
    Ok(Floats { storage, range: start..end })
}

/// Whether an operation on this tensor works on slices, which it does on the CPU, or is composed of candle's
/// operations.
#[must_use]
pub fn on_slices(tensor: &Tensor) -> bool {
    slices(tensor.device())
}

/// Whether operations on tensors there work on slices. This alone decides which of the two is done.
#[must_use]
pub fn slices(device: &Device) -> bool {
    #[cfg(test)]
    if COMPOSED.get() {
        return false;
    }
    device.is_cpu()
}

#[cfg(test)]
thread_local! {
    /// Lets a test run what other devices run, on the CPU.
    pub static COMPOSED: Cell<bool> = const { Cell::new(false) };
}

/// `work` that composes, or doesn't, on whatever thread runs it, as this one does.
#[cfg(test)]
pub fn as_here<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let composed = COMPOSED.get();
    move || {
        let before = COMPOSED.replace(composed);
        let given = work();
        COMPOSED.set(before);
        given
    }
}

/// A copy of the numbers of a tensor on the CPU.
///
/// # Errors
/// As [`floats`].
pub fn to_vec(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(floats(tensor)?.to_vec())
}

/// A tensor of `numbers`, on the CPU, without a copy.
///
/// # Errors
/// When the count does not fit the shape.
pub fn tensor(numbers: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(numbers, shape.into(), &Device::Cpu)
}

struct Edit<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for Edit<F> {
    fn name(&self) -> &'static str {
        "edit"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(numbers), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("contiguous f32 numbers are needed to write in place");
        };
        if let Some(edit) = self.0.take() {
            edit(&mut numbers[start..end]);
        }
        Ok(())
    }
}

/// Writes to a tensor's numbers in place. All views of its storage see it: give it only tensors that nobody
/// else reads meanwhile.
///
/// # Errors
/// As [`floats`].
pub fn edit(tensor: &Tensor, edit: impl FnOnce(&mut [f32])) -> Result<()> {
    tensor.inplace_op1(&Edit(Cell::new(Some(edit))))
}

/// How many numbers a thread takes at a time where they are independent.
pub const CHUNK: usize = 16 * 1024;

/// `a + b` in the place of `a`, which must not be shared.
///
/// # Errors
/// When the shapes differ.
pub fn sum(a: Tensor, b: &Tensor) -> Result<Tensor> {
    if !on_slices(&a) {
        return a + b;
    }
    if a.shape() != b.shape() {
        candle_core::bail!("gradients of shapes {:?} and {:?} don't add up", a.shape(), b.shape());
    }
    let other = floats(b)?;
    edit(&a, |numbers| {
        numbers.par_chunks_mut(CHUNK).zip(other.par_chunks(CHUNK)).for_each(|(numbers, other)| {
            for (number, other) in numbers.iter_mut().zip(other) {
                *number += other;
            }
        });
    })?;
    Ok(a)
}

/// A vector of `len` numbers that nobody has set: `write` must set all of them, and read none before.
pub fn written(len: usize, write: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut numbers: Vec<f32> = Vec::with_capacity(len);
    let space = &mut numbers.spare_capacity_mut()[..len];
    #[expect(
        unsafe_code,
        reason = "a buffer that is set to zero before it is overwritten costs a pass over memory"
    )]
    // SAFETY: any bits are an f32, and every caller in this crate overwrites all numbers without reading
    // them, so the `len` that the capacity holds are set when the length is.
    unsafe {
        write(&mut *(std::ptr::from_mut(space) as *mut [f32]));
        numbers.set_len(len);
    }
    numbers
}

/// A vector of `len` numbers, made in parts of `chunk` by `fill(part, numbers)`, which must set all of them
/// and read none before.
pub fn filled(len: usize, chunk: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    written(len, |numbers| {
        numbers.par_chunks_mut(chunk).enumerate().for_each(|(part, numbers)| fill(part, numbers))
    })
}
