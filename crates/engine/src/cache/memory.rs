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

    /// Keeps `value` under `key`, in place of what was there. What weighs more than about three
    /// quarters of the budget is not kept, and then neither is what was there.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const MIB: u64 = 1 << 20;

    /// A value is its own weight.
    fn cache(budget: u64) -> MemoryCache<u64, u64> {
        MemoryCache::new(budget, |_, value| *value)
    }

    #[test]
    fn what_is_put_in_comes_out_until_it_is_taken_out() {
        let cache = cache(MIB);
        assert!(cache.is_empty());
        assert_eq!(cache.get(&1), None);
        cache.insert(1, 10);
        cache.insert(2, 20);
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), Some(20)));
        cache.insert(1, 11);
        assert_eq!((cache.get(&1), cache.len()), (Some(11), 2));
        assert_eq!(cache.remove(&1), Some(11));
        assert_eq!((cache.remove(&1), cache.get(&1)), (None, None));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn without_a_budget_nothing_is_kept() {
        let cache = cache(0);
        cache.insert(1, 1);
        cache.insert(2, 0);
        assert_eq!(
            (cache.get(&1), cache.get(&2), cache.remove(&1)),
            (None, None, None)
        );
        assert_eq!((cache.len(), cache.bytes(), cache.budget()), (0, 0, 0));
    }

    #[test]
    fn what_is_heavier_than_the_budget_is_not_kept_and_drives_nothing_out() {
        let cache = cache(MIB);
        cache.insert(1, MIB / 4);
        for weight in [MIB, MIB + 1, u64::MAX] {
            cache.insert(2, weight);
            assert_eq!(cache.get(&2), None, "{weight}");
        }
        assert_eq!(cache.get(&1), Some(MIB / 4));
        // Nor is what stood there before it: that is no longer what belongs to the key.
        cache.insert(1, 2 * MIB);
        assert_eq!((cache.get(&1), cache.len()), (None, 0));
    }

    #[test]
    fn one_value_may_take_most_of_the_budget() {
        let cache = cache(MIB);
        cache.insert(1, MIB * 3 / 4);
        assert_eq!(cache.get(&1), Some(MIB * 3 / 4));
    }

    #[test]
    fn a_scan_does_not_drive_out_what_is_wanted() {
        let cache = cache(64 * MIB);
        let wanted = 0..400;
        let size = 100 << 10;
        // More than fits passes by before and after.
        for key in 10_000..11_000 {
            cache.insert(key, size);
        }
        for round in 0..4 {
            for key in wanted.clone() {
                if cache.get(&key).is_none() {
                    cache.insert(key, size);
                }
                let passing = 100_000 + round * 1_000 + key;
                cache.insert(passing, size);
            }
        }
        for key in 1_000_000..1_010_000 {
            cache.insert(key, size);
        }
        let left = wanted
            .clone()
            .filter(|key| cache.get(key).is_some())
            .count();
        assert!(left >= 360, "{left} of {} are left", wanted.count());
    }

    #[test]
    fn values_of_any_size_fill_the_budget_and_never_exceed_it() {
        let mut random = StdRng::seed_from_u64(7);
        for budget in [1, 1000, 64 << 10, MIB, 64 * MIB] {
            let cache = cache(budget);
            let mut most = 0;
            for key in 0..20_000 {
                let size = 2_f64.powf(random.random_range(8.0..22.0)) as u64;
                cache.insert(key, size);
                assert!(
                    cache.bytes() <= budget.max(1 << 10),
                    "{} of {budget}",
                    cache.bytes()
                );
                most = most.max(cache.bytes());
            }
            // Small budgets hold few of these; a large one is used.
            if budget >= 64 * MIB {
                assert!(most > budget / 10 * 9, "{most} of {budget}");
            }
        }
    }

    #[test]
    fn tables_of_tiny_values_count() {
        let cache = cache(MIB);
        for key in 0..1_000_000 {
            cache.insert(key, 1);
        }
        assert!(cache.bytes() <= MIB, "{}", cache.bytes());
        let entry = size_of::<u64>() + size_of::<Weighed<u64>>();
        assert!(cache.len() * entry < 1 << 20, "{} entries", cache.len());
        assert!(cache.len() > 1000, "{} entries", cache.len());
    }

    /// Counts the bytes that live.
    struct Living(Arc<AtomicU64>, u64);

    impl Living {
        fn new(sum: &Arc<AtomicU64>, bytes: u64) -> Arc<Self> {
            sum.fetch_add(bytes, SeqCst);
            Arc::new(Self(Arc::clone(sum), bytes))
        }
    }

    impl Drop for Living {
        fn drop(&mut self) {
            self.0.fetch_sub(self.1, SeqCst);
        }
    }

    #[test]
    fn the_bound_holds_at_every_moment_with_many_threads() {
        const THREADS: u64 = 4;
        const LARGEST: u64 = MIB;
        let budget = 16 * MIB;
        let living = Arc::new(AtomicU64::new(0));
        let cache = MemoryCache::new(budget, |_, value: &Arc<Living>| value.1);
        let (mut most_said, mut most_living) = (0, 0);
        std::thread::scope(|scope| {
            let (cache, living) = (&cache, &living);
            let work = |thread| {
                let mut random = StdRng::seed_from_u64(thread);
                let mut most = (0, 0);
                for _ in 0..30_000 {
                    let key: u64 = random.random_range(0..5_000);
                    match random.random_range(0..10) {
                        0 => drop(cache.remove(&key)),
                        1..=5 => drop(cache.get(&key)),
                        _ => {
                            let bytes = random.random_range(1..=LARGEST);
                            cache.insert(key, Living::new(living, bytes));
                        }
                    }
                    // The others are in the middle of theirs.
                    most = (most.0.max(cache.bytes()), most.1.max(living.load(SeqCst)));
                }
                most
            };
            let working: Vec<_> = (0..THREADS).map(|t| scope.spawn(move || work(t))).collect();
            for thread in working {
                let (said, lived) = thread.join().unwrap();
                (most_said, most_living) = (said.max(most_said), lived.max(most_living));
            }
        });
        // The tables of some thousand entries may be ahead of their part by one doubling.
        assert!(most_said <= budget + budget / 16, "{most_said} of {budget}");
        // Each thread has one value in its hands that is not in yet, and some that are out.
        let in_hands = THREADS * 4 * LARGEST;
        assert!(
            most_living <= budget + in_hands,
            "{most_living} of {budget}"
        );
        let kept = living.load(SeqCst);
        assert!(kept > budget / 2, "{kept} of {budget}: not used");
        assert!(
            kept <= cache.bytes() && cache.bytes() <= budget,
            "{kept} {}",
            cache.bytes()
        );
        drop(cache);
        assert_eq!(living.load(SeqCst), 0);
    }
}
