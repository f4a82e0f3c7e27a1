//! AdamW from candle's operations, for numbers that stay on a device: only the norm's parts come back.
//!
//! Each number makes about twenty passes over memory instead of one, in pieces that need little room. What is
//! added in the definition is added in the same order as on slices, so the two differ by the rounding of
//! single operations.

use super::{Decay, Numbers};
use crate::autograd::flat::{part, pieces};
use candle_core::{DType, Result, Tensor};

/// Masters and moments on a device, each flat and f32.
pub struct Held<'a> {
    /// What is updated.
    pub weights: &'a Tensor,
    /// What is computed with, if that is not the weights themselves: it gets them, rounded.
    pub rounded: Option<&'a Tensor>,
    /// Running mean of the gradient.
    pub first: &'a Tensor,
    /// Running mean of its square.
    pub second: &'a Tensor,
}

/// The norm of all gradients together; summed in f64.
pub fn norm(gradients: &Tensor) -> Result<f64> {
    let squares = |piece| part(gradients, &piece)?.to_dtype(DType::F64)?.sqr()?.sum_all();
    let sums = pieces(gradients.elem_count()).map(squares).collect::<Result<Vec<_>>>()?;
    if sums.is_empty() {
        return Ok(0.0);
    }
    Ok(Tensor::stack(&sums, 0)?.to_vec1::<f64>()?.iter().sum::<f64>().sqrt())
}

/// One update, in place.
pub fn update(numbers: Numbers, decay: &Decay, held: &Held<'_>, gradients: &Tensor) -> Result<()> {
    for piece in pieces(gradients.elem_count()) {
        let mut at = piece.start;
        for (len, decays) in decay.within(piece.start, piece.end) {
            let numbers = if decays { numbers } else { Numbers { keep: 1.0, ..numbers } };
            step_of(numbers, held, gradients, at..at + len)?;
            at += len;
        }
    }
    Ok(())
}

fn step_of(n: Numbers, held: &Held<'_>, gradients: &Tensor, range: std::ops::Range<usize>) -> Result<()> {
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
