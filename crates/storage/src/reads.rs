//! Reads over the network, put together of parts with one concern each. From the outside in:
//!
//! - [`flight`]: who reads what is being read joins that;
//! - [`retry`]: collects a body, and goes on where a failure that may pass broke it off;
//! - [`gate`]: so many requests at the same time;
//! - [`hedge`]: a request that is slow to begin gets a rival;
//! - [`wire`]: the client library, and what its failures mean.

mod flight;
mod gate;
mod hedge;
mod retry;
mod wire;

#[cfg(test)]
mod fake;

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::list::{PaginatedListOptions, PaginatedListResult};
use object_store::path::Path;
use object_store::{GetRange, ObjectMeta};
use tokio::sync::OwnedSemaphorePermit;

use crate::counters::CounterCells;
use crate::error::StorageError;
use crate::remote::Client;

use self::flight::Flights;
use self::gate::Gated;
use self::hedge::Hedged;
use self::retry::Retrying;
use self::wire::Wire;

pub(crate) use self::gate::Gate;

/// One ranged read.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Ask {
    /// The object, as errors name it.
    pub(crate) name: Arc<str>,
    pub(crate) path: Path,
    pub(crate) range: GetRange,
    /// Of this version, by its strong ETag; else of whatever there is.
    pub(crate) etag: Option<String>,
}

/// A whole answer: of which object, from where, what.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) meta: ObjectMeta,
    pub(crate) start: u64,
    pub(crate) bytes: Bytes,
}

/// A read that did not come to its end.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) error: StorageError,
    /// The same request may go well a moment later.
    pub(crate) may_pass: bool,
}

/// An answer whose body is still coming.
pub(crate) struct Begun {
    pub(crate) meta: ObjectMeta,
    /// Which bytes come.
    pub(crate) range: Range<u64>,
    pub(crate) body: BoxStream<'static, Result<Bytes, Failure>>,
    /// Its place among the requests in flight.
    pub(crate) place: Option<OwnedSemaphorePermit>,
}

/// Sends requests and returns when their answers begin.
pub(crate) trait Begin: Send + Sync + 'static {
    fn begin(&self, ask: &Ask) -> impl Future<Output = Result<Begun, Failure>> + Send;
}

type Stack = Retrying<Gated<Hedged<Wire>>>;

/// How reads over the network are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadSettings {
    /// How long a server may send nothing before the request is given up.
    pub(crate) stall: Duration,
    /// Whether slow requests get rivals.
    pub(crate) hedge: bool,
}

/// Reads from one bucket.
pub(crate) struct Reads {
    stack: Arc<Stack>,
    flights: Flights<Flight, Part>,
    counters: Arc<CounterCells>,
}

/// What makes reads equal.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Flight {
    path: Path,
    etag: String,
    range: Range<u64>,
}

impl Reads {
    /// `service` names what it speaks to, in errors.
    pub(crate) fn new(
        client: Client,
        service: &'static str,
        gate: &Gate,
        settings: ReadSettings,
        counters: &Arc<CounterCells>,
    ) -> Self {
        let wire = Wire::new(client, service, settings.stall, counters);
        let hedged = Hedged::new(wire, gate.clone(), settings.hedge, counters);
        let stack = Retrying::new(Gated::new(hedged, gate.clone()), counters);
        Self {
            stack: Arc::new(stack),
            flights: Flights::default(),
            counters: Arc::clone(counters),
        }
    }

    /// Reads what the object holds now.
    pub(crate) async fn read(&self, ask: &Ask) -> Result<Part, StorageError> {
        self.stack.read(ask).await
    }

    /// Reads a range of one version; who reads the same joins.
    pub(crate) async fn read_version(
        &self,
        ask: Ask,
        range: Range<u64>,
    ) -> Result<Part, StorageError> {
        // Without a version, what is under way may be of one that has been replaced meanwhile.
        let Some(etag) = ask.etag.clone() else {
            return self.stack.read(&ask).await;
        };
        let key = Flight {
            path: ask.path.clone(),
            etag,
            range,
        };
        let stack = Arc::clone(&self.stack);
        let (flight, joined) = self
            .flights
            .join(key, || async move { stack.read(&ask).await });
        if joined {
            self.counters.join();
        }
        flight.await
    }

    /// What the server says of an object, without its bytes.
    pub(crate) async fn look(&self, ask: &Ask) -> Result<ObjectMeta, StorageError> {
        let wire = self.stack.inner().inner().inner();
        wire.head(ask).await.map_err(|failure| failure.error)
    }

    /// A page of the keys that begin so.
    pub(crate) async fn list(
        &self,
        name: &str,
        prefix: &str,
        options: PaginatedListOptions,
    ) -> Result<PaginatedListResult, StorageError> {
        let wire = self.stack.inner().inner().inner();
        let ask = || wire.list(name, prefix, options.clone());
        retry::again(&self.counters, ask).await
    }
}
