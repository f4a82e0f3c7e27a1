//! `silu(gate) * up`, the gated activation of the feed-forward layer (Shazeer 2020).

use super::host::{self, CHUNK};
use super::numeric::sigmoid;
use super::profile::{Part, count};
use super::simd::wide;
use crate::autograd::{Tape, Value};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// Gates `up` by `gate`, number by number.
///
/// # Errors
/// When the shapes differ.
pub fn swiglu(tape: &mut Tape, gate: &Value, up: &Value) -> Result<Value> {
    if gate.data().shape() != up.data().shape() {
        candle_core::bail!("gate {:?} and up {:?} differ in shape", gate.data().shape(), up.data().shape());
    }
    let out = count(Part::Activation, || activate(gate.data(), up.data()))?;
    if !tape.follows(&[gate, up], false) {
        return Ok(Value::constant(out));
    }
    let (to_gate, to_up) = (gate.id(), up.id());
    let (gate, up) = (gate.data().clone(), up.data().clone());
    Ok(tape.push(out, move |gradient, flow| {
        let (dg, du) = count(Part::Activation, || {
            if host::on_slices(&gradient) {
                backward(&gate, &up, gradient)
            } else {
                composed(&gate, &up, &gradient)
            }
        })?;
        flow.give(to_gate, dg)?;
        flow.give(to_up, du)
    }))
}

fn activate(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if !host::on_slices(gate) {
        return gate.silu()? * up;
    }
    let (g, u) = (host::floats(gate)?, host::floats(up)?);
    let out = host::filled(g.len(), CHUNK, |part, out| {
        let range = part * CHUNK..part * CHUNK + out.len();
        forward(&g[range.clone()], &u[range], out);
    });
    host::tensor(out, gate.shape())
}

/// The arithmetic on slices.
pub fn forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
    wide(|| {
        for ((out, g), u) in out.iter_mut().zip(gate).zip(up) {
            *out = g * sigmoid(*g) * u;
        }
    });
}

/// The gradients of gate and up; the gate's takes the place of the gradient given.
fn backward(gate: &Tensor, up: &Tensor, gradient: Tensor) -> Result<(Tensor, Tensor)> {
    let (g, u) = (host::floats(gate)?, host::floats(up)?);
    let mut du = Vec::new();
    host::edit(&gradient, |d| {
        du = host::written(d.len(), |du| {
            d.par_chunks_mut(CHUNK)
                .zip(du.par_chunks_mut(CHUNK))
                .zip(g.par_chunks(CHUNK).zip(u.par_chunks(CHUNK)))
                .for_each(|((d, du), (g, u))| {
                    wide(|| {
                        for (((d, du), g), u) in d.iter_mut().zip(du).zip(g).zip(u) {
                            let s = sigmoid(*g);
                            *du = *d * g * s;
                            *d = *d * u * s * (1.0 + g * (1.0 - s));
                        }
                    });
                });
        });
    })?;
    Ok((gradient, host::tensor(du, up.shape())?))
}

fn composed(gate: &Tensor, up: &Tensor, gradient: &Tensor) -> Result<(Tensor, Tensor)> {
    let s = candle_sigmoid(gate)?;
    let du = ((gradient * gate)? * &s)?;
    let slope = (s.affine(-1.0, 1.0)? * gate)?.affine(1.0, 1.0)?;
    let dg = (((gradient * up)? * &s)? * slope)?;
    Ok((dg, du))
}

fn candle_sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}
