//! The operations of a model, each with its backward pass.
//!
//! Each file holds one operation: its loops over slices for the CPU, the same composed of candle's operations
//! for other devices, and the entry that it leaves on the tape ([`crate::autograd`]). Tests compare the two
//! with each other, and both with candle's own graph.
//!
//! All activations have the shape `[batch * time, width]`, row by row.

pub mod attention;
pub mod dropout;
pub mod embedding;
pub mod layout;
pub mod linear;
pub mod linear_cross_entropy;
pub mod prompt;
pub mod rms_norm;
pub mod rope;
pub mod scale;
pub mod swiglu;

pub use layout::BatchLayout;
