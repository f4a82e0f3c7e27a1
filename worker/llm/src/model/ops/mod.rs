//! Fused layers with a backward of their own.
//!
//! Each file holds one layer: its arithmetic on slices, and the candle operation that wraps it, so that
//! autograd, and later other devices, see one node instead of ten. The price is that each backward is
//! written by hand; `model::reference` composes the same model from plain candle operations and holds
//! every gradient against it.
//!
//! All activations are `[batch * time, width]`, row by row, so no layer needs a transpose.

pub mod attention;
pub mod head_loss;
pub mod linear;
pub mod matrix;
pub mod numeric;
pub mod rms_norm;
pub mod rope;
pub mod swiglu;

use candle_core::{CpuStorage, Layout, Result, Shape, Storage, Tensor};

/// The numbers of a contiguous f32 tensor on the CPU.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => candle_core::bail!("a fused layer needs a contiguous tensor, not {layout:?}"),
    }
}

/// As [`floats`], for the storage of a tensor that backward was given.
fn tensor_floats<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match storage {
        Storage::Cpu(storage) => floats(storage, layout),
        Storage::Cuda(_) | Storage::Metal(_) => {
            candle_core::bail!("this layer's backward runs on the CPU only")
        }
    }
}

/// What a forward returns.
fn output(values: Vec<f32>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), shape.into())
}

/// A gradient, shaped like the argument it belongs to.
fn gradient(values: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), like.device())
}

/// How a batch of sequences lies in a `[batch * time, width]` tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Sequences.
    pub batch: usize,
    /// Positions of each.
    pub time: usize,
}
