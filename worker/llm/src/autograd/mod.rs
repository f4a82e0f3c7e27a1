//! What depends on what, and the gradients that follow from it: a tape of our own over candle's tensors.
//!
//! candle's own graph is lost in silence wherever an operation has no backward, computes and keeps the
//! gradients of frozen weights, and fills and adds a fresh tensor for every gradient. Here an operation can't
//! be written without its backward; nothing is kept for what needs no gradient; and gradients of weights are
//! added where they belong, in one flat vector. The price is that every backward is written by hand, in
//! [`crate::ops`], and held against candle's own graph by tests.
//!
//! - [`weight`]: a named array of the model, frozen or trained, and how it is held.
//! - [`flat`]: one number for each trained weight, on the CPU or on a device.
//! - [`gradients`]: where the gradients of the trained ones are added.
//! - [`tape`]: the operations done so far, and the way back through them.

pub mod flat;
pub mod gradients;
pub mod tape;
pub mod weight;

pub use flat::Flat;
pub use gradients::Gradients;
pub use tape::{Flow, Tape, Value};
pub use weight::{Held, Slot, Weight};
