//! Causal grouped-query attention as one operation.
//!
//! Heads are read in place by stride: nothing is transposed or repeated. Backward computes the
//! probabilities again instead of keeping them, so memory grows with time and not with its square.

use super::matrix::{Into, Spread, View, ViewMut, product};
use super::numeric::{dot, softmax};
use super::{Rows, floats, gradient, output, tensor_floats};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// How attention's width divides into heads.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads.
    pub key_value: usize,
    /// Width of each.
    pub dim: usize,
}

impl Heads {
    fn query_width(self) -> usize {
        self.query * self.dim
    }

    fn key_value_width(self) -> usize {
        self.key_value * self.dim
    }

    /// The key and value head that serves a query head.
    #[must_use]
    pub fn serving(self, query_head: usize) -> usize {
        query_head / (self.query / self.key_value)
    }

    /// What scores are multiplied with.
    #[must_use]
    pub fn scale(self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }
}

struct CausalAttention {
    heads: Heads,
    rows: Rows,
}

/// Attends from each position to itself and those before it, within each sequence.
///
/// # Errors
/// When the shapes don't match `heads` and `rows`.
pub fn causal_attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, rows: Rows) -> Result<Tensor> {
    q.apply_op3(k, v, CausalAttention { heads, rows })
}

impl CausalAttention {
    /// Causal probabilities of one head of one sequence, into `scores [time, time]`; zero above the diagonal.
    fn probabilities(&self, q: &[f32], k: &[f32], head: usize, scores: &mut [f32]) {
        let (heads, time) = (self.heads, self.rows.time);
        let (q_at, k_at) = (head * heads.dim, heads.serving(head) * heads.dim);
        product(
            ViewMut::dense(scores, time, time),
            Into::Replace,
            heads.scale(),
            View::new(&q[q_at..], time, heads.dim, heads.query_width()),
            View::new(&k[k_at..], time, heads.dim, heads.key_value_width()).t(),
            Spread::Here,
        );
        for (position, row) in scores.chunks_exact_mut(time).enumerate() {
            let (seen, hidden) = row.split_at_mut(position + 1);
            softmax(seen);
            hidden.fill(0.0);
        }
    }

    fn forward_sequence(&self, q: &[f32], k: &[f32], v: &[f32], out: &mut [f32]) {
        let (heads, time) = (self.heads, self.rows.time);
        let mut scores = vec![0f32; time * time];
        for head in 0..heads.query {
            self.probabilities(q, k, head, &mut scores);
            let (q_at, v_at) = (head * heads.dim, heads.serving(head) * heads.dim);
            product(
                ViewMut::new(&mut out[q_at..], time, heads.dim, heads.query_width()),
                Into::Replace,
                1.0,
                View::dense(&scores, time, time),
                View::new(&v[v_at..], time, heads.dim, heads.key_value_width()),
                Spread::Here,
            );
        }
    }

