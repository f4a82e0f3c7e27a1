//! The rows of the embedding that tokens name.

use super::host;
use super::matrix::Into;
use super::profile::{Part, count};
use crate::autograd::{Flow, Slot, Tape, Value, Weight};
use candle_core::{DType, Device, Result, Tensor};

/// The rows `[tokens, width]` of `weight [vocab, width]`, as `dtype` on `device`.
///
/// # Errors
/// When a token is outside the vocabulary.
pub fn embedding(tape: &mut Tape, tokens: &[u32], weight: &Weight, dtype: DType, device: &Device) -> Result<Value> {
    let (vocab, width) = weight.shape().dims2()?;
    if let Some(token) = tokens.iter().find(|token| **token as usize >= vocab) {
        candle_core::bail!("token {token} is outside the vocabulary of {vocab}");
    }
    let out = if device.is_cpu() {
        let weight = weight.numbers()?;
        let rows: Vec<f32> = tokens.iter().flat_map(|token| &weight[*token as usize * width..][..width]).copied().collect();
        host::tensor(rows, (tokens.len(), width))?
    } else {
        let ids = Tensor::from_slice(tokens, tokens.len(), device)?;
        weight.dense(dtype, device)?.index_select(&ids, 0)?
    };
    let Some(slot) = weight.slot().cloned().filter(|_| tape.follows(&[], true)) else {
        return Ok(Value::constant(out));
    };
    let tokens = tokens.to_vec();
    Ok(tape.push(out, move |gradient, flow| count(Part::Embedding, || backward(&gradient, &tokens, &slot, [vocab, width], flow))))
}

fn backward(gradient: &Tensor, tokens: &[u32], slot: &Slot, [vocab, width]: [usize; 2], flow: &mut Flow<'_>) -> Result<()> {
    if !host::on_slices(gradient) {
        let ids = Tensor::from_slice(tokens, tokens.len(), gradient.device())?;
        let zeros = Tensor::zeros((vocab, width), DType::F32, gradient.device())?;
        return flow.weights().give(slot, &zeros.index_add(&ids, &gradient.to_dtype(DType::F32)?, 0)?);
    }
    let g = host::floats(gradient)?;
    flow.weights().write(slot, |dw, into| {
        if into == Into::Replace {
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
