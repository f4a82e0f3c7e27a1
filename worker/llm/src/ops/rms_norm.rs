//! Root-mean-square normalisation of each row, times a weight per column (Zhang and Sennrich 2019).

use super::host;
use super::matrix::Into;
use super::numeric::dot;
use super::profile::{Part, count};
use super::simd::wide;
use crate::autograd::{Tape, Value, Weight};
use candle_core::{D, DType, Result, Tensor};
use rayon::prelude::*;

/// Rows per unit of parallel work. It also fixes the order in which the weight's gradient is summed, so
/// it must not depend on the number of threads.
const ROWS_PER_CHUNK: usize = 64;

/// Normalises each group of as many numbers as `weight` has in each row of `x`, and scales it by `weight`:
/// whole rows, or the heads of a row.
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
    let out = count(Part::Norm, || forward(x.data(), weight, width, eps))?;
    if !tape.follows(&[x], weight.slot().is_some()) {
        return Ok(Value::constant(out));
    }
    let to = x.id();
    let (x, weight) = (x.data().clone(), weight.clone());
    Ok(tape.push(out, move |gradient, flow| {
        if !host::on_slices(&gradient) {
            let (dx, dw) = composed_backward(&x, &weight, &gradient, width, eps)?;
            if let Some(slot) = weight.slot() {
                flow.weights().give(slot, &dw)?;
            }
            return flow.give(to, dx);
        }
        let before = flow.take(to);
        let (dx, dw) = count(Part::Norm, || backward(&x, &weight, &gradient, before, eps32))?;
        if let Some(slot) = weight.slot() {
            flow.weights().write(slot, |held, into| {
                match into {
                    Into::Replace => held.copy_from_slice(&dw),
                    Into::Add => held.iter_mut().zip(&dw).for_each(|(held, dw)| *held += dw),
                }
                Ok(())
            })?;
        }
        flow.give(to, dx)
    }))
}

fn forward(x: &Tensor, weight: &Weight, width: usize, eps: f64) -> Result<Tensor> {
    if !host::on_slices(x) {
        return composed_forward(x, weight, width, eps);
    }
    let (numbers, w) = (host::floats(x)?, weight.numbers()?);
    let chunk = ROWS_PER_CHUNK * width;
    let out = host::filled(numbers.len(), chunk, |part, out| {
        let x = &numbers[part * chunk..part * chunk + out.len()];
        wide(|| {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                row_forward(x, &w, eps as f32, out);
            }
        });
    });
    host::tensor(out, x.shape())
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

/// The arithmetic for one group.
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
    let (xs, ws, gs) = (host::floats(x)?, weight.numbers()?, host::floats(gradient)?);
    let width = ws.len();
    let chunk = ROWS_PER_CHUNK * width;
    let add = before.is_some();
    let mut partial = Vec::new();
    let mut fill = |dx: &mut [f32]| {
        partial = dx
            .par_chunks_mut(chunk)
            .zip(xs.par_chunks(chunk).zip(gs.par_chunks(chunk)))
            .map(|(dx, (x, g))| wide(|| chunk_backward(x, &ws, g, eps, add, dx)))
            .collect::<Vec<_>>();
    };
    let dx = match before {
        Some(before) => {
            host::edit(&before, fill)?;
            before
        }
        None => {
            let dx = host::written(xs.len(), |dx| fill(dx));
            host::tensor(dx, x.shape())?
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

/// `(normalised x, 1 / root)` in f32, as `[groups, width]` and `[groups, 1]`.
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
