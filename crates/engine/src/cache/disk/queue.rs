//! What waits for the writer: bounded in bytes, and never waited for by those who put it there.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::entry::Name;

/// What a job counts beside what it holds on the heap.
const JOB_BYTES: usize = 128;

/// Work for the writer.
pub(super) enum Job {
    /// Write this.
    Put {
        /// Of the value.
        key: String,
        /// To be written.
        value: Bytes,
    },
    /// Remove this: it is damaged.
    Forget(Name),
    /// Say when all that came before is done.
    Tell(oneshot::Sender<()>),
}

impl Job {
    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value } => [key.len(), value.len()]
                .into_iter()
                .fold(JOB_BYTES, usize::saturating_add),
            Self::Forget(_) => JOB_BYTES,
            // Those who wait are bounded by their own number, and must hear.
            Self::Tell(_) => 0,
        }
    }
}

/// First in, first out.
pub(super) struct Queue {
    state: Mutex<State>,
    more: Condvar,
    limit: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Of the jobs that wait, and of the one that is being done.
    bytes: usize,
    closed: bool,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::default(),
            more: Condvar::new(),
            limit,
        }
    }

    /// Whether there was room for it.
    pub(super) fn push(&self, job: Job) -> bool {
        let mut state = self.lock();
        let bytes = state.bytes.saturating_add(job.bytes());
        // A value as large as the limit goes alone.
        if state.closed || (bytes > self.limit && state.bytes > 0 && job.bytes() > 0) {
            return false;
        }
        state.bytes = bytes;
        state.jobs.push_back(job);
        self.more.notify_one();
        true
    }

    /// The next job, when there is one; `None` when the queue is closed and empty.
    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = (self.more.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A job of so many bytes holds them no longer.
    pub(super) fn done(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    /// Takes no more; what waits is still given out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.more.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(bytes: usize) -> Job {
        let key = String::new();
        let value = Bytes::from(vec![0; bytes - JOB_BYTES]);
        Job::Put { key, value }
    }

    #[test]
    fn bytes_are_held_until_the_job_is_done() {
        let queue = Queue::new(1000);
        assert!(queue.push(put(600)));
        assert!(queue.push(put(400)));
        assert!(!queue.push(put(200)));
        assert!(!queue.push(Job::Forget(Name::of(""))));
        let job = queue.next().unwrap();
        assert!(!queue.push(put(200)), "it is being written");
        queue.done(job.bytes());
        assert!(queue.push(put(600)));
        assert!(!queue.push(put(200)));
    }

    #[test]
    fn what_is_larger_than_the_limit_goes_alone() {
        let queue = Queue::new(1000);
        assert!(queue.push(put(2000)));
        assert!(!queue.push(put(200)));
        let job = queue.next().unwrap();
        queue.done(job.bytes());
        assert!(queue.push(put(200)));
        assert!(!queue.push(put(2000)));
    }

    #[test]
    fn who_asks_when_all_is_done_is_told_however_full_it_is() {
        let queue = Queue::new(1000);
        assert!(queue.push(put(1000)));
        let (done, _waiting) = oneshot::channel();
        assert!(queue.push(Job::Tell(done)));
        assert!(matches!(queue.next(), Some(Job::Put { .. })));
        assert!(matches!(queue.next(), Some(Job::Tell(_))));
    }

    #[test]
    fn a_closed_queue_is_emptied_and_takes_no_more() {
        let queue = Queue::new(1000);
        assert!(queue.push(put(600)));
        queue.close();
        assert!(!queue.push(put(200)));
        assert!(queue.next().is_some());
        assert!(queue.next().is_none());
    }
}