    fn backward_sequence(&self, given: Sequence<'_>, found: SequenceMut<'_>) {
        let (heads, time) = (self.heads, self.rows.time);
        let (q_width, kv_width) = (heads.query_width(), heads.key_value_width());
        let mut scores = vec![0f32; time * time];
        let mut slopes = vec![0f32; time * time];
        for head in 0..heads.query {
            self.probabilities(given.q, given.k, head, &mut scores);
            let (at, kv_at) = (head * heads.dim, heads.serving(head) * heads.dim);
            let grad = View::new(&given.grad[at..], time, heads.dim, q_width);
            // Query heads of a group share keys and values, so their gradients add up in head order.
            product(
                ViewMut::new(&mut found.dv[kv_at..], time, heads.dim, kv_width),
                Into::Add,
                1.0,
                View::dense(&scores, time, time).t(),
                grad,
                Spread::Here,
            );
            product(
                ViewMut::dense(&mut slopes, time, time),
                Into::Replace,
                1.0,
                grad,
                View::new(&given.v[kv_at..], time, heads.dim, kv_width).t(),
                Spread::Here,
            );
            let both = slopes.chunks_exact_mut(time).zip(scores.chunks_exact(time)).enumerate();
            for (position, (slope, score)) in both {
                let (slope, hidden) = slope.split_at_mut(position + 1);
                let score = &score[..=position];
                let mean = dot(slope, score);
                for (slope, p) in slope.iter_mut().zip(score) {
                    *slope = p * (*slope - mean);
                }
                hidden.fill(0.0);
            }
            product(
                ViewMut::new(&mut found.dq[at..], time, heads.dim, q_width),
                Into::Replace,
                heads.scale(),
                View::dense(&slopes, time, time),
                View::new(&given.k[kv_at..], time, heads.dim, kv_width),
                Spread::Here,
            );
            product(
                ViewMut::new(&mut found.dk[kv_at..], time, heads.dim, kv_width),
                Into::Add,
                heads.scale(),
                View::dense(&slopes, time, time).t(),
                View::new(&given.q[at..], time, heads.dim, q_width),
                Spread::Here,
            );
        }
    }
}

struct Sequence<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    grad: &'a [f32],
}

struct SequenceMut<'a> {
    dq: &'a mut [f32],
    dk: &'a mut [f32],
    dv: &'a mut [f32],
}

impl CustomOp3 for CausalAttention {
    fn name(&self) -> &'static str {
        "causal-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        k: &CpuStorage,
        lk: &Layout,
        v: &CpuStorage,
        lv: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let all = self.rows.batch * self.rows.time;
        let (q_width, kv_width) = (self.heads.query_width(), self.heads.key_value_width());
        let given = (lq.shape().dims2()?, lk.shape().dims2()?, lv.shape().dims2()?);
        if given != ((all, q_width), (all, kv_width), (all, kv_width)) {
            candle_core::bail!("attention with {:?} and {:?} was given {given:?}", self.heads, self.rows);
        }
        let (q, k, v) = (floats(q, lq)?, floats(k, lk)?, floats(v, lv)?);
        let (q_len, kv_len) = (self.rows.time * q_width, self.rows.time * kv_width);
        let mut out = vec![0f32; all * q_width];
        out.par_chunks_mut(q_len)
            .zip(q.par_chunks(q_len))
            .zip(k.par_chunks(kv_len).zip(v.par_chunks(kv_len)))
            .for_each(|((out, q), (k, v))| self.forward_sequence(q, k, v, out));
        Ok(output(out, (all, q_width)))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let ((sq, lq), (sk, lk)) = (q.storage_and_layout(), k.storage_and_layout());
        let ((sv, lv), (sg, lg)) = (v.storage_and_layout(), grad.storage_and_layout());
        let (qs, ks) = (tensor_floats(&sq, lq)?, tensor_floats(&sk, lk)?);
        let (vs, gs) = (tensor_floats(&sv, lv)?, tensor_floats(&sg, lg)?);
        let (mut dq, mut dk, mut dv) = (vec![0f32; qs.len()], vec![0f32; ks.len()], vec![0f32; vs.len()]);
        let q_len = self.rows.time * self.heads.query_width();
        let kv_len = self.rows.time * self.heads.key_value_width();
        dq.par_chunks_mut(q_len)
            .zip(dk.par_chunks_mut(kv_len).zip(dv.par_chunks_mut(kv_len)))
            .zip(qs.par_chunks(q_len).zip(ks.par_chunks(kv_len)))
            .zip(vs.par_chunks(kv_len).zip(gs.par_chunks(q_len)))
            .for_each(|(((dq, (dk, dv)), (q, k)), (v, grad))| {
                self.backward_sequence(Sequence { q, k, v, grad }, SequenceMut { dq, dk, dv });
            });
        Ok((Some(gradient(dq, q)?), Some(gradient(dk, k)?), Some(gradient(dv, v)?)))
    }
}
