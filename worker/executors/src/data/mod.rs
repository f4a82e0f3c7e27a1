//! The stages that make a data set: scan, dedup, choose, tokenizer, pack, manifest.

pub mod choose;
pub mod dedup;
pub mod manifest;
pub mod pack;
pub mod roots;
pub mod scan;
pub mod tokenizer;
