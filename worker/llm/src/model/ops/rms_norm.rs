//! Root-mean-square normalisation of each row, times a weight per column.

use super::numeric::dot;
use super::{floats, gradient, output, tensor_floats};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Rows per unit of parallel work. It also fixes the order in which the weight's gradient is summed, so
/// it must not depend on the number of threads.
const ROWS_PER_CHUNK: usize = 64;

struct RmsNorm {
    eps: f32,
}

/// Normalises each row of `x [rows, width]` and scales it by `weight [width]`.
///
/// # Errors
/// When the shapes don't match.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    x.apply_op2(weight, RmsNorm { eps: eps as f32 })
}

fn inverse_root(row: &[f32], eps: f32) -> f32 {
    1.0 / (dot(row, row) / row.len() as f32 + eps).sqrt()
}

/// The arithmetic for one row.
pub fn row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let scale = inverse_root(x, eps);
    for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * w;
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = lx.shape().dims2()?;
        let (x, w) = (floats(x, lx)?, floats(w, lw)?);
        if w.len() != width {
            candle_core::bail!("a norm of width {} was given rows of width {width}", w.len());
        }
        let mut out = vec![0f32; rows * width];
        out.par_chunks_mut(ROWS_PER_CHUNK * width).zip(x.par_chunks(ROWS_PER_CHUNK * width)).for_each(|(out, x)| {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                row(x, w, self.eps, out);
            }
        });
        Ok(output(out, (rows, width)))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, width) = x.dims2()?;
        let grad = grad.contiguous()?;
        let ((sx, lx), (sw, lw), (sg, lg)) = (x.storage_and_layout(), w.storage_and_layout(), grad.storage_and_layout());
        let (xs, ws, gs) = (tensor_floats(&sx, lx)?, tensor_floats(&sw, lw)?, tensor_floats(&sg, lg)?);
        let mut dx = vec![0f32; xs.len()];
        let chunk = ROWS_PER_CHUNK * width;
        let partial: Vec<Vec<f32>> = dx
            .par_chunks_mut(chunk)
            .zip(xs.par_chunks(chunk))
            .zip(gs.par_chunks(chunk))
            .map(|((dx, x), g)| {
                let mut dw = vec![0f32; width];
                let mut weighted = vec![0f32; width];
                let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(g.chunks_exact(width));
                for ((dx, x), g) in rows {
                    let scale = inverse_root(x, self.eps);
                    for ((weighted, g), w) in weighted.iter_mut().zip(g).zip(ws) {
                        *weighted = g * w;
                    }
                    let pull = dot(&weighted, x) * scale * scale / width as f32;
                    for ((dx, weighted), x) in dx.iter_mut().zip(&weighted).zip(x) {
                        *dx = scale * (weighted - x * pull);
                    }
                    for ((dw, g), x) in dw.iter_mut().zip(g).zip(x) {
                        *dw += g * x * scale;
                    }
                }
                dw
            })
            .collect();
        let mut dw = vec![0f32; width];
        for part in partial {
            for (total, part) in dw.iter_mut().zip(part) {
                *total += part;
            }
        }
        Ok((Some(gradient(dx, x)?), Some(gradient(dw, w)?)))
    }
}
