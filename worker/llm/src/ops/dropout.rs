//! Dropout (Srivastava et al. 2014) whose mask is a function of a seed and a place, so that a layer that is
//! computed again drops the same elements, on any number of threads.

use crate::autograd::{Tape, Value};
use crate::cpu::slices::{self, CHUNK};
use crate::device::Backend;
use candle_core::{Result, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Sets elements of `x` to zero with probability `rate` (from 0 to below 1), and scales the others by
/// `1 / (1 - rate)`. `seed` and `site` determine the mask.
///
/// # Errors
/// When the tensor library fails.
pub fn dropout(tape: &mut Tape, x: &Value, rate: f64, seed: u64, site: u64) -> Result<Value> {
    let backend = tape.backend();
    let out = dropped(x.data(), rate, seed, site, backend)?;
    if !tape.needs_backward(&[x], false) {
        return Ok(Value::constant(out));
    }
    let to = x.id();
    Ok(tape
        .push(out, move |gradient, ctx| ctx.accumulate(to, dropped(&gradient, rate, seed, site, backend)?)))
}

fn dropped(x: &Tensor, rate: f64, seed: u64, site: u64, backend: Backend) -> Result<Tensor> {
    let scale = (1.0 / (1.0 - rate)) as f32;
    let bound = (rate * f64::from(u32::MAX)) as u32;
    let mask = |part: usize, out: &mut [f32], x: &[f32]| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ site.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        rng.set_stream(part as u64);
        for (out, x) in out.iter_mut().zip(x) {
            *out = if rng.next_u32() < bound { 0.0 } else { x * scale };
        }
    };
    if backend != Backend::Fused {
        let ones = vec![1f32; x.elem_count()];
        let kept =
            slices::new_vec_chunked(ones.len(), CHUNK, |part, out| mask(part, out, &ones[part * CHUNK..]));
        return x * Tensor::from_vec(kept, x.shape(), x.device())?.to_dtype(x.dtype())?;
    }
    let numbers = slices::floats(x)?;
    let out =
        slices::new_vec_chunked(numbers.len(), CHUNK, |part, out| mask(part, out, &numbers[part * CHUNK..]));
    slices::tensor(out, x.shape())
}
