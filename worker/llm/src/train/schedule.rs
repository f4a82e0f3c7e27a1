//! The learning rate of each step: a linear warm-up, then one of four shapes. A pure function of the
//! configuration and the step.

use super::config::{Schedule, TrainConfig};
use std::f64::consts::PI;

/// The learning rate of a step, counted from 0. After the last step it stays constant.
#[must_use]
pub fn learning_rate(config: &TrainConfig, step: u64) -> f64 {
    if step < config.warmup_steps {
        return config.learning_rate * (step + 1) as f64 / config.warmup_steps as f64;
    }
    let begin = match config.schedule {
        Schedule::Cosine | Schedule::Linear => config.warmup_steps,
        Schedule::Wsd => config.steps.saturating_sub(config.decay_steps).max(config.warmup_steps),
        Schedule::Constant => u64::MAX,
    };
    let falling = config.steps.saturating_sub(begin).max(1);
    let done = (step.saturating_sub(begin) as f64 / falling as f64).min(1.0);
    let height = match config.schedule {
        Schedule::Cosine => 0.5 * (1.0 + (PI * done).cos()),
        Schedule::Linear | Schedule::Wsd | Schedule::Constant => 1.0 - done,
    };
    config.learning_rate * (config.final_rate + (1.0 - config.final_rate) * height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_schedule_has_its_shape() {
        let of = |schedule, steps, warmup_steps, decay_steps| TrainConfig {
            schedule,
            steps,
            warmup_steps,
            decay_steps,
            learning_rate: 1.0,
            final_rate: 0.1,
            ..TrainConfig::default()
        };
        let table: [(TrainConfig, &[(u64, f64)]); 6] = [
            (
                of(Schedule::Cosine, 110, 10, 0),
                &[(0, 0.1), (9, 1.0), (10, 1.0), (60, 0.55), (110, 0.1), (500, 0.1)],
            ),
            (of(Schedule::Linear, 110, 10, 0), &[(4, 0.5), (10, 1.0), (60, 0.55), (85, 0.325), (110, 0.1)]),
            (
                of(Schedule::Wsd, 110, 10, 20),
                &[(4, 0.5), (10, 1.0), (60, 1.0), (90, 1.0), (100, 0.55), (109, 0.145), (110, 0.1)],
            ),
            (of(Schedule::Wsd, 110, 10, 0), &[(10, 1.0), (109, 1.0)]),
            (of(Schedule::Constant, 110, 10, 0), &[(0, 0.1), (10, 1.0), (109, 1.0), (500, 1.0)]),
            (of(Schedule::Cosine, 10, 0, 0), &[(0, 1.0), (5, 0.55), (10, 0.1)]),
        ];
        for (config, expected) in table {
            for (step, rate) in expected {
                let found = learning_rate(&config, *step);
                assert!(
                    (found - rate).abs() < 1e-9,
                    "{:?} step {step}: {found}, not {rate}",
                    config.schedule
                );
            }
        }
    }
}
