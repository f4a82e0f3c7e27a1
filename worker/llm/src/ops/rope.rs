//! Rotary position embedding (RoPE, Su et al. 2021), with the half-split pairing of the Hugging Face models.

use crate::cpu::simd::with_simd;
use candle_core::{Device, Result, Tensor};
use parking_lot::Mutex;

/// Cosines and sines of every position and pair of elements.
#[derive(Debug)]
pub struct RotaryEmbedding {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
    /// The tables on the device where they were last used.
    placed: Mutex<Option<DeviceTables>>,
}

/// Tables on a device, of all positions.
#[derive(Clone, Debug)]
struct DeviceTables {
    cos: Tensor,
    sin: Tensor,
    /// The positions themselves, as u32.
    positions: Tensor,
}

impl RotaryEmbedding {
    /// Tables for `positions` positions: one frequency (radians per position) for each pair of a head's
    /// numbers. Cosines and sines are multiplied with `attention_factor` (1 but for YaRN).
    #[must_use]
    pub fn new(frequencies: &[f64], positions: usize, attention_factor: f64) -> Self {
        let half = frequencies.len();
        let angles = (0..positions)
            .flat_map(|position| frequencies.iter().map(move |frequency| position as f64 * frequency));
        let (cos, sin) = angles
            .map(|a| ((a.cos() * attention_factor) as f32, (a.sin() * attention_factor) as f32))
            .unzip();
        Self { half, cos, sin, placed: Mutex::default() }
    }

    /// Number of positions in the tables.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.cos.len() / self.half.max(1)
    }

    /// Rotates one head by its position; `direction` is 1 forward and -1 in the backward pass.
    #[inline(always)]
    pub(super) fn head(&self, x: &[f32], position: usize, direction: f32, out: &mut [f32]) {
        let table = position * self.half..(position + 1) * self.half;
        let (cos, sin) = (&self.cos[table.clone()], &self.sin[table]);
        let (x1, x2) = x.split_at(self.half);
        let (o1, o2) = out.split_at_mut(self.half);
        let pairs = o1.iter_mut().zip(o2).zip(x1.iter().zip(x2)).zip(cos.iter().zip(sin));
        for (((o1, o2), (x1, x2)), (c, s)) in pairs {
            let s = s * direction;
            *o1 = x1 * c - x2 * s;
            *o2 = x2 * c + x1 * s;
        }
    }

    /// Rotates all heads of one row by its position.
    pub fn row(&self, x: &[f32], position: usize, out: &mut [f32]) {
        with_simd(|| {
            for (x, out) in x.chunks_exact(2 * self.half).zip(out.chunks_exact_mut(2 * self.half)) {
                self.head(x, position, 1.0, out);
            }
        });
    }

    /// The tables `[time, half]` from `position` on, as tensors: cosines and sines.
    pub(super) fn tensors(&self, position: usize, time: usize, device: &Device) -> Result<(Tensor, Tensor)> {
        let DeviceTables { cos, sin, .. } = self.placed(device)?;
        Ok((cos.narrow(0, position, time)?, sin.narrow(0, position, time)?))
    }

    /// The numbers `0..positions`, as u32.
    pub(super) fn numbers(&self, device: &Device) -> Result<Tensor> {
        Ok(self.placed(device)?.positions)
    }

    /// All tables; they are copied to a device once.
    fn placed(&self, device: &Device) -> Result<DeviceTables> {
        let mut placed = self.placed.lock();
        if let Some(placed) = placed.as_ref().filter(|placed| placed.cos.device().same_device(device)) {
            return Ok(placed.clone());
        }
        let table = |numbers: &[f32]| Tensor::from_slice(numbers, (self.positions(), self.half), device);
        let (cos, sin) = (table(&self.cos)?, table(&self.sin)?);
        let positions = Tensor::arange(0, self.positions() as u32, device)?;
        Ok(placed.insert(DeviceTables { cos, sin, positions }).clone())
    }
}
