//! AdamW (Loshchilov & Hutter 2019) over one flat vector. Unlike candle's, its moments can be saved, so a run
//! can be resumed.
//!
//! Both passes (the norm, and the update with clipping and decay) are cut into chunks of a fixed size, and
//! the norm is added in f64 in the order of chunks: any number of threads gives the same bits. Each pass
//! reads and writes each element once.
//!
//! [`composed`] is the same on a device.

pub(super) mod composed;

use super::TrainConfig;
use super::schedule::learning_rate;
use crate::autograd::Slot;
use crate::cpu::simd::with_simd;
use crate::cpu::slices::CHUNK;
use rayon::prelude::*;

/// The two moments of every trained weight, flat in order of name.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Running mean of the gradient.
    pub first: Vec<f32>,
    /// Running mean of its square.
    pub second: Vec<f32>,
}

impl Moments {
    /// The moments at step 0: zeros.
    #[must_use]
    pub fn zero(parameters: usize) -> Self {
        Self { first: vec![0.0; parameters], second: vec![0.0; parameters] }
    }
}

/// Independent partial sums, so that the compiler can vectorise.
const LANES: usize = 16;

/// The L2 norm of all gradients, times `scale`; summed in f64.
#[must_use]
pub fn norm(gradients: &[f32], scale: f64) -> f64 {
    let parts: Vec<f64> = gradients.par_chunks(CHUNK).map(|chunk| with_simd(|| squares(chunk))).collect();
    parts.iter().sum::<f64>().sqrt() * scale
}

#[inline(always)]
fn squares(numbers: &[f32]) -> f64 {
    let mut lanes = [0f64; LANES];
    let chunks = numbers.chunks_exact(LANES);
    let rest: f64 = chunks.remainder().iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*x) * f64::from(*x);
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// Which parts of the flat vector have weight decay: matrices (projections, embeddings, LoRA, learnt
/// prompts), not norms and biases.
#[derive(Clone, Debug)]
pub struct WeightDecayMask {
    /// Where each part ends, and whether it decays; neighbours differ.
    parts: Vec<(usize, bool)>,
}

impl WeightDecayMask {
    /// The mask of the trained weights.
    #[must_use]
    pub fn of(slots: &[Slot]) -> Self {
        let mut parts: Vec<(usize, bool)> = Vec::new();
        for slot in slots {
            let (end, decays) = (slot.start + slot.len, slot.shape.len() > 1);
            match parts.last_mut() {
                Some(last) if last.1 == decays => last.0 = end,
                Some(_) | None => parts.push((end, decays)),
            }
        }
        Self { parts }
    }

    /// The lengths of the parts of `start..end`, and whether each decays.
    fn within(&self, start: usize, end: usize) -> impl Iterator<Item = (usize, bool)> {
        let first = self.parts.partition_point(|(to, _)| *to <= start);
        let mut at = start;
        self.parts[first..].iter().map_while(move |(to, decays)| {
            let len = (*to).min(end).checked_sub(at).filter(|len| *len > 0)?;
            at += len;
            Some((len, *decays))
        })
    }
}

/// The scalars of one update.
#[derive(Clone, Copy)]
pub(super) struct StepFactors {
    rate: f32,
    keep: f32,
    beta1: f32,
    beta2: f32,
    correction1: f32,
    correction2: f32,
    epsilon: f32,
    scale: f32,
}

impl StepFactors {
    /// The scalars of a step, counted from 0, for gradients that are multiplied with `scale`.
    pub(super) fn of(config: &TrainConfig, step: u64, scale: f64) -> Self {
        let rate = learning_rate(config, step);
        let exponent = i32::try_from(step + 1).unwrap_or(i32::MAX);
        Self {
            rate: rate as f32,
            keep: (1.0 - rate * config.weight_decay) as f32,
            beta1: config.beta1 as f32,
            beta2: config.beta2 as f32,
            correction1: (1.0 / (1.0 - config.beta1.powi(exponent))) as f32,
            correction2: (1.0 / (1.0 - config.beta2.powi(exponent))) as f32,
            epsilon: config.epsilon as f32,
            scale: scale as f32,
        }
    }
}

