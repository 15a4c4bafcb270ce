//! The client library, and what its failures mean.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::list::{PaginatedListOptions, PaginatedListResult};
use object_store::{GetOptions, ObjectMeta, ObjectStoreExt};
use tokio::time::timeout;

use super::{Ask, Begin, Begun, Failure};
use crate::counters::CounterCells;
use crate::error::{StorageError, StorageErrorKind, shown};
use crate::guard::{Refused, may_pass};
use crate::remote::Client;

/// Sends each request once.
pub(crate) struct Wire {
    client: Client,
    words: Words,
    /// How long nothing may come.
    stall: Duration,
    counters: Arc<CounterCells>,
}

impl Wire {
    pub(super) fn new(
        client: Client,
        service: &'static str,
        stall: Duration,
        counters: &Arc<CounterCells>,
    ) -> Self {
        Self {
            client,
            words: Words { service },
            stall,
            counters: Arc::clone(counters),
        }
    }

    pub(super) async fn head(&self, ask: &Ask) -> Result<ObjectMeta, Failure> {
        self.counters.request();
        match timeout(self.stall, self.client.objects.head(&ask.path)).await {
            Ok(answer) => answer.map_err(|e| self.words.failure(&ask.name, &e)),
            Err(_) => Err(self.words.stalled(&ask.name)),
        }
    }
}

impl Wire {
    /// A page of the keys that begin so; `name` is how errors call it.
    pub(super) async fn list(
        &self,
        name: &str,
        prefix: &str,
        options: PaginatedListOptions,
    ) -> Result<PaginatedListResult, Failure> {
        self.counters.request();
        let prefix = Some(prefix).filter(|p| !p.is_empty());
        let listing = self.client.pages.list_paginated(prefix, options);
        match timeout(self.stall, listing).await {
            Ok(page) => page.map_err(|e| self.words.failure(name, &e)),
            Err(_) => Err(self.words.stalled(name)),
        }
    }
}

impl Begin for Wire {
    async fn begin(&self, ask: &Ask) -> Result<Begun, Failure> {
        let options = GetOptions {
            range: Some(ask.range.clone()),
            if_match: ask.etag.clone(),
            ..GetOptions::default()
        };
        self.counters.request();
        let answer =
            match timeout(self.stall, self.client.objects.get_opts(&ask.path, options)).await {
                Ok(answer) => answer.map_err(|e| self.words.failure(&ask.name, &e))?,
                Err(_) => return Err(self.words.stalled(&ask.name)),
            };
        let (meta, range) = (answer.meta.clone(), answer.range.clone());
        Ok(Begun {
            meta,
            range,
            body: self.body(ask, answer.into_stream()),
            place: None,
        })
    }
}

impl Wire {
    fn body(
        &self,
        ask: &Ask,
        body: BoxStream<'static, object_store::Result<bytes::Bytes>>,
    ) -> BoxStream<'static, Result<bytes::Bytes, Failure>> {
        let (words, stall, name) = (self.words, self.stall, Arc::clone(&ask.name));
        let chunks = stream::unfold(Some(body), move |body| {
            let name = Arc::clone(&name);
            async move {
                let mut body = body?;
                match timeout(stall, body.next()).await {
                    Ok(None) => None,
                    Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some(body))),
                    // Whatever ends a body early: the connection broke.
                    Ok(Some(Err(_))) => Some((Err(words.broken(&name)), None)),
                    Err(_) => Some((Err(words.stalled(&name)), None)),
                }
            }
        });
        chunks.boxed()
    }
}

/// Says failures in our own words: the library's repeat the server's document, in which there may
/// be access keys and signatures.
#[derive(Clone, Copy)]
struct Words {
    service: &'static str,
}

impl Words {
    fn stalled(self, name: &str) -> Failure {
        let Self { service } = self;
        Failure {
            error: StorageError::new(
                StorageErrorKind::Timeout,
                format!(
                    "{}: the {service} server did not answer in time",
                    shown(name)
                ),
            ),
            may_pass: true,
        }
    }

    fn broken(self, name: &str) -> Failure {
        let Self { service } = self;
        Failure {
            error: StorageError::new(
                StorageErrorKind::Unavailable,
                format!("{}: the {service} server broke off its answer", shown(name)),
            ),
            may_pass: true,
        }
    }

    fn failure(self, name: &str, error: &object_store::Error) -> Failure {
        let Self { service } = self;
        if let object_store::Error::InvalidPath { .. } = error {
            return Failure {
                error: StorageError::new(
                    StorageErrorKind::InvalidName,
                    format!("{} is not a key that can be served", shown(name)),
                ),
                may_pass: false,
            };
        }
        let http = http_error(error);
        if let Some(refused) = http.and_then(refused) {
            return Failure {
                error: self.refusal(name, refused),
                may_pass: may_pass(refused.status) || refused.code.as_deref() == Some("SlowDown"),
            };
        }
        match http.map(HttpError::kind) {
            Some(HttpErrorKind::Timeout) => self.stalled(name),
            Some(HttpErrorKind::Connect) => Failure {
                error: StorageError::new(
                    StorageErrorKind::Unavailable,
                    format!("{}: the {service} server cannot be reached", shown(name)),
                ),
                may_pass: true,
            },
            Some(HttpErrorKind::Request | HttpErrorKind::Interrupted) => self.broken(name),
            // An answer that makes no sense makes none the next time.
            _ => Failure {
                error: self.refusal_of_library(name, error),
                may_pass: false,
            },
        }
    }

