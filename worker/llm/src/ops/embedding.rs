//! The embedding of tokens.

use crate::autograd::{BackwardContext, Slot, Tape, Value, Weight, WeightData};
use crate::cpu::matmul::WriteMode;
use crate::cpu::profile::{OpKind, timed};
use crate::cpu::slices;
use crate::device::Backend;
use candle_core::{DType, Device, Result, Tensor};
use std::collections::BTreeMap;

/// The rows `[tokens, width]` of `weight [vocab, width]` that `tokens` name, as `dtype` on `device`.
///
/// # Errors
/// When a token is outside the vocabulary.
pub fn embedding(
    tape: &mut Tape,
    tokens: &[u32],
    weight: &Weight,
    dtype: DType,
    device: &Device,
) -> Result<Value> {
    let (vocab, width) = weight.shape().dims2()?;
    if let Some(token) = tokens.iter().find(|token| **token as usize >= vocab) {
        candle_core::bail!("token {token} is outside the vocabulary of {vocab}");
    }
    let backend = tape.backend();
    let out = if backend == Backend::Fused {
        let weight = weight.numbers()?;
        let rows: Vec<f32> =
            tokens.iter().flat_map(|token| &weight[*token as usize * width..][..width]).copied().collect();
        slices::tensor(rows, (tokens.len(), width))?
    } else {
        let ids = Tensor::from_slice(tokens, tokens.len(), device)?;
        match weight.data() {
            WeightData::Dense(tensor) => tensor.index_select(&ids, 0)?.to_dtype(dtype)?,
            WeightData::Quantized(_) => weight.dense(dtype, device)?.index_select(&ids, 0)?,
        }
    };
    let Some(slot) = weight.slot().cloned().filter(|_| tape.needs_backward(&[], true)) else {
        return Ok(Value::constant(out));
    };
    let tokens = tokens.to_vec();
    Ok(tape.push(out, move |gradient, ctx| {
        timed(OpKind::Embedding, || backward(&gradient, &tokens, &slot, [vocab, width], backend, ctx))
    }))
}

fn backward(
    gradient: &Tensor,
    tokens: &[u32],
    slot: &Slot,
    [vocab, width]: [usize; 2],
    backend: Backend,
    ctx: &mut BackwardContext<'_>,
) -> Result<()> {
    if backend != Backend::Fused {
        return ctx.weights().accumulate(slot, &composed(gradient, tokens, [vocab, width])?);
    }
    let g = slices::floats(gradient)?;
    ctx.weights().write(slot, |dw, mode| {
        if mode == WriteMode::Overwrite {
            dw.fill(0.0);
        }
        for (token, g) in tokens.iter().zip(g.chunks_exact(width)) {
            for (dw, g) in dw[*token as usize * width..][..width].iter_mut().zip(g) {
                *dw += g;
            }
        }
        Ok(())
    })
}

/// The gradient `[vocab, width]` in f32, from candle's operations: rows of one token are added in pairs,
/// again and again.
///
/// A scatter would go through all tokens one after the other, or, with atomic additions, add them in another
/// order each time.
fn composed(gradient: &Tensor, tokens: &[u32], [vocab, width]: [usize; 2]) -> Result<Tensor> {
    let device = gradient.device();
    let mut places: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (row, token) in tokens.iter().enumerate() {
        places.entry(*token).or_default().push(row as u32);
    }
    let zero = Tensor::zeros((1, width), DType::F32, device)?;
    // Behind the last row there is one of zeros, for rows without a partner and tokens without rows.
    let mut rows = Tensor::cat(&[&gradient.to_dtype(DType::F32)?, &zero], 0)?;
    let pick = |rows: &Tensor, ids: Vec<u32>| {
        let count = ids.len();
        rows.index_select(&Tensor::from_vec(ids, count, device)?, 0)
    };
    while places.values().any(|rows| rows.len() > 1) {
        let none = (rows.dim(0)? - 1) as u32;
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for places in places.values_mut() {
            let first = left.len() as u32;
            for pair in places.chunks(2) {
                left.push(pair[0]);
                right.push(pair.get(1).copied().unwrap_or(none));
            }
            *places = (first..left.len() as u32).collect();
        }
        rows = Tensor::cat(&[&(pick(&rows, left)? + pick(&rows, right)?)?, &zero], 0)?;
    }
    let none = (rows.dim(0)? - 1) as u32;
    pick(
        &rows,
        (0..vocab as u32)
            .map(|token| places.get(&token).and_then(|rows| rows.first().copied()).unwrap_or(none))
            .collect(),
    )
}
