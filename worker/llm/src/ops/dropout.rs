//! Dropout (Srivastava et al. 2014) whose choice is a function of a seed and a place, so that a block that is
//! done again drops the same numbers, on any number of threads.

use super::host::{self, CHUNK};
use crate::autograd::{Tape, Value};
use candle_core::{Result, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Sets a part `rate` (from 0, below 1) of the numbers of `x` to zero, and scales the others so that the mean
/// stays.
///
/// # Errors
/// When the tensor library refuses.
pub fn dropout(tape: &mut Tape, x: &Value, rate: f64, seed: u64, site: u64) -> Result<Value> {
    let out = dropped(x.data(), rate, seed, site)?;
    if !tape.follows(&[x], false) {
        return Ok(Value::constant(out));
    }
    let to = x.id();
    Ok(tape.push(out, move |gradient, flow| flow.give(to, dropped(&gradient, rate, seed, site)?)))
}

fn dropped(x: &Tensor, rate: f64, seed: u64, site: u64) -> Result<Tensor> {
    let scale = (1.0 / (1.0 - rate)) as f32;
    let bound = (rate * f64::from(u32::MAX)) as u32;
    let mask = |part: usize, out: &mut [f32], x: &[f32]| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ site.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        rng.set_stream(part as u64);
        for (out, x) in out.iter_mut().zip(x) {
            *out = if rng.next_u32() < bound { 0.0 } else { x * scale };
        }
    };
    if !host::on_slices(x) {
        let ones = vec![1f32; x.elem_count()];
        let kept = host::filled(ones.len(), CHUNK, |part, out| mask(part, out, &ones[part * CHUNK..]));
        return x * Tensor::from_vec(kept, x.shape(), x.device())?.to_dtype(x.dtype())?;
    }
    let numbers = host::floats(x)?;
    let out = host::filled(numbers.len(), CHUNK, |part, out| mask(part, out, &numbers[part * CHUNK..]));
    host::tensor(out, x.shape())
}
