//! AdamW with moments of our own, so that a run can be resumed.
//!
//! Also the learning rate's course (a rise, then half a cosine down) and clipping by the norm of all gradients.

use super::TrainConfig;
use crate::model::weights::slots;

/// The two moments of every weight, flat in order of name.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Running mean of the gradient.
    pub first: Vec<f32>,
    /// Running mean of its square.
    pub second: Vec<f32>,
}

impl Moments {
    /// Those of a run at step 0.
    #[must_use]
    pub fn zero(parameters: usize) -> Self {
        Self { first: vec![0.0; parameters], second: vec![0.0; parameters] }
    }
}

/// The learning rate of a step.
#[must_use]
pub fn learning_rate(config: &TrainConfig, step: u64) -> f64 {
    if step < config.warmup_steps {
        return config.learning_rate * (step + 1) as f64 / config.warmup_steps as f64;
    }
    let falling = config.steps.saturating_sub(config.warmup_steps).max(1);
    let done = ((step - config.warmup_steps) as f64 / falling as f64).min(1.0);
    let height = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
    config.learning_rate * (config.final_rate + (1.0 - config.final_rate) * height)
}

/// The norm of all gradients together, summed in order in double precision.
#[must_use]
pub fn norm(gradients: &[f32], scale: f64) -> f64 {
    gradients.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt() * scale
}

/// Updates `weights` by `gradients * scale`. Norm weights (vectors) do not decay.
pub fn update(config: &TrainConfig, step: u64, weights: &mut [f32], moments: &mut Moments, gradients: &[f32], scale: f64) {
    let rate = learning_rate(config, step);
    let exponent = i32::try_from(step + 1).unwrap_or(i32::MAX);
    let (beta1, beta2) = (config.beta1 as f32, config.beta2 as f32);
    let correction1 = (1.0 / (1.0 - config.beta1.powi(exponent))) as f32;
    let correction2 = (1.0 / (1.0 - config.beta2.powi(exponent))) as f32;
    let (rate_now, epsilon, scale) = (rate as f32, config.epsilon as f32, scale as f32);
    for slot in slots(&config.model) {
        let keep = if slot.shape.len() > 1 { (1.0 - rate * config.weight_decay) as f32 } else { 1.0 };
        let range = slot.range();
        let moments = moments.first[range.clone()].iter_mut().zip(&mut moments.second[range.clone()]);
        for ((weight, gradient), (first, second)) in weights[range.clone()].iter_mut().zip(&gradients[range]).zip(moments) {
            let gradient = gradient * scale;
            *first = beta1 * *first + (1.0 - beta1) * gradient;
            *second = beta2 * *second + (1.0 - beta2) * gradient * gradient;
            let step = *first * correction1 / ((*second * correction2).sqrt() + epsilon);
            *weight = *weight * keep - rate_now * step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;

    #[test]
    fn the_rate_rises_and_falls() {
        let config = TrainConfig { steps: 110, warmup_steps: 10, learning_rate: 1.0, final_rate: 0.1, ..TrainConfig::default() };
        for (step, expected) in [(0, 0.1), (9, 1.0), (10, 1.0), (60, 0.55), (110, 0.1), (500, 0.1)] {
            assert!((learning_rate(&config, step) - expected).abs() < 1e-9, "step {step}");
        }
    }

    #[test]
    fn two_updates_agree_with_the_definition() {
        let model = ModelConfig { vocab_size: 2, hidden_size: 8, intermediate_size: 2, num_hidden_layers: 1, ..ModelConfig::default() };
        let config = TrainConfig { model: model.clone(), warmup_steps: 0, weight_decay: 0.5, ..TrainConfig::default() };
        let count = model.parameter_count();
        let (mut weights, mut moments) = (vec![1f32; count], Moments::zero(count));
        let given = [0.3f64, -0.2];
        for (step, gradient) in given.iter().enumerate() {
            update(&config, step as u64, &mut weights, &mut moments, &vec![*gradient as f32 * 4.0; count], 0.25);
        }
        for slot in slots(&model) {
            let (mut weight, mut first, mut second) = (1f64, 0f64, 0f64);
            for (step, gradient) in given.iter().enumerate() {
                let rate = learning_rate(&config, step as u64);
                let power = step as i32 + 1;
                first = config.beta1 * first + (1.0 - config.beta1) * gradient;
                second = config.beta2 * second + (1.0 - config.beta2) * gradient * gradient;
                let decay = if slot.shape.len() > 1 { config.weight_decay } else { 0.0 };
                let move_by =
                    first / (1.0 - config.beta1.powi(power)) / ((second / (1.0 - config.beta2.powi(power))).sqrt() + config.epsilon);
                weight = weight * (1.0 - rate * decay) - rate * move_by;
            }
            assert!(weights[slot.range()].iter().all(|x| (f64::from(*x) - weight).abs() < 1e-6), "{}", slot.name);
        }
    }
}
