//! A box writer.
