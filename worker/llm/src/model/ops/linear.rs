//! `y = x W^T`, with both gradients as products of strided views.

use super::matrix::{Into, Spread, View, ViewMut, product};
use super::{floats, gradient, output, tensor_floats};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

struct Linear;

/// Applies `weight [out, in]` to each row of `x [rows, in]`.
///
/// # Errors
/// When the shapes don't match.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.apply_op2(weight, Linear)
}

/// The arithmetic, for callers that hold slices.
pub fn forward(x: &[f32], weight: &[f32], rows: usize, inner: usize, outer: usize, out: &mut [f32]) {
    product(
        ViewMut::dense(out, rows, outer),
        Into::Replace,
        1.0,
        View::dense(x, rows, inner),
        View::dense(weight, outer, inner).t(),
        Spread::Pool,
    );
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((rows, inner), (outer, w_inner)) = (lx.shape().dims2()?, lw.shape().dims2()?);
        if inner != w_inner {
            candle_core::bail!("a linear layer of width {w_inner} was given rows of width {inner}");
        }
        let mut out = vec![0f32; rows * outer];
        forward(floats(x, lx)?, floats(w, lw)?, rows, inner, outer, &mut out);
        Ok(output(out, (rows, outer)))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let ((rows, inner), (outer, _)) = (x.dims2()?, w.dims2()?);
        let grad = grad.contiguous()?;
        let ((sx, lx), (sw, lw), (sg, lg)) = (x.storage_and_layout(), w.storage_and_layout(), grad.storage_and_layout());
        let g = View::dense(tensor_floats(&sg, lg)?, rows, outer);
        let mut dx = vec![0f32; rows * inner];
        product(
            ViewMut::dense(&mut dx, rows, inner),
            Into::Replace,
            1.0,
            g,
            View::dense(tensor_floats(&sw, lw)?, outer, inner),
            Spread::Pool,
        );
        let mut dw = vec![0f32; outer * inner];
        product(
            ViewMut::dense(&mut dw, outer, inner),
            Into::Replace,
            1.0,
            g.t(),
            View::dense(tensor_floats(&sx, lx)?, rows, inner),
            Spread::Pool,
        );
        Ok((Some(gradient(dx, x)?), Some(gradient(dw, w)?)))
    }
}
