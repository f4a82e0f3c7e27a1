//! Sums of gradients in an order that doesn't depend on who computed which part.

/// The microbatches of `rank` of `world`: equal, contiguous parts.
///
/// `None` when `world` does not divide `microbatches` or `rank` is not below `world`.
#[must_use]
pub fn share(microbatches: usize, rank: usize, world: usize) -> Option<std::ops::Range<usize>> {
    if world == 0 || rank >= world || !microbatches.is_multiple_of(world) {
        return None;
    }
    let each = microbatches / world;
    Some(rank * each..(rank + 1) * each)
}

/// Sums the ranks' parts, given in order of rank, as a binary tree. All parts must have one length.
#[must_use]
pub fn tree(parts: Vec<Vec<f32>>) -> Vec<f32> {
    let _ = parts;
    todo!()
}
