//! How much memory a piece of code takes at most: an allocator that counts, for this test program only.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static TAKEN: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn count(more: usize, less: usize) {
    // At a thread's end its counters are gone: nobody reads them any more.
    let _ = TAKEN.try_with(|taken| {
        taken.set(taken.get().wrapping_add(more).wrapping_sub(less));
        let _ =
            PEAK.try_with(|peak| peak.set(peak.get().max(taken.get() as isize as usize & (usize::MAX >> 1))));
    });
}

#[expect(
    unsafe_code,
    reason = "only an allocator sees what is allocated; it hands every call to the system's, unchanged"
)]
// SAFETY: every call is passed on to `System` as it came.
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

/// The most bytes that `work` held at a time on this thread, and its result.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    // From zero on: what is freed that was taken before would count below it.
    TAKEN.set(0);
    PEAK.set(0);
    let result = work();
    (PEAK.get(), result)
}
