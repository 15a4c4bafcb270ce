//! Which files there are, what they take, and which of them must go.

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::entry::Name;

/// Filesystems give out blocks of this size.
const BLOCK: u64 = 4096;
/// Files that the index may hold: it is in memory.
const MAX_FILES: u64 = 1 << 19;
/// As in memory: the rest is for newcomers, until they are wanted a second time.
const HOT_SHARE: f64 = 0.8;
/// Evicted names are remembered for half as many files as this, or for fewer in a small cache.
const MAX_PLANNED_FILES: u64 = 1 << 17;
const USUAL_FILE_BYTES: u64 = 64 << 10;

/// The files of a folder, under one budget of bytes.
pub(super) struct Index {
    files: Cache<Name, Charge, ByCharge, DefaultHashBuilder, Evicted>,
    budget: u64,
}

/// What a file is counted as, in bytes.
#[derive(Clone, Copy)]
struct Charge(u64);

#[derive(Clone, Copy)]
struct ByCharge;

impl Weighter<Name, Charge> for ByCharge {
    fn weight(&self, _: &Name, charge: &Charge) -> u64 {
        charge.0
    }
}

/// Collects the names of files that must go.
#[derive(Clone, Copy)]
struct Evicted;

impl Lifecycle<Name, Charge> for Evicted {
    type RequestState = Vec<Name>;

    fn on_evict(&self, evicted: &mut Vec<Name>, name: Name, _: Charge) {
        evicted.push(name);
    }
}

/// A file that an earlier process left.
pub(super) struct Found {
    /// Under which it is there.
    pub(super) name: Name,
    /// Its length.
    pub(super) bytes: u64,
    /// When it was written.
    pub(super) modified: std::time::SystemTime,
}

impl Index {
    pub(super) fn new(budget: u64) -> Self {
        let planned = (budget / USUAL_FILE_BYTES).clamp(64, MAX_PLANNED_FILES);
        let options = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(usize::try_from(planned).unwrap_or(64))
            .weight_capacity(budget)
            .hot_allocation(HOT_SHARE)
            .build();
        let files = match options {
            Ok(options) => {
                Cache::with_options(options, ByCharge, DefaultHashBuilder::default(), Evicted)
            }
            // Both numbers that it asks for are set.
            Err(_) => Cache::with(64, budget, ByCharge, DefaultHashBuilder::default(), Evicted),
        };
        Self { files, budget }
    }

    /// Bytes that the files may take.
    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    fn charge(&self, bytes: u64) -> u64 {
        // So that files without end, however small, cannot make the index grow without end.
        let least = self.budget / MAX_FILES;
        bytes.div_ceil(BLOCK).saturating_mul(BLOCK).max(least)
    }

    /// Whether a file of so many bytes is kept at all.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        self.charge(bytes) <= self.budget / 2
    }

    /// Takes in what was found, the newest first, as far as it fits. Returns what must go.
    pub(super) fn take_over(&self, mut found: Vec<Found>) -> Vec<Name> {
        found.sort_unstable_by_key(|file| std::cmp::Reverse(file.modified));
        let mut room = self.budget;
        let mut kept = found.len();
        for (place, file) in found.iter().enumerate() {
            match room.checked_sub(self.charge(file.bytes)) {
                Some(rest) if self.fits(file.bytes) => room = rest,
                _ => {
                    kept = place;
                    break;
                }
            }
        }
        let mut gone: Vec<Name> = found.drain(kept..).map(|file| file.name).collect();
        for file in found.iter().rev() {
            gone.append(&mut self.admit(file.name, file.bytes));
        }
        gone
    }

    /// Takes in a file. Returns those that must go for it: older ones, and the one of this name,
    /// if there was one.
    #[must_use]
    pub(super) fn admit(&self, name: Name, bytes: u64) -> Vec<Name> {
        let mut evicted = Vec::new();
        let charge = Charge(self.charge(bytes));
        (self.files).insert_with_lifecycle(name, charge, &mut evicted);
        evicted
    }

    /// The file is wanted: what it is counted as, if it is there.
    pub(super) fn touch(&self, name: Name) -> Option<u64> {
        self.files.get(&name).map(|charge| charge.0)
    }

    /// Whether the file is there, without being wanted.
    pub(super) fn holds(&self, name: Name) -> bool {
        self.files.contains_key(&name)
    }

    pub(super) fn remove(&self, name: Name) {
        self.files.remove(&name);
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.weight()
    }
}
