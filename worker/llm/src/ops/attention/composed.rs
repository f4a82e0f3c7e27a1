//! Attention from candle's operations, for devices that are not the CPU: in blocks of queries, so that no
//! whole matrix of scores exists.
//!
//! As on the CPU, backward makes the probabilities of a block again from the log of the sum of exponentials
//! (FlashAttention, Dao et al. 2022). Query heads that share keys are rows of one product, so keys and values
//! are never copied for each. Scores, probabilities and sums over blocks are f32; products are made in the
//! type of the activations. Memory: O(time * block), twice; a block's scores have a bound.

use super::{Heads, Prefix, Shape};
use crate::autograd::{Tape, Value};
use crate::ops::profile::{Part, count};
use candle_core::{D, DType, Result, Tensor};
use std::ops::Range;

/// Queries of a block, at most: enough rows for a product, little above the diagonal.
const BLOCK: usize = if cfg!(test) { 16 } else { 256 };
/// Scores that exist at a time, at most (unless single queries have more).
const SCORES_MAX: usize = 1 << 26;
/// What is added to a hidden score: its exponential is 0, and unlike infinity it may be multiplied with 0.
const HIDDEN: f64 = -1e30;
/// How many matrices as large as a block's scores are alive at the same time in backward.
const MATRICES: usize = 5;

/// Queries of each block.
fn block(batch: usize, heads: Heads, keys: usize) -> usize {
    (SCORES_MAX / (batch * heads.query * keys).max(1)).clamp(1, BLOCK)
}

/// About the bytes that blocks of scores need.
pub fn bytes(batch: usize, time: usize, heads: Heads) -> usize {
    MATRICES * 4 * batch * heads.query * time * block(batch, heads, time).min(time)
}

/// `[batch * time, count * dim]` to `[batch, count, time, dim]`.
fn split(x: &Tensor, shape: &Shape, count: usize) -> Result<Tensor> {
    x.reshape((shape.rows.batch, shape.rows.time, count, shape.heads.dim))?.transpose(1, 2)?.contiguous()
}

/// Back to rows.
fn join(x: &Tensor, shape: &Shape) -> Result<Tensor> {
    x.transpose(1, 2)?.contiguous()?.reshape((shape.rows.count(), ()))
}

/// Turns `[batch, count, time, dim]` by position, or back, and multiplies it with `scale`, in f32; the answer
/// is of type `dtype`.
fn turn(x: &Tensor, shape: &Shape, offset: usize, back: bool, scale: f64, dtype: DType) -> Result<Tensor> {
    let half = shape.heads.dim / 2;
    let (cos, sin) = shape.rotation.tensors(offset, shape.rows.time, x.device())?;
    let (cos, sin) = ((cos * scale)?, (sin * if back { -scale } else { scale })?);
    let x = x.to_dtype(DType::F32)?;
    let (a, b) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
    let left = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let right = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Tensor::cat(&[left, right], 3)?.to_dtype(dtype)
}

/// Puts `[before, count * dim]` in front of every sequence.
fn precede(x: Tensor, prefix: Option<Tensor>, shape: &Shape) -> Result<Tensor> {
    let Some(prefix) = prefix else { return Ok(x) };
    let (before, _) = prefix.dims2()?;
    let (batch, count, dim) = (shape.rows.batch, shape.heads.key_value, shape.heads.dim);
    let prefix =
        prefix.reshape((1, before, count, dim))?.transpose(1, 2)?.expand((batch, count, before, dim))?;
    Tensor::cat(&[prefix.contiguous()?, x], 2)
}

/// Some queries of all sequences, and the keys that any of them sees.
struct Block {
    queries: Range<usize>,
    /// Positions among the keys, prefix included.
    keys: Range<usize>,
}

/// What backward needs of the inputs.
struct Kept {
    shape: Shape,
    before: usize,
    /// Turned and multiplied with the scale: `[batch, key_value, group, time, dim]`.
    q: Tensor,
    /// Turned, behind the prefix: `[batch, key_value, before + time, dim]`.
    k: Tensor,
    /// As keys.
    v: Tensor,
    /// The start of each position's document, `[batch, time, 1]`, as u32.
    starts: Option<Tensor>,
}

