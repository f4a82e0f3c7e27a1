//! Attention on the CPU: one task per sequence and key head, in blocks of queries that read only the keys
//! before them.

use super::panels::Panels;
use super::shape::{AttentionShape, Heads, KeyValuePrefix};
use crate::cpu::math::{dot, exp, max, sum};
use crate::cpu::matmul::{MatrixView, MatrixViewMut, Threads, WriteMode, matmul};
use crate::cpu::simd::with_simd;
use crate::cpu::slices;
use candle_core::{Result, Tensor};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Queries per block: few, so that little is computed above the diagonal.
const BLOCK: usize = 64;

/// What the backward pass needs of the inputs: rotated, and in panels.
pub struct SavedInputs {
    shape: AttentionShape,
    before: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

/// The gradients of attention.
pub struct AttentionGradients {
    /// Gradients of queries, keys and values.
    pub inputs: [Tensor; 3],
    /// Gradients of the prefix's keys and values; empty without a prefix.
    pub prefix: Vec<Tensor>,
}

impl SavedInputs {
    /// Rotates the inputs and gathers them in panels.
    pub fn new(
        [q, k, v]: [&Tensor; 3],
        shape: &AttentionShape,
        prefix: Option<&KeyValuePrefix>,
    ) -> Result<Self> {
        let before = KeyValuePrefix::len(prefix)?;
        let (prefix_k, prefix_v) =
            (prefix.map(|p| p.keys.numbers()).transpose()?, prefix.map(|p| p.values.numbers()).transpose()?);
        let (q, k, v) = (slices::floats(q)?, slices::floats(k)?, slices::floats(v)?);
        let mut saved = Self { shape: shape.clone(), before, q: Vec::new(), k: Vec::new(), v: Vec::new() };
        saved.q = saved.queries(true).gather(&q, &[], before);
        saved.k = saved.keys(true).gather(&k, prefix_k.as_deref().unwrap_or_default(), before);
        saved.v = saved.keys(false).gather(&v, prefix_v.as_deref().unwrap_or_default(), before);
        Ok(saved)
    }

    fn queries(&self, turned: bool) -> Panels<'_> {
        let AttentionShape { heads, rows, rotation } = &self.shape;
        Panels::query(*heads, rows.batch, rows.time, turned.then_some(rotation))
    }

    fn keys(&self, turned: bool) -> Panels<'_> {
        let AttentionShape { heads, rows, rotation } = &self.shape;
        Panels::key_value(*heads, rows.batch, rows.time, self.before, turned.then_some(rotation))
    }

    /// The blocks of one sequence.
    fn blocks(&self, sequence: usize) -> impl Iterator<Item = QueryBlock<'_>> {
        let time = self.shape.rows.time;
        let starts = self.shape.rows.starts.as_deref().map(|starts| &starts[sequence * time..][..time]);
        (0..time).step_by(BLOCK).map(move |first| {
            let queries = first..(first + BLOCK).min(time);
            let seen = starts
                .map_or(0, |starts| starts[queries.clone()].iter().min().map_or(0, |start| *start as usize));
            let low = if self.before == 0 { seen } else { 0 };
            QueryBlock { keys: low..self.before + queries.end, queries, before: self.before, starts }
        })
    }
}

/// A range of queries of one head, and the keys that any of them attends to.
struct QueryBlock<'a> {
    queries: Range<usize>,
    /// Positions in the panel of keys, prefix included.
    keys: Range<usize>,
    before: usize,
    starts: Option<&'a [u32]>,
}

impl QueryBlock<'_> {
    fn rows(&self) -> usize {
        self.queries.len()
    }

    fn cols(&self) -> usize {
        self.keys.len()
    }

    fn of<'p>(range: &Range<usize>, panel: &'p [f32], dim: usize) -> MatrixView<'p> {
        MatrixView::dense(&panel[range.start * dim..range.end * dim], range.len(), dim)
    }

    /// How many columns of a query's row of scores are not after it, and which of those are masked, because
    /// they are other documents of its sequence.
    #[inline(always)]
    fn seen(&self, query: usize) -> (usize, Range<usize>) {
        let seen = self.before + query + 1 - self.keys.start;
        let start = self.starts.map_or(0, |starts| starts[query] as usize);
        let others = (self.before.max(self.keys.start) - self.keys.start)
            ..(self.before + start).max(self.keys.start) - self.keys.start;
        (seen, if self.starts.is_some() { others } else { 0..0 })
    }

    fn scores(&self, q: &[f32], k: &[f32], heads: Heads, scores: &mut [f32]) {
        let (q, k) = (Self::of(&self.queries, q, heads.dim), Self::of(&self.keys, k, heads.dim).t());
        matmul(
            MatrixViewMut::dense(scores, self.rows(), self.cols()),
            WriteMode::Overwrite,
            heads.scale(),
            q,
            k,
            Threads::Current,
        );
    }
}

