//! The stages that make a data set: scan, tokenizer, pack, manifest.

pub mod manifest;
pub mod pack;
pub mod roots;
pub mod scan;
pub mod tokenizer;