impl Kept {
    fn new([q, k, v]: [&Tensor; 3], shape: &Shape, prefix: Option<&Prefix>) -> Result<Self> {
        let (heads, rows) = (shape.heads, &shape.rows);
        let before = Prefix::len(prefix)?;
        let (dtype, device) = (q.dtype(), q.device());
        let dense = |pick: fn(&Prefix) -> &crate::autograd::Weight| {
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
        Ok(Self { shape: shape.clone(), before, q, k, v, starts })
    }

    fn blocks(&self) -> Vec<Block> {
        let (rows, time) = (&self.shape.rows, self.shape.rows.time);
        let size = block(rows.batch, self.shape.heads, self.before + time);
        let blocks = (0..time).step_by(size).map(|first| {
            let queries = first..(first + size).min(time);
            let of_sequence =
                |sequence: usize| sequence * time + queries.start..sequence * time + queries.end;
            let first = |starts: &[u32]| {
                (0..rows.batch).flat_map(|sequence| &starts[of_sequence(sequence)]).min().copied()
            };
            let seen = rows.starts.as_deref().and_then(first).map_or(0, |start| start as usize);
            let low = if self.before == 0 { seen } else { 0 };
            Block { keys: low..self.before + queries.end, queries }
        });
        blocks.collect()
    }

    /// The rows of a block of something like the queries: `[batch, key_value, group * queries, dim]`.
    fn rows_of(&self, x: &Tensor, block: &Block) -> Result<Tensor> {
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

    /// 0 where a query sees a key, else [`HIDDEN`] or twice that: `[batch or 1, 1, 1, queries, keys]`. Made
    /// of what is on the device.
    fn mask(&self, block: &Block) -> Result<Tensor> {
        let device = self.q.device();
        let (queries, before) = (block.queries.len(), self.before.saturating_sub(block.keys.start));
        let positions = self.shape.rotation.numbers(device)?;
        // Positions of sequences; the prefix has none, and is seen by all.
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

    fn keys_of(&self, x: &Tensor, block: &Block) -> Result<Tensor> {
        x.narrow(2, block.keys.start, block.keys.len())
    }

    /// The scores of a block, hidden ones very low: `[batch, key_value, group, queries, keys]`.
    fn scores(&self, q: &Tensor, block: &Block) -> Result<Tensor> {
        let scores = q.matmul(&self.keys_of(&self.k, block)?.t()?)?.to_dtype(DType::F32)?;
        self.grouped(&scores)?.broadcast_add(&self.mask(block)?)
    }
}

/// Adds `found`, in f32, to the keys of a block in `sum`.
fn add_keys(sum: &Tensor, found: &Tensor, block: &Block) -> Result<()> {
    let before = sum.narrow(2, block.keys.start, block.keys.len())?;
    sum.slice_set(&(before + found.to_dtype(DType::F32)?)?, 2, block.keys.start)
}

/// The result in rows, and of each block the log of the sum of exponentials `[batch, key_value, group,
/// queries, 1]`.
fn forward(kept: &Kept) -> Result<(Tensor, Vec<Tensor>)> {
    let dtype = kept.q.dtype();
    let (mut outs, mut sums) = (Vec::new(), Vec::new());
    for block in kept.blocks() {
        let scores = kept.scores(&kept.rows_of(&kept.q, &block)?, &block)?;
        let greatest = scores.max_keepdim(D::Minus1)?;
        let e = scores.broadcast_sub(&greatest)?.exp()?;
        drop(scores);
        let total = e.sum_keepdim(D::Minus1)?;
        let (batch, key_value, group, queries, keys) = e.dims5()?;
        let e = e.to_dtype(dtype)?.reshape((batch, key_value, group * queries, keys))?;
        let out = kept.grouped(&e.matmul(&kept.keys_of(&kept.v, &block)?)?)?.to_dtype(DType::F32)?;
        outs.push(out.broadcast_div(&total)?.to_dtype(dtype)?);
        sums.push((greatest + total.log()?)?);
    }
    let shape = &kept.shape;
    let out = Tensor::cat(&outs, 3)?.reshape((
        shape.rows.batch,
        shape.heads.query,
        shape.rows.time,
        shape.heads.dim,
    ))?;
    Ok((join(&out, shape)?, sums))
}

/// The gradients of queries, keys and values, the last two behind the prefix; all `[batch, heads, positions,
/// dim]`, before turning back.
fn backward(kept: &Kept, sums: &[Tensor], result: &Tensor, gradient: &Tensor) -> Result<[Tensor; 3]> {
    let Shape { heads, rows, .. } = &kept.shape;
    let dtype = kept.q.dtype();
    let of_queries = |x: &Tensor| split(x, &kept.shape, heads.query)?.reshape(kept.q.shape());
    let g = of_queries(gradient)?;
    // Of each query, what all its keys' slopes are pulled down by.
    let pulls =
        (g.to_dtype(DType::F32)? * of_queries(result)?.to_dtype(DType::F32)?)?.sum_keepdim(D::Minus1)?;
    let dk = Tensor::zeros(kept.k.shape(), DType::F32, kept.k.device())?;
    let dv = dk.zeros_like()?;
    let mut dq = Vec::new();
    for (block, sum) in kept.blocks().iter().zip(sums) {
        let (q, g) = (kept.rows_of(&kept.q, block)?, kept.rows_of(&g, block)?);
        let p = kept.scores(&q, block)?.broadcast_sub(sum)?.exp()?;
        let (batch, key_value, group, queries, keys) = p.dims5()?;
        let flat = |x: Tensor| x.to_dtype(dtype)?.reshape((batch, key_value, group * queries, keys));
        add_keys(&dv, &flat(p.clone())?.t()?.matmul(&g)?, block)?;
        let dp = kept.grouped(&g.matmul(&kept.keys_of(&kept.v, block)?.t()?)?.to_dtype(DType::F32)?)?;
        let pull = pulls.narrow(3, block.queries.start, queries)?;
        let ds = flat((dp.broadcast_sub(&pull)? * p)?)?;
        dq.push(kept.grouped(&ds.matmul(&kept.keys_of(&kept.k, block)?)?)?);
        add_keys(&dk, &ds.t()?.matmul(&q)?, block)?;
    }
    let dq = Tensor::cat(&dq, 3)?.reshape((rows.batch, heads.query, rows.time, heads.dim))?;
    Ok([dq, dk, dv])
}

/// The whole operation.
pub fn attention(
    tape: &mut Tape,
    [q, k, v]: [&Value; 3],
    shape: &Shape,
    prefix: Option<&Prefix>,
    follows: bool,
) -> Result<Value> {
    let (kept, (out, sums)) = count(Part::Attention, || {
        let kept = Kept::new([q.data(), k.data(), v.data()], shape, prefix)?;
        let done = forward(&kept)?;
        Ok::<_, candle_core::Error>((kept, done))
    })?;
    if !follows {
        return Ok(Value::constant(out));
    }
    let to = [q.id(), k.id(), v.id()];
    let (result, prefix) = (out.clone(), prefix.cloned());
    Ok(tape.push(out, move |gradient, flow| {
        let (shape, before, dtype) = (&kept.shape, kept.before, gradient.dtype());
        let [dq, dk, dv] = count(Part::Attention, || backward(&kept, &sums, &result, &gradient))?;
        if let Some(prefix) = &prefix {
            for (weight, found) in [(&prefix.keys, &dk), (&prefix.values, &dv)] {
                if let Some(slot) = weight.slot() {
                    let found = found.narrow(2, 0, before)?.sum(0)?.transpose(0, 1)?.contiguous()?;
                    flow.weights().give(slot, &found.reshape((before, ()))?)?;
                }
            }
        }
        let own = |x: &Tensor| x.narrow(2, before, shape.rows.time)?.contiguous();
        let scale = f64::from(shape.heads.scale());
        flow.give(to[0], join(&turn(&dq, shape, before, true, scale, dtype)?, shape)?)?;
        flow.give(to[1], join(&turn(&own(&dk)?, shape, before, true, 1.0, dtype)?, shape)?)?;
        flow.give(to[2], join(&own(&dv)?, shape)?.to_dtype(dtype)?)
    }))
}
