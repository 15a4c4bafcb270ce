//! Sessions over a bucket of a real S3 server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;
mod gate;
mod peer;

use common::Backend;

const BACKEND: Backend = Backend::Bucket;
