//! H.265 (ITU-T H.265, 08/2021) headers, as far as they say what a picture depends on.
//!
//! Only the base layer (`nuh_layer_id` 0) is looked at: it never depends on another layer.

pub mod bits;
pub mod nal;
pub mod parameter_sets;
pub mod poc;
pub mod pps;
pub mod rps;
pub mod slice;
pub mod sps;

pub use bits::HeaderError;
pub use nal::NalType;
pub use parameter_sets::ParameterSets;
pub use pps::Pps;
pub use slice::SliceHeader;
pub use sps::Sps;