/// The result `[rows, query * dim]`, and the log-sum-exp of every query head and position.
pub fn forward(saved: &SavedInputs) -> Result<(Tensor, Arc<[f32]>)> {
    let AttentionShape { heads, rows, .. } = &saved.shape;
    let (heads, dim, time) = (*heads, heads.dim, rows.time);
    let (q_len, k_len) = (saved.queries(false).len(), saved.keys(false).len());
    let group = heads.group();
    let mut sums = vec![0f32; rows.batch * heads.query * time];
    let panels = slices::new_vec(saved.q.len(), |out| {
        out.par_chunks_mut(group * q_len).zip(sums.par_chunks_mut(group * time)).enumerate().for_each(
            |(task, (out, sums))| {
                let (k, v) = (&saved.k[task * k_len..][..k_len], &saved.v[task * k_len..][..k_len]);
                let mut space = vec![0f32; BLOCK * (saved.before + time)];
                for member in 0..group {
                    let q = &saved.q[(task * group + member) * q_len..][..q_len];
                    let (out, sums) =
                        (&mut out[member * q_len..][..q_len], &mut sums[member * time..][..time]);
                    for block in saved.blocks(task / heads.key_value) {
                        let scores = &mut space[..block.rows() * block.cols()];
                        block.scores(q, k, heads, scores);
                        let totals = &mut sums[block.queries.clone()];
                        with_simd(|| probabilities(&block, scores, totals));
                        let weights = MatrixView::dense(scores, block.rows(), block.cols());
                        let out = &mut out[block.queries.start * dim..block.queries.end * dim];
                        let values = QueryBlock::of(&block.keys, v, dim);
                        matmul(
                            MatrixViewMut::dense(out, block.rows(), dim),
                            WriteMode::Overwrite,
                            1.0,
                            weights,
                            values,
                            Threads::Current,
                        );
                    }
                }
            },
        );
    });
    let out = saved.queries(false).scatter(&panels, 0);
    Ok((slices::tensor(out, (rows.count(), heads.query * dim))?, sums.into()))
}

/// Turns scores into probabilities, and stores the log-sum-exp of each row in `totals`.
#[inline(always)]
fn probabilities(block: &QueryBlock<'_>, scores: &mut [f32], totals: &mut [f32]) {
    for ((query, row), total) in block.queries.clone().zip(scores.chunks_exact_mut(block.cols())).zip(totals)
    {
        let (seen, others) = block.seen(query);
        let (row, hidden) = row.split_at_mut(seen);
        hidden.fill(0.0);
        row[others.clone()].fill(f32::NEG_INFINITY);
        let greatest = max(row);
        for score in row.iter_mut() {
            *score = exp(*score - greatest);
        }
        // Our exponential of minus infinity is not quite zero.
        row[others].fill(0.0);
        let whole = sum(row);
        let scale = 1.0 / whole;
        for score in row.iter_mut() {
            *score *= scale;
        }
        *total = greatest + whole.ln();
    }
}

/// Turns scores into probabilities, given the log-sum-exp of each row.
#[inline(always)]
fn probabilities_again(block: &QueryBlock<'_>, scores: &mut [f32], totals: &[f32]) {
    for ((query, row), total) in block.queries.clone().zip(scores.chunks_exact_mut(block.cols())).zip(totals)
    {
        let (seen, others) = block.seen(query);
        let (row, hidden) = row.split_at_mut(seen);
        hidden.fill(0.0);
        for score in row.iter_mut() {
            *score = exp(*score - total);
        }
        row[others].fill(0.0);
    }
}

/// `slopes = p * (slopes - pull)`: the gradient of the scores before scaling.
#[inline(always)]
fn softmax_backward(scores: &[f32], slopes: &mut [f32], pulls: &[f32], cols: usize) {
    for ((score, slope), pull) in scores.chunks_exact(cols).zip(slopes.chunks_exact_mut(cols)).zip(pulls) {
        for (slope, score) in slope.iter_mut().zip(score) {
            *slope = score * (*slope - pull);
        }
    }
}

