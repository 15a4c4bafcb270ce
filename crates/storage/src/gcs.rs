//! Buckets of Google Cloud Storage.

use std::sync::Arc;

use object_store::gcp::GoogleCloudStorageBuilder;

use crate::bucket::Bucket;
use crate::counters::CounterCells;
use crate::error::{StorageError, StorageErrorKind};
use crate::guard::GuardedConnector;
use crate::name::Scheme;
use crate::reads::ReadSettings;
use crate::remote::{Client, RemoteStore, Service, connections};

const SERVICE: Service = Service {
    name: "GCS",
    scheme: Scheme::Gcs,
    has_suffix_ranges: true,
};

/// Which buckets. How to reach them and with what credentials, the environment says:
/// `GOOGLE_APPLICATION_CREDENTIALS`, `GOOGLE_SERVICE_ACCOUNT`, `GOOGLE_SERVICE_ACCOUNT_KEY`, the
/// credentials of `gcloud`, or the instance's own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GcsConfig {
    /// The buckets that may be read; the first is that of plain names. At least one.
    pub buckets: Vec<Bucket>,
}

pub(crate) fn open(
    config: &GcsConfig,
    settings: ReadSettings,
    counters: &Arc<CounterCells>,
) -> Result<RemoteStore, StorageError> {
    RemoteStore::new(SERVICE, &config.buckets, settings, counters, |bucket| {
        let (options, retry) = connections();
        let client = GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(&bucket.name)
            .with_http_connector(GuardedConnector::default())
            .with_client_options(options.with_allow_http(true))
            .with_retry(retry)
            .build();
        // The library's own sentence may show a key.
        let client = client.map_err(|_| {
            StorageError::new(
                StorageErrorKind::Misconfigured,
                "the GCS settings of the environment (GOOGLE_…) cannot work",
            )
        })?;
        Ok(Client::of(client))
    })
}
