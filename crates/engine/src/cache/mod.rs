//! What is kept because it may be wanted again: in memory, and on a disk.
//!
//! Both tiers hold any bytes under any key and know nothing of videos. Both are bounded in bytes,
//! and both prefer what was wanted twice to what only passed by: a long scan does not empty them.
//! Neither answers with anything but what was put in: an entry that was lost or damaged is a miss.

mod disk;
#[cfg(test)]
mod figures;
mod memory;

pub use disk::{DiskCache, DiskCacheCounters, DiskCacheError};
pub use memory::MemoryCache;
