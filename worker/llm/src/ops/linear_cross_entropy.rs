//! The output layer and its cross-entropy in one operation (as Liger Kernel's fused linear cross-entropy, Hsu
//! et al. 2024).
//!
//! Logits are computed, used and dropped in chunks of rows, and the gradients are computed in the same pass,
//! so the full `[rows, vocabulary]` matrix never exists and no exponential is computed twice. The cost: the
//! weight of each row must be known before, and a forward pass without gradients calls [`losses`] instead.

use crate::autograd::{Tape, Value, Weight};
use crate::cpu::math::{exp, max, sum};
use crate::cpu::matmul::{MatrixView, MatrixViewMut, Threads, WriteMode, matmul};
use crate::cpu::profile::{OpKind, timed};
use crate::cpu::simd::with_simd;
use crate::cpu::slices;
use crate::device::{Backend, BlockSizes};
use candle_core::{D, DType, Result, Tensor};
use rayon::prelude::*;

/// Rows whose logits exist at the same time on the CPU.
pub const ROWS_PER_CHUNK: usize = 256;

/// Matrices as large as a chunk's logits that are alive at the same time on a device.
const MATRICES: usize = 4;

/// Rows whose logits exist at the same time on a device.
fn composed_rows(vocab: usize, sizes: BlockSizes) -> usize {
    (sizes.logits / vocab.max(1)).max(sizes.logit_rows_min)
}

/// About the bytes that the logits of `rows` rows need on a device.
#[must_use]
pub fn composed_bytes(rows: usize, vocab: usize, sizes: BlockSizes) -> usize {
    MATRICES * 4 * composed_rows(vocab, sizes).min(rows) * vocab
}

/// A target that the loss ignores, as PyTorch's `ignore_index`.
pub const IGNORE_INDEX: u32 = u32::MAX;

/// The target of each row, and the weight of its loss.
#[derive(Clone, Debug)]
pub struct LossTargets {
    /// A token for each row, or [`IGNORE_INDEX`].
    pub tokens: Vec<u32>,
    /// The factor of each row's cross-entropy.
    pub weights: Vec<f32>,
}

impl LossTargets {
    /// Equal weights that sum to 1 over the rows that are not ignored: the mean.
    #[must_use]
    pub fn mean(tokens: Vec<u32>) -> Self {
        let counted = tokens.iter().filter(|token| **token != IGNORE_INDEX).count();
        let share = 1.0 / counted.max(1) as f32;
        Self { weights: vec![share; tokens.len()], tokens }
    }
}

fn check(targets: &[u32], rows: usize, vocab: usize) -> Result<()> {
    if targets.len() != rows {
        candle_core::bail!("{} targets were given for {rows} rows", targets.len());
    }
    if let Some(target) = targets.iter().find(|t| **t != IGNORE_INDEX && **t as usize >= vocab) {
        candle_core::bail!("target {target} is outside the vocabulary of {vocab}");
    }
    Ok(())
}

/// The cross-entropy of each row of `x [rows, width]` through `weight [vocab, width]`, in nats; 0 where the
/// target is [`IGNORE_INDEX`]. Without gradients.
///
/// # Errors
/// When a target is outside the vocabulary.
pub fn losses(x: &Tensor, weight: &Weight, targets: &[u32], backend: Backend) -> Result<Vec<f32>> {
    let ((rows, width), (vocab, _)) = (x.dims2()?, weight.shape().dims2()?);
    check(targets, rows, vocab)?;
    if let Backend::Composed(sizes) = backend {
        let w = weight.dense(x.dtype(), x.device())?;
        let mut found = Vec::new();
        let at_a_time = composed_rows(vocab, sizes);
        for first in (0..rows).step_by(at_a_time) {
            let part = &targets[first..(first + at_a_time).min(rows)];
            found.push(LogitsChunk::new(&x.narrow(0, first, part.len())?, &w, part)?.losses);
        }
        return read(&found, targets);
    }
    let (x, w) = (slices::floats(x)?, weight.numbers()?);
    let mut out = vec![0f32; rows];
    let mut logits = vec![0f32; ROWS_PER_CHUNK.min(rows) * vocab];
    let chunks = x
        .chunks(ROWS_PER_CHUNK * width)
        .zip(targets.chunks(ROWS_PER_CHUNK))
        .zip(out.chunks_mut(ROWS_PER_CHUNK));
    for ((x, targets), out) in chunks {
        let logits = &mut logits[..targets.len() * vocab];
        chunk_logits(x, &w, targets.len(), width, logits);
        let rows = logits.par_chunks_exact_mut(vocab).zip(targets).zip(out);
        rows.for_each(|((row, target), out)| *out = with_simd(|| row_loss(row, *target, 0.0)));
    }
    Ok(out)
}

