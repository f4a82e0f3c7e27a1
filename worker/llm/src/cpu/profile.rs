//! Where the time of a step goes, for benchmarks: counters that a caller turns on by passing a clock.
//!
//! The library itself reads no clock: without one, each measured operation costs one load of a flag. The
//! counters are global, so measure one run at a time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// Projections and their gradients.
    Linear,
    /// Attention, including its products.
    Attention,
    /// Norms.
    Norm,
    /// The gated activation.
    Activation,
    /// The output layer with the loss, including its products.
    Head,
    /// The embedding.
    Embedding,
}

/// All kinds, in the order of a report.
pub const OP_KINDS: [OpKind; 6] =
    [OpKind::Linear, OpKind::Attention, OpKind::Norm, OpKind::Activation, OpKind::Head, OpKind::Embedding];

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Nanoseconds of each kind, in the order of [`OP_KINDS`].
    pub op_ns: [u64; OP_KINDS.len()],
    /// Nanoseconds in products of matrices of all kinds; those of parallel tasks are divided by the number of
    /// threads.
    pub gemm_ns: u64,
    /// Floating-point operations of those products.
    pub gemm_flops: u64,
}

static CLOCK: OnceLock<fn() -> u64> = OnceLock::new();
static OP_NS: [AtomicU64; OP_KINDS.len()] = [const { AtomicU64::new(0) }; OP_KINDS.len()];
static GEMM_NS: AtomicU64 = AtomicU64::new(0);
static GEMM_FLOPS: AtomicU64 = AtomicU64::new(0);

/// Measures from now on, with a clock that returns nanoseconds. A second call has no effect.
pub fn count_by(clock: fn() -> u64) {
    CLOCK.get_or_init(|| clock);
}

/// What was measured on all threads since the last call.
pub fn take() -> Profile {
    let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
    let mut counted =
        Profile { gemm_ns: take(&GEMM_NS), gemm_flops: take(&GEMM_FLOPS), ..Profile::default() };
    for (part, counter) in counted.op_ns.iter_mut().zip(&OP_NS) {
        *part = take(counter);
    }
    counted
}

/// Runs `work`, and adds its time to `kind`'s.
pub(crate) fn timed<T>(kind: OpKind, work: impl FnOnce() -> T) -> T {
    let Some(clock) = CLOCK.get() else { return work() };
    let begun = clock();
    let done = work();
    OP_NS[kind as usize].fetch_add(clock().saturating_sub(begun), Ordering::Relaxed);
    done
}

/// Runs a product of `flops` operations, and counts it; `threads_beside` threads run such products at the
/// same time.
pub(super) fn gemm(flops: u64, threads_beside: usize, work: impl FnOnce()) {
    let Some(clock) = CLOCK.get() else { return work() };
    let begun = clock();
    work();
    GEMM_NS.fetch_add(clock().saturating_sub(begun) / threads_beside.max(1) as u64, Ordering::Relaxed);
    GEMM_FLOPS.fetch_add(flops, Ordering::Relaxed);
}
