//! Attention from candle's operations, for devices other than the CPU: in blocks of queries, so that the
//! whole matrix of scores never exists.
//!
//! As on the CPU, the backward pass recomputes the probabilities of a block from the log-sum-exp
//! (FlashAttention, Dao et al. 2022). Query heads that share keys are rows of one product, so keys and values
//! are never copied per head. Scores, probabilities and sums over blocks are f32; products are made in the
//! type of the activations. Memory: O(time * block), twice, with a bound on a block's scores.

use super::shape::{AttentionShape, Heads, KeyValuePrefix};
use crate::autograd::{Tape, Value};
use crate::cpu::profile::{OpKind, timed};
use candle_core::{D, DType, Result, Tensor};
use std::ops::Range;

/// Scores that exist at a time, at most, unless a single query has more.
const SCORES_MAX: usize = 1 << 26;
/// Added to a masked score: its exponential is 0, and unlike infinity it can be multiplied with 0.
const HIDDEN: f64 = -1e30;
/// Matrices as large as a block's scores that are alive at the same time in the backward pass.
const MATRICES: usize = 5;

/// Queries per block, at most `most`.
fn block_size(batch: usize, heads: Heads, keys: usize, most: usize) -> usize {
    (SCORES_MAX / (batch * heads.query * keys).max(1)).clamp(1, most)
}

/// About the bytes that blocks of at most `queries` queries need for their scores.
#[must_use]
pub fn bytes(batch: usize, time: usize, heads: Heads, queries: usize) -> usize {
    MATRICES * 4 * batch * heads.query * time * block_size(batch, heads, time, queries).min(time)
}

/// `[batch * time, count * dim]` to `[batch, count, time, dim]`.
fn split(x: &Tensor, shape: &AttentionShape, count: usize) -> Result<Tensor> {
    x.reshape((shape.rows.batch, shape.rows.time, count, shape.heads.dim))?.transpose(1, 2)?.contiguous()
}

/// `[batch, count, time, dim]` to `[batch * time, count * dim]`.
fn join(x: &Tensor, shape: &AttentionShape) -> Result<Tensor> {
    x.transpose(1, 2)?.contiguous()?.reshape((shape.rows.count(), ()))
}

/// Rotates `[batch, count, time, dim]` by position, or back, and multiplies it with `scale`, in f32; the
/// result has type `dtype`.
fn turn(
    x: &Tensor,
    shape: &AttentionShape,
    offset: usize,
    back: bool,
    scale: f64,
    dtype: DType,
) -> Result<Tensor> {
    let half = shape.heads.dim / 2;
    let (cos, sin) = shape.rotation.tensors(offset, shape.rows.time, x.device())?;
    let (cos, sin) = ((cos * scale)?, (sin * if back { -scale } else { scale })?);
    let x = x.to_dtype(DType::F32)?;
    let (a, b) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
    let left = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let right = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Tensor::cat(&[left, right], 3)?.to_dtype(dtype)
}

/// Puts `[before, count * dim]` before every sequence.
fn precede(x: Tensor, prefix: Option<Tensor>, shape: &AttentionShape) -> Result<Tensor> {
    let Some(prefix) = prefix else { return Ok(x) };
    let (before, _) = prefix.dims2()?;
    let (batch, count, dim) = (shape.rows.batch, shape.heads.key_value, shape.heads.dim);
    let prefix =
        prefix.reshape((1, before, count, dim))?.transpose(1, 2)?.expand((batch, count, before, dim))?;
    Tensor::cat(&[prefix.contiguous()?, x], 2)
}

/// A range of queries of all sequences, and the keys that any of them attends to.
struct BlockRange {
    queries: Range<usize>,
    /// Positions among the keys, prefix included.
    keys: Range<usize>,
}

/// What the backward pass needs of the inputs.
struct SavedTensors {
    shape: AttentionShape,
    before: usize,
    /// Queries, rotated and multiplied with the scale: `[batch, key_value, group, time, dim]`.
    q: Tensor,
    /// Keys, rotated, after the prefix: `[batch, key_value, before + time, dim]`.
    k: Tensor,
    /// Values, of the shape of the keys.
    v: Tensor,
    /// The start of each position's document, `[batch, time, 1]`, as u32.
    starts: Option<Tensor>,
    /// Queries per block, at most.
    block: usize,
}

impl SavedTensors {
    fn new(
        [q, k, v]: [&Tensor; 3],
        shape: &AttentionShape,
        prefix: Option<&KeyValuePrefix>,
        block: usize,
    ) -> Result<Self> {
        let (heads, rows) = (shape.heads, &shape.rows);
        let before = KeyValuePrefix::len(prefix)?;
        let (dtype, device) = (q.dtype(), q.device());
        let dense = |pick: fn(&KeyValuePrefix) -> &crate::autograd::Weight| {
            prefix.map(|prefix| pick(prefix).dense(dtype, device)).transpose()
        };
        let scale = f64::from(heads.scale());
        let q = turn(&split(q, shape, heads.query)?, shape, before, false, scale, dtype)?;
        let k = turn(&split(k, shape, heads.key_value)?, shape, before, false, 1.0, dtype)?;
        let k = precede(k, dense(|prefix| &prefix.keys)?, shape)?;
        let v = precede(split(v, shape, heads.key_value)?, dense(|prefix| &prefix.values)?, shape)?;
        let q = q.reshape((rows.batch, heads.key_value, heads.group(), rows.time, heads.dim))?;
        let starts = rows
            .starts
            .as_deref()
            .map(|starts| Tensor::from_slice(starts, (rows.batch, rows.time, 1), device))
            .transpose()?;
        Ok(Self { shape: shape.clone(), before, q, k, v, starts, block })
    }

