//! Sums of gradients in an order that doesn't depend on who computed which part.

use std::convert::Infallible;
use std::ops::Range;

/// The microbatches of `rank` of `world`: equal, contiguous parts.
///
/// `None` when `world` does not divide `microbatches` or `rank` is not below `world`.
#[must_use]
pub fn share(microbatches: usize, rank: usize, world: usize) -> Option<Range<usize>> {
    if world == 0 || rank >= world || !microbatches.is_multiple_of(world) {
        return None;
    }
    let each = microbatches / world;
    Some(rank * each..(rank + 1) * each)
}

/// Sums the ranks' parts, given in order of rank, as a binary tree that divides in the middle.
///
/// A rank sums its own part as the same tree, so the whole is the same tree for any number of ranks that is a
/// power of two. All parts must have one length; none gives nothing.
#[must_use]
pub fn tree(parts: Vec<Vec<f32>>) -> Vec<f32> {
    let count = parts.len();
    let mut parts = parts.into_iter();
    if count == 0 {
        return Vec::new();
    }
    let mut next = |_: usize| -> Result<Vec<f32>, Infallible> { Ok(parts.next().unwrap_or_default()) };
    let Ok(sum) = fold(0..count, &mut next, &mut |sum: &mut Vec<f32>, other: Vec<f32>| add(sum, &other));
    sum
}

/// Adds `other` to `sum`.
pub fn add(sum: &mut [f32], other: &[f32]) {
    assert_eq!(sum.len(), other.len(), "parts of a sum have one length");
    for (sum, other) in sum.iter_mut().zip(other) {
        *sum += other;
    }
}

/// Makes the items of a range that isn't empty, in order, and joins them as a binary tree that divides in the middle.
pub(super) fn fold<T, E>(
    range: Range<usize>,
    make: &mut impl FnMut(usize) -> Result<T, E>,
    join: &mut impl FnMut(&mut T, T),
) -> Result<T, E> {
    if range.len() <= 1 {
        return make(range.start);
    }
    let middle = range.start + range.len() / 2;
    let mut left = fold(range.start..middle, make, join)?;
    let right = fold(middle..range.end, make, join)?;
    join(&mut left, right);
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_equal_or_none() {
        assert_eq!(share(8, 1, 2), Some(4..8));
        assert_eq!(share(8, 3, 4), Some(6..8));
        assert_eq!((share(8, 0, 3), share(8, 2, 2), share(8, 0, 0)), (None, None, None));
    }

    #[test]
    fn one_two_and_four_ranks_give_the_same_bits() {
        let parts: Vec<Vec<f32>> = (0..8).map(|i| (0..5).map(|j| ((i * 37 + j * 11) as f32).sin() * 10f32.powi(i - 4)).collect()).collect();
        let sums = [1, 2, 4, 8].map(|world| {
            let rank = |rank| parts[share(8, rank, world).expect("divides")].to_vec();
            tree((0..world).map(|r| tree(rank(r))).collect())
        });
        for sum in &sums {
            assert_eq!(sum.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), sums[0].iter().map(|x| x.to_bits()).collect::<Vec<_>>());
        }
        assert_eq!(tree(Vec::new()), Vec::<f32>::new());
    }
}
