//! `y = s x`.

use super::host::{self, CHUNK};
use crate::autograd::{Tape, Value};
use candle_core::{Result, Tensor};

/// Multiplies all numbers of `x` with `factor`.
///
/// # Errors
/// When the tensor library refuses.
pub fn scale(tape: &mut Tape, x: &Value, factor: f64) -> Result<Value> {
    let out = scaled(x.data(), factor)?;
    if !tape.follows(&[x], false) {
        return Ok(Value::constant(out));
    }
    let to = x.id();
    Ok(tape.push(out, move |gradient, flow| flow.give(to, scaled(&gradient, factor)?)))
}

fn scaled(x: &Tensor, factor: f64) -> Result<Tensor> {
    if !host::on_slices(x) {
        return x * factor;
    }
    let (numbers, factor) = (host::floats(x)?, factor as f32);
    let out = host::filled(numbers.len(), CHUNK, |part, out| {
        for (out, x) in out.iter_mut().zip(&numbers[part * CHUNK..]) {
            *out = x * factor;
        }
    });
    host::tensor(out, x.shape())
}
