//! Elementary functions that the compiler can vectorise, with a fixed order of summation.
//!
//! The exponential is a polynomial: libm's is a call per element, and platforms differ in its last bit. The
//! relative error is below 2e-7 over the whole range.

const LANES: usize = 16;

/// `e^x`, clamped to the range of finite, normal results.
#[inline(always)]
#[must_use]
pub fn exp(x: f32) -> f32 {
    // Adding this constant rounds to an integer and leaves it in the low bits of the mantissa.
    const ROUNDING: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUNDING;
    let whole = shifted - ROUNDING;
    // ln 2 in two parts, so that the remainder keeps its low bits.
    let rest = x - whole * 0.693_359_4 - whole * -2.121_944_4e-4;
    let series = 1.987_569_1e-4f32;
    let series = series * rest + 1.398_199_9e-3;
    let series = series * rest + 8.333_452e-3;
    let series = series * rest + 4.166_579_6e-2;
    let series = series * rest + 1.666_666_5e-1;
    let series = series * rest + 0.5;
    let value = series * rest * rest + rest + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUNDING.to_bits()).wrapping_add(127) << 23;
    value * f32::from_bits(exponent)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The dot product, summed in sixteen fixed lanes.
#[inline(always)]
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The sum, in sixteen fixed lanes.
#[inline(always)]
#[must_use]
pub fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The greatest value; minus infinity if `values` is empty.
#[inline(always)]
#[must_use]
pub fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder().iter().fold(f32::NEG_INFINITY, |greatest, x| greatest.max(*x));
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    lanes.iter().fold(rest, |greatest, x| greatest.max(*x))
}

/// Replaces `values` by `exp(value - greatest)`, and returns (greatest, sum of those).
#[inline(always)]
pub fn exp_shifted(values: &mut [f32]) -> (f32, f32) {
    let greatest = max(values);
    for value in values.iter_mut() {
        *value = exp(*value - greatest);
    }
    (greatest, sum(values))
}

/// Replaces `values` by their softmax.
#[inline(always)]
pub fn softmax(values: &mut [f32]) {
    let (_, total) = exp_shifted(values);
    let scale = 1.0 / total;
    for value in values.iter_mut() {
        *value *= scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_double_precision() {
        let mut worst = 0f64;
        for step in -86_000i32..87_000 {
            let x = step as f32 / 1000.0;
            let exact = f64::from(x).exp();
            worst = worst.max(((f64::from(exp(x)) - exact) / exact).abs());
        }
        assert!(worst < 2e-7, "relative error {worst}");
    }

    #[test]
    fn reductions_agree_with_the_obvious_ones() {
        for len in [0usize, 1, 15, 16, 17, 100] {
            let a: Vec<f32> = (0..len).map(|i| (i as f32 * 0.37).sin()).collect();
            let b: Vec<f32> = (0..len).map(|i| (i as f32 * 0.11).cos()).collect();
            let plain: f32 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
            assert!((dot(&a, &b) - plain).abs() < 1e-4);
            assert!((sum(&a) - a.iter().sum::<f32>()).abs() < 1e-4);
            assert_eq!(max(&a), a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
