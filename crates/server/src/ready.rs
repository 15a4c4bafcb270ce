//! `/ready`: whether this server is to be sent requests.
//!
//! It is when its store answers, its workers live and it is not about to stop. Balancers ask often
//! and many at once: the store is looked at once in a while, by one look at a time, and nobody waits
//! for it long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use engine::Engine;
use serde::Serialize;
use tokio::sync::watch;

/// How long a good look holds, and a bad one.
const GOOD: Duration = Duration::from_secs(10);
const BAD: Duration = Duration::from_secs(1);
/// How long a look may take; how long somebody waits for it.
const LOOK: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_millis(800);

/// What a look has shown.
#[derive(Clone, Debug)]
struct Seen {
    at: Instant,
    problem: Option<String>,
}

impl Seen {
    fn holds(&self) -> bool {
        let time = if self.problem.is_none() { GOOD } else { BAD };
        self.at.elapsed() < time
    }
}

/// Whether the server is ready.
#[derive(Debug)]
pub(crate) struct Ready {
    engine: Engine,
    leaving: AtomicBool,
    seen: watch::Sender<Option<Seen>>,
    looking: AtomicBool,
}

/// As it is told, in JSON: of each part `ok`, or a sentence.
#[derive(PartialEq, Eq, Debug, Serialize)]
struct Told {
    ready: bool,
    server: String,
    store: String,
    workers: String,
}

impl Ready {
    pub(crate) fn new(engine: Engine) -> Arc<Self> {
        Arc::new(Self {
            engine,
            leaving: AtomicBool::new(false),
            seen: watch::Sender::new(None),
            looking: AtomicBool::new(false),
        })
    }

    /// From now on it is not.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn answer(self: &Arc<Self>) -> Response {
        let (alive, all) = self.engine.workers();
        let told = tell(
            self.leaving.load(Ordering::Relaxed),
            self.store().await,
            alive,
            all,
        );
        let status = match told.ready {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, [(CACHE_CONTROL, "no-store")], Json(told)).into_response()
    }

    /// What is wrong with the store.
    async fn store(self: &Arc<Self>) -> Option<String> {
        let mut seen = self.seen.subscribe();
        let known = seen.borrow_and_update().clone();
        if let Some(known) = known.as_ref().filter(|known| known.holds()) {
            return known.problem.clone();
        }
        if !self.looking.swap(true, Ordering::AcqRel) {
            tokio::spawn(Arc::clone(self).look());
        }
        match tokio::time::timeout(WAIT, seen.changed()).await {
            Ok(_) => seen.borrow().as_ref().and_then(|seen| seen.problem.clone()),
            // A look takes a while: what was seen before, if that is not long ago.
            Err(_) => match known.filter(|known| known.at.elapsed() < GOOD + LOOK) {
                Some(known) => known.problem,
                None => Some("it has not answered yet".into()),
            },
        }
    }

    async fn look(self: Arc<Self>) {
        let reached = tokio::time::timeout(LOOK, self.engine.store().reach()).await;
        let problem = match reached {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("it did not answer within {} s", LOOK.as_secs())),
        };
        let before = self.seen.borrow().as_ref().and_then(|s| s.problem.clone());
        match (&before, &problem) {
            (None, Some(problem)) => tracing::warn!(problem, "the store is not reached"),
            (Some(_), None) => tracing::info!("the store is reached again"),
            _ => {}
        }
        let at = Instant::now();
        // Before the word: who asks after it may start the next look.
        self.looking.store(false, Ordering::Release);
        self.seen.send_replace(Some(Seen { at, problem }));
    }
}

fn tell(leaving: bool, store: Option<String>, alive: usize, all: usize) -> Told {
    let ok = || "ok".to_owned();
    let workers = (alive < all).then(|| format!("{alive} of {all} live"));
    let leaving = leaving.then(|| "it is stopping".to_owned());
    Told {
        ready: leaving.is_none() && store.is_none() && workers.is_none(),
        server: leaving.unwrap_or_else(ok),
        store: store.unwrap_or_else(ok),
        workers: workers.unwrap_or_else(ok),
    }
}

#[cfg(test)]
mod tests {
    use super::tell;

    #[test]
    fn each_part_is_told() {
        let told = |leaving, store: Option<&str>, alive| {
            let told = tell(leaving, store.map(str::to_owned), alive, 2);
            serde_json::to_string(&told).unwrap()
        };
        assert_eq!(
            told(false, None, 2),
            r#"{"ready":true,"server":"ok","store":"ok","workers":"ok"}"#
        );
        assert_eq!(
            told(true, Some("gone"), 1),
            r#"{"ready":false,"server":"it is stopping","store":"gone","workers":"1 of 2 live"}"#
        );
        for (leaving, store, alive) in [(true, None, 2), (false, Some("x"), 2), (false, None, 0)] {
            assert!(told(leaving, store, alive).contains("\"ready\":false"));
        }
    }
}
