//! So many requests at the same time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Ask, Begin, Begun, Failure};

/// What all requests to one host go through.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }

    async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed; if it were, requests would only be unbounded.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }

    /// A place, if one is free.
    pub(super) fn try_enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// Requests that wait for a place, and keep it until their bodies have ended.
pub(crate) struct Gated<B> {
    inner: B,
    gate: Gate,
}

impl<B> Gated<B> {
    pub(super) fn new(inner: B, gate: Gate) -> Self {
        Self { inner, gate }
    }

    pub(super) fn inner(&self) -> &B {
        &self.inner
    }
}

impl<B: Begin> Begin for Gated<B> {
    async fn begin(&self, ask: &Ask) -> Result<Begun, Failure> {
        let place = self.gate.enter().await;
        let begun = self.inner.begin(ask).await?;
        Ok(Begun {
            // A rival that has won brings its own.
            place: begun.place.or(place),
            ..begun
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reads::fake::{Answer, Fake, ask};

    #[tokio::test(start_paused = true)]
    async fn a_place_is_kept_until_the_body_has_ended() {
        let gate = Gate::new(2);
        let gated = Gated::new(Fake::new([const { Answer::whole() }; 3]), gate.clone());
        let first = gated.begin(&ask(0..10)).await.unwrap();
        let second = gated.begin(&ask(0..10)).await.unwrap();
        assert!(gate.try_enter().is_none());
        let (ask, mut third) = (ask(0..10), None);
        let waiting = tokio::time::timeout(std::time::Duration::from_secs(60), async {
            third = Some(gated.begin(&ask).await);
        });
        assert!(waiting.await.is_err());
        assert!(third.is_none());
        drop(first);
        third = Some(gated.begin(&ask).await);
        assert!(third.is_some_and(|t| t.is_ok()));
        drop(second);
        assert!(gate.try_enter().is_some());
    }

    #[tokio::test]
    async fn a_failure_gives_its_place_back() {
        let gate = Gate::new(1);
        let gated = Gated::new(Fake::new([Answer::refusal(false)]), gate.clone());
        assert!(gated.begin(&ask(0..10)).await.is_err());
        assert!(gate.try_enter().is_some());
    }
}
