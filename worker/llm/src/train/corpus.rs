//! All training tokens, as one sequence over the shards.

use super::Error;
use crate::data::shard::Shard;

/// Tokens of several shards in a row.
pub struct Corpus {}

impl Corpus {
    /// Joins shards, in this order.
    ///
    /// # Errors
    /// When there is none, or they come from different tokenizers.
    pub fn new(shards: Vec<Shard>) -> Result<Self, Error> {
        let _ = shards;
        todo!()
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> u64 {
        todo!()
    }

    /// Whether there is no token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often each token occurs.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        todo!()
    }
}
