//! Measured durations, and the figures that are reported.

use serde_json::{Map, Value, json};
use std::time::Duration;

/// What is reported, by name.
pub type Figures = Map<String, Value>;

/// Measured durations.
#[derive(Debug, Default)]
pub struct Sample {
    durations: Vec<Duration>,
}

impl Sample {
    pub fn add(&mut self, duration: Duration) {
        self.durations.push(duration);
    }

    /// The duration below which `percent` of all are, in milliseconds; `null` if nothing was measured.
    pub fn percentile_ms(&self, percent: usize) -> Value {
        let mut sorted = self.durations.clone();
        sorted.sort();
        let last = sorted.len().saturating_sub(1);
        sorted.get((last * percent).div_ceil(100)).map_or(Value::Null, |duration| in_ms(*duration))
    }

    /// The same in seconds.
    pub fn percentile_s(&self, percent: usize) -> Value {
        self.percentile_ms(percent).as_f64().map_or(Value::Null, |ms| json!(rounded(ms / 1e3)))
    }
}

fn in_ms(duration: Duration) -> Value {
    json!(rounded(duration.as_secs_f64() * 1e3))
}

/// Three digits after the decimal point.
pub fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