fn chunk_logits(x: &[f32], weight: &[f32], rows: usize, width: usize, logits: &mut [f32]) {
    let vocab = weight.len() / width;
    let (x, weight) = (MatrixView::dense(x, rows, width), MatrixView::dense(weight, vocab, width).t());
    matmul(MatrixViewMut::dense(logits, rows, vocab), WriteMode::Overwrite, 1.0, x, weight, Threads::Pool);
}

/// The cross-entropy of one row; overwrites its logits with their gradient, times `weight`.
#[inline(always)]
fn row_loss(row: &mut [f32], target: u32, weight: f32) -> f32 {
    if target == IGNORE_INDEX {
        row.fill(0.0);
        return 0.0;
    }
    let logit = row[target as usize];
    let greatest = max(row);
    for value in row.iter_mut() {
        *value = exp(*value - greatest);
    }
    let total = sum(row);
    if weight != 0.0 {
        let scale = weight / total;
        for slope in row.iter_mut() {
            *slope *= scale;
        }
        row[target as usize] -= weight;
    }
    total.ln() + greatest - logit
}

/// The weighted sum of the cross-entropies, in nats, of predicting `targets` from `x [rows, width]` through
/// `weight [vocab, width]`: as a value that the backward pass can start from, and as a number.
///
/// # Errors
/// When the shapes don't match or a target is outside the vocabulary.
pub fn linear_cross_entropy(
    tape: &mut Tape,
    x: &Value,
    weight: &Weight,
    targets: &LossTargets,
) -> Result<(Value, f64)> {
    let ((rows, width), (vocab, w_width)) = (x.data().dims2()?, weight.shape().dims2()?);
    if width != w_width {
        candle_core::bail!("an output layer of width {w_width} was given rows of width {width}");
    }
    check(&targets.tokens, rows, vocab)?;
    let needs_backward = tape.needs_backward(&[x], weight.slot().is_some());
    if !needs_backward {
        let found = losses(x.data(), weight, &targets.tokens, tape.backend())?;
        let total = weighted(&found, &targets.weights);
        return Ok((Value::constant(Tensor::new(total as f32, x.data().device())?), total));
    }
    let (total, dx) = timed(OpKind::Head, || match tape.backend() {
        Backend::Fused => fused(tape, x, weight, targets, [rows, width, vocab]),
        Backend::Composed(sizes) => composed(tape, x, weight, targets, sizes),
    })?;
    let loss = Tensor::new(total as f32, x.data().device())?;
    let to = x.id();
    let value = tape.push(loss, move |gradient, ctx| {
        // The weight's gradient was computed in the forward pass, for a gradient of 1.
        if gradient.to_dtype(DType::F32)?.to_scalar::<f32>()? != 1.0 {
            candle_core::bail!("the head loss must be the end of the tape, with a gradient of 1");
        }
        match dx {
            Some(dx) => ctx.accumulate(to, dx),
            None => Ok(()),
        }
    });
    Ok((value, total))
}

fn weighted(losses: &[f32], weights: &[f32]) -> f64 {
    losses.iter().zip(weights).map(|(loss, weight)| f64::from(*loss) * f64::from(*weight)).sum()
}

/// The loss, and the gradient of `x` if it is needed; the weight's gradient is added to the tape's buffer.
fn fused(
    tape: &mut Tape,
    x: &Value,
    weight: &Weight,
    targets: &LossTargets,
    [rows, width, vocab]: [usize; 3],
) -> Result<(f64, Option<Tensor>)> {
    let wanted = x.id().is_some();
    let (xs, w) = (slices::floats(x.data())?, weight.numbers()?);
    let chunk = ROWS_PER_CHUNK.min(rows);
    let mut logits = vec![0f32; chunk * vocab];
    let mut found = vec![0f32; rows];
    let mut failed = Ok(());
    let dx = slices::new_vec(if wanted { rows * width } else { 0 }, |dx| {
        for first in (0..rows).step_by(chunk) {
            let range = first..(first + chunk).min(rows);
            let x = &xs[range.start * width..range.end * width];
            let logits = &mut logits[..range.len() * vocab];
            chunk_logits(x, &w, range.len(), width, logits);
            let counts = targets.tokens[range.clone()].par_iter().zip(&targets.weights[range.clone()]);
            let rows = logits.par_chunks_exact_mut(vocab).zip(counts).zip(&mut found[range.clone()]);
            rows.for_each(|((row, (target, weight)), found)| {
                *found = with_simd(|| row_loss(row, *target, *weight))
            });
            let slopes = MatrixView::dense(logits, range.len(), vocab);
            if wanted {
                let dx =
                    MatrixViewMut::dense(&mut dx[range.start * width..range.end * width], range.len(), width);
                matmul(
                    dx,
                    WriteMode::Overwrite,
                    1.0,
                    slopes,
                    MatrixView::dense(&w, vocab, width),
                    Threads::Pool,
                );
            }
            if let (Some(slot), Some(gradients), Ok(())) = (weight.slot(), tape.gradients(), &failed) {
                failed = gradients.write(slot, |dw, mode| {
                    let x = MatrixView::dense(x, range.len(), width);
                    matmul(MatrixViewMut::dense(dw, vocab, width), mode, 1.0, slopes.t(), x, Threads::Pool);
                    Ok(())
                });
            }
        }
    });
    failed?;
    let dx = wanted.then(|| slices::tensor(dx, (rows, width))).transpose()?;
    Ok((weighted(&found, &targets.weights), dx))
}

