//! Where the time of a step goes, for benches: counters that a caller turns on by lending a clock.
//!
//! The library itself reads no clock: without one, each mark costs a look at a flag. Counters are the
//! process's, so measure one run at a time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind {
    /// Projections and their gradients.
    Linear,
    /// Attention, its own products among it.
    Attention,
    /// Norms.
    Norm,
    /// The gated activation.
    Activation,
    /// The output layer with the loss, its own products among it.
    Head,
    /// The embedding.
    Embedding,
}

/// All kinds, in the order of a report.
pub const OP_KINDS: [OpKind; 6] =
    [OpKind::Linear, OpKind::Attention, OpKind::Norm, OpKind::Activation, OpKind::Head, OpKind::Embedding];

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Nanoseconds of each kind, in the order of [`OP_KINDS`].
    pub op_ns: [u64; OP_KINDS.len()],
    /// Nanoseconds in products of matrices, whatever they were for: those of parallel tasks divided by the
    /// threads.
    pub gemm_ns: u64,
    /// Floating-point operations of those.
    pub gemm_flops: u64,
}

static CLOCK: OnceLock<fn() -> u64> = OnceLock::new();
static OP_NS: [AtomicU64; OP_KINDS.len()] = [const { AtomicU64::new(0) }; OP_KINDS.len()];
static GEMM_NS: AtomicU64 = AtomicU64::new(0);
static GEMM_FLOPS: AtomicU64 = AtomicU64::new(0);

/// Counts from now on, by a clock that gives nanoseconds. A second call changes nothing.
pub fn count_by(clock: fn() -> u64) {
    CLOCK.get_or_init(|| clock);
}

/// What was counted since the last call, of all threads.
pub fn take() -> Profile {
    let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
    let mut counted =
        Profile { gemm_ns: take(&GEMM_NS), gemm_flops: take(&GEMM_FLOPS), ..Profile::default() };
    for (part, counter) in counted.op_ns.iter_mut().zip(&OP_NS) {
        *part = take(counter);
    }
    counted
}

/// Does `work`, and counts its time as `kind`'s.
pub(crate) fn timed<T>(kind: OpKind, work: impl FnOnce() -> T) -> T {
    let Some(clock) = CLOCK.get() else { return work() };
    let begun = clock();
    let done = work();
    OP_NS[kind as usize].fetch_add(clock().saturating_sub(begun), Ordering::Relaxed);
    done
}

/// Does a product of `flops` operations, beside which others run: on as many threads as `threads_beside`.
pub(super) fn gemm(flops: u64, threads_beside: usize, work: impl FnOnce()) {
    let Some(clock) = CLOCK.get() else { return work() };
    let begun = clock();
    work();
    GEMM_NS.fetch_add(clock().saturating_sub(begun) / threads_beside.max(1) as u64, Ordering::Relaxed);
    GEMM_FLOPS.fetch_add(flops, Ordering::Relaxed);
}
