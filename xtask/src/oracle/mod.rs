//! `cargo xtask oracle`: compares Muster with other libraries, in both directions.
//!
//! The recordings in the tests are all that CI needs; this is for changes of the engine or of data
//! preparation. It must never be part of `.ci/run`: PyTorch is some gigabytes to fetch.

mod data;
mod engine;
mod python;

use anyhow::{Result, bail};

pub use python::find as python;

/// Runs one part, or both.
pub fn run(part: Option<&str>, renew: bool) -> Result<bool> {
    match part {
        None => Ok(engine::run(renew)? & data::run(renew)?),
        Some("engine") => engine::run(renew),
        Some("data") => data::run(renew),
        Some(other) => bail!("unknown oracle {other:?}: choose `engine` or `data`"),
    }
}
