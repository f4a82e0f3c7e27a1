//! The elements of tensors on the CPU as slices: to read, to write in place, and to create without filling
//! them twice.
//!
//! [`new_vec`] is unsafe inside: to zero a buffer of some megabytes first costs a tenth of the matrix product
//! that is then written to it.

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Shape, Storage, Tensor};
use parking_lot::RwLockReadGuard;
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::{Deref, Range};

/// The f32 elements of a contiguous tensor on the CPU.
pub struct FloatSlice<'a> {
    storage: RwLockReadGuard<'a, Storage>,
    range: Range<usize>,
}

impl Deref for FloatSlice<'_> {
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

/// Borrows the elements of a tensor.
///
/// # Errors
/// When it is not contiguous, not f32, or not on the CPU.
pub fn floats(tensor: &Tensor) -> Result<FloatSlice<'_>> {
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
    Ok(FloatSlice { storage, range: start..end })
}

/// A copy of the elements of a tensor on the CPU.
///
/// # Errors
/// As [`floats`].
pub fn to_vec(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(floats(tensor)?.to_vec())
}

/// A tensor of `numbers` on the CPU, without a copy.
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

/// Writes to a tensor's elements in place. All views of its storage see it: pass only tensors that nothing
/// else reads meanwhile.
///
/// # Errors
/// As [`floats`].
pub fn edit(tensor: &Tensor, edit: impl FnOnce(&mut [f32])) -> Result<()> {
    tensor.inplace_op1(&Edit(Cell::new(Some(edit))))
}

/// Elements that a thread takes at a time where they are independent.
pub const CHUNK: usize = 16 * 1024;

/// `a + b`, stored in `a`, which must not be shared.
///
/// # Errors
/// As [`floats`], and when the shapes differ.
pub fn add_in_place(a: Tensor, b: &Tensor) -> Result<Tensor> {
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

/// A vector of `len` elements that are not initialised: `write` must set all of them and read none.
pub fn new_vec(len: usize, write: impl FnOnce(&mut [f32])) -> Vec<f32> {
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

/// A vector of `len` elements, made in parallel in parts of `chunk` by `fill(part, numbers)`, which must set
/// all of them and read none.
pub fn new_vec_chunked(len: usize, chunk: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    new_vec(len, |numbers| {
        numbers.par_chunks_mut(chunk).enumerate().for_each(|(part, numbers)| fill(part, numbers))
    })
}
