//! Sessions over a folder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;
mod gate;
mod peer;

use common::Backend;

const BACKEND: Backend = Backend::Folder;
