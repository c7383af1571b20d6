//! The allocator of the process, and the one thing that is asked of it.
//!
//! Many small allocations by several threads: glibc's malloc fragments, mimalloc's memory stays flat. It keeps freed pages
//! of a thread until the thread allocates again, so a thread that has let go of much says so.
#![allow(unsafe_code, reason = "mimalloc's crate has no binding for this without one more dependency")]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// SAFETY: the declaration is mimalloc.h's `void mi_collect(bool force)`, and the library is linked by its crate. It takes no
// pointer, may be called at any time by any thread, and touches nothing that is in use.
unsafe extern "C" {
    safe fn mi_collect(force: bool);
}

/// Gives what this thread has freed back to the kernel.
pub(crate) fn collect() {
    mi_collect(true);
}
