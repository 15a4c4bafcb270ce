//! Collects a body, and goes on where a failure that may pass broke it off.
//!
//! The client library would try again, too, but not where a body ends early or a server hangs, and
//! nobody would count it: it is told not to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use object_store::{GetRange, ObjectMeta};
use tokio::time::sleep;

use super::{Ask, Begin, Failure, Part};
use crate::counters::CounterCells;
use crate::error::{StorageError, StorageErrorKind, shown};
use crate::remote::version_of;

/// A request that fails without a byte more than before is sent this many times again.
const RETRIES: u32 = 7;
/// The longest pause before the first of these; each later one is twice as long …
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Reads whole ranges.
pub(crate) struct Retrying<B> {
    inner: B,
    counters: Arc<CounterCells>,
}

/// What has come of an answer.
struct Partial {
    meta: ObjectMeta,
    start: u64,
    /// Bytes that it has when it is whole.
    length: usize,
    bytes: Vec<u8>,
}

impl<B: Begin> Retrying<B> {
    pub(super) fn new(inner: B, counters: &Arc<CounterCells>) -> Self {
        Self {
            inner,
            counters: Arc::clone(counters),
        }
    }

    pub(super) fn inner(&self) -> &B {
        &self.inner
    }

    pub(super) async fn read(&self, ask: &Ask) -> Result<Part, StorageError> {
        let mut partial = None;
        let mut failures = 0;
        loop {
            let before = received(&partial);
            let Err(failure) = self.go_on(ask, &mut partial).await else {
                break;
            };
            if received(&partial) > before {
                failures = 0;
            }
            if !failure.may_pass || failures >= RETRIES {
                return Err(failure.error);
            }
            let pause = pause(failures, rand::random());
            tracing::debug!(error = %failure.error, ?pause, "a read is tried again");
            failures += 1;
            sleep(pause).await;
            self.counters.retry();
        }
        match partial {
            Some(partial) => Ok(Part {
                meta: partial.meta,
                start: partial.start,
                bytes: Bytes::from(partial.bytes),
            }),
            // It has begun, or it would have failed.
            None => Err(incomplete(&ask.name)),
        }
    }

    /// Sends one request, for what has not come yet, and takes what comes.
    async fn go_on(&self, ask: &Ask, partial: &mut Option<Partial>) -> Result<(), Failure> {
        let rest = partial.as_ref().and_then(|p| p.rest(ask));
        let mut begun = self.inner.begin(rest.as_ref().unwrap_or(ask)).await?;
        let partial = match partial {
            Some(partial) => {
                if version_of(&partial.meta) != version_of(&begun.meta) {
                    return Err(StorageError::changed(&ask.name).into());
                }
                if begun.range != partial.left() {
                    return Err(incomplete(&ask.name).into());
                }
                partial
            }
            none => none.insert(Partial::new(&ask.name, begun.meta.clone(), &begun.range)?),
        };
        while let Some(chunk) = begun.body.next().await {
            let chunk = chunk?;
            self.counters.received(chunk.len());
            if chunk.len() > partial.length - partial.bytes.len() {
                return Err(incomplete(&ask.name).into());
            }
            partial.bytes.extend_from_slice(&chunk);
        }
        if partial.bytes.len() < partial.length {
            return Err(Failure {
                error: incomplete(&ask.name),
                may_pass: true,
            });
        }
        Ok(())
    }
}

impl Partial {
    fn new(
        name: &str,
        meta: ObjectMeta,
        range: &std::ops::Range<u64>,
    ) -> Result<Self, StorageError> {
        let no_memory = || {
            let message = format!("{}: no memory for what was asked for", shown(name));
            StorageError::new(StorageErrorKind::Unavailable, message)
        };
        let length = range.end.saturating_sub(range.start);
        let length = usize::try_from(length).map_err(|_| no_memory())?;
        let mut bytes = Vec::new();
        // No more than was asked for: the library has compared the ranges.
        bytes.try_reserve_exact(length).map_err(|_| no_memory())?;
        Ok(Self {
            meta,
            start: range.start,
            length,
            bytes,
        })
    }

    /// The bytes that have not come.
    fn left(&self) -> std::ops::Range<u64> {
        let end = self.start.saturating_add(self.length as u64);
        self.start.saturating_add(self.bytes.len() as u64)..end
    }

    /// What to ask for to have the rest; `None` where nothing has come.
    fn rest(&self, ask: &Ask) -> Option<Ask> {
        let strong = self.meta.e_tag.clone().filter(|tag| !tag.starts_with("W/"));
        Some(Ask {
            range: GetRange::Bounded(self.left()),
            etag: ask.etag.clone().or(strong),
            ..ask.clone()
        })
    }
}

