//! What happens a thousand times is told once in a while: a log that is flooded tells nothing.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(10);

/// One kind of line.
#[derive(Default, Debug)]
pub(crate) struct Seldom {
    /// When it was told last, and how often it was not since.
    last: Mutex<(Option<Instant>, u64)>,
}

impl Seldom {
    /// How many were not told since the last one, where it is time for another.
    pub(crate) fn say(&self) -> Option<u64> {
        self.say_at(Instant::now())
    }

    fn say_at(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, unsaid) = &mut *last;
        if told.is_some_and(|told| now.saturating_duration_since(told) < PAUSE) {
            *unsaid = unsaid.saturating_add(1);
            return None;
        }
        *told = Some(now);
        Some(std::mem::take(unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_and_later_how_often_it_was_not() {
        let seldom = Seldom::default();
        let start = Instant::now();
        assert_eq!(seldom.say_at(start), Some(0));
        assert_eq!(seldom.say_at(start + PAUSE / 2), None);
        assert_eq!(seldom.say_at(start + PAUSE / 2), None);
        assert_eq!(seldom.say_at(start + PAUSE), Some(2));
        assert_eq!(seldom.say_at(start + PAUSE), None);
    }
}