/// Updates `weights` by `gradients * scale` at `step`, counted from 0. All vectors have one length.
pub fn update(
    config: &TrainConfig,
    decay: &WeightDecayMask,
    step: u64,
    weights: &mut [f32],
    moments: &mut Moments,
    gradients: &[f32],
    scale: f64,
) {
    let numbers = StepFactors::of(config, step, scale);
    let moments = moments.first.par_chunks_mut(CHUNK).zip(moments.second.par_chunks_mut(CHUNK));
    let chunks = weights.par_chunks_mut(CHUNK).zip(gradients.par_chunks(CHUNK)).zip(moments).enumerate();
    chunks.for_each(|(chunk, ((mut weights, mut gradients), (mut first, mut second)))| {
        let start = chunk * CHUNK;
        for (len, decays) in decay.within(start, start + weights.len()) {
            let numbers = if decays { numbers } else { StepFactors { keep: 1.0, ..numbers } };
            let (w, m, v) = (take(&mut weights, len), take(&mut first, len), take(&mut second, len));
            let (g, rest) = gradients.split_at(len);
            gradients = rest;
            with_simd(|| step_of(numbers, w, g, m, v));
        }
    });
}

/// Splits the first `len` elements off.
fn take<'a>(numbers: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (taken, rest) = std::mem::take(numbers).split_at_mut(len);
    *numbers = rest;
    taken
}

