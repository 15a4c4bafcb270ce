//! A request that is slow to begin gets a rival.
//!
//! Slow is: slower than 95 of the last 100 or so. What counts is when an answer begins, since how
//! long it takes depends on its length. Of the two, the one that begins first is read; the other
//! one's connection is closed.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use tokio::time::{Instant, timeout};

use super::gate::Gate;
use super::{Ask, Begin, Begun, Failure};
use crate::counters::CounterCells;

/// Answers that are remembered.
const REMEMBERED: usize = 128;
/// As long as there are fewer, nobody knows what is slow.
const FEWEST: usize = 32;
/// No request is slow before this: on a machine that is busy itself, a rival helps nobody.
const PATIENCE: Duration = Duration::from_millis(10);
/// Requests for which one rival may be sent: 5 %.
const REQUESTS_PER_RIVAL: u32 = 20;
/// Rivals that may be sent one after the other, when there were none for long.
const MOST_RIVALS: u32 = 8;

/// Requests of which some are sent twice.
pub(crate) struct Hedged<B> {
    inner: B,
    gate: Gate,
    on: bool,
    lately: Mutex<Lately>,
    counters: Arc<CounterCells>,
}

/// What is known of requests lately.
#[derive(Debug, Default)]
struct Lately {
    beginnings: VecDeque<Duration>,
    /// Each request adds one, each rival takes [`REQUESTS_PER_RIVAL`].
    saved: u32,
}

impl Lately {
    fn request(&mut self) {
        self.saved = (self.saved + 1).min(REQUESTS_PER_RIVAL * MOST_RIVALS);
    }

    fn began(&mut self, after: Duration) {
        if self.beginnings.len() >= REMEMBERED {
            self.beginnings.pop_front();
        }
        self.beginnings.push_back(after);
    }

    /// How long to wait for a request before it is slow.
    fn patience(&self) -> Option<Duration> {
        if self.beginnings.len() < FEWEST || self.saved < REQUESTS_PER_RIVAL {
            return None;
        }
        let mut all: Vec<Duration> = self.beginnings.iter().copied().collect();
        // 95 % of some is less than all of them.
        let at = all.len() * 95 / 100;
        let (_, slow, _) = all.select_nth_unstable(at);
        Some((*slow).max(PATIENCE))
    }

    /// Takes what a rival costs.
    fn spend(&mut self) -> bool {
        let left = self.saved.checked_sub(REQUESTS_PER_RIVAL);
        self.saved = left.unwrap_or(self.saved);
        left.is_some()
    }
}

impl<B> Hedged<B> {
    pub(super) fn new(inner: B, gate: Gate, on: bool, counters: &Arc<CounterCells>) -> Self {
        Self {
            inner,
            gate,
            on,
            lately: Mutex::default(),
            counters: Arc::clone(counters),
        }
    }

