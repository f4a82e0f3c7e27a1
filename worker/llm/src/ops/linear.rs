//! A linear layer with a residual, `y = x W^T + b + r`, which computes only the gradients that are needed.
//!
//! A frozen weight gets no gradient, and then `x` is not kept. The residual is added by the product itself.

use crate::autograd::tape::ValueId;
use crate::autograd::{BackwardContext, Tape, Value, Weight};
use crate::cpu::matmul::{MatrixView, MatrixViewMut, Threads, WriteMode, matmul};
use crate::cpu::profile::{OpKind, timed};
use crate::cpu::slices;
use crate::device::Backend;
use candle_core::{DType, Result, Tensor};

/// `x [rows, in]` times the transpose of `weight [out, in]`, plus `bias [out]`, plus `residual [rows, out]`.
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
    let shape = LinearShape { rows, inner, outer, backend: tape.backend() };
    let out = timed(OpKind::Linear, || forward(x.data(), weight, bias, residual.map(Value::data), shape))?;
    let trained = weight.slot().is_some() || bias.is_some_and(|bias| bias.slot().is_some());
    let mut given = vec![x];
    given.extend(residual);
    if !tape.needs_backward(&given, trained) {
        return Ok(Value::constant(out));
    }
    let (to, to_residual) = (x.id(), residual.and_then(Value::id));
    let saved = weight.slot().is_some().then(|| x.data().clone());
    let (weight, bias) = (weight.clone(), bias.cloned());
    Ok(tape.push(out, move |gradient, ctx| {
        timed(OpKind::Linear, || {
            backward(&gradient, saved.as_ref(), &weight, bias.as_ref(), to, shape, ctx)
        })?;
        ctx.accumulate(to_residual, gradient)
    }))
}

/// `x [rows, inner]` times the transpose of `weight [outer, inner]`, and how it is computed.
#[derive(Clone, Copy)]
struct LinearShape {
    rows: usize,
    inner: usize,
    outer: usize,
    backend: Backend,
}

fn backward(
    gradient: &Tensor,
    saved: Option<&Tensor>,
    weight: &Weight,
    bias: Option<&Weight>,
    to: Option<ValueId>,
    shape: LinearShape,
    ctx: &mut BackwardContext<'_>,
) -> Result<()> {
    if let Some(bias) = bias.filter(|bias| bias.slot().is_some()) {
        bias_gradient(gradient, bias, shape, ctx)?;
    }
    if let Some(x) = saved {
        weight_gradient(gradient, x, weight, shape, ctx)?;
    }
    if to.is_some() {
        let before = ctx.take(to);
        let dx = input_gradient(gradient, weight, before, shape)?;
        ctx.accumulate(to, dx)?;
    }
    Ok(())
}

fn forward(
    x: &Tensor,
    weight: &Weight,
    bias: Option<&Weight>,
    residual: Option<&Tensor>,
    LinearShape { rows, inner, outer, backend }: LinearShape,
) -> Result<Tensor> {
    if backend != Backend::Fused {
        let mut out = x.matmul(&weight.dense(x.dtype(), x.device())?.t()?)?;
        if let Some(bias) = bias {
            out = out.broadcast_add(&bias.dense(x.dtype(), x.device())?)?;
        }
        return match residual {
            Some(residual) => out + residual,
            None => Ok(out),
        };
    }
    let (numbers, weight) = (slices::floats(x)?, weight.numbers()?);
    let bias = bias.map(Weight::numbers).transpose()?;
    let residual = residual.map(slices::floats).transpose()?;
    let mode =
        if bias.is_some() || residual.is_some() { WriteMode::Accumulate } else { WriteMode::Overwrite };
    let out = slices::new_vec(rows * outer, |out| {
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
        let (x, weight) =
            (MatrixView::dense(&numbers, rows, inner), MatrixView::dense(&weight, outer, inner).t());
        matmul(MatrixViewMut::dense(out, rows, outer), mode, 1.0, x, weight, Threads::Pool);
    });
    slices::tensor(out, (rows, outer))
}

/// `dx = g W`, added to `before`.
fn input_gradient(
    gradient: &Tensor,
    weight: &Weight,
    before: Option<Tensor>,
    LinearShape { rows, inner, outer, backend }: LinearShape,
) -> Result<Tensor> {
    if backend != Backend::Fused {
        let dx = gradient.matmul(&weight.dense(gradient.dtype(), gradient.device())?)?;
        return match before {
            Some(before) => before + dx,
            None => Ok(dx),
        };
    }
    let (g, weight) = (slices::floats(gradient)?, weight.numbers()?);
    let (g, weight) = (MatrixView::dense(&g, rows, outer), MatrixView::dense(&weight, outer, inner));
    match before {
        Some(before) => {
            slices::edit(&before, |dx| {
                matmul(
                    MatrixViewMut::dense(dx, rows, inner),
                    WriteMode::Accumulate,
                    1.0,
                    g,
                    weight,
                    Threads::Pool,
                )
            })?;
            Ok(before)
        }
        None => {
            let dx = slices::new_vec(rows * inner, |dx| {
                matmul(
                    MatrixViewMut::dense(dx, rows, inner),
                    WriteMode::Overwrite,
                    1.0,
                    g,
                    weight,
                    Threads::Pool,
                );
            });
            slices::tensor(dx, (rows, inner))
        }
    }
}

/// `dW = g^T x`.
fn weight_gradient(
    gradient: &Tensor,
    x: &Tensor,
    weight: &Weight,
    LinearShape { rows, inner, outer, backend }: LinearShape,
    ctx: &mut BackwardContext<'_>,
) -> Result<()> {
    let Some(slot) = weight.slot() else { return Ok(()) };
    if backend != Backend::Fused {
        return ctx.weights().accumulate(slot, &gradient.t()?.matmul(x)?);
    }
    let (g, x) = (slices::floats(gradient)?, slices::floats(x)?);
    ctx.weights().write(slot, |dw, mode| {
        let (g, x) = (MatrixView::dense(&g, rows, outer).t(), MatrixView::dense(&x, rows, inner));
        matmul(MatrixViewMut::dense(dw, outer, inner), mode, 1.0, g, x, Threads::Pool);
        Ok(())
    })
}

fn bias_gradient(
    gradient: &Tensor,
    bias: &Weight,
    LinearShape { outer, backend, .. }: LinearShape,
    ctx: &mut BackwardContext<'_>,
) -> Result<()> {
    let Some(slot) = bias.slot() else { return Ok(()) };
    if backend != Backend::Fused {
        return ctx.weights().accumulate(slot, &gradient.to_dtype(DType::F32)?.sum(0)?);
    }
    let g = slices::floats(gradient)?;
    ctx.weights().write(slot, |db, mode| {
        if mode == WriteMode::Overwrite {
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
