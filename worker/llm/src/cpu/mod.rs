//! Loops over slices of f32: what every operation on the CPU is made of.
//!
//! It knows neither weights nor gradients. Results do not depend on the number of threads; they may depend on
//! the instruction set ([`simd`]).
//!
//! - [`slices`]: the numbers of candle's tensors as slices. [`matmul`]: products of matrices.
//! - [`math`]: vectorisable functions. [`simd`]: the widest instructions. [`profile`]: where the time goes.

pub mod math;
pub mod matmul;
pub mod profile;
pub mod simd;
pub mod slices;
