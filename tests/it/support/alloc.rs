//! A global allocator that counts, thread by thread: other tests run in other threads of the same process. The library
//! itself forbids unsafe code; an allocator can't be had without.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

pub struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    /// Bytes; below zero where this thread frees what another one has allocated.
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        grow(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        grow(-(layout.size() as i64));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        grow(size as i64 - layout.size() as i64);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn count() {
    // At thread exit the counter may be gone already.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

fn grow(bytes: i64) {
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

/// How often this thread allocates (or reallocates) while `work` runs.
pub fn during<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = COUNT.get();
    let result = work();
    (COUNT.get() - before, result)
}

/// The most bytes that this thread holds at one time while `work` runs, beyond what it held before. `work` must not
/// pass memory from thread to thread.
pub fn peak<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let (growth, result) = growth(work);
    (growth.peak, result)
}

/// Bytes that this thread holds.
pub fn live() -> i64 {
    LIVE.get()
}

/// [`peak_since`] begins here.
pub fn peak_from_now() {
    PEAK.set(LIVE.get());
}

/// The most bytes that this thread has held.
pub fn peak_since() -> i64 {
    PEAK.get()
}

/// Bytes that this thread holds beyond what it held before.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// When `work` has ended, its result included; zero where it has freed more than it allocated.
    pub live: u64,
    /// At most, while `work` ran.
    pub peak: u64,
}

/// What `work` adds to the bytes that this thread holds, as they were asked of the allocator. `work` must not pass
/// memory from thread to thread.
pub fn growth<T>(work: impl FnOnce() -> T) -> (Growth, T) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    let since = |now: i64| u64::try_from(now - before).unwrap_or_default();
    (Growth { live: since(LIVE.get()), peak: since(PEAK.get()) }, result)
}
