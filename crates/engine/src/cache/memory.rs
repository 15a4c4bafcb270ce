//! The tier in memory: one budget of bytes for values of every kind.

use std::fmt;
use std::hash::Hash;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

/// The share of the budget for what was wanted more than once, or came while there was room. The
/// rest is where newcomers prove themselves: at the library's own 3 %, a scan of large values
/// leaves them no time for that.
const HOT_SHARE: f64 = 0.8;
/// Values are at least about this large on the average. From it follows how many keys are
/// remembered after their values had to go.
const USUAL_VALUE_BYTES: u64 = 32 << 10;
/// No more keys than this are planned for; more may be kept.
const MAX_PLANNED_VALUES: u64 = 1 << 17;
/// The tables' part of the budget grows in this many steps.
const TABLE_STEPS: u64 = 64;

/// Values in memory under one budget of bytes.
///
/// What is kept is chosen by CLOCK-Pro, which resists scans: a value that is wanted a second time
/// outlives any number that are wanted once. Calls take a lock for about a microsecond and never
/// wait for anything else; [`get`](Self::get)s run side by side.
///
/// The budget counts what the caller's weigher says of each entry, and the cache's own tables. At
/// no time do the entries weigh more than it; when the tables grow, they may exceed it together,
/// by that growth, until the insertion that caused it has returned. A value that was handed out
/// lives on with whoever holds it and is not counted once it is evicted.
pub struct MemoryCache<K, V> {
    /// `None` where the budget is 0.
    entries: Option<Cache<K, Weighed<V>, ByWeight>>,
    weigh: fn(&K, &V) -> u64,
    budget: u64,
}

/// A value, and what it weighed when it came: the sums stay right whatever a weigher says later.
#[derive(Clone)]
struct Weighed<V> {
    value: V,
    weight: u64,
}

#[derive(Clone, Copy)]
struct ByWeight;

impl<K, V> Weighter<K, Weighed<V>> for ByWeight {
    fn weight(&self, _: &K, value: &Weighed<V>) -> u64 {
        value.weight
    }
}

impl<K: Eq + Hash, V: Clone> MemoryCache<K, V> {
    /// A cache of at most `budget` bytes; 0 keeps nothing.
    ///
    /// `weigh` says what an entry holds in bytes, with what the allocator adds, and without its
    /// place in the cache's tables. A value that shares a larger allocation (a slice of `Bytes`)
    /// keeps all of that alive: weigh what is kept alive.
    pub fn new(budget: u64, weigh: fn(&K, &V) -> u64) -> Self {
        let planned = (budget / USUAL_VALUE_BYTES).clamp(64, MAX_PLANNED_VALUES);
        let options = OptionsBuilder::new()
            // One part: with several, each would have its share of the budget, and nothing larger
            // than a share could be kept.
            .shards(1)
            .estimated_items_capacity(usize::try_from(planned).unwrap_or(64))
            .weight_capacity(budget)
            .hot_allocation(HOT_SHARE)
            .build();
        let entries = match options {
            Ok(options) if budget > 0 => Some(Cache::with_options(
                options,
                ByWeight,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            )),
            _ => None,
        };
        Self {
            entries,
            weigh,
            budget,
        }
    }

    /// The value of `key`, if it is there.
    pub fn get(&self, key: &K) -> Option<V> {
        self.entries.as_ref()?.get(key).map(|kept| kept.value)
    }

    /// Keeps `value` under `key`, in place of what was there, if it has room: what weighs more than
    /// the budget's larger part is not kept.
    pub fn insert(&self, key: K, value: V) {
        let Some(entries) = &self.entries else {
            return;
        };
        let weight = (self.weigh)(&key, &value).max(1);
        entries.insert(key, Weighed { value, weight });
        self.make_room_for_tables(entries);
    }

    /// Takes out what is kept under `key`.
    pub fn remove(&self, key: &K) -> Option<V> {
        let (_, kept) = self.entries.as_ref()?.remove(key)?;
        Some(kept.value)
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.entries.as_ref().map_or(0, Cache::len)
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in use: entries, and the tables that hold them.
    pub fn bytes(&self) -> u64 {
        let Some(entries) = &self.entries else {
            return 0;
        };
        entries.weight().saturating_add(tables(entries))
    }

    /// Bytes that may be in use; 0: the cache is off.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// What the tables take is taken from the entries' part of the budget.
    fn make_room_for_tables(&self, entries: &Cache<K, Weighed<V>, ByWeight>) {
        // In steps: each call costs the library a little of what it remembers of evicted keys.
        let step = (self.budget / TABLE_STEPS).max(1);
        let reserved = tables(entries).div_ceil(step).saturating_mul(step);
        // At least 1: with a capacity of 0 the library forgets how it is divided.
        let room = self.budget.saturating_sub(reserved).max(1);
        if room < entries.capacity() {
            entries.set_capacity(room);
        }
    }
}

fn tables<K: Eq + Hash, V: Clone>(entries: &Cache<K, Weighed<V>, ByWeight>) -> u64 {
    u64::try_from(entries.memory_used().total()).unwrap_or(u64::MAX)
}

impl<K, V> fmt::Debug for MemoryCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache")
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
