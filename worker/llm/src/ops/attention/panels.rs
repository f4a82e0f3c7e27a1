//! Converts rows to one panel `[time, dim]` per head and back, so that the products of attention read
//! contiguous memory.

use super::shape::Heads;
use crate::cpu::simd::with_simd;
use crate::cpu::slices;
use crate::ops::rope::RotaryEmbedding;

/// How panels relate to rows.
#[derive(Clone, Copy)]
pub struct Panels<'a> {
    /// Sequences.
    pub batch: usize,
    /// Positions of each.
    pub time: usize,
    /// Positions before them, in the panels only.
    pub before: usize,
    /// Heads of this kind.
    pub count: usize,
    /// Width of a head.
    pub dim: usize,
    /// The rotary position embedding; `None` for values.
    pub rotation: Option<&'a RotaryEmbedding>,
}

/// Rows that a thread takes at a time.
const ROWS: usize = 64;

impl<'a> Panels<'a> {
    /// Panels of queries.
    pub fn query(heads: Heads, batch: usize, time: usize, rotation: Option<&'a RotaryEmbedding>) -> Self {
        Self { batch, time, before: 0, count: heads.query, dim: heads.dim, rotation }
    }

    /// Panels of keys or values.
    pub fn key_value(
        heads: Heads,
        batch: usize,
        time: usize,
        before: usize,
        rotation: Option<&'a RotaryEmbedding>,
    ) -> Self {
        Self { batch, time, before, count: heads.key_value, dim: heads.dim, rotation }
    }

    /// Elements of a panel.
    pub fn len(self) -> usize {
        (self.before + self.time) * self.dim
    }

    /// Panels of `x [batch * time, count * dim]`, rotated by positions that start at `offset`, after
    /// `prefix [before, count * dim]`.
    pub fn gather(self, x: &[f32], prefix: &[f32], offset: usize) -> Vec<f32> {
        let (dim, width) = (self.dim, self.count * self.dim);
        slices::new_vec_chunked(self.batch * self.count * self.len(), self.len(), |part, panel| {
            let (sequence, head) = (part / self.count, part % self.count);
            let (first, rest) = panel.split_at_mut(self.before * dim);
            for (out, row) in first.chunks_exact_mut(dim).zip(prefix.chunks_exact(width)) {
                out.copy_from_slice(&row[head * dim..][..dim]);
            }
            let rows = x[sequence * self.time * width..].chunks_exact(width);
            with_simd(|| {
                for (position, (out, row)) in rest.chunks_exact_mut(dim).zip(rows).enumerate() {
                    let row = &row[head * dim..][..dim];
                    match self.rotation {
                        Some(rotation) => rotation.head(row, offset + position, 1.0, out),
                        None => out.copy_from_slice(row),
                    }
                }
            });
        })
    }

    /// Rows `[batch * time, count * dim]` of panels, rotated back.
    pub fn scatter(self, panels: &[f32], offset: usize) -> Vec<f32> {
        let (dim, width) = (self.dim, self.count * self.dim);
        slices::new_vec_chunked(self.batch * self.time * width, ROWS * width, |part, out| {
            with_simd(|| {
                for (at, row) in out.chunks_exact_mut(width).enumerate() {
                    let (sequence, position) =
                        ((part * ROWS + at) / self.time, (part * ROWS + at) % self.time);
                    for (head, out) in row.chunks_exact_mut(dim).enumerate() {
                        let start =
                            (sequence * self.count + head) * self.len() + (self.before + position) * dim;
                        let panel = &panels[start..start + dim];
                        match self.rotation {
                            Some(rotation) => rotation.head(panel, offset + position, -1.0, out),
                            None => out.copy_from_slice(panel),
                        }
                    }
                }
            });
        })
    }

    /// The sum over sequences of the prefix's rows: `[before, count * dim]`.
    pub fn prefix(self, panels: &[f32]) -> Vec<f32> {
        let (dim, width) = (self.dim, self.count * self.dim);
        let mut sum = vec![0f32; self.before * width];
        for (part, panel) in panels.chunks_exact(self.len()).enumerate() {
            let head = part % self.count;
            for (row, found) in sum.chunks_exact_mut(width).zip(panel.chunks_exact(dim)) {
                for (sum, found) in row[head * dim..][..dim].iter_mut().zip(found) {
                    *sum += found;
                }
            }
        }
        sum
    }
}
