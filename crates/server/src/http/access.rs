//! Who may see what: the one place where that is decided.
//!
//! Everybody may see everything that the store serves, as over WebSocket. Every route asks here
//! first, with the name that it is about, and caches are told what this says.

use super::problem::Problem;

/// What a request wants to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Subject<'a> {
    /// The names that begin so.
    Folder(&'a str),
    /// A video, and all that is made of it.
    Video(&'a str),
}

/// That it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Granted {
    /// The answer is the same for everybody: a cache that many share may keep it.
    pub(super) to_everybody: bool,
}

/// Whether a request may see it.
///
/// # Errors
/// It may not.
pub(super) fn ask(_subject: Subject<'_>) -> Result<Granted, Problem> {
    Ok(Granted { to_everybody: true })
}
