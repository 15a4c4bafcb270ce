//! Tests that run the programs of this workspace as programs, against each other; see `tests/`.
