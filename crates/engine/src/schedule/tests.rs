//! The schedule against a model.
