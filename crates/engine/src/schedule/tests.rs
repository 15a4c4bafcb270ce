//! The schedule among fakes: a store, workers, decoders and clients whose sizes and times are
//! numbers.

mod check;
mod fairness;
mod order;
mod reading;
mod scale;
mod sequences;
mod stopping;
mod world;
