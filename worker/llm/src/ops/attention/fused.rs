//! Attention on the CPU: a task per sequence and key head, in blocks of queries that see only the keys before
//! them.

use super::panels::Panels;
use super::{Heads, Prefix, Shape};
use crate::ops::host;
use crate::ops::matrix::{Into, Spread, View, ViewMut, product};
use crate::ops::numeric::{dot, exp, max, sum};
use crate::ops::simd::wide;
use candle_core::{Result, Tensor};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Queries that are scored at the same time: few enough that little is computed above the diagonal.
const BLOCK: usize = 64;

/// What backward needs of the inputs: turned, and in panels.
pub struct Kept {
    shape: Shape,
    before: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

/// The gradients of attention.
pub struct Found {
    /// Of queries, keys and values.
    pub inputs: [Tensor; 3],
    /// Of the prefix's keys and values, if there is one.
    pub prefix: Vec<Tensor>,
}

impl Kept {
    /// Turns the inputs.
    pub fn new([q, k, v]: [&Tensor; 3], shape: &Shape, prefix: Option<&Prefix>) -> Result<Self> {
        let before = Prefix::len(prefix)?;
        let (prefix_k, prefix_v) =
            (prefix.map(|p| p.keys.numbers()).transpose()?, prefix.map(|p| p.values.numbers()).transpose()?);
        let (q, k, v) = (host::floats(q)?, host::floats(k)?, host::floats(v)?);
        let mut kept = Self { shape: shape.clone(), before, q: Vec::new(), k: Vec::new(), v: Vec::new() };
        kept.q = kept.queries(true).gather(&q, &[], before);
        kept.k = kept.keys(true).gather(&k, prefix_k.as_deref().unwrap_or_default(), before);
        kept.v = kept.keys(false).gather(&v, prefix_v.as_deref().unwrap_or_default(), before);
        Ok(kept)
    }

    fn queries(&self, turned: bool) -> Panels<'_> {
        let Shape { heads, rows, rotation } = &self.shape;
        Panels::query(*heads, rows.batch, rows.time, turned.then_some(rotation))
    }

    fn keys(&self, turned: bool) -> Panels<'_> {
        let Shape { heads, rows, rotation } = &self.shape;
        Panels::key_value(*heads, rows.batch, rows.time, self.before, turned.then_some(rotation))
    }

    /// The blocks of one sequence.
    fn blocks(&self, sequence: usize) -> impl Iterator<Item = Block<'_>> {
        let time = self.shape.rows.time;
        let starts = self.shape.rows.starts.as_deref().map(|starts| &starts[sequence * time..][..time]);
        (0..time).step_by(BLOCK).map(move |first| {
            let queries = first..(first + BLOCK).min(time);
            let seen = starts
                .map_or(0, |starts| starts[queries.clone()].iter().min().map_or(0, |start| *start as usize));
            let low = if self.before == 0 { seen } else { 0 };
            Block { keys: low..self.before + queries.end, queries, before: self.before, starts }
        })
    }
}

/// Some queries of one head, and the keys that any of them sees.
struct Block<'a> {
    queries: Range<usize>,
    /// Positions in the panel of keys, prefix included.
    keys: Range<usize>,
    before: usize,
    starts: Option<&'a [u32]>,
}

impl Block<'_> {
    fn rows(&self) -> usize {
        self.queries.len()
    }

    fn cols(&self) -> usize {
        self.keys.len()
    }

    fn of<'p>(range: &Range<usize>, panel: &'p [f32], dim: usize) -> View<'p> {
        View::dense(&panel[range.start * dim..range.end * dim], range.len(), dim)
    }

    /// How many columns of a query's row of scores it sees, and which of those (the other documents of its
    /// sequence) it does not.
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
        product(
            ViewMut::dense(scores, self.rows(), self.cols()),
            Into::Replace,
            heads.scale(),
            q,
            k,
            Spread::Here,
        );
    }
}

/// The result `[rows, query * dim]`, and the log of the sum of exponentials of every query head and position.
pub fn forward(kept: &Kept) -> Result<(Tensor, Arc<[f32]>)> {
    let Shape { heads, rows, .. } = &kept.shape;
    let (heads, dim, time) = (*heads, heads.dim, rows.time);
    let (q_len, k_len) = (kept.queries(false).len(), kept.keys(false).len());
    let group = heads.group();
    let mut sums = vec![0f32; rows.batch * heads.query * time];
    let panels = host::written(kept.q.len(), |out| {
        out.par_chunks_mut(group * q_len).zip(sums.par_chunks_mut(group * time)).enumerate().for_each(
            |(task, (out, sums))| {
                let (k, v) = (&kept.k[task * k_len..][..k_len], &kept.v[task * k_len..][..k_len]);
                let mut space = vec![0f32; BLOCK * (kept.before + time)];
                for member in 0..group {
                    let q = &kept.q[(task * group + member) * q_len..][..q_len];
                    let (out, sums) =
                        (&mut out[member * q_len..][..q_len], &mut sums[member * time..][..time]);
                    for block in kept.blocks(task / heads.key_value) {
                        let scores = &mut space[..block.rows() * block.cols()];
                        block.scores(q, k, heads, scores);
                        let totals = &mut sums[block.queries.clone()];
                        wide(|| probabilities(&block, scores, totals));
                        let weights = View::dense(scores, block.rows(), block.cols());
                        let out = &mut out[block.queries.start * dim..block.queries.end * dim];
                        let values = Block::of(&block.keys, v, dim);
                        product(
                            ViewMut::dense(out, block.rows(), dim),
                            Into::Replace,
                            1.0,
                            weights,
                            values,
                            Spread::Here,
                        );
                    }
                }
            },
        );
    });
    let out = kept.queries(false).scatter(&panels, 0);
    Ok((host::tensor(out, (rows.count(), heads.query * dim))?, sums.into()))
}

