//! Who reads what is being read joins that.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};

use crate::error::StorageError;

/// A read that several may wait for; it goes on as long as one of them does.
type Flying<T> = Shared<BoxFuture<'static, Result<T, StorageError>>>;
type InTheAir<T> = WeakShared<BoxFuture<'static, Result<T, StorageError>>>;

/// Reads under way, by what is read.
pub(super) struct Flights<K, T>(Arc<Mutex<Map<K, T>>>)
where
    T: Clone;

struct Map<K, T: Clone> {
    flying: HashMap<K, (u64, InTheAir<T>)>,
    begun: u64,
}

impl<K, T: Clone> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Map {
            flying: HashMap::new(),
            begun: 0,
        })))
    }
}

impl<K, T> Flights<K, T>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// The read of this key that is under way (true), else the one that `begin` makes.
    pub(super) fn join<F>(&self, key: K, begin: impl FnOnce() -> F) -> (Flying<T>, bool)
    where
        F: Future<Output = Result<T, StorageError>> + Send + 'static,
    {
        let mut map = lock(&self.0);
        if let Some(flying) = map.flying.get(&key).and_then(|(_, f)| f.upgrade()) {
            return (flying, true);
        }
        map.begun = map.begun.wrapping_add(1);
        let landing = Landing {
            flights: Arc::clone(&self.0),
            key: key.clone(),
            number: map.begun,
        };
        let work = begin();
        let flying = async move {
            let _landing = landing;
            work.await
        };
        let flying = flying.boxed().shared();
        if let Some(in_the_air) = flying.downgrade() {
            let number = map.begun;
            map.flying.insert(key, (number, in_the_air));
        }
        (flying, false)
    }
}

/// Takes a read out when it has ended, however it ended.
struct Landing<K: Eq + Hash, T: Clone> {
    flights: Arc<Mutex<Map<K, T>>>,
    key: K,
    number: u64,
}

impl<K: Eq + Hash, T: Clone> Drop for Landing<K, T> {
    fn drop(&mut self) {
        let mut map = lock(&self.flights);
        // Where all had left this one, there may be another by now.
        if (map.flying.get(&self.key)).is_some_and(|(number, _)| *number == self.number) {
            map.flying.remove(&self.key);
        }
    }
}

fn lock<K, T: Clone>(map: &Mutex<Map<K, T>>) -> MutexGuard<'_, Map<K, T>> {
    // A map that is changed by single calls: whole, whatever a panicking thread was doing.
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::error::StorageErrorKind;

    async fn after(seconds: u64, result: Result<u8, StorageErrorKind>) -> Result<u8, StorageError> {
        sleep(Duration::from_secs(seconds)).await;
        result.map_err(|kind| StorageError::new(kind, "told"))
    }

    #[tokio::test(start_paused = true)]
    async fn equal_reads_are_one() {
        let flights: Flights<&str, u8> = Flights::default();
        let (a, joined_a) = flights.join("a", || after(5, Ok(1)));
        let (b, joined_b) = flights.join("a", || after(0, Ok(2)));
        let (c, joined_c) = flights.join("c", || after(5, Err(StorageErrorKind::Timeout)));
        let (d, joined_d) = flights.join("c", || after(0, Ok(3)));
        assert_eq!(
            [joined_a, joined_b, joined_c, joined_d],
            [false, true, false, true]
        );
        let (a, b, c, d) = futures::join!(a, b, c, d);
        assert_eq!((a, b), (Ok(1), Ok(1)));
        assert_eq!(c.unwrap_err().kind(), StorageErrorKind::Timeout);
        assert_eq!(d.unwrap_err().kind(), StorageErrorKind::Timeout);
        // What has ended is read again.
        assert!(lock(&flights.0).flying.is_empty());
        let (again, joined) = flights.join("a", || after(0, Ok(4)));
        assert_eq!((again.await, joined), (Ok(4), false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_outlives_the_one_who_began_it_and_not_the_last() {
        let flights: Flights<&str, u8> = Flights::default();
        let (first, _) = flights.join("a", || after(5, Ok(1)));
        let second = flights.join("a", || after(0, Ok(2))).0;
        // The first polls it, and leaves.
        assert!(timeout(Duration::from_secs(1), first).await.is_err());
        assert_eq!(second.await, Ok(1));
        let (third, _) = flights.join("a", || after(5, Ok(3)));
        assert!(timeout(Duration::from_secs(1), third).await.is_err());
        assert!(lock(&flights.0).flying.is_empty());
        assert!(!flights.join("a", || after(0, Ok(4))).1);
    }
}
