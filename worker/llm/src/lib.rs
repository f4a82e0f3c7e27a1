//! Models, training, evaluation and generation for small language models, on candle.
//!
//! This library knows nothing of jobs, clusters or processes. It takes paths, parameters and a thread count,
//! and returns files and plain results. The executors connect it to jobs. It opens no sockets.
//!
//! Modules import only from those listed before them:
//!
//! - [`device`]: devices, and how operations are computed on them. [`cpu`]: loops over slices of f32.
//! - [`autograd`]: the tape, weights and their gradients. [`ops`]: a model's operations, each with its
//!   backward pass.
//! - [`model`]: decoders of the Llama family, in the Hugging Face layout.
//! - [`peft`]: which weights are trained: all of them, LoRA, QLoRA, prefix tuning or prompt tuning; PEFT's
//!   files.
//! - [`parallel`]: which rank computes what, and sums whose bits do not depend on the number of ranks.
//! - [`train`]: data sets, the optimizer, checkpoints, and one rank of synchronous data-parallel training.
//! - [`diloco`]: replicas that train alone for many steps and are averaged in rounds.
//! - [`eval`]: bits per byte of held-out text, with two baselines. [`generate`]: seeded sampling.
//!
//! **Invariant.** The same inputs, parameters and thread count give the same bytes: every order is fixed,
//! every generator is seeded, and no clock is read.
#![warn(missing_docs)]

pub mod autograd;
pub mod cpu;
pub mod device;
pub mod diloco;
pub mod eval;
pub mod generate;
pub mod model;
pub mod ops;
pub mod parallel;
pub mod peft;
pub mod train;
