//! Learnt embeddings before each sequence (prompt tuning, Lester et al. 2021), and their removal.

use super::BatchLayout;
use crate::autograd::{Tape, Value, Weight};
use candle_core::{DType, Result, Tensor};

/// Puts `prompt [before, width]` before each sequence of `x [batch * time, width]`.
///
/// # Errors
/// When the widths differ.
pub fn prepend(tape: &mut Tape, x: &Value, prompt: &Weight, rows: &BatchLayout) -> Result<Value> {
    let ((before, width), (batch, time)) = (prompt.shape().dims2()?, (rows.batch, rows.time));
    let dense = prompt.dense(x.data().dtype(), x.data().device())?;
    let dense = dense.reshape((1, before, width))?.expand((batch, before, width))?.contiguous()?;
    let out = Tensor::cat(&[dense, x.data().reshape((batch, time, width))?], 1)?
        .reshape((batch * (before + time), width))?;
    if !tape.needs_backward(&[x], prompt.slot().is_some()) {
        return Ok(Value::constant(out));
    }
    let (to, slot) = (x.id(), prompt.slot().cloned());
    Ok(tape.push(out, move |gradient, ctx| {
        let gradient = gradient.reshape((batch, before + time, width))?;
        if let Some(slot) = &slot {
            ctx.weights().accumulate(slot, &gradient.narrow(1, 0, before)?.to_dtype(DType::F32)?.sum(0)?)?;
        }
        // A fresh tensor: what is accumulated must not be shared.
        ctx.accumulate(
            to,
            gradient.narrow(1, before, time)?.force_contiguous()?.reshape((batch * time, width))?,
        )
    }))
}

/// Removes the first `before` rows of each sequence of `x [batch * (before + time), width]`; `rows` is the
/// layout of the rest.
///
/// # Errors
/// When the shapes don't match.
pub fn drop_prefix(tape: &mut Tape, x: &Value, before: usize, rows: &BatchLayout) -> Result<Value> {
    let ((_, width), (batch, time)) = (x.data().dims2()?, (rows.batch, rows.time));
    let all = x.data().reshape((batch, before + time, width))?;
    let out = all.narrow(1, before, time)?.contiguous()?.reshape((batch * time, width))?;
    if !tape.needs_backward(&[x], false) {
        return Ok(Value::constant(out));
    }
    let to = x.id();
    Ok(tape.push(out, move |gradient, ctx| {
        let zeros = Tensor::zeros((batch, before, width), gradient.dtype(), gradient.device())?;
        let gradient = Tensor::cat(&[zeros, gradient.reshape((batch, time, width))?], 1)?;
        ctx.accumulate(to, gradient.reshape((batch * (before + time), width))?)
    }))
}