/// A chunk of rows on a device.
struct LogitsChunk {
    /// Losses `[rows, 1]`, also of ignored targets.
    losses: Tensor,
    /// Softmax `[rows, vocab]`, in f32.
    softmax: Tensor,
    /// Targets `[rows, 1]`; 0 where they are ignored.
    targets: Tensor,
}

impl LogitsChunk {
    fn new(x: &Tensor, weight: &Tensor, targets: &[u32]) -> Result<Self> {
        let logits = x.matmul(&weight.t()?)?.to_dtype(DType::F32)?;
        let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?;
        drop(logits);
        let safe: Vec<u32> =
            targets.iter().map(|target| if *target == IGNORE_INDEX { 0 } else { *target }).collect();
        let targets = Tensor::from_vec(safe, (targets.len(), 1), x.device())?;
        let picked = shifted.gather(&targets, 1)?;
        let e = shifted.exp()?;
        drop(shifted);
        let total = e.sum_keepdim(D::Minus1)?;
        Ok(Self { losses: (total.log()? - picked)?, softmax: e.broadcast_div(&total)?, targets })
    }
}

/// The losses of all chunks, 0 where a target is ignored. This is the only wait for the device.
fn read(chunks: &[Tensor], targets: &[u32]) -> Result<Vec<f32>> {
    if chunks.is_empty() {
        return Ok(Vec::new());
    }
    let losses = Tensor::cat(chunks, 0)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(losses
        .into_iter()
        .zip(targets)
        .map(|(loss, target)| if *target == IGNORE_INDEX { 0.0 } else { loss })
        .collect())
}

/// As [`fused`], from candle's operations.
fn composed(
    tape: &mut Tape,
    x: &Value,
    weight: &Weight,
    targets: &LossTargets,
    sizes: BlockSizes,
) -> Result<(f64, Option<Tensor>)> {
    let ((rows, _), (vocab, _)) = (x.data().dims2()?, weight.shape().dims2()?);
    let (dtype, device) = (x.data().dtype(), x.data().device());
    let w = weight.dense(dtype, device)?;
    let (mut found, mut parts, at_a_time) = (Vec::new(), Vec::new(), composed_rows(vocab, sizes));
    for first in (0..rows).step_by(at_a_time) {
        let count = at_a_time.min(rows - first);
        let (tokens, weights) =
            (&targets.tokens[first..first + count], &targets.weights[first..first + count]);
        let part = x.data().narrow(0, first, count)?;
        let chunk = LogitsChunk::new(&part, &w, tokens)?;
        let counts: Vec<f32> = weights
            .iter()
            .zip(tokens)
            .map(|(weight, token)| if *token == IGNORE_INDEX { 0.0 } else { *weight })
            .collect();
        let counts = Tensor::from_vec(counts, (count, 1), device)?;
        let slopes = chunk.softmax.broadcast_mul(&counts)?;
        slopes.scatter_add_set(&chunk.targets, &counts.neg()?, 1)?;
        let slopes = slopes.to_dtype(dtype)?;
        if let (Some(slot), Some(gradients)) = (weight.slot(), tape.gradients()) {
            gradients.accumulate(slot, &slopes.t()?.matmul(&part)?)?;
        }
        if x.id().is_some() {
            parts.push(slopes.matmul(&w)?);
        }
        found.push(chunk.losses);
    }
    let total = weighted(&read(&found, &targets.tokens)?, &targets.weights);
    let dx = if parts.is_empty() { None } else { Some(Tensor::cat(&parts, 0)?) };
    Ok((total, dx))
}
