//! Ratios in parts per thousand, in whole numbers, so that no rule depends on how a machine rounds.

/// `part / whole` in thousandths, rounded down; 0 if both are 0.
pub fn per_mille(part: usize, whole: usize) -> usize {
    part.saturating_mul(1000) / whole.max(1)
}
