//! Data, models, training, evaluation and generation for small language models, on candle.
//!
//! This library knows nothing of jobs, clusters or processes: it is given paths, parameters and a
//! thread count, and gives back files and plain results. Whoever schedules the work joins the parts.
//!
//! - `model`: a llama-style model from our own trainable layers.
//!
//! **Invariant.** The same inputs, parameters and thread count give the same bytes: every order is fixed,
//! every generator is seeded, and no clock is read.

pub mod compute;
pub mod durable;
pub mod model;
