//! Rotary positions, in the half-split pairing of the Hugging Face llama.

use super::{Rows, floats, gradient, output, tensor_floats};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Cosines and sines of every position and pair.
#[derive(Debug)]
pub struct Rotation {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotation {
    /// Tables for `positions` positions of heads `head_dim` wide.
    #[must_use]
    pub fn new(head_dim: usize, positions: usize, theta: f64) -> Self {
        let half = head_dim / 2;
        let angles = (0..positions)
            .flat_map(|position| (0..half).map(move |pair| position as f64 / theta.powf(2.0 * pair as f64 / head_dim as f64)));
        let (cos, sin) = angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip();
        Self { half, cos, sin }
    }

    /// How many positions the tables cover.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.cos.len() / self.half
    }

    /// Turns all heads of one row by its position; `direction` is 1 forward and -1 back.
    pub fn row(&self, x: &[f32], position: usize, direction: f32, out: &mut [f32]) {
        let table = position * self.half..(position + 1) * self.half;
        let (cos, sin) = (&self.cos[table.clone()], &self.sin[table]);
        let heads = x.chunks_exact(2 * self.half).zip(out.chunks_exact_mut(2 * self.half));
        for (x, out) in heads {
            let (x1, x2) = x.split_at(self.half);
            let (o1, o2) = out.split_at_mut(self.half);
            let pairs = o1.iter_mut().zip(o2).zip(x1.iter().zip(x2)).zip(cos.iter().zip(sin));
            for (((o1, o2), (x1, x2)), (c, s)) in pairs {
                let s = s * direction;
                *o1 = x1 * c - x2 * s;
                *o2 = x2 * c + x1 * s;
            }
        }
    }

    fn rows(&self, x: &[f32], rows: Rows, direction: f32) -> Vec<f32> {
        let width = x.len() / (rows.batch * rows.time);
        let mut out = vec![0f32; x.len()];
        out.par_chunks_mut(rows.time * width).zip(x.par_chunks(rows.time * width)).for_each(|(out, x)| {
            let positions = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).enumerate();
            for (position, (out, x)) in positions {
                self.row(x, position, direction, out);
            }
        });
        out
    }
}

struct Rope {
    rotation: Arc<Rotation>,
    rows: Rows,
}

/// Turns each head of each row of `x [batch * time, heads * head_dim]` by its position.
///
/// # Errors
/// When the rows don't divide into heads, or the sequence is longer than the tables.
pub fn rope(x: &Tensor, rotation: &Arc<Rotation>, rows: Rows) -> Result<Tensor> {
    x.apply_op1(Rope { rotation: Arc::clone(rotation), rows })
}

impl CustomOp1 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        if rows != self.rows.batch * self.rows.time || width % (2 * self.rotation.half) != 0 {
            candle_core::bail!("rope on {rows} rows of width {width} with {:?}", self.rows);
        }
        if self.rows.time > self.rotation.positions() {
            candle_core::bail!("a sequence of {} is longer than the context of {}", self.rows.time, self.rotation.positions());
        }
        let out = self.rotation.rows(floats(x, layout)?, self.rows, 1.0);
        Ok(output(out, (rows, width)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (storage, layout) = grad.storage_and_layout();
        let dx = self.rotation.rows(tensor_floats(&storage, layout)?, self.rows, -1.0);
        Ok(Some(gradient(dx, x)?))
    }
}
