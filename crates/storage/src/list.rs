//! What lies below a prefix, a page at a time.
//!
//! A prefix is the beginning of names, as S3 means it: `flights/` lists a folder, `flights/2026-`
//! what in it begins so. What lies deeper than the next slash is told as a folder only. Names are
//! given so that [`crate::Store::open`] takes them, and nothing is listed that it would not open:
//! nothing outside the root or a bucket's prefix, no symbolic link that leads out.

use std::time::SystemTime;

use crate::object::{ObjectVersion, Version};

/// Entries that a page may have at most, as S3 has it.
pub const MOST_ENTRIES: usize = 1000;

/// What of a listing is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// What names begin with.
    pub prefix: &'a str,
    /// So many folders and objects at the most; [`MOST_ENTRIES`] where it is more.
    pub limit: usize,
    /// Where the page before ended.
    pub cursor: Option<&'a str>,
    /// Which objects are wanted, by their names.
    pub wanted: fn(&str) -> bool,
}

impl Page<'_> {
    pub(crate) fn limit(&self) -> usize {
        self.limit.clamp(1, MOST_ENTRIES)
    }
}

/// A page.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listing {
    /// The folders, each with the slash at its end: a prefix to list next.
    pub folders: Vec<String>,
    /// The objects that are wanted.
    pub objects: Vec<Entry>,
    /// There is more: where the next page begins. A page may have few entries, even none, and not
    /// be the last.
    pub cursor: Option<String>,
}

/// An object, as a listing tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// By which it is opened.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// When it was last written, where the store says it.
    pub modified: Option<SystemTime>,
    /// Which version it is now.
    pub version: ObjectVersion,
}

impl Entry {
    pub(crate) fn new(
        name: String,
        size: u64,
        modified: Option<SystemTime>,
        version: Version,
    ) -> Self {
        Self {
            name,
            size,
            modified,
            version: ObjectVersion(version),
        }
    }
}