    pub(super) fn inner(&self) -> &B {
        &self.inner
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        // Figures: whole, whatever a panicking thread was doing.
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Begin> Begin for Hedged<B> {
    async fn begin(&self, ask: &Ask) -> Result<Begun, Failure> {
        if !self.on {
            return self.inner.begin(ask).await;
        }
        let patience = {
            let mut lately = self.lately();
            lately.request();
            lately.patience()
        };
        let since = Instant::now();
        let begun = self.race(ask, patience).await;
        // How soon a server refuses says nothing of how soon it delivers.
        if begun.is_ok() {
            self.lately().began(since.elapsed());
        }
        begun
    }
}

impl<B: Begin> Hedged<B> {
    async fn race(&self, ask: &Ask, patience: Option<Duration>) -> Result<Begun, Failure> {
        let mut first = pin!(self.inner.begin(ask));
        let Some(patience) = patience else {
            return first.await;
        };
        if let Ok(begun) = timeout(patience, &mut first).await {
            return begun;
        }
        // A rival waits for no place: where all are taken, the server has enough to do.
        let Some(place) = self.gate.try_enter() else {
            return first.await;
        };
        if !self.lately().spend() {
            return first.await;
        }
        self.counters.hedge();
        let second = pin!(self.inner.begin(ask));
        let (answer, other) = match select(first, second).await {
            Either::Left((answer, second)) => match answer {
                Ok(begun) => return Ok(begun),
                // The rival may still do it.
                failed => (failed, Either::Right(second)),
            },
            Either::Right((answer, first)) => match answer {
                Ok(begun) => {
                    return Ok(Begun {
                        place: Some(place),
                        ..begun
                    });
                }
                failed => (failed, Either::Left(first)),
            },
        };
        match other {
            Either::Left(first) => first.await.or(answer),
            Either::Right(second) => match second.await {
                Ok(begun) => Ok(Begun {
                    place: Some(place),
                    ..begun
                }),
                Err(_) => answer,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reads::fake::{Answer, Fake, ask};

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn hedged(
        answers: impl IntoIterator<Item = Answer>,
        on: bool,
    ) -> (Hedged<Fake>, Arc<CounterCells>) {
        let counters = Arc::default();
        let hedged = Hedged::new(Fake::new(answers), Gate::new(64), on, &counters);
        (hedged, counters)
    }

    fn usual(count: usize) -> impl Iterator<Item = Answer> {
        std::iter::repeat_n(Answer::whole().after(millis(40)), count)
    }

    async fn ask_often(hedged: &Hedged<Fake>, times: usize) {
        for _ in 0..times {
            hedged.begin(&ask(0..10)).await.ok();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_rival_of_a_slow_request_wins() {
        let slow = [
            Answer::whole().after(millis(5000)),
            Answer::whole().after(millis(40)).of("rival"),
        ];
        let (hedged, counters) = hedged(usual(100).chain(slow), true);
        ask_often(&hedged, 100).await;
        assert_eq!(counters.get().hedges, 0);
        let began = Instant::now();
        let begun = hedged.begin(&ask(0..10)).await.unwrap();
        assert_eq!(begun.meta.e_tag.as_deref(), Some("\"rival\""));
        assert!(began.elapsed() < millis(100));
        assert_eq!(counters.get().hedges, 1);
        // Its place among the requests in flight is its own.
        assert!(begun.place.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_leaves_it_to_the_other() {
        for (first, rival, expected) in [
            (Answer::refusal(true), Answer::whole(), true),
            (Answer::whole(), Answer::refusal(true), true),
            (Answer::refusal(true), Answer::refusal(true), false),
        ] {
            let race = [first.after(millis(500)), rival.after(millis(900))];
            let (hedged, counters) = hedged(usual(100).chain(race), true);
            ask_often(&hedged, 100).await;
            assert_eq!(hedged.begin(&ask(0..10)).await.is_ok(), expected);
            assert_eq!(counters.get().hedges, 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rivals_are_at_most_one_request_in_twenty() {
        // Every other one is slow: it is not for want of reasons.
        let answers =
            (0..3000).map(|n| Answer::whole().after(millis(if n % 2 == 0 { 20 } else { 3000 })));
        let (hedged, counters) = hedged((usual(64)).chain(answers), true);
        ask_often(&hedged, 64).await;
        for round in 1..=1000 {
            ask_often(&hedged, 1).await;
            assert!(counters.get().hedges <= (64 + round) / 20);
            // What was slow is forgotten, so that the next ones seem slow again.
            let mut lately = hedged.lately();
            lately.beginnings = std::iter::repeat_n(millis(40), REMEMBERED).collect();
        }
        assert!(counters.get().hedges > 30, "{:?}", counters.get());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_hasty() {
        // Too few are known.
        let (few, counters) = hedged(usual(20).chain([Answer::whole().after(millis(5000))]), true);
        ask_often(&few, 21).await;
        assert_eq!(counters.get().hedges, 0);
        // It is turned off.
        let (off, counters) = hedged(
            usual(100).chain([Answer::whole().after(millis(5000))]),
            false,
        );
        ask_often(&off, 101).await;
        assert_eq!(counters.get().hedges, 0);
        // All places are taken.
        let counters = Arc::default();
        let answers = usual(100).chain([Answer::whole().after(millis(5000))]);
        let full = Hedged::new(Fake::new(answers), Gate::new(0), true, &counters);
        ask_often(&full, 101).await;
        assert_eq!(counters.get().hedges, 0);
        // What answers within a moment is not slow.
        let (quick, counters) =
            hedged((0..200).map(|n| Answer::whole().after(millis(n % 9))), true);
        ask_often(&quick, 200).await;
        assert_eq!(counters.get().hedges, 0);
    }
}
