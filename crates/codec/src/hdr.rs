//! Placeholder
use crate::colour::Resolved;
use crate::convert::{Sample, TypedPlanes};
use crate::orient::Turn;
use crate::planes::PlanesBuf;
pub(crate) struct Table;
pub(crate) fn table(_: &Resolved, _: u8) -> Table {
    Table
}
pub(crate) fn convert<T: Sample>(_: &TypedPlanes<'_, T>, _: &Table, _: Turn, _: &mut PlanesBuf) {}
