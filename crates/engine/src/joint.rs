//! Values that several hold together, by name: one who comes while another holds it gets the same.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is held at the moment. A value ends with its last holder, so that nothing stays behind for
/// those who leave early.
#[derive(Debug)]
pub(crate) struct Joint<K, T>(Mutex<HashMap<K, Arc<T>>>);

impl<K, T> Default for Joint<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, T: Default> Joint<K, T> {
    /// The value that others hold under this key, else a new one.
    pub(crate) fn hold(&self, key: &K) -> Held<'_, K, T> {
        Held {
            joint: self,
            value: Arc::clone(self.lock().entry(key.clone()).or_default()),
            key: key.clone(),
        }
    }
}

impl<K, T> Joint<K, T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<T>>> {
        // A map that is changed by single calls: whole, whatever a panicking thread was doing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One holder's part.
#[derive(Debug)]
pub(crate) struct Held<'a, K: Eq + Hash, T: Default> {
    joint: &'a Joint<K, T>,
    key: K,
    value: Arc<T>,
}

impl<K: Eq + Hash, T: Default> Held<'_, K, T> {
    /// Who comes from now on gets a new value.
    pub(crate) fn close(&self) {
        let mut all = self.joint.lock();
        if (all.get(&self.key)).is_some_and(|shared| Arc::ptr_eq(shared, &self.value)) {
            all.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash, T: Default> Deref for Held<'_, K, T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.value
    }
}

impl<K: Eq + Hash, T: Default> Drop for Held<'_, K, T> {
    fn drop(&mut self) {
        let mut all = self.joint.lock();
        // Let go of under the lock, so that of two who leave together one is the last.
        self.value = Arc::default();
        if (all.get(&self.key)).is_some_and(|shared| Arc::strong_count(shared) == 1) {
            all.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn a_value_lives_as_long_as_somebody_holds_it() {
        let joint: Joint<u8, Mutex<u8>> = Joint::default();
        let first = joint.hold(&1);
        *first.lock().unwrap() = 5;
        let second = joint.hold(&1);
        drop(first);
        assert_eq!(*joint.hold(&1).lock().unwrap(), 5);
        assert_eq!(*joint.hold(&2).lock().unwrap(), 0);
        drop(second);
        assert!(joint.lock().is_empty());
        assert_eq!(*joint.hold(&1).lock().unwrap(), 0);
    }

    #[test]
    fn who_comes_after_it_was_closed_gets_another() {
        let joint: Joint<u8, Mutex<u8>> = Joint::default();
        let old = joint.hold(&1);
        *old.lock().unwrap() = 5;
        old.close();
        let new = joint.hold(&1);
        assert_eq!(*new.lock().unwrap(), 0);
        // The old one ends without taking the new one along.
        old.close();
        drop(old);
        assert!(Arc::ptr_eq(&joint.hold(&1), &new));
        drop(new);
        assert!(joint.lock().is_empty());
    }

    #[test]
    fn nothing_is_left_when_all_leave_at_once() {
        let joint: Joint<u8, Mutex<u8>> = Joint::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for n in 0..250 {
                        let held = joint.hold(&(n % 3));
                        if n % 7 == 0 {
                            held.close();
                        }
                    }
                });
            }
        });
        assert!(joint.lock().is_empty());
    }
}
