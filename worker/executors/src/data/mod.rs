//! The stages that make a data set: scan, dedup, select, tokenizer, pack, manifest.

pub mod dedup;
pub mod dedup_select;
mod error;
pub mod manifest;
pub mod pack;
mod roots;
pub mod scan;
pub mod tokenizer;

pub use error::DataError;
