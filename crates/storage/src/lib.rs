//! Ranged, versioned reads from a local folder or an S3 bucket.
//!
//! A [`Store`] opens objects by name; an [`Object`] is one version of one object, and every byte
//! read from it is of that version, or the read fails with [`StorageErrorKind::Changed`]. Nothing
//! reads an object whole unless it is asked for that range.
//!
//! Names (see [`Store::open`]) come from clients and are never trusted: a local store opens
//! nothing outside its root, an S3 store nothing outside its bucket.

mod counters;
mod credentials;
mod error;
mod local;
mod name;
mod object;
mod s3;
mod store;
mod wire;

pub use counters::Counters;
pub use error::{StorageError, StorageErrorKind};
pub use object::{Object, ObjectVersion, Opened};
pub use s3::S3Config;
pub use store::Store;
