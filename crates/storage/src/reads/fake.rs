//! A server for tests of the parts: it answers as it is told to.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use object_store::path::Path;
use object_store::{GetRange, ObjectMeta};

use super::{Ask, Begin, Begun, Failure};
use crate::error::{StorageError, StorageErrorKind};

const SIZE: u64 = 1000;

/// The bytes of the one object that there is.
pub(crate) fn content(range: Range<u64>) -> Vec<u8> {
    range.map(|n| (n % 251) as u8).collect()
}

pub(crate) fn ask(range: Range<u64>) -> Ask {
    Ask {
        name: "video".into(),
        path: Path::from("video"),
        range: GetRange::Bounded(range),
        etag: Some("\"v\"".into()),
    }
}

/// How one request is answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    refused: Option<Failure>,
    /// Before it begins.
    after: Duration,
    etag: &'static str,
    /// Bytes after which the body ends, and whether that is told as a failure.
    cut: Option<(usize, bool)>,
    surplus: usize,
}

impl Answer {
    pub(crate) const fn whole() -> Self {
        Self {
            refused: None,
            after: Duration::ZERO,
            etag: "v",
            cut: None,
            surplus: 0,
        }
    }

    pub(crate) fn refusal(may_pass: bool) -> Self {
        Self {
            refused: Some(failure(may_pass)),
            ..Self::whole()
        }
    }

    pub(crate) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    pub(crate) fn of(self, etag: &'static str) -> Self {
        Self { etag, ..self }
    }

    pub(crate) fn broken_after(bytes: usize) -> Self {
        Self {
            cut: Some((bytes, true)),
            ..Self::whole()
        }
    }

    pub(crate) fn ends_after(bytes: usize) -> Self {
        Self {
            cut: Some((bytes, false)),
            ..Self::whole()
        }
    }

    pub(crate) fn with_surplus(surplus: usize) -> Self {
        Self {
            surplus,
            ..Self::whole()
        }
    }
}

fn failure(may_pass: bool) -> Failure {
    Failure {
        error: StorageError::new(StorageErrorKind::Unavailable, "as it was told to"),
        may_pass,
    }
}

/// Answers requests one after the other; what comes after the last is refused.
#[derive(Debug)]
pub(crate) struct Fake {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<GetRange>>,
}

impl Fake {
    pub(crate) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            answers: Mutex::new(answers.into_iter().collect()),
            asked: Mutex::default(),
        }
    }

    /// What was asked for.
    pub(crate) fn asked(&self) -> Vec<GetRange> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }
}

impl Begin for Fake {
    async fn begin(&self, ask: &Ask) -> Result<Begun, Failure> {
        self.asked.lock().unwrap().push(ask.range.clone());
        let answer = self.answers.lock().unwrap().pop_front();
        let answer = answer.unwrap_or_else(|| Answer::refusal(false));
        if !answer.after.is_zero() {
            tokio::time::sleep(answer.after).await;
        }
        if let Some(failure) = answer.refused {
            return Err(failure);
        }
        let range = ask.range.as_range(SIZE).unwrap();
        let mut bytes = content(range.clone());
        bytes.extend(vec![0; answer.surplus]);
        let mut end = None;
        if let Some((length, told)) = answer.cut {
            bytes.truncate(length);
            end = told.then(|| Err(failure(true)));
        }
        let chunks: Vec<Result<Bytes, Failure>> = (bytes.chunks(7))
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .chain(end)
            .collect();
        Ok(Begun {
            meta: ObjectMeta {
                location: ask.path.clone(),
                last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
                size: SIZE,
                e_tag: Some(format!("\"{}\"", answer.etag)),
                version: None,
            },
            range,
            body: stream::iter(chunks).boxed(),
            place: None,
        })
    }
}
