//! Learnt rows before each sequence (prompt tuning, Lester et al. 2021), and the way back to the sequences
//! alone.

use super::Rows;
use crate::autograd::{Tape, Value, Weight};
use candle_core::{DType, Result, Tensor};

/// Puts `prompt [before, width]` in front of each sequence of `x [batch * time, width]`.
///
/// # Errors
/// When the widths differ.
pub fn precede(tape: &mut Tape, x: &Value, prompt: &Weight, rows: &Rows) -> Result<Value> {
    let ((before, width), (batch, time)) = (prompt.shape().dims2()?, (rows.batch, rows.time));
    let dense = prompt.dense(x.data().dtype(), x.data().device())?;
    let dense = dense.reshape((1, before, width))?.expand((batch, before, width))?.contiguous()?;
    let out = Tensor::cat(&[dense, x.data().reshape((batch, time, width))?], 1)?
        .reshape((batch * (before + time), width))?;
    if !tape.follows(&[x], prompt.slot().is_some()) {
        return Ok(Value::constant(out));
    }
    let (to, slot) = (x.id(), prompt.slot().cloned());
    Ok(tape.push(out, move |gradient, flow| {
        let gradient = gradient.reshape((batch, before + time, width))?;
        if let Some(slot) = &slot {
            flow.weights().give(slot, &gradient.narrow(1, 0, before)?.to_dtype(DType::F32)?.sum(0)?)?;
        }
        // A fresh tensor: what is given must not be shared.
        flow.give(to, gradient.narrow(1, before, time)?.force_contiguous()?.reshape((batch * time, width))?)
    }))
}

/// Takes the first `before` rows of each sequence of `x [batch * (before + time), width]` away; `rows` are
/// those that stay.
///
/// # Errors
/// When the shapes don't match.
pub fn without(tape: &mut Tape, x: &Value, before: usize, rows: &Rows) -> Result<Value> {
    let ((_, width), (batch, time)) = (x.data().dims2()?, (rows.batch, rows.time));
    let all = x.data().reshape((batch, before + time, width))?;
    let out = all.narrow(1, before, time)?.contiguous()?.reshape((batch * time, width))?;
    if !tape.follows(&[x], false) {
        return Ok(Value::constant(out));
    }
    let to = x.id();
    Ok(tape.push(out, move |gradient, flow| {
        let zeros = Tensor::zeros((batch, before, width), gradient.dtype(), gradient.device())?;
        let gradient = Tensor::cat(&[zeros, gradient.reshape((batch, time, width))?], 1)?;
        flow.give(to, gradient.reshape((batch * (before + time), width))?)
    }))
}
