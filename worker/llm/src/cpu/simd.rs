//! The widest vector instructions that this machine has, for loops over slices.
//!
//! The program is built for any CPU of its kind; what is called through here is compiled for several, and
//! chosen when it runs. Results may differ in the last bit between instruction sets, which is why a
//! checkpoint records them.

use pulp::{Arch, NullaryFnOnce, WithSimd};

/// Runs `work` compiled for the widest instructions. `work` and all that it calls must be inlined to gain
/// anything.
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
