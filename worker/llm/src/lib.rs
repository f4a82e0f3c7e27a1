//! Data, models, training, evaluation and generation for small language models, on candle.
//!
//! This library knows nothing of jobs, clusters or processes: it is given paths, parameters and a
//! thread count, and gives back files and plain results. Whoever schedules the work joins the parts.
//!
//! - `autograd`: a tape of our own. `ops`: the operations of a model, each with its way back.
//! - `model`: decoders of the llama kind, in the Hugging Face layout.
//! - `parallel`: who computes what and in which order it is summed, whatever the number of ranks; DiLoCo's
//!   rounds.
//! - `tune`: what of a model is trained: full, LoRA over dense or quantised weights, prefix and prompt
//!   tuning; PEFT's layout.
//! - `train`: one rank's share of deterministic data-parallel training.
//! - `eval`: held-out bits per byte, against baselines of the same tokens.
//! - `generate`: seeded sampling from a model.
//! - `verify`: cheap checks of a completed line of Rust.
//!
//! **Invariant.** The same inputs, parameters and thread count give the same bytes: every order is fixed,
//! every generator is seeded, and no clock is read.
#![warn(missing_docs)]

pub mod autograd;
pub mod compute;
pub mod eval;
pub mod generate;
pub mod model;
pub mod ops;
pub mod parallel;
pub mod train;
pub mod tune;
pub mod verify;
