//! Causal grouped-query attention with rotary positions, as one operation.
//!
//! Backward computes the probabilities again from each row's log of the sum of exponentials (as
//! FlashAttention, Dao et al. 2022), so memory grows with time and not with its square. Learnt keys and
//! values may come before all positions (prefix tuning).

mod composed;
mod fused;
mod panels;
#[cfg(test)]
mod tests;

use super::Rows;
use super::profile::{Part, count};
use super::rope::Rotation;
use crate::autograd::{Tape, Value, Weight};
use candle_core::Result;
use std::sync::Arc;

pub use composed::bytes as composed_bytes;

/// How attention's width divides into heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads.
    pub key_value: usize,
    /// Width of each.
    pub dim: usize,
}

impl Heads {
    /// Query heads that a key and value head serves.
    #[must_use]
    pub fn group(self) -> usize {
        self.query / self.key_value
    }

    /// What scores are multiplied with.
    #[must_use]
    pub fn scale(self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }
}

/// Learnt keys and values that every position sees, each `[positions, key_value * dim]`; keys are not turned.
#[derive(Clone)]
pub struct Prefix {
    /// Keys.
    pub keys: Weight,
    /// Values.
    pub values: Weight,
}

impl Prefix {
    fn len(prefix: Option<&Prefix>) -> Result<usize> {
        prefix.map_or(Ok(0), |prefix| Ok(prefix.keys.shape().dims2()?.0))
    }
}

/// What stays the same from layer to layer.
#[derive(Clone)]
pub struct Shape {
    /// The heads.
    pub heads: Heads,
    /// The sequences.
    pub rows: Rows,
    /// The turns.
    pub rotation: Arc<Rotation>,
}

/// Attends from each position to itself and those before it, within each document, and to the prefix.
/// `q [rows, query * dim]`, `k` and `v [rows, key_value * dim]`; the answer is like `q`.
///
/// # Errors
/// When the shapes don't match, or a sequence is longer than the rotation's tables.
pub fn attention(
    tape: &mut Tape,
    q: &Value,
    k: &Value,
    v: &Value,
    shape: &Shape,
    prefix: Option<&Prefix>,
) -> Result<Value> {
    let (heads, rows) = (shape.heads, &shape.rows);
    let (q_width, kv_width) = (heads.query * heads.dim, heads.key_value * heads.dim);
    let given = (q.data().dims2()?, k.data().dims2()?, v.data().dims2()?);
    if given != ((rows.count(), q_width), (rows.count(), kv_width), (rows.count(), kv_width)) {
        candle_core::bail!(
            "attention of {heads:?} over {} sequences of {} was given {given:?}",
            rows.batch,
            rows.time
        );
    }
    let before = Prefix::len(prefix)?;
    if before + rows.time > shape.rotation.positions() {
        candle_core::bail!(
            "{} positions are longer than the context of {}",
            before + rows.time,
            shape.rotation.positions()
        );
    }
    let trained = prefix.is_some_and(|prefix| prefix.keys.slot().is_some() || prefix.values.slot().is_some());
    let follows = tape.follows(&[q, k, v], trained);
    if !crate::ops::host::on_slices(q.data()) {
        return composed::attention(tape, [q, k, v], shape, prefix, follows);
    }
    let (kept, (out, sums)) = count(Part::Attention, || {
        let kept = fused::Kept::new([q.data(), k.data(), v.data()], shape, prefix)?;
        let done = fused::forward(&kept)?;
        Ok::<_, candle_core::Error>((kept, done))
    })?;
    if !follows {
        return Ok(Value::constant(out));
    }
    let to = [q.id(), k.id(), v.id()];
    let (result, prefix) = (out.clone(), prefix.cloned());
    Ok(tape.push(out, move |gradient, flow| {
        let found = count(Part::Attention, || fused::backward(&kept, &sums, &result, &gradient))?;
        for (to, gradient) in to.into_iter().zip(found.inputs) {
            flow.give(to, gradient)?;
        }
        let weights = prefix.iter().flat_map(|prefix| [&prefix.keys, &prefix.values]);
        for (slot, gradient) in
            weights.zip(found.prefix).filter_map(|(weight, found)| Some((weight.slot()?, found)))
        {
            flow.weights().give(slot, &gradient)?;
        }
        Ok(())
    }))
}
