//! Sums whose order is fixed by the positions of the summands alone.

use std::ops::AddAssign;

/// The sum of equally long vectors by an aligned binary tree: `((0+1)+(2+3))+…`.
///
/// A rank that holds an aligned power of two of neighbouring summands may sum them first: the result has the same bits.
pub fn tree_sum<T: AddAssign + Copy>(mut vectors: Vec<Vec<T>>) -> Vec<T> {
    while vectors.len() > 1 {
        let mut halved = Vec::with_capacity(vectors.len().div_ceil(2));
        let mut rest = vectors.into_iter();
        while let Some(mut left) = rest.next() {
            if let Some(right) = rest.next() {
                left.iter_mut().zip(&right).for_each(|(a, b)| *a += *b);
            }
            halved.push(left);
        }
        vectors = halved;
    }
    vectors.pop().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_the_summands_are_shared_out_does_not_matter() {
        let summands: Vec<Vec<f32>> = (0..8).map(|i| vec![1.0 / (i as f32 + 3.0), 1e8 * i as f32, -0.1 * i as f32]).collect();
        let whole = tree_sum(summands.clone());
        for share in [1, 2, 4, 8] {
            let parts = summands.chunks(share).map(|chunk| tree_sum(chunk.to_vec())).collect();
            assert_eq!(tree_sum(parts), whole, "{share} each");
        }
        assert!(tree_sum::<f32>(Vec::new()).is_empty());
    }
}
