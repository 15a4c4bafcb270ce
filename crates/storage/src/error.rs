//! Why a store did not deliver.

/// The kinds of failure, for programs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StorageErrorKind {
    /// No such object.
    NotFound,
    /// The name can be the name of no video: empty, with NUL, too long, a folder, a device.
    InvalidName,
    /// The name leads outside the store's root or bucket. Tell a client that it was not found.
    OutsideStore,
    /// The store refuses to give the object with the credentials or permissions at hand.
    Forbidden,
    /// The object is no longer the version that was opened.
    Changed,
    /// The range does not lie within the object.
    OutOfRange,
    /// The store cannot be reached, or failed.
    Unavailable,
    /// The store did not answer in time.
    Timeout,
    /// The store's settings cannot work.
    Misconfigured,
}

impl StorageErrorKind {
    /// Whether a client is to hear no more than that there is no such video: whoever tries to
    /// get out of the store must not learn what lies there.
    pub fn reads_as_not_found(self) -> bool {
        matches!(
            self,
            Self::NotFound | Self::InvalidName | Self::OutsideStore
        )
    }
}

/// A failure of the storage. Its `Display` is a sentence for a person, without secrets.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct StorageError {
    kind: StorageErrorKind,
    message: String,
}

impl StorageError {
    pub(crate) fn new(kind: StorageErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> StorageErrorKind {
        self.kind
    }

    /// The same failure, told of another name.
    #[must_use]
    pub fn told_of(self, name: &str, other: &str) -> Self {
        let message = self.message.replace(&shown(name), &shown(other));
        Self { message, ..self }
    }

    pub(crate) fn not_found(name: &str) -> Self {
        Self::new(
            StorageErrorKind::NotFound,
            format!("{} does not exist", shown(name)),
        )
    }

    pub(crate) fn outside(name: &str) -> Self {
        Self::new(
            StorageErrorKind::OutsideStore,
            format!("{} leads outside the store", shown(name)),
        )
    }

    pub(crate) fn changed(name: &str) -> Self {
        Self::new(
            StorageErrorKind::Changed,
            format!("{} was replaced or removed while it was open", shown(name)),
        )
    }
}

/// A name as it may stand in a sentence or a log line: without control characters, and cut.
pub(crate) fn shown(name: &str) -> String {
    const SHOWN: usize = 200;
    let mut text: String = name
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if name.chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_name_cannot_break_a_log_line() {
        assert_eq!(shown("a\nb\0c\u{1b}[31m"), "a\\nb\\0c\\u{1b}[31m");
        assert_eq!(shown(&"x".repeat(5000)).chars().count(), 201);
        assert_eq!(shown("видео/тест.h265"), "видео/тест.h265");
    }
}