    fn blocks(&self) -> Vec<BlockRange> {
        let (rows, time) = (&self.shape.rows, self.shape.rows.time);
        let size = block_size(rows.batch, self.shape.heads, self.before + time, self.block);
        let blocks = (0..time).step_by(size).map(|first| {
            let queries = first..(first + size).min(time);
            let of_sequence =
                |sequence: usize| sequence * time + queries.start..sequence * time + queries.end;
            let first = |starts: &[u32]| {
                (0..rows.batch).flat_map(|sequence| &starts[of_sequence(sequence)]).min().copied()
            };
            let seen = rows.starts.as_deref().and_then(first).map_or(0, |start| start as usize);
            let low = if self.before == 0 { seen } else { 0 };
            BlockRange { keys: low..self.before + queries.end, queries }
        });
        blocks.collect()
    }

    /// A block of a tensor of the queries' shape: `[batch, key_value, group * queries, dim]`.
    fn rows_of(&self, x: &Tensor, block: &BlockRange) -> Result<Tensor> {
        let (batch, key_value, group, _, dim) = x.dims5()?;
        let part = x.narrow(3, block.queries.start, block.queries.len())?.contiguous()?;
        part.reshape((batch, key_value, group * block.queries.len(), dim))
    }

    /// Back to `[batch, key_value, group, queries, dim]`.
    fn grouped(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, key_value, rows, dim) = x.dims4()?;
        let group = self.shape.heads.group();
        x.reshape((batch, key_value, group, rows / group, dim))
    }

    /// 0 where a query attends to a key, otherwise [`HIDDEN`] or twice that: `[batch or 1, 1, 1, queries,
    /// keys]`. Computed from tensors that are on the device already.
    fn mask(&self, block: &BlockRange) -> Result<Tensor> {
        let device = self.q.device();
        let (queries, before) = (block.queries.len(), self.before.saturating_sub(block.keys.start));
        let positions = self.shape.rotation.numbers(device)?;
        // Positions within sequences; every query attends to the prefix, which has none.
        let first = block.keys.start.max(self.before) - self.before;
        let count = block.keys.end - self.before - first;
        let keys = positions.narrow(0, first, count)?.reshape((1, 1, count))?;
        let last = positions.narrow(0, block.queries.start, queries)?.reshape((1, queries, 1))?;
        let mut hidden = keys.broadcast_gt(&last)?;
        if let Some(starts) = &self.starts {
            let starts = starts.narrow(1, block.queries.start, queries)?;
            hidden = keys.broadcast_lt(&starts)?.broadcast_add(&hidden)?;
        }
        let mut mask = hidden.to_dtype(DType::F32)?.affine(HIDDEN, 0.0)?;
        let batch = mask.dim(0)?;
        if before > 0 {
            mask = Tensor::cat(&[Tensor::zeros((batch, queries, before), DType::F32, device)?, mask], 2)?;
        }
        mask.reshape((batch, 1, 1, queries, block.keys.len()))
    }

    fn keys_of(&self, x: &Tensor, block: &BlockRange) -> Result<Tensor> {
        x.narrow(2, block.keys.start, block.keys.len())
    }

    /// The scores of a block, masked ones very low: `[batch, key_value, group, queries, keys]`.
    fn scores(&self, q: &Tensor, block: &BlockRange) -> Result<Tensor> {
        let scores = q.matmul(&self.keys_of(&self.k, block)?.t()?)?.to_dtype(DType::F32)?;
        self.grouped(&scores)?.broadcast_add(&self.mask(block)?)
    }
}

/// Adds `found`, in f32, to the keys of a block in `sum`.
fn add_keys(sum: &Tensor, found: &Tensor, block: &BlockRange) -> Result<()> {
    let before = sum.narrow(2, block.keys.start, block.keys.len())?;
    sum.slice_set(&(before + found.to_dtype(DType::F32)?)?, 2, block.keys.start)
}

