//! Panics on purpose, in unit tests only: in the middle of a fold, before one of its changes.

use std::cell::Cell;
use std::thread_local;

thread_local! {
    static POINTS_LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    static POINTS_PASSED: Cell<u64> = const { Cell::new(0) };
    static FOLDING: Cell<&'static str> = const { Cell::new("") };
}

/// Panics at the `n`-th point from here on, counted from 0; `None`: never.
pub(crate) fn panic_at(n: Option<u64>) {
    POINTS_LEFT.set(n);
    POINTS_PASSED.set(0);
}

/// How many points were passed since [`panic_at`].
pub(crate) fn points_passed() -> u64 {
    POINTS_PASSED.get()
}

/// The event that was folded last.
pub(crate) fn last_folded() -> &'static str {
    FOLDING.get()
}

/// The fold of an event begins.
pub(crate) fn folding(event: &'static str) {
    FOLDING.set(event);
    point();
}

/// A place where a panic may be planted.
pub(crate) fn point() {
    POINTS_PASSED.set(POINTS_PASSED.get() + 1);
    match POINTS_LEFT.get() {
        Some(0) => {
            POINTS_LEFT.set(None);
            // Without the panic hook: thousands of messages would say nothing.
            std::panic::resume_unwind(Box::new("planted"));
        }
        Some(left) => POINTS_LEFT.set(Some(left - 1)),
        None => {}
    }
}
