//! What the C library's allocator does with memory that was given back.

/// Has large blocks given back to the system as soon as they are freed, and small ones kept in few
/// heaps. For programs that keep many blocks of all sizes for long, as a cache of images does.
///
/// glibc raises its limit for "large" with each large block that is freed, up to 32 MiB, and gives
/// each thread a heap. A cache's values then lie scattered over heaps that are mostly holes: the
/// server took three times the memory of its cache. Elsewhere this does nothing.
pub fn give_back_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Less than what most images take.
        const LARGE: libc::c_int = 64 << 10;
        const HEAPS: libc::c_int = 2;
        // SAFETY: sets parameters of the allocator, under its own lock.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_ARENA_MAX, HEAPS);
        }
    }
}
