//! The output layer and its cross-entropy in one operation.
//!
//! Logits are made, used and dropped in chunks of rows, and the gradients are computed in the same pass,
//! so the full `[rows, vocabulary]` matrix never exists and no exponential is taken twice. The cost: a
//! forward that needs no gradient must call [`losses`] instead.

use super::matrix::{Into, Spread, View, ViewMut, product};
use super::numeric::exp_shifted;
use super::{floats, gradient, output};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use std::sync::{Mutex, PoisonError};

/// Rows whose logits exist at the same time.
const ROWS_PER_CHUNK: usize = 128;

/// A target that is not learnt from.
pub const IGNORED: u32 = u32::MAX;

struct Gradients {
    dx: Vec<f32>,
    dw: Vec<f32>,
}

struct HeadLoss {
    targets: Vec<u32>,
    gradients: Mutex<Option<Gradients>>,
}

/// The mean cross-entropy, in nats, of predicting `targets` from `x [rows, width]` through `weight [vocab, width]`.
///
/// # Errors
/// When the shapes don't match or a target is outside the vocabulary.
pub fn head_loss(x: &Tensor, weight: &Tensor, targets: Vec<u32>) -> Result<Tensor> {
    x.apply_op2(weight, HeadLoss { targets, gradients: Mutex::new(None) })
}

fn check(targets: &[u32], rows: usize, vocab: usize) -> Result<()> {
    if targets.len() != rows {
        candle_core::bail!("{} targets were given for {rows} rows", targets.len());
    }
    if let Some(target) = targets.iter().find(|t| **t != IGNORED && **t as usize >= vocab) {
        candle_core::bail!("target {target} is outside the vocabulary of {vocab}");
    }
    Ok(())
}

/// The cross-entropy of each row, in nats; 0 where the target is [`IGNORED`]. Without gradients.
///
/// # Errors
/// When a target is outside the vocabulary.
pub fn losses(x: &[f32], weight: &[f32], width: usize, targets: &[u32]) -> Result<Vec<f32>> {
    let vocab = weight.len() / width;
    check(targets, x.len() / width, vocab)?;
    let mut logits = vec![0f32; ROWS_PER_CHUNK * vocab];
    let mut out = Vec::with_capacity(targets.len());
    for (x, targets) in x.chunks(ROWS_PER_CHUNK * width).zip(targets.chunks(ROWS_PER_CHUNK)) {
        let logits = &mut logits[..targets.len() * vocab];
        chunk_logits(x, weight, targets.len(), width, logits);
        for (row, target) in logits.chunks_exact_mut(vocab).zip(targets) {
            if *target == IGNORED {
                out.push(0.0);
                continue;
            }
            let logit = row[*target as usize];
            let (greatest, total) = exp_shifted(row);
            out.push(total.ln() + greatest - logit);
        }
    }
    Ok(out)
}

fn chunk_logits(x: &[f32], weight: &[f32], rows: usize, width: usize, logits: &mut [f32]) {
    let vocab = weight.len() / width;
    product(
        ViewMut::dense(logits, rows, vocab),
        Into::Replace,
        1.0,
        View::dense(x, rows, width),
        View::dense(weight, vocab, width).t(),
        Spread::Pool,
    );
}

impl HeadLoss {
    fn evaluate(&self, x: &[f32], weight: &[f32], width: usize) -> (f32, Gradients) {
        let vocab = weight.len() / width;
        let counted = self.targets.iter().filter(|t| **t != IGNORED).count();
        let share = 1.0 / counted.max(1) as f32;
        let (mut dx, mut dw) = (vec![0f32; x.len()], vec![0f32; weight.len()]);
        let mut logits = vec![0f32; ROWS_PER_CHUNK * vocab];
        let mut total_loss = 0f64;
        let chunks = x.chunks(ROWS_PER_CHUNK * width).zip(dx.chunks_mut(ROWS_PER_CHUNK * width)).zip(self.targets.chunks(ROWS_PER_CHUNK));
        for ((x, dx), targets) in chunks {
            let rows = targets.len();
            let logits = &mut logits[..rows * vocab];
            chunk_logits(x, weight, rows, width, logits);
            for (row, target) in logits.chunks_exact_mut(vocab).zip(targets) {
                if *target == IGNORED {
                    row.fill(0.0);
                    continue;
                }
                let logit = row[*target as usize];
                let (greatest, total) = exp_shifted(row);
                total_loss += f64::from(total.ln() + greatest - logit);
                let scale = share / total;
                for slope in row.iter_mut() {
                    *slope *= scale;
                }
                row[*target as usize] -= share;
            }
            let slopes = View::dense(logits, rows, vocab);
            product(ViewMut::dense(dx, rows, width), Into::Replace, 1.0, slopes, View::dense(weight, vocab, width), Spread::Pool);
            product(ViewMut::dense(&mut dw, vocab, width), Into::Add, 1.0, slopes.t(), View::dense(x, rows, width), Spread::Pool);
        }
        ((total_loss * f64::from(share)) as f32, Gradients { dx, dw })
    }
}

impl CustomOp2 for HeadLoss {
    fn name(&self) -> &'static str {
        "head-loss"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((rows, width), (vocab, w_width)) = (lx.shape().dims2()?, lw.shape().dims2()?);
        if width != w_width {
            candle_core::bail!("an output layer of width {w_width} was given rows of width {width}");
        }
        check(&self.targets, rows, vocab)?;
        let (loss, gradients) = self.evaluate(floats(x, lx)?, floats(w, lw)?, width);
        *self.gradients.lock().unwrap_or_else(PoisonError::into_inner) = Some(gradients);
        Ok(output(vec![loss], ()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let held = self.gradients.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Gradients { mut dx, mut dw }) = held else {
            candle_core::bail!("the head loss's backward can be taken once only");
        };
        let upstream = grad.to_scalar::<f32>()?;
        if upstream != 1.0 {
            for value in dx.iter_mut().chain(dw.iter_mut()) {
                *value *= upstream;
            }
        }
        Ok((Some(gradient(dx, x)?), Some(gradient(dw, w)?)))
    }
}
