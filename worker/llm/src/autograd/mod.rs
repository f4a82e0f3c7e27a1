//! Reverse-mode automatic differentiation: a tape over candle's tensors.
//!
//! candle's own graph silently ends at every operation that has no backward pass, computes and keeps the
//! gradients of frozen weights, and allocates a fresh tensor for every gradient. Here an operation can't be
//! written without its backward pass, nothing is kept for what needs no gradient, and the gradients of
//! weights are added in place in one flat vector. The price: every backward pass is written by hand, in
//! [`crate::ops`], and tests compare it with candle's own graph.
//!
//! It imports [`crate::cpu`] and [`crate::device`] only; it knows no operation.
//!
//! - [`weight`]: a named array of the model, frozen or trained, and how it is stored.
//! - [`flat`]: one f32 per trained parameter, on the CPU or on a device.
//! - [`gradients`]: where the gradients of trained weights are added.
//! - [`tape`]: the recorded operations, and the backward pass through them.

pub mod flat;
pub mod gradients;
pub mod tape;
pub mod weight;

pub use flat::FlatVector;
pub use gradients::GradientBuffer;
pub use tape::{BackwardContext, Tape, Value};
pub use weight::{Slot, Weight, WeightData};