/// Scores become probabilities; `totals` get the log of the sum of exponentials.
#[inline(always)]
fn probabilities(block: &Block<'_>, scores: &mut [f32], totals: &mut [f32]) {
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
        // The exponential of ours is not quite zero for what is infinitely far.
        row[others].fill(0.0);
        let whole = sum(row);
        let scale = 1.0 / whole;
        for score in row.iter_mut() {
            *score *= scale;
        }
        *total = greatest + whole.ln();
    }
}

/// Scores become probabilities again.
#[inline(always)]
fn probabilities_again(block: &Block<'_>, scores: &mut [f32], totals: &[f32]) {
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

/// `slopes = p * (slopes - pull)`, the gradient of scores before scaling.
#[inline(always)]
fn softmax_backward(scores: &[f32], slopes: &mut [f32], pulls: &[f32], cols: usize) {
    for ((score, slope), pull) in scores.chunks_exact(cols).zip(slopes.chunks_exact_mut(cols)).zip(pulls) {
        for (slope, score) in slope.iter_mut().zip(score) {
            *slope = score * (*slope - pull);
        }
    }
}

/// The gradients of all inputs, from that of the result.
pub fn backward(kept: &Kept, sums: &[f32], result: &Tensor, gradient: &Tensor) -> Result<Found> {
    let Shape { heads, rows, .. } = &kept.shape;
    let (heads, dim, time, group) = (*heads, heads.dim, rows.time, heads.group());
    let (q_len, k_len) = (kept.queries(false).len(), kept.keys(false).len());
    let (g, out) = (host::floats(gradient)?, host::floats(result)?);
    let g_panels = kept.queries(false).gather(&g, &[], 0);
    let out_panels = kept.queries(false).gather(&out, &[], 0);
    let (mut dk, mut dv) = (vec![0f32; kept.k.len()], vec![0f32; kept.v.len()]);
    let dq = host::written(kept.q.len(), |dq| {
        let tasks =
            dq.par_chunks_mut(group * q_len).zip(dk.par_chunks_mut(k_len).zip(dv.par_chunks_mut(k_len)));
        tasks.enumerate().for_each(|(task, (dq, (dk, dv)))| {
            let (k, v) = (&kept.k[task * k_len..][..k_len], &kept.v[task * k_len..][..k_len]);
            let mut space = vec![0f32; 2 * BLOCK * (kept.before + time)];
            let mut pulls = [0f32; BLOCK];
            for member in 0..group {
                let head = task * group + member;
                let q = &kept.q[head * q_len..][..q_len];
                let (g, out) = (&g_panels[head * q_len..][..q_len], &out_panels[head * q_len..][..q_len]);
                let (dq, sums) = (&mut dq[member * q_len..][..q_len], &sums[head * time..][..time]);
                for block in kept.blocks(task / heads.key_value) {
                    let (rows, cols) = (block.rows(), block.cols());
                    let (scores, slopes) = space.split_at_mut(rows * cols);
                    let slopes = &mut slopes[..rows * cols];
                    block.scores(q, k, heads, scores);
                    wide(|| probabilities_again(&block, scores, &sums[block.queries.clone()]));
                    let (q_view, g_view) =
                        (Block::of(&block.queries, q, dim), Block::of(&block.queries, g, dim));
                    let (k_view, v_view) = (Block::of(&block.keys, k, dim), Block::of(&block.keys, v, dim));
                    let keys = block.keys.start * dim..block.keys.end * dim;
                    let p = View::dense(scores, rows, cols);
                    product(
                        ViewMut::dense(&mut dv[keys.clone()], cols, dim),
                        Into::Add,
                        1.0,
                        p.t(),
                        g_view,
                        Spread::Here,
                    );
                    product(
                        ViewMut::dense(slopes, rows, cols),
                        Into::Replace,
                        1.0,
                        g_view,
                        v_view.t(),
                        Spread::Here,
                    );
                    wide(|| {
                        for (query, pull) in block.queries.clone().zip(&mut pulls) {
                            *pull = dot(&g[query * dim..][..dim], &out[query * dim..][..dim]);
                        }
                        softmax_backward(scores, slopes, &pulls, cols);
                    });
                    let slopes = View::dense(slopes, rows, cols);
                    let dq = &mut dq[block.queries.start * dim..block.queries.end * dim];
                    product(
                        ViewMut::dense(dq, rows, dim),
                        Into::Replace,
                        heads.scale(),
                        slopes,
                        k_view,
                        Spread::Here,
                    );
                    product(
                        ViewMut::dense(&mut dk[keys], cols, dim),
                        Into::Add,
                        heads.scale(),
                        slopes.t(),
                        q_view,
                        Spread::Here,
                    );
                }
            }
        });
    });
    let widths = [heads.query * dim, heads.key_value * dim, heads.key_value * dim];
    let found = [
        kept.queries(true).scatter(&dq, kept.before),
        kept.keys(true).scatter(&dk, kept.before),
        kept.keys(false).scatter(&dv, kept.before),
    ];
    let [dq, dk_rows, dv_rows] = found;
    let tensor = |numbers, width| host::tensor(numbers, (rows.count(), width));
    let inputs = [tensor(dq, widths[0])?, tensor(dk_rows, widths[1])?, tensor(dv_rows, widths[2])?];
    let prefix = if kept.before == 0 {
        Vec::new()
    } else {
        let prefix = |panels: &[f32]| host::tensor(kept.keys(false).prefix(panels), (kept.before, widths[1]));
        vec![prefix(&dk)?, prefix(&dv)?]
    };
    Ok(Found { inputs, prefix })
}
