//! Ranged, versioned reads from a local folder or from buckets.
//!
//! A [`Store`] opens objects by name; an [`Object`] is one version of one object, and every byte
//! read from it is of that version, or the read fails with [`StorageErrorKind::Changed`]. Nothing
//! reads an object whole unless it is asked for that range.
//!
//! Names (see [`Store::open`]) come from clients and are never trusted: a local store opens
//! nothing outside its root, another one nothing outside its buckets and their prefixes.

mod azure;
mod bucket;
mod coalesce;
mod counters;
mod credentials;
mod deadline;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod gcs;
mod guard;
mod list;
mod local;
mod name;
mod object;
mod place;
mod profile;
mod reads;
mod remote;
mod s3;
mod store;

pub use azure::AzureConfig;
pub use bucket::Bucket;
pub use counters::Counters;
pub use error::{StorageError, StorageErrorKind};
pub use gcs::GcsConfig;
pub use list::{Entry, Listing, MOST_ENTRIES, Page};
pub use object::{Object, ObjectVersion, Opened};
pub use place::{Beginning, Meaning, Place, Step};
pub use s3::{Addressing, S3Config};
pub use store::{ReadOptions, Store, StoreConfig};
