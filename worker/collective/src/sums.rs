//! What an all-reduce sums.

use muster_llm::parallel::tree;

/// Values that are summed together, element by element.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// The gradients.
    pub vector: Vec<f32>,
    /// A few more, in higher precision: losses, counts.
    pub scalars: Vec<f64>,
}

impl Sums {
    /// Adds `other`, which has the same lengths.
    pub fn add(&mut self, other: Sums) {
        tree::add(&mut self.vector, &other.vector);
        self.scalars.iter_mut().zip(&other.scalars).for_each(|(sum, other)| *sum += other);
    }
}
