//! Attention from candle's operations, for devices that are not the CPU: whole matrices of scores, with the same way back.

use super::{Prefix, Shape};
use crate::autograd::{Tape, Value};
use candle_core::{D, DType, Result, Tensor};

/// `[batch * time, count * dim]` to `[batch, count, time, dim]`.
fn split(x: &Tensor, shape: &Shape, count: usize) -> Result<Tensor> {
    x.reshape((shape.rows.batch, shape.rows.time, count, shape.heads.dim))?.transpose(1, 2)?.contiguous()
}

/// Back to rows.
fn join(x: &Tensor, shape: &Shape) -> Result<Tensor> {
    x.transpose(1, 2)?.contiguous()?.reshape((shape.rows.count(), ()))
}

/// Turns `[batch, count, time, dim]` by position, or back.
fn turn(x: &Tensor, shape: &Shape, offset: usize, back: bool) -> Result<Tensor> {
    let half = shape.heads.dim / 2;
    let (cos, sin) = shape.rotation.tensors(offset, shape.rows.time, x.device())?;
    let (cos, sin) = (cos.to_dtype(x.dtype())?, if back { sin.neg()? } else { sin }.to_dtype(x.dtype())?);
    let (a, b) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
    let left = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let right = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Tensor::cat(&[left, right], 3)
}

/// Puts `[before, count * dim]` in front of every sequence.
fn precede(x: Tensor, prefix: Option<Tensor>, shape: &Shape) -> Result<Tensor> {
    let Some(prefix) = prefix else { return Ok(x) };
    let (before, _) = prefix.dims2()?;
    let (batch, count, dim) = (shape.rows.batch, shape.heads.key_value, shape.heads.dim);
    let prefix = prefix.reshape((1, before, count, dim))?.transpose(1, 2)?.expand((batch, count, before, dim))?;
    Tensor::cat(&[prefix.contiguous()?, x], 2)
}

/// One copy for each query head of the group.
fn repeat(x: &Tensor, group: usize) -> Result<Tensor> {
    let (batch, count, time, dim) = x.dims4()?;
    x.unsqueeze(2)?.expand((batch, count, group, time, dim))?.contiguous()?.reshape((batch, count * group, time, dim))
}

/// The sum over the query heads of each group.
fn gather(x: &Tensor, group: usize) -> Result<Tensor> {
    let (batch, count, time, dim) = x.dims4()?;
    x.reshape((batch, count / group, group, time, dim))?.sum(2)
}

/// 0 where a query sees a key, else minus infinity: `[batch or 1, 1, time, before + time]`.
fn mask(shape: &Shape, before: usize, like: &Tensor) -> Result<Tensor> {
    let (batch, time) = (shape.rows.batch, shape.rows.time);
    let batch = if shape.rows.starts.is_some() { batch } else { 1 };
    let mut mask = Vec::with_capacity(batch * time * (before + time));
    for row in 0..batch * time {
        let (query, start) = (row % time, shape.rows.starts.as_ref().map_or(0, |starts| starts[row] as usize));
        let seen = |key: usize| key < before || (start..=query).contains(&(key - before));
        mask.extend((0..before + time).map(|key| if seen(key) { 0f32 } else { f32::NEG_INFINITY }));
    }
    Tensor::from_vec(mask, (batch, 1, time, before + time), like.device())
}

/// The whole operation.
pub fn attention(tape: &mut Tape, [q, k, v]: [&Value; 3], shape: &Shape, prefix: Option<&Prefix>, follows: bool) -> Result<Value> {
    let (heads, group) = (shape.heads, shape.heads.group());
    let before = Prefix::len(prefix)?;
    let (dtype, device) = (q.data().dtype(), q.data().device());
    let scale = f64::from(heads.scale());
    let dense = |pick: fn(&Prefix) -> &crate::autograd::Weight| prefix.map(|prefix| pick(prefix).dense(dtype, device)).transpose();
    let q_turned = turn(&split(q.data(), shape, heads.query)?, shape, before, false)?;
    let k_turned = turn(&split(k.data(), shape, heads.key_value)?, shape, before, false)?;
    let k_all = repeat(&precede(k_turned, dense(|prefix| &prefix.keys)?, shape)?, group)?;
    let v_all = repeat(&precede(split(v.data(), shape, heads.key_value)?, dense(|prefix| &prefix.values)?, shape)?, group)?;
    let scores = (q_turned.matmul(&k_all.t()?)?.to_dtype(DType::F32)? * scale)?;
    let scores = scores.broadcast_add(&mask(shape, before, q.data())?)?;
    let e = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let p = e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?;
    let out = join(&p.to_dtype(dtype)?.matmul(&v_all)?, shape)?;
    if !follows {
        return Ok(Value::constant(out));
    }
    let to = [q.id(), k.id(), v.id()];
    let (shape, prefix) = (shape.clone(), prefix.cloned());
    Ok(tape.push(out, move |gradient, flow| {
        let g = split(&gradient, &shape, heads.query)?;
        let dv = gather(&p.to_dtype(dtype)?.t()?.contiguous()?.matmul(&g)?, group)?;
        let dp = g.matmul(&v_all.t()?)?.to_dtype(DType::F32)?;
        let pull = (&dp * &p)?.sum_keepdim(D::Minus1)?;
        let ds = ((dp.broadcast_sub(&pull)? * &p)? * scale)?.to_dtype(dtype)?;
        let dq = ds.matmul(&k_all)?;
        let dk = gather(&ds.t()?.contiguous()?.matmul(&q_turned)?, group)?;
        if let Some(prefix) = &prefix {
            for (weight, found) in [(&prefix.keys, &dk), (&prefix.values, &dv)] {
                if let Some(slot) = weight.slot() {
                    let found = found.narrow(2, 0, before)?.sum(0)?.transpose(0, 1)?.contiguous()?;
                    flow.weights().give(slot, &found.reshape((before, ()))?)?;
                }
            }
        }
        let time = shape.rows.time;
        let dk = turn(&dk.narrow(2, before, time)?.contiguous()?, &shape, before, true)?;
        flow.give(to[0], join(&turn(&dq, &shape, before, true)?, &shape)?)?;
        flow.give(to[1], join(&dk, &shape)?)?;
        flow.give(to[2], join(&dv.narrow(2, before, time)?.contiguous()?, &shape)?)
    }))
}
