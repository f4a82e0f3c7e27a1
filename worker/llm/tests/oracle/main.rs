//! The engine held against PyTorch, transformers and peft, by what `oracle/*.py` recorded of them in
//! `tests/golden`.
//!
//! `MUSTER_GOLDEN` names another directory of recordings: `cargo xtask oracle` makes fresh ones and runs
//! these tests on them. No Python is needed here.

mod adapters;
mod models;
mod preference;
mod recording;
mod steps;
