//! Containers of Azure Blob Storage.

use std::sync::Arc;

use object_store::azure::MicrosoftAzureBuilder;

use crate::bucket::Bucket;
use crate::counters::CounterCells;
use crate::error::{StorageError, StorageErrorKind};
use crate::guard::GuardedConnector;
use crate::name::Scheme;
use crate::reads::ReadSettings;
use crate::remote::{Client, RemoteStore, Service, connections};

const SERVICE: Service = Service {
    name: "Azure",
    scheme: Scheme::Azure,
    has_suffix_ranges: false,
};

/// Which containers. The credentials, the environment says: `AZURE_STORAGE_ACCOUNT_KEY`,
/// `AZURE_STORAGE_SAS_KEY`, a client secret, a federated token, or the instance's own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AzureConfig {
    /// The account; else `AZURE_STORAGE_ACCOUNT_NAME`.
    pub account: Option<String>,
    /// The containers that may be read; the first is that of plain names. At least one.
    pub containers: Vec<Bucket>,
}

pub(crate) fn open(
    config: &AzureConfig,
    settings: ReadSettings,
    counters: &Arc<CounterCells>,
) -> Result<RemoteStore, StorageError> {
    RemoteStore::new(SERVICE, &config.containers, settings, counters, |bucket| {
        let (options, retry) = connections();
        let mut builder = MicrosoftAzureBuilder::from_env()
            .with_container_name(&bucket.name)
            .with_http_connector(GuardedConnector::default())
            .with_client_options(options.with_allow_http(true))
            .with_retry(retry);
        if let Some(account) = &config.account {
            builder = builder.with_account(account);
        }
        // The library's own sentence may show a key.
        let client = builder.build().map_err(|_| {
            StorageError::new(
                StorageErrorKind::Misconfigured,
                "the Azure settings cannot work: the account, or what the environment (AZURE_…) \
                 says of it",
            )
        })?;
        Ok(Client::of(client))
    })
}
