//! `y = x W^T + b + r`: a projection, with the gradients that are wanted and no others.
//!
//! A frozen weight costs no gradient, and then `x` is not kept; a residual is added in the product itself.

use super::host;
use super::matrix::{Into, Spread, View, ViewMut, product};
use super::profile::{Part, count};
use crate::autograd::tape::Id;
use crate::autograd::{Flow, Tape, Value, Weight};
use candle_core::{DType, Result, Tensor};

/// Applies `weight [out, in]` to each row of `x [rows, in]`, adds `bias [out]` to each, and `residual [rows,
/// out]`.
///
/// # Errors
/// When the shapes don't match.
pub fn linear(
    tape: &mut Tape,
    x: &Value,
    weight: &Weight,
    bias: Option<&Weight>,
    residual: Option<&Value>,
) -> Result<Value> {
    let ((rows, inner), (outer, w_inner)) = (x.data().dims2()?, weight.shape().dims2()?);
    if inner != w_inner {
        candle_core::bail!("a linear layer of width {w_inner} was given rows of width {inner}");
    }
    let out = count(Part::Linear, || {
        forward(x.data(), weight, bias, residual.map(Value::data), [rows, inner, outer])
    })?;
    let trained = weight.slot().is_some() || bias.is_some_and(|bias| bias.slot().is_some());
    let mut given = vec![x];
    given.extend(residual);
    if !tape.follows(&given, trained) {
        return Ok(Value::constant(out));
    }
    let (to, to_residual) = (x.id(), residual.and_then(Value::id));
    let kept = weight.slot().is_some().then(|| x.data().clone());
    let (weight, bias) = (weight.clone(), bias.cloned());
    Ok(tape.push(out, move |gradient, flow| {
        let sizes = [rows, inner, outer];
        count(Part::Linear, || backward(&gradient, kept.as_ref(), &weight, bias.as_ref(), to, sizes, flow))?;
        flow.give(to_residual, gradient)
    }))
}

fn backward(
    gradient: &Tensor,
    kept: Option<&Tensor>,
    weight: &Weight,
    bias: Option<&Weight>,
    to: Option<Id>,
    sizes: [usize; 3],
    flow: &mut Flow<'_>,
) -> Result<()> {
    if let Some(bias) = bias.filter(|bias| bias.slot().is_some()) {
        bias_gradient(gradient, bias, sizes[2], flow)?;
    }
    if let Some(x) = kept {
        weight_gradient(gradient, x, weight, sizes, flow)?;
    }
    if to.is_some() {
        let before = flow.take(to);
        let dx = input_gradient(gradient, weight, before, sizes)?;
        flow.give(to, dx)?;
    }
    Ok(())
}

fn forward(
    x: &Tensor,
    weight: &Weight,
    bias: Option<&Weight>,
    residual: Option<&Tensor>,
    [rows, inner, outer]: [usize; 3],
) -> Result<Tensor> {
    if !host::on_slices(x) {
        let mut out = x.matmul(&weight.dense(x.dtype(), x.device())?.t()?)?;
        if let Some(bias) = bias {
            out = out.broadcast_add(&bias.dense(x.dtype(), x.device())?)?;
        }
        return match residual {
            Some(residual) => out + residual,
            None => Ok(out),
        };
    }
    let (numbers, weight) = (host::floats(x)?, weight.numbers()?);
    let bias = bias.map(Weight::numbers).transpose()?;
    let residual = residual.map(host::floats).transpose()?;
    let into = if bias.is_some() || residual.is_some() { Into::Add } else { Into::Replace };
    let out = host::written(rows * outer, |out| {
        match (&residual, &bias) {
            (Some(residual), None) => out.copy_from_slice(residual),
            (Some(residual), Some(bias)) => {
                for (out, residual) in out.chunks_exact_mut(outer).zip(residual.chunks_exact(outer)) {
                    for ((out, residual), bias) in out.iter_mut().zip(residual).zip(bias.iter()) {
                        *out = residual + bias;
                    }
                }
            }
            (None, Some(bias)) => out.chunks_exact_mut(outer).for_each(|out| out.copy_from_slice(bias)),
            (None, None) => {}
        }
        let (x, weight) = (View::dense(&numbers, rows, inner), View::dense(&weight, outer, inner).t());
        product(ViewMut::dense(out, rows, outer), into, 1.0, x, weight, Spread::Pool);
    });
    host::tensor(out, (rows, outer))
}

/// `dx = g W`, added to what `before` holds.
fn input_gradient(
    gradient: &Tensor,
    weight: &Weight,
    before: Option<Tensor>,
    [rows, inner, outer]: [usize; 3],
) -> Result<Tensor> {
    if !host::on_slices(gradient) {
        let dx = gradient.matmul(&weight.dense(gradient.dtype(), gradient.device())?)?;
        return match before {
            Some(before) => before + dx,
            None => Ok(dx),
        };
    }
    let (g, weight) = (host::floats(gradient)?, weight.numbers()?);
    let (g, weight) = (View::dense(&g, rows, outer), View::dense(&weight, outer, inner));
    match before {
        Some(before) => {
            host::edit(&before, |dx| {
                product(ViewMut::dense(dx, rows, inner), Into::Add, 1.0, g, weight, Spread::Pool)
            })?;
            Ok(before)
        }
        None => {
            let dx = host::written(rows * inner, |dx| {
                product(ViewMut::dense(dx, rows, inner), Into::Replace, 1.0, g, weight, Spread::Pool);
            });
            host::tensor(dx, (rows, inner))
        }
    }
}

/// `dW = g^T x`.
fn weight_gradient(
    gradient: &Tensor,
    x: &Tensor,
    weight: &Weight,
    [rows, inner, outer]: [usize; 3],
    flow: &mut Flow<'_>,
) -> Result<()> {
    let Some(slot) = weight.slot() else { return Ok(()) };
    if !host::on_slices(gradient) {
        return flow.weights().give(slot, &gradient.t()?.matmul(x)?);
    }
    let (g, x) = (host::floats(gradient)?, host::floats(x)?);
    flow.weights().write(slot, |dw, into| {
        let (g, x) = (View::dense(&g, rows, outer).t(), View::dense(&x, rows, inner));
        product(ViewMut::dense(dw, outer, inner), into, 1.0, g, x, Spread::Pool);
        Ok(())
    })
}

fn bias_gradient(gradient: &Tensor, bias: &Weight, outer: usize, flow: &mut Flow<'_>) -> Result<()> {
    let Some(slot) = bias.slot() else { return Ok(()) };
    if !host::on_slices(gradient) {
        return flow.weights().give(slot, &gradient.to_dtype(DType::F32)?.sum(0)?);
    }
    let g = host::floats(gradient)?;
    flow.weights().write(slot, |db, into| {
        if into == Into::Replace {
            db.fill(0.0);
        }
        for row in g.chunks_exact(outer) {
            for (db, g) in db.iter_mut().zip(row) {
                *db += g;
            }
        }
        Ok(())
    })
}
