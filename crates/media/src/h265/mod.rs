//! H.265 headers.
