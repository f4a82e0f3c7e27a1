//! Removal of duplicates over all splits: of documents with one content, and of documents that are nearly the
//! same, one is kept.
//!
//! Near duplicates are found by MinHash (Broder 1997) and locality-sensitive hashing, as map and reduce: each
//! split gives a [`sketch`], a few hundred bytes a document; any number of tasks each look through their
//! share of all [`bands`] for pairs; one task joins the pairs to [`components`] and gives the [`Selection`]. The
//! answer depends on neither the splits nor the number of tasks.

pub mod bands;
pub mod components;
mod exact;
pub mod minhash;
pub mod sketch;

#[cfg(test)]
mod tests;

pub use exact::{Selection, select};
