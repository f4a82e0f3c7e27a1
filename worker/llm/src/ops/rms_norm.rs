//! RMSNorm (Zhang and Sennrich 2019): each row divided by its root mean square, times a weight per column.

use crate::autograd::{Tape, Value, Weight};
use crate::cpu::math::dot;
use crate::cpu::matmul::WriteMode;
use crate::cpu::profile::{OpKind, timed};
use crate::cpu::simd::with_simd;
use crate::cpu::slices;
use crate::device::Backend;
use candle_core::{D, DType, Result, Tensor};
use rayon::prelude::*;

/// Rows per unit of parallel work. It fixes the order in which the weight's gradient is summed, so it must
/// not depend on the number of threads.
const ROWS_PER_CHUNK: usize = 64;

/// Normalises `x [rows, n * width]` in groups as wide as `weight [width]`, and multiplies each group with it.
/// Groups are whole rows, or the heads of a row.
///
/// # Errors
/// When a row does not divide into such groups.
pub fn rms_norm(tape: &mut Tape, x: &Value, weight: &Weight, eps: f64) -> Result<Value> {
    let width = weight.shape().dims1()?;
    let (_, row) = x.data().dims2()?;
    if width == 0 || !row.is_multiple_of(width) {
        candle_core::bail!("a norm of width {width} was given rows of width {row}");
    }
    let eps32 = eps as f32;
    let backend = tape.backend();
    let out = timed(OpKind::Norm, || forward(x.data(), weight, width, eps, backend))?;
    if !tape.needs_backward(&[x], weight.slot().is_some()) {
        return Ok(Value::constant(out));
    }
    let to = x.id();
    let (x, weight) = (x.data().clone(), weight.clone());
    Ok(tape.push(out, move |gradient, ctx| {
        if backend != Backend::Fused {
            let (dx, dw) = composed_backward(&x, &weight, &gradient, width, eps)?;
            if let Some(slot) = weight.slot() {
                ctx.weights().accumulate(slot, &dw)?;
            }
            return ctx.accumulate(to, dx);
        }
        let before = ctx.take(to);
        let (dx, dw) = timed(OpKind::Norm, || backward(&x, &weight, &gradient, before, eps32))?;
        if let Some(slot) = weight.slot() {
            ctx.weights().write(slot, |held, mode| {
                match mode {
                    WriteMode::Overwrite => held.copy_from_slice(&dw),
                    WriteMode::Accumulate => held.iter_mut().zip(&dw).for_each(|(held, dw)| *held += dw),
                }
                Ok(())
            })?;
        }
        ctx.accumulate(to, dx)
    }))
}

fn forward(x: &Tensor, weight: &Weight, width: usize, eps: f64, backend: Backend) -> Result<Tensor> {
    if backend != Backend::Fused {
        return composed_forward(x, weight, width, eps);
    }
    let (numbers, w) = (slices::floats(x)?, weight.numbers()?);
    let chunk = ROWS_PER_CHUNK * width;
    let out = slices::new_vec_chunked(numbers.len(), chunk, |part, out| {
        let x = &numbers[part * chunk..part * chunk + out.len()];
        with_simd(|| {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                row_forward(x, &w, eps as f32, out);
            }
        });
    });
    slices::tensor(out, x.shape())
}

#[inline(always)]
fn inverse_root(row: &[f32], eps: f32) -> f32 {
    1.0 / (dot(row, row) / row.len() as f32 + eps).sqrt()
}

#[inline(always)]
fn row_forward(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let scale = inverse_root(x, eps);
    for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * w;
    }
}

/// Normalises one group.
pub fn row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    row_forward(x, weight, eps, out);
}

/// The gradients of `x`, added to `before`, and of the weight.
fn backward(
    x: &Tensor,
    weight: &Weight,
    gradient: &Tensor,
    before: Option<Tensor>,
    eps: f32,
) -> Result<(Tensor, Vec<f32>)> {
    let (xs, ws, gs) = (slices::floats(x)?, weight.numbers()?, slices::floats(gradient)?);
    let width = ws.len();
    let chunk = ROWS_PER_CHUNK * width;
    let add = before.is_some();
    let mut partial = Vec::new();
    let mut fill = |dx: &mut [f32]| {
        partial = dx
            .par_chunks_mut(chunk)
            .zip(xs.par_chunks(chunk).zip(gs.par_chunks(chunk)))
            .map(|(dx, (x, g))| with_simd(|| chunk_backward(x, &ws, g, eps, add, dx)))
            .collect::<Vec<_>>();
    };
    let dx = match before {
        Some(before) => {
            slices::edit(&before, fill)?;
            before
        }
        None => {
            let dx = slices::new_vec(xs.len(), |dx| fill(dx));
            slices::tensor(dx, x.shape())?
        }
    };
    let mut dw = vec![0f32; width];
    for part in partial {
        for (total, part) in dw.iter_mut().zip(part) {
            *total += part;
        }
    }
    Ok((dx, dw))
}

#[inline(always)]
fn chunk_backward(x: &[f32], w: &[f32], g: &[f32], eps: f32, add: bool, dx: &mut [f32]) -> Vec<f32> {
    let width = w.len();
    let mut dw = vec![0f32; width];
    let mut weighted = vec![0f32; width];
    let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(g.chunks_exact(width));
    for ((dx, x), g) in rows {
        let scale = inverse_root(x, eps);
        for ((weighted, g), w) in weighted.iter_mut().zip(g).zip(w) {
            *weighted = g * w;
        }
        let pull = dot(&weighted, x) * scale * scale / width as f32;
        if add {
            for ((dx, weighted), x) in dx.iter_mut().zip(&weighted).zip(x) {
                *dx += scale * (weighted - x * pull);
            }
        } else {
            for ((dx, weighted), x) in dx.iter_mut().zip(&weighted).zip(x) {
                *dx = scale * (weighted - x * pull);
            }
        }
        for ((dw, g), x) in dw.iter_mut().zip(g).zip(x) {
            *dw += g * x * scale;
        }
    }
    dw
}

/// Normalised `x` and `1 / root mean square`, in f32, as `[groups, width]` and `[groups, 1]`.
fn normalised(x: &Tensor, width: usize, eps: f64) -> Result<(Tensor, Tensor)> {
    let x = x.reshape(((), width))?.to_dtype(DType::F32)?;
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()?;
    Ok((x.broadcast_mul(&scale)?, scale))
}

fn composed_forward(x: &Tensor, weight: &Weight, width: usize, eps: f64) -> Result<Tensor> {
    let (normal, _) = normalised(x, width, eps)?;
    normal.broadcast_mul(&weight.dense(DType::F32, x.device())?)?.to_dtype(x.dtype())?.reshape(x.shape())
}

fn composed_backward(
    x: &Tensor,
    weight: &Weight,
    gradient: &Tensor,
    width: usize,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    let (normal, scale) = normalised(x, width, eps)?;
    let gradient = gradient.reshape(((), width))?.to_dtype(DType::F32)?;
    let dw = (&gradient * &normal)?.sum(0)?;
    let weighted = gradient.broadcast_mul(&weight.dense(DType::F32, x.device())?)?;
    let pull = (&weighted * &normal)?.mean_keepdim(D::Minus1)?;
    let dx = (weighted - normal.broadcast_mul(&pull)?)?.broadcast_mul(&scale)?;
    Ok((dx.to_dtype(x.dtype())?.reshape(x.shape())?, dw))
}
