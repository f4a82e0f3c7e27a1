//! Deduplication over all splits: of equal and of nearly equal documents, one is kept.
//!
//! Near duplicates are found by MinHash (Broder 1997) and locality-sensitive hashing, as map and reduce: each
//! split makes a [`sketch`], a few hundred bytes a document; any number of tasks each search their share of
//! the [`bands`] for pairs; one task joins the pairs to connected [`components`] and makes the [`Selection`],
//! which depends on neither the splits nor the number of tasks.

pub mod bands;
pub mod components;
mod exact;
pub mod minhash;
pub mod sketch;

#[cfg(test)]
mod tests;

pub use exact::{Selection, select};