    /// A refusal that the library read itself.
    fn refusal_of_library(self, name: &str, error: &object_store::Error) -> StorageError {
        let status = match error {
            object_store::Error::NotFound { .. } => 404,
            object_store::Error::Precondition { .. } => 412,
            object_store::Error::Unauthenticated { .. } => 401,
            object_store::Error::PermissionDenied { .. } => 403,
            _ => 0,
        };
        self.refusal(name, &Refused { status, code: None })
    }

    fn refusal(self, name: &str, refused: &Refused) -> StorageError {
        use StorageErrorKind as Kind;
        let Self { service } = self;
        let code = match &refused.code {
            Some(code) => format!(" ({code})"),
            None => String::new(),
        };
        let no_bucket = matches!(
            refused.code.as_deref(),
            Some("NoSuchBucket" | "ContainerNotFound")
        );
        let (kind, message) = match refused.status {
            404 if no_bucket => (
                Kind::Misconfigured,
                format!("the {service} bucket does not exist"),
            ),
            404 => return StorageError::not_found(name),
            412 => return StorageError::changed(name),
            416 => (
                Kind::OutOfRange,
                format!("{}: there are no such bytes", shown(name)),
            ),
            401 | 403 => (
                Kind::Forbidden,
                format!("{}: the {service} server refuses access{code}", shown(name)),
            ),
            301 | 302 | 307 | 308 => (
                Kind::Misconfigured,
                format!(
                    "{}: the {service} server says that the bucket is in another region{code}",
                    shown(name)
                ),
            ),
            429 | 503 => (
                Kind::Unavailable,
                format!("{}: the {service} server is too busy{code}", shown(name)),
            ),
            _ => (
                Kind::Unavailable,
                format!("{}: the {service} server failed{code}", shown(name)),
            ),
        };
        StorageError::new(kind, message)
    }
}

/// What went wrong on the wire, if that is what went wrong.
fn http_error(error: &object_store::Error) -> Option<&HttpError> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return Some(http);
        }
        source = error.source();
    }
    None
}

fn refused(error: &HttpError) -> Option<&Refused> {
    std::error::Error::source(error)?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(error: HttpError) -> Failure {
        let error = object_store::Error::Generic {
            store: "S3",
            source: Box::new(error),
        };
        Words { service: "S3" }.failure("a.mp4", &error)
    }

    fn refusal(status: u16, code: Option<&str>) -> Failure {
        let code = code.map(str::to_owned);
        failure(HttpError::new(
            HttpErrorKind::Unknown,
            Refused { status, code },
        ))
    }

    #[test]
    fn what_may_pass_is_told_from_what_does_not() {
        use StorageErrorKind as Kind;
        for (status, code, kind, may_pass) in [
            (503, Some("SlowDown"), Kind::Unavailable, true),
            (503, None, Kind::Unavailable, true),
            (429, None, Kind::Unavailable, true),
            (500, Some("InternalError"), Kind::Unavailable, true),
            (502, None, Kind::Unavailable, true),
            (504, None, Kind::Unavailable, true),
            (501, None, Kind::Unavailable, false),
            (400, Some("ExpiredToken"), Kind::Unavailable, false),
            (401, None, Kind::Forbidden, false),
            (403, Some("AccessDenied"), Kind::Forbidden, false),
            (404, Some("NoSuchKey"), Kind::NotFound, false),
            (404, None, Kind::NotFound, false),
            (404, Some("NoSuchBucket"), Kind::Misconfigured, false),
            (412, Some("PreconditionFailed"), Kind::Changed, false),
            (416, Some("InvalidRange"), Kind::OutOfRange, false),
            (301, Some("PermanentRedirect"), Kind::Misconfigured, false),
        ] {
            let failure = refusal(status, code);
            assert_eq!(
                (failure.error.kind(), failure.may_pass),
                (kind, may_pass),
                "{status} {code:?}"
            );
        }
        let of_kind = |kind| failure(HttpError::new(kind, std::io::Error::other("x")));
        for (kind, passes) in [
            (HttpErrorKind::Connect, true),
            (HttpErrorKind::Request, true),
            (HttpErrorKind::Timeout, true),
            (HttpErrorKind::Interrupted, true),
            (HttpErrorKind::Decode, false),
            (HttpErrorKind::Unknown, false),
        ] {
            assert_eq!(of_kind(kind).may_pass, passes, "{kind:?}");
        }
    }

    #[test]
    fn what_the_library_says_is_never_repeated() {
        let error = object_store::Error::Generic {
            store: "S3",
            source: "<AWSAccessKeyId>AKIAEXAMPLE</AWSAccessKeyId>".into(),
        };
        let text = Words { service: "S3" }
            .failure("a", &error)
            .error
            .to_string();
        assert_eq!(text, "a: the S3 server failed");
        assert_eq!(
            refusal(403, Some("InvalidAccessKeyId")).error.to_string(),
            "a.mp4: the S3 server refuses access (InvalidAccessKeyId)"
        );
    }
}