/// The result in rows, and the log-sum-exp of each block, `[batch, key_value, group, queries, 1]`.
fn forward(saved: &SavedTensors) -> Result<(Tensor, Vec<Tensor>)> {
    let dtype = saved.q.dtype();
    let (mut outs, mut sums) = (Vec::new(), Vec::new());
    for block in saved.blocks() {
        let scores = saved.scores(&saved.rows_of(&saved.q, &block)?, &block)?;
        let greatest = scores.max_keepdim(D::Minus1)?;
        let e = scores.broadcast_sub(&greatest)?.exp()?;
        drop(scores);
        let total = e.sum_keepdim(D::Minus1)?;
        let (batch, key_value, group, queries, keys) = e.dims5()?;
        let e = e.to_dtype(dtype)?.reshape((batch, key_value, group * queries, keys))?;
        let out = saved.grouped(&e.matmul(&saved.keys_of(&saved.v, &block)?)?)?.to_dtype(DType::F32)?;
        outs.push(out.broadcast_div(&total)?.to_dtype(dtype)?);
        sums.push((greatest + total.log()?)?);
    }
    let shape = &saved.shape;
    let out = Tensor::cat(&outs, 3)?.reshape((
        shape.rows.batch,
        shape.heads.query,
        shape.rows.time,
        shape.heads.dim,
    ))?;
    Ok((join(&out, shape)?, sums))
}

/// The gradients of queries, keys and values, the last two after the prefix; all `[batch, heads, positions,
/// dim]`, not rotated back yet.
fn backward(
    saved: &SavedTensors,
    sums: &[Tensor],
    result: &Tensor,
    gradient: &Tensor,
) -> Result<[Tensor; 3]> {
    let AttentionShape { heads, rows, .. } = &saved.shape;
    let dtype = saved.q.dtype();
    let of_queries = |x: &Tensor| split(x, &saved.shape, heads.query)?.reshape(saved.q.shape());
    let g = of_queries(gradient)?;
    // For each query, the dot product of the result and its gradient: the row term of softmax's backward
    // pass.
    let pulls =
        (g.to_dtype(DType::F32)? * of_queries(result)?.to_dtype(DType::F32)?)?.sum_keepdim(D::Minus1)?;
    let dk = Tensor::zeros(saved.k.shape(), DType::F32, saved.k.device())?;
    let dv = dk.zeros_like()?;
    let mut dq = Vec::new();
    for (block, sum) in saved.blocks().iter().zip(sums) {
        let (q, g) = (saved.rows_of(&saved.q, block)?, saved.rows_of(&g, block)?);
        let p = saved.scores(&q, block)?.broadcast_sub(sum)?.exp()?;
        let (batch, key_value, group, queries, keys) = p.dims5()?;
        let flat = |x: Tensor| x.to_dtype(dtype)?.reshape((batch, key_value, group * queries, keys));
        add_keys(&dv, &flat(p.clone())?.t()?.matmul(&g)?, block)?;
        let dp = saved.grouped(&g.matmul(&saved.keys_of(&saved.v, block)?.t()?)?.to_dtype(DType::F32)?)?;
        let pull = pulls.narrow(3, block.queries.start, queries)?;
        let ds = flat((dp.broadcast_sub(&pull)? * p)?)?;
        dq.push(saved.grouped(&ds.matmul(&saved.keys_of(&saved.k, block)?)?)?);
        add_keys(&dk, &ds.t()?.matmul(&q)?, block)?;
    }
    let dq = Tensor::cat(&dq, 3)?.reshape((rows.batch, heads.query, rows.time, heads.dim))?;
    Ok([dq, dk, dv])
}

/// The whole operation.
pub fn attention(
    tape: &mut Tape,
    [q, k, v]: [&Value; 3],
    shape: &AttentionShape,
    prefix: Option<&KeyValuePrefix>,
    block: usize,
    needs_backward: bool,
) -> Result<Value> {
    let (saved, (out, sums)) = timed(OpKind::Attention, || {
        let saved = SavedTensors::new([q.data(), k.data(), v.data()], shape, prefix, block)?;
        let done = forward(&saved)?;
        Ok::<_, candle_core::Error>((saved, done))
    })?;
    if !needs_backward {
        return Ok(Value::constant(out));
    }
    let to = [q.id(), k.id(), v.id()];
    let (result, prefix) = (out.clone(), prefix.cloned());
    Ok(tape.push(out, move |gradient, ctx| {
        let (shape, before, dtype) = (&saved.shape, saved.before, gradient.dtype());
        let [dq, dk, dv] = timed(OpKind::Attention, || backward(&saved, &sums, &result, &gradient))?;
        if let Some(prefix) = &prefix {
            for (weight, found) in [(&prefix.keys, &dk), (&prefix.values, &dv)] {
                if let Some(slot) = weight.slot() {
                    let found = found.narrow(2, 0, before)?.sum(0)?.transpose(0, 1)?.contiguous()?;
                    ctx.weights().accumulate(slot, &found.reshape((before, ()))?)?;
                }
            }
        }
        let own = |x: &Tensor| x.narrow(2, before, shape.rows.time)?.contiguous();
        let scale = f64::from(shape.heads.scale());
        ctx.accumulate(to[0], join(&turn(&dq, shape, before, true, scale, dtype)?, shape)?)?;
        ctx.accumulate(to[1], join(&turn(&own(&dk)?, shape, before, true, 1.0, dtype)?, shape)?)?;
        ctx.accumulate(to[2], join(&own(&dv)?, shape)?.to_dtype(dtype)?)
    }))
}
