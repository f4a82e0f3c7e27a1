//! Measures the peak memory of a piece of code, with an allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static TAKEN: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn count(more: usize, less: usize) {
    // Fails at the end of a thread, when its counters are gone.
    let _ = TAKEN.try_with(|taken| {
        taken.set(taken.get().wrapping_add(more).wrapping_sub(less));
        let _ =
            PEAK.try_with(|peak| peak.set(peak.get().max(taken.get() as isize as usize & (usize::MAX >> 1))));
    });
}

#[expect(unsafe_code, reason = "only an allocator sees allocations; it passes every call on to the system's")]
// SAFETY: every call is passed on to `System` unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size, layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The peak of bytes that `work` held on this thread, and its result.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    TAKEN.set(0);
    PEAK.set(0);
    let result = work();
    (PEAK.get(), result)
}