/// Asks again as long as what failed may pass.
pub(super) async fn again<T, F: Future<Output = Result<T, Failure>>>(
    counters: &CounterCells,
    ask: impl Fn() -> F,
) -> Result<T, StorageError> {
    let mut failures = 0;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(failure) if !failure.may_pass || failures >= RETRIES => return Err(failure.error),
            Err(failure) => {
                let pause = pause(failures, rand::random());
                tracing::debug!(error = %failure.error, ?pause, "a request is tried again");
                failures += 1;
                sleep(pause).await;
                counters.retry();
            }
        }
    }
}

fn received(partial: &Option<Partial>) -> usize {
    partial.as_ref().map_or(0, |p| p.bytes.len())
}

/// The pause after so many failures in a row: a share (`luck`, from 0 to 1) of the longest, so that
/// those who failed together do not come back together.
fn pause(failures: u32, luck: f64) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.min(16)));
    longest.min(LONGEST_PAUSE).mul_f64(luck.clamp(0.0, 1.0))
}

fn incomplete(name: &str) -> StorageError {
    let message = format!(
        "{}: the store sent other bytes than it announced",
        shown(name)
    );
    StorageError::new(StorageErrorKind::Unavailable, message)
}

impl From<StorageError> for Failure {
    /// One that does not pass.
    fn from(error: StorageError) -> Self {
        Self {
            error,
            may_pass: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reads::fake::{Answer, Fake, ask, content};
    use tokio::time::Instant;

    async fn read(
        answers: impl IntoIterator<Item = Answer>,
    ) -> (
        Result<Vec<u8>, StorageErrorKind>,
        Vec<GetRange>,
        Arc<CounterCells>,
    ) {
        let counters = Arc::default();
        let retrying = Retrying::new(Fake::new(answers), &counters);
        let part = retrying.read(&ask(100..200)).await;
        let asked = retrying.inner.asked();
        let bytes = part.map(|p| p.bytes.to_vec()).map_err(|e| e.kind());
        (bytes, asked, counters)
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_with_longer_and_longer_pauses() {
        let began = Instant::now();
        let answers = (0..RETRIES).map(|_| Answer::refusal(true));
        let (bytes, asked, counters) = read(answers.chain([Answer::whole()])).await;
        assert_eq!(bytes.unwrap(), content(100..200));
        assert_eq!(asked, vec![GetRange::Bounded(100..200); 8]);
        assert_eq!(counters.get().retries, 7);
        assert!(began.elapsed() <= Duration::from_secs(6));
        for failures in 0..40 {
            let longest = pause(failures, 1.0);
            assert!(longest >= FIRST_PAUSE && longest <= LONGEST_PAUSE);
            assert_eq!(pause(failures, 0.0), Duration::ZERO);
            assert!(pause(failures, 0.5) < longest);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_not_tried_for_ever() {
        let (bytes, asked, _) = read((0..20).map(|_| Answer::refusal(true))).await;
        assert_eq!(bytes, Err(StorageErrorKind::Unavailable));
        assert_eq!(asked.len(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_pass_is_told_at_once() {
        let (bytes, asked, counters) = read([Answer::refusal(false), Answer::whole()]).await;
        assert_eq!(bytes, Err(StorageErrorKind::Unavailable));
        assert_eq!((asked.len(), counters.get().retries), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_breaks_off_is_gone_on_with() {
        let (bytes, asked, counters) = read([
            Answer::broken_after(30),
            Answer::ends_after(0),
            Answer::ends_after(20),
            Answer::whole(),
        ])
        .await;
        assert_eq!(bytes.unwrap(), content(100..200));
        let ranges = [100..200, 130..200, 130..200, 150..200];
        assert_eq!(asked, ranges.map(GetRange::Bounded));
        // No byte was sent twice.
        assert_eq!((counters.get().bytes, counters.get().retries), (100, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_is_of_the_same_version_or_nothing() {
        let (bytes, _, _) = read([Answer::broken_after(30), Answer::whole().of("other")]).await;
        assert_eq!(bytes, Err(StorageErrorKind::Changed));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_were_not_announced_are_not_used() {
        let (bytes, asked, _) = read([Answer::with_surplus(1), Answer::whole()]).await;
        assert_eq!(bytes, Err(StorageErrorKind::Unavailable));
        assert_eq!(asked.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_breaks_again_and_again_still_gets_there() {
        let answers = (0..30).map(|_| Answer::broken_after(3));
        let (bytes, asked, _) = read(answers.chain([Answer::whole()])).await;
        assert_eq!(bytes.unwrap(), content(100..200));
        assert_eq!(asked.len(), 31);
    }
}
