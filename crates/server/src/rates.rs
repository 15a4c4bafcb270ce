//! How much whoever shares a limit may ask for in a second. Off, if not configured.
//!
//! A second's worth may come at once (the generic cell rate algorithm, by `governor`); what is not
//! used is not saved beyond that.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, MonotonicClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::who::Who;

/// After so many questions, those who have not asked for a while are forgotten.
const TIDY: u32 = 1024;

/// Rates of all.
#[derive(Debug)]
pub(crate) struct Rates {
    messages: Option<Rate>,
    frames: Option<Rate>,
}

struct Rate {
    limiter: RateLimiter<Who, HashMapStateStore<Who>, MonotonicClock>,
    most: NonZeroU32,
    asked: AtomicU32,
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per second", self.most)
    }
}

impl Rate {
    fn new(most: NonZeroU32) -> Self {
        let (state, clock) = (HashMapStateStore::default(), MonotonicClock);
        Self {
            limiter: RateLimiter::new(Quota::per_second(most), state, clock),
            most,
            asked: AtomicU32::new(0),
        }
    }

    /// Takes so many, or says how long it is until there are as many. More than a second's worth
    /// counts as that.
    fn take(&self, who: Who, count: u32) -> Result<(), Duration> {
        if self.asked.fetch_add(1, Ordering::Relaxed) % TIDY == TIDY - 1 {
            self.limiter.retain_recent();
        }
        let Some(count) = NonZeroU32::new(count.min(self.most.get())) else {
            return Ok(());
        };
        match self.limiter.check_key_n(&who, count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(early)) => Err(early.wait_time_from(MonotonicClock.now())),
            // Cannot be: it was made no more than a second's worth.
            Err(_) => Err(Duration::from_secs(1)),
        }
    }
}

impl Rates {
    pub(crate) fn new(messages: Option<NonZeroU32>, frames: Option<NonZeroU32>) -> Arc<Self> {
        Arc::new(Self {
            messages: messages.map(Rate::new),
            frames: frames.map(Rate::new),
        })
    }

    /// One message, or one request. An error says how long to wait.
    pub(crate) fn message(&self, who: Who) -> Result<(), Duration> {
        self.messages.as_ref().map_or(Ok(()), |r| r.take(who, 1))
    }

    /// So many frames at once. An error says how long to wait.
    pub(crate) fn frames(&self, who: Who, count: usize) -> Result<(), Duration> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.frames.as_ref().map_or(Ok(()), |r| r.take(who, count))
    }
}

/// The rates of one of them.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    pub(crate) rates: Arc<Rates>,
    pub(crate) who: Who,
}

impl Pace {
    /// Returns when one more message may be read.
    pub(crate) async fn message(&self) {
        while let Err(wait) = self.rates.message(self.who) {
            tokio::time::sleep(wait).await;
        }
    }

    /// How many of so many frames may be asked for now.
    pub(crate) fn frames(&self, wanted: usize) -> usize {
        let may = |_: &usize| self.rates.frames(self.who, 1).is_ok();
        match self.rates.frames {
            None => wanted,
            Some(_) => (0..wanted).take_while(may).count(),
        }
    }

    /// Returns when so many frames more may be made.
    pub(crate) async fn wait_for(&self, count: usize) {
        while let Err(wait) = self.rates.frames(self.who, count) {
            tokio::time::sleep(wait).await;
        }
    }

    /// What is said to the others.
    pub(crate) fn too_fast(&self) -> String {
        let most = self.rates.frames.as_ref().map_or(0, |r| r.most.get());
        format!("At most {most} frames may be asked for in a second")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(messages: u32, frames: u32) -> (Pace, Pace) {
        let rates = Rates::new(NonZeroU32::new(messages), NonZeroU32::new(frames));
        let of = |address: [u8; 4]| Pace {
            rates: Arc::clone(&rates),
            who: Who::at(address.into()),
        };
        (of([192, 0, 2, 1]), of([192, 0, 2, 2]))
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_and_each_has_its_own() {
        // So few that none is added while the test runs.
        let (one, other) = pace(1, 1);
        let Pace { rates, who } = &one;
        assert_eq!(rates.message(*who), Ok(()));
        let wait = rates.message(*who).unwrap_err();
        assert!(
            !wait.is_zero() && wait <= Duration::from_secs(1),
            "{wait:?}"
        );
        assert_eq!(rates.message(other.who), Ok(()));
        assert_eq!((one.frames(9), other.frames(0), other.frames(3)), (1, 0, 1));
        assert!(one.too_fast().contains("At most 1 frames"));
    }

    #[test]
    fn what_is_larger_than_a_second_s_worth_is_let_in_alone() {
        let (one, _) = pace(0, 5);
        assert_eq!(one.rates.frames(one.who, 1000), Ok(()));
        assert!(one.rates.frames(one.who, 1000).is_err());
    }

    #[test]
    fn without_a_rate_all_may_come() {
        let (one, _) = pace(0, 0);
        assert_eq!(one.frames(1_000_000), 1_000_000);
        assert_eq!(one.rates.frames(one.who, usize::MAX), Ok(()));
        assert_eq!(one.rates.message(one.who), Ok(()));
    }

    #[test]
    fn who_asked_long_ago_is_forgotten() {
        let rate = Rate::new(NonZeroU32::MAX);
        for n in 0..TIDY * 2 {
            let who = Who::at(std::net::Ipv4Addr::from_bits(n).into());
            rate.take(who, 1).unwrap();
        }
        assert!(rate.limiter.len() <= TIDY as usize + 1);
    }
}
