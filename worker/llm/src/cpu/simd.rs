//! The widest vector instructions of this machine, for loops over slices.
//!
//! The program is built for any CPU of its architecture; code that is called through here is compiled for
//! several instruction sets, and one is chosen at run time. Results may differ in the last bit between
//! instruction sets, so a checkpoint records the one that was used.

use pulp::{Arch, NullaryFnOnce, WithSimd};

/// Runs `work`, compiled for the widest instructions. Only code that is inlined into `work` gains.
#[inline]
pub fn with_simd<W: NullaryFnOnce>(work: W) -> <W as WithSimd>::Output {
    Arch::new().dispatch(work)
}

/// The name of the instruction set that [`with_simd`] uses.
#[must_use]
pub fn instructions() -> &'static str {
    match Arch::new() {
        Arch::Scalar => "scalar",
        #[cfg(target_arch = "x86_64")]
        Arch::V3(_) => "x86-64-v3",
        #[cfg(target_arch = "x86_64")]
        Arch::V4(_) => "x86-64-v4",
        _ => "vector",
    }
}
