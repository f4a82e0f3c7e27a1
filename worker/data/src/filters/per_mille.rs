//! Ratios in parts per thousand, in whole numbers, so that no rule depends on how a machine rounds.

/// `part` of a thousand of `whole`, rounded down; 0 of nothing.
pub fn per_mille(part: usize, whole: usize) -> usize {
    part.saturating_mul(1000) / whole.max(1)
}
