//! Multiplication with a constant: `y = s x`.

use crate::autograd::{Tape, Value};
use crate::cpu::slices::{self, CHUNK};
use crate::device::Backend;
use candle_core::{Result, Tensor};

/// `factor * x`, for `x` of any shape.
///
/// # Errors
/// When the tensor library fails.
pub fn scale(tape: &mut Tape, x: &Value, factor: f64) -> Result<Value> {
    let backend = tape.backend();
    let out = scaled(x.data(), factor, backend)?;
    if !tape.needs_backward(&[x], false) {
        return Ok(Value::constant(out));
    }
    let to = x.id();
    Ok(tape.push(out, move |gradient, ctx| ctx.accumulate(to, scaled(&gradient, factor, backend)?)))
}

fn scaled(x: &Tensor, factor: f64, backend: Backend) -> Result<Tensor> {
    if backend != Backend::Fused {
        return x * factor;
    }
    let (numbers, factor) = (slices::floats(x)?, factor as f32);
    let out = slices::new_vec_chunked(numbers.len(), CHUNK, |part, out| {
        for (out, x) in out.iter_mut().zip(&numbers[part * CHUNK..]) {
            *out = x * factor;
        }
    });
    slices::tensor(out, x.shape())
}
