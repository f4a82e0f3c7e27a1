//! AdamW from candle's operations, for parameters that stay on a device: only the parts of the norm leave it.
//!
//! It passes over memory about twenty times instead of once, in pieces that need little memory. Terms are
//! added in the same order as on slices, so the two differ only by the rounding of single operations.

use super::{StepFactors, WeightDecayMask};
use crate::autograd::flat::{part, pieces};
use candle_core::{DType, Result, Tensor};

/// Masters and moments on a device, each flat and f32.
pub struct DeviceState<'a> {
    /// The weights, or their f32 masters.
    pub weights: &'a Tensor,
    /// The model's rounded copy of the weights, if the weights are masters.
    pub rounded: Option<&'a Tensor>,
    /// Running mean of the gradient.
    pub first: &'a Tensor,
    /// Running mean of its square.
    pub second: &'a Tensor,
}

/// The norm of all gradients together; summed in f64.
pub fn norm(gradients: &Tensor, piece: usize) -> Result<f64> {
    let squares = |range| part(gradients, &range)?.to_dtype(DType::F64)?.sqr()?.sum_all();
    let sums = pieces(gradients.elem_count(), piece).map(squares).collect::<Result<Vec<_>>>()?;
    if sums.is_empty() {
        return Ok(0.0);
    }
    Ok(Tensor::stack(&sums, 0)?.to_vec1::<f64>()?.iter().sum::<f64>().sqrt())
}

/// One update, in place.
pub fn update(
    numbers: StepFactors,
    decay: &WeightDecayMask,
    held: &DeviceState<'_>,
    gradients: &Tensor,
    piece: usize,
) -> Result<()> {
    for range in pieces(gradients.elem_count(), piece) {
        let mut at = range.start;
        for (len, decays) in decay.within(range.start, range.end) {
            let numbers = if decays { numbers } else { StepFactors { keep: 1.0, ..numbers } };
            step_of(numbers, held, gradients, at..at + len)?;
            at += len;
        }
    }
    Ok(())
}

fn step_of(
    n: StepFactors,
    held: &DeviceState<'_>,
    gradients: &Tensor,
    range: std::ops::Range<usize>,
) -> Result<()> {
    let times = |x: &Tensor, by: f32| x.affine(f64::from(by), 0.0);
    let gradient = times(&part(gradients, &range)?, n.scale)?;
    let first = (times(&part(held.first, &range)?, n.beta1)? + times(&gradient, 1.0 - n.beta1)?)?;
    held.first.slice_set(&first, 0, range.start)?;
    let second =
        (times(&part(held.second, &range)?, n.beta2)? + (times(&gradient, 1.0 - n.beta2)? * gradient)?)?;
    held.second.slice_set(&second, 0, range.start)?;
    let spread = times(&second, n.correction2)?.sqrt()?.affine(1.0, f64::from(n.epsilon))?;
    let step = times(&(times(&first, n.correction1)? / spread)?, n.rate)?;
    let weights = part(held.weights, &range)?;
    let weights = (if n.keep == 1.0 { weights } else { times(&weights, n.keep)? } - step)?;
    held.weights.slice_set(&weights, 0, range.start)?;
    match held.rounded {
        Some(rounded) => rounded.slice_set(&weights.to_dtype(rounded.dtype())?, 0, range.start),
        None => Ok(()),
    }
}