#[inline(always)]
fn step_of(n: StepFactors, weights: &mut [f32], gradients: &[f32], first: &mut [f32], second: &mut [f32]) {
    for (((weight, gradient), first), second) in weights.iter_mut().zip(gradients).zip(first).zip(second) {
        let gradient = gradient * n.scale;
        *first = n.beta1 * *first + (1.0 - n.beta1) * gradient;
        *second = n.beta2 * *second + (1.0 - n.beta2) * gradient * gradient;
        let step = *first * n.correction1 / ((*second * n.correction2).sqrt() + n.epsilon);
        *weight = *weight * n.keep - n.rate * step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use muster_host::compute::Compute;

    fn slots(lengths: &[(usize, usize)]) -> Vec<Slot> {
        let mut start = 0;
        let slot = |(index, (len, dims)): (usize, &(usize, usize))| {
            let slot = Slot { name: format!("w{index}"), shape: vec![*len; *dims], index, start, len: *len };
            start += len;
            slot
        };
        lengths.iter().enumerate().map(slot).collect()
    }

    #[test]
    fn updates_agree_with_the_definition_and_vectors_do_not_decay() {
        let config = TrainConfig { warmup_steps: 0, weight_decay: 0.5, ..TrainConfig::default() };
        let slots = slots(&[(5, 2), (3, 1), (CHUNK, 2), (7, 2), (CHUNK + 9, 1), (1, 2)]);
        let count = slots.iter().map(|slot| slot.len).sum();
        let decay = WeightDecayMask::of(&slots);
        assert_eq!(decay.parts.len(), 5);
        let (mut weights, mut moments) = (vec![1f32; count], Moments::zero(count));
        let given = [0.3f64, -0.2, 0.1];
        for (step, gradient) in given.iter().enumerate() {
            update(
                &config,
                &decay,
                step as u64,
                &mut weights,
                &mut moments,
                &vec![*gradient as f32 * 4.0; count],
                0.25,
            );
        }
        for slot in slots {
            let (mut weight, mut first, mut second) = (1f64, 0f64, 0f64);
            for (step, gradient) in given.iter().enumerate() {
                let rate = learning_rate(&config, step as u64);
                let power = step as i32 + 1;
                first = config.beta1 * first + (1.0 - config.beta1) * gradient;
                second = config.beta2 * second + (1.0 - config.beta2) * gradient * gradient;
                let decay = if slot.shape.len() > 1 { config.weight_decay } else { 0.0 };
                let move_by = first
                    / (1.0 - config.beta1.powi(power))
                    / ((second / (1.0 - config.beta2.powi(power))).sqrt() + config.epsilon);
                weight = weight * (1.0 - rate * decay) - rate * move_by;
            }
            assert!(
                weights[slot.range()].iter().all(|x| (f64::from(*x) - weight).abs() < 1e-6),
                "{}",
                slot.name
            );
        }
    }

    /// On a device the same, up to the rounding of single operations: several pieces, and parts that decay
    /// and don't.
    #[test]
    fn composed_updates_agree_with_those_on_slices() {
        const PIECE: usize = 1 << 10;
        let config =
            TrainConfig { warmup_steps: 0, weight_decay: 0.5, learning_rate: 1e-2, ..TrainConfig::default() };
        let slots = slots(&[(5, 2), (300, 1), (PIECE, 2), (7, 2), (PIECE + 9, 1), (1, 2)]);
        let count: usize = slots.iter().map(|slot| slot.len).sum();
        let decay = WeightDecayMask::of(&slots);
        let drawn = |salt: f32| (0..count).map(|i| (i as f32 * 0.37 + salt).sin()).collect::<Vec<_>>();
        let (mut weights, mut moments) = (drawn(0.5), Moments::zero(count));
        let tensor = |numbers: &[f32]| Tensor::from_slice(numbers, count, &Device::Cpu).expect("fits");
        let [held, first, second] =
            [&weights, &moments.first, &moments.second].map(|numbers| tensor(numbers));
        let rounded = held.to_dtype(DType::BF16).expect("rounds");
        let on_device =
            composed::DeviceState { weights: &held, rounded: Some(&rounded), first: &first, second: &second };
        for step in 0..3 {
            let gradients = drawn(step as f32);
            update(&config, &decay, step, &mut weights, &mut moments, &gradients, 0.25);
            let there = tensor(&gradients);
            let found = composed::norm(&there, PIECE).expect("sums") * 0.25;
            assert!((found - norm(&gradients, 0.25)).abs() < 1e-12 * found, "{found}");
            composed::update(StepFactors::of(&config, step, 0.25), &decay, &on_device, &there, PIECE)
                .expect("updates");
        }
        let read =
            |tensor: &Tensor| tensor.to_dtype(DType::F32).and_then(|t| t.to_vec1::<f32>()).expect("reads");
        for (theirs, ours, bound) in [
            (&held, &weights, 1e-6f32),
            (&first, &moments.first, 1e-7),
            (&second, &moments.second, 1e-7),
            (&rounded, &weights, 4e-3),
        ] {
            let theirs = read(theirs);
            let (at, off) = theirs
                .iter()
                .zip(ours)
                .map(|(a, b)| (a - b).abs())
                .enumerate()
                .max_by(|a, b| a.1.total_cmp(&b.1))
                .expect("some");
            assert!(off <= bound, "number {at} is off by {off}: {} against {}", theirs[at], ours[at]);
        }
        let again = held.to_dtype(DType::BF16).expect("rounds");
        assert_eq!(read(&rounded), read(&again), "what is computed with is what was learnt, rounded");
    }

    #[test]
    fn threads_change_no_bit() {
        let slots = slots(&[(3 * CHUNK + 5, 2), (100, 1)]);
        let count = 3 * CHUNK + 105;
        let gradients: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin() * 1e-3).collect();
        let run = |threads| {
            let compute = Compute::new(threads).expect("starts");
            compute.run(|| {
                let (mut weights, mut moments) = (vec![0.5f32; count], Moments::zero(count));
                let config = TrainConfig::default();
                update(&config, &WeightDecayMask::of(&slots), 3, &mut weights, &mut moments, &gradients, 2.0);
                (norm(&gradients, 2.0).to_bits(), weights, moments)
            })
        };
        let (one, three) = (run(1), run(3));
        assert!(one == three);
        let plain = gradients.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() * 2.0;
        assert!((f64::from_bits(one.0) - plain).abs() < 1e-12 * plain);
    }
}
