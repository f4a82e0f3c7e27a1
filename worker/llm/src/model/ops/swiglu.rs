//! `silu(gate) * up`, the gated activation of the feed-forward layer.

use super::numeric::sigmoid;
use super::{floats, gradient, output, tensor_floats};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

const CHUNK: usize = 16 * 1024;

struct SwiGlu;

/// Gates `up` by `gate`, number by number.
///
/// # Errors
/// When the shapes differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.apply_op2(up, SwiGlu)
}

/// The arithmetic on slices.
pub fn forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, g), u) in out.iter_mut().zip(gate).zip(up) {
        *out = g * sigmoid(*g) * u;
    }
}

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, g: &CpuStorage, lg: &Layout, u: &CpuStorage, lu: &Layout) -> Result<(CpuStorage, Shape)> {
        if lg.shape() != lu.shape() {
            candle_core::bail!("gate {:?} and up {:?} differ in shape", lg.shape(), lu.shape());
        }
        let (gate, up) = (floats(g, lg)?, floats(u, lu)?);
        let mut out = vec![0f32; gate.len()];
        out.par_chunks_mut(CHUNK)
            .zip(gate.par_chunks(CHUNK))
            .zip(up.par_chunks(CHUNK))
            .for_each(|((out, gate), up)| forward(gate, up, out));
        Ok(output(out, lg.shape().clone()))
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let ((sg, lg), (su, lu), (sd, ld)) = (gate.storage_and_layout(), up.storage_and_layout(), grad.storage_and_layout());
        let (g, u, d) = (tensor_floats(&sg, lg)?, tensor_floats(&su, lu)?, tensor_floats(&sd, ld)?);
        let (mut dg, mut du) = (vec![0f32; g.len()], vec![0f32; u.len()]);
        dg.par_chunks_mut(CHUNK)
            .zip(du.par_chunks_mut(CHUNK))
            .zip(g.par_chunks(CHUNK).zip(u.par_chunks(CHUNK)).zip(d.par_chunks(CHUNK)))
            .for_each(|((dg, du), ((g, u), d))| {
                for ((((dg, du), g), u), d) in dg.iter_mut().zip(du).zip(g).zip(u).zip(d) {
                    let s = sigmoid(*g);
                    *du = d * g * s;
                    *dg = d * u * s * (1.0 + g * (1.0 - s));
                }
            });
        Ok((Some(gradient(dg, gate)?), Some(gradient(du, up)?)))
    }
}
