//! SwiGLU, the gated activation of the feed-forward layer: `silu(gate) * up` (Shazeer 2020, "GLU variants
//! improve transformer").

use crate::autograd::{Tape, Value};
use crate::cpu::math::sigmoid;
use crate::cpu::profile::{OpKind, timed};
use crate::cpu::simd::with_simd;
use crate::cpu::slices::{self, CHUNK};
use crate::device::Backend;
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// `silu(gate) * up`, element by element; both have one shape.
///
/// # Errors
/// When the shapes differ.
pub fn swiglu(tape: &mut Tape, gate: &Value, up: &Value) -> Result<Value> {
    if gate.data().shape() != up.data().shape() {
        candle_core::bail!("gate {:?} and up {:?} differ in shape", gate.data().shape(), up.data().shape());
    }
    let backend = tape.backend();
    let out = timed(OpKind::Activation, || activate(gate.data(), up.data(), backend))?;
    if !tape.needs_backward(&[gate, up], false) {
        return Ok(Value::constant(out));
    }
    let (to_gate, to_up) = (gate.id(), up.id());
    let (gate, up) = (gate.data().clone(), up.data().clone());
    Ok(tape.push(out, move |gradient, ctx| {
        let (dg, du) = timed(OpKind::Activation, || match backend {
            Backend::Fused => backward(&gate, &up, gradient),
            Backend::Composed(_) => composed_backward(&gate, &up, &gradient),
        })?;
        ctx.accumulate(to_gate, dg)?;
        ctx.accumulate(to_up, du)
    }))
}

fn activate(gate: &Tensor, up: &Tensor, backend: Backend) -> Result<Tensor> {
    if backend != Backend::Fused {
        return gate.silu()? * up;
    }
    let (g, u) = (slices::floats(gate)?, slices::floats(up)?);
    let out = slices::new_vec_chunked(g.len(), CHUNK, |part, out| {
        let range = part * CHUNK..part * CHUNK + out.len();
        forward(&g[range.clone()], &u[range], out);
    });
    slices::tensor(out, gate.shape())
}

/// The same on slices of one length.
pub fn forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
    with_simd(|| {
        for ((out, g), u) in out.iter_mut().zip(gate).zip(up) {
            *out = g * sigmoid(*g) * u;
        }
    });
}

/// The gradients of gate and up; the gate's overwrites `gradient`.
fn backward(gate: &Tensor, up: &Tensor, gradient: Tensor) -> Result<(Tensor, Tensor)> {
    let (g, u) = (slices::floats(gate)?, slices::floats(up)?);
    let mut du = Vec::new();
    slices::edit(&gradient, |d| {
        du = slices::new_vec(d.len(), |du| {
            d.par_chunks_mut(CHUNK)
                .zip(du.par_chunks_mut(CHUNK))
                .zip(g.par_chunks(CHUNK).zip(u.par_chunks(CHUNK)))
                .for_each(|((d, du), (g, u))| {
                    with_simd(|| {
                        for (((d, du), g), u) in d.iter_mut().zip(du).zip(g).zip(u) {
                            let s = sigmoid(*g);
                            *du = *d * g * s;
                            *d = *d * u * s * (1.0 + g * (1.0 - s));
                        }
                    });
                });
        });
    })?;
    Ok((gradient, slices::tensor(du, up.shape())?))
}

fn composed_backward(gate: &Tensor, up: &Tensor, gradient: &Tensor) -> Result<(Tensor, Tensor)> {
    let s = candle_sigmoid(gate)?;
    let du = ((gradient * gate)? * &s)?;
    let slope = (s.affine(-1.0, 1.0)? * gate)?.affine(1.0, 1.0)?;
    let dg = (((gradient * up)? * &s)? * slope)?;
    Ok((dg, du))
}

fn candle_sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}
