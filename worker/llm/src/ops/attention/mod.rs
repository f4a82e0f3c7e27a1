//! Causal grouped-query attention with rotary positions, as one operation.
//!
//! The backward pass recomputes the probabilities from each row's log-sum-exp (as FlashAttention, Dao et al.
//! 2022), so memory grows linearly with the sequence length. Learnt keys and values may precede all positions
//! (prefix tuning, Li and Liang 2021).

mod composed;
mod fused;
mod panels;
mod shape;
#[cfg(test)]
mod tests;

pub use composed::bytes as composed_bytes;
pub use shape::{AttentionShape, Heads, KeyValuePrefix};

use crate::autograd::{Tape, Value};
use crate::cpu::profile::{OpKind, timed};
use crate::device::Backend;
use candle_core::Result;

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
    shape: &AttentionShape,
    prefix: Option<&KeyValuePrefix>,
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
    let before = KeyValuePrefix::len(prefix)?;
    if before + rows.time > shape.rotation.positions() {
        candle_core::bail!(
            "{} positions are longer than the context of {}",
            before + rows.time,
            shape.rotation.positions()
        );
    }
    let trained = prefix.is_some_and(|prefix| prefix.keys.slot().is_some() || prefix.values.slot().is_some());
    let needs_backward = tape.needs_backward(&[q, k, v], trained);
    if let Backend::Composed(sizes) = tape.backend() {
        return composed::attention(tape, [q, k, v], shape, prefix, sizes.queries, needs_backward);
    }
    let (saved, (out, sums)) = timed(OpKind::Attention, || {
        let saved = fused::SavedInputs::new([q.data(), k.data(), v.data()], shape, prefix)?;
        let done = fused::forward(&saved)?;
        Ok::<_, candle_core::Error>((saved, done))
    })?;
    if !needs_backward {
        return Ok(Value::constant(out));
    }
    let to = [q.id(), k.id(), v.id()];
    let (result, prefix) = (out.clone(), prefix.cloned());
    Ok(tape.push(out, move |gradient, ctx| {
        let found = timed(OpKind::Attention, || fused::backward(&saved, &sums, &result, &gradient))?;
        for (to, gradient) in to.into_iter().zip(found.inputs) {
            ctx.accumulate(to, gradient)?;
        }
        let weights = prefix.iter().flat_map(|prefix| [&prefix.keys, &prefix.values]);
        for (slot, gradient) in
            weights.zip(found.prefix).filter_map(|(weight, found)| Some((weight.slot()?, found)))
        {
            ctx.weights().accumulate(slot, &gradient)?;
        }
        Ok(())
    }))
}