/// The gradients of all inputs, from that of the result.
pub fn backward(
    saved: &SavedInputs,
    sums: &[f32],
    result: &Tensor,
    gradient: &Tensor,
) -> Result<AttentionGradients> {
    let AttentionShape { heads, rows, .. } = &saved.shape;
    let (heads, dim, time, group) = (*heads, heads.dim, rows.time, heads.group());
    let (q_len, k_len) = (saved.queries(false).len(), saved.keys(false).len());
    let (g, out) = (slices::floats(gradient)?, slices::floats(result)?);
    let g_panels = saved.queries(false).gather(&g, &[], 0);
    let out_panels = saved.queries(false).gather(&out, &[], 0);
    let (mut dk, mut dv) = (vec![0f32; saved.k.len()], vec![0f32; saved.v.len()]);
    let dq = slices::new_vec(saved.q.len(), |dq| {
        let tasks =
            dq.par_chunks_mut(group * q_len).zip(dk.par_chunks_mut(k_len).zip(dv.par_chunks_mut(k_len)));
        tasks.enumerate().for_each(|(task, (dq, (dk, dv)))| {
            let (k, v) = (&saved.k[task * k_len..][..k_len], &saved.v[task * k_len..][..k_len]);
            let mut space = vec![0f32; 2 * BLOCK * (saved.before + time)];
            let mut pulls = [0f32; BLOCK];
            for member in 0..group {
                let head = task * group + member;
                let q = &saved.q[head * q_len..][..q_len];
                let (g, out) = (&g_panels[head * q_len..][..q_len], &out_panels[head * q_len..][..q_len]);
                let (dq, sums) = (&mut dq[member * q_len..][..q_len], &sums[head * time..][..time]);
                for block in saved.blocks(task / heads.key_value) {
                    let (rows, cols) = (block.rows(), block.cols());
                    let (scores, slopes) = space.split_at_mut(rows * cols);
                    let slopes = &mut slopes[..rows * cols];
                    block.scores(q, k, heads, scores);
                    with_simd(|| probabilities_again(&block, scores, &sums[block.queries.clone()]));
                    let (q_view, g_view) =
                        (QueryBlock::of(&block.queries, q, dim), QueryBlock::of(&block.queries, g, dim));
                    let (k_view, v_view) =
                        (QueryBlock::of(&block.keys, k, dim), QueryBlock::of(&block.keys, v, dim));
                    let keys = block.keys.start * dim..block.keys.end * dim;
                    let p = MatrixView::dense(scores, rows, cols);
                    matmul(
                        MatrixViewMut::dense(&mut dv[keys.clone()], cols, dim),
                        WriteMode::Accumulate,
                        1.0,
                        p.t(),
                        g_view,
                        Threads::Current,
                    );
                    matmul(
                        MatrixViewMut::dense(slopes, rows, cols),
                        WriteMode::Overwrite,
                        1.0,
                        g_view,
                        v_view.t(),
                        Threads::Current,
                    );
                    with_simd(|| {
                        for (query, pull) in block.queries.clone().zip(&mut pulls) {
                            *pull = dot(&g[query * dim..][..dim], &out[query * dim..][..dim]);
                        }
                        softmax_backward(scores, slopes, &pulls, cols);
                    });
                    let slopes = MatrixView::dense(slopes, rows, cols);
                    let dq = &mut dq[block.queries.start * dim..block.queries.end * dim];
                    matmul(
                        MatrixViewMut::dense(dq, rows, dim),
                        WriteMode::Overwrite,
                        heads.scale(),
                        slopes,
                        k_view,
                        Threads::Current,
                    );
                    matmul(
                        MatrixViewMut::dense(&mut dk[keys], cols, dim),
                        WriteMode::Accumulate,
                        heads.scale(),
                        slopes.t(),
                        q_view,
                        Threads::Current,
                    );
                }
            }
        });
    });
    let widths = [heads.query * dim, heads.key_value * dim, heads.key_value * dim];
    let found = [
        saved.queries(true).scatter(&dq, saved.before),
        saved.keys(true).scatter(&dk, saved.before),
        saved.keys(false).scatter(&dv, saved.before),
    ];
    let [dq, dk_rows, dv_rows] = found;
    let tensor = |numbers, width| slices::tensor(numbers, (rows.count(), width));
    let inputs = [tensor(dq, widths[0])?, tensor(dk_rows, widths[1])?, tensor(dv_rows, widths[2])?];
    let prefix = if saved.before == 0 {
        Vec::new()
    } else {
        let prefix =
            |panels: &[f32]| slices::tensor(saved.keys(false).prefix(panels), (saved.before, widths[1]));
        vec![prefix(&dk)?, prefix(&dv)?]
    };
    Ok(AttentionGradients { inputs, prefix })
}
