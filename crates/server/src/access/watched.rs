//! Files that are looked at again while the server runs.
//!
//! A file that is being written may be seen half: a change counts when two looks in a row find the
//! same, a second apart; SIGHUP says that it is whole. A file that is bad, or gone, changes nothing,
//! and that is said once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::anyhow;
use xxhash_rust::xxh3::xxh3_128;

use super::read_file;

type Read<T> = dyn Fn(&[u8]) -> Result<T, String> + Send + Sync;

/// What a file says.
pub(super) struct Watched<T> {
    flag: &'static str,
    path: PathBuf,
    read: Box<Read<T>>,
    holds: RwLock<Arc<T>>,
    looks: Mutex<Looks>,
}

/// Hashes of what was found; `None`: it could not be read.
#[derive(Clone, Copy)]
struct Looks {
    /// That was taken, or refused.
    judged: Option<u128>,
    last: Option<u128>,
}

// By hand: what it says may be secret.
impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.path).finish()
    }
}

impl<T> Watched<T> {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// It cannot be read, or is bad.
    pub(super) fn open(
        flag: &'static str,
        path: &Path,
        read: impl Fn(&[u8]) -> Result<T, String> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let shown = path.display();
        let bytes = read_file(path).map_err(|e| anyhow!("{flag} {shown} cannot be read: {e}"))?;
        let holds = read(&bytes).map_err(|why| anyhow!("{flag} {shown}: {why}"))?;
        let hash = Some(xxh3_128(&bytes));
        Ok(Self {
            flag,
            path: path.to_owned(),
            read: Box::new(read),
            holds: RwLock::new(Arc::new(holds)),
            looks: Mutex::new(Looks {
                judged: hash,
                last: hash,
            }),
        })
    }

    /// What it said when it was good last.
    pub(super) fn get(&self) -> Arc<T> {
        let holds = self.holds.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&holds)
    }

    /// Looks whether it is another, and tells whether that was taken.
    pub(super) fn look(&self, at_once: bool) -> bool {
        let found = read_file(&self.path);
        let hash = found.as_ref().ok().map(|bytes| xxh3_128(bytes));
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = at_once || looks.last == hash;
        looks.last = hash;
        if looks.judged == hash || !settled {
            return false;
        }
        looks.judged = hash;
        let read = match found {
            Ok(bytes) => (self.read)(&bytes),
            Err(error) => Err(format!("it cannot be read: {error}")),
        };
        let (flag, path) = (self.flag, self.path.display());
        match read {
            Ok(holds) => {
                let mut held = self.holds.write().unwrap_or_else(PoisonError::into_inner);
                *held = Arc::new(holds);
                tracing::info!(%path, "{flag} was read anew");
                true
            }
            Err(why) => {
                tracing::warn!(%path, "{flag} is not taken, what it said before stays: {why}");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_is_taken_when_it_is_whole_and_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let number = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).unwrap();
            text.parse::<u32>()
                .map_err(|_| "line 1: no number".to_owned())
        };
        let open = || Watched::open("--f", &path, number);
        let absent = open().unwrap_err().to_string();
        assert!(absent.contains("--f") && absent.contains("cannot be read"));
        fs::write(&path, "x").unwrap();
        assert!(
            open()
                .unwrap_err()
                .to_string()
                .ends_with(": line 1: no number")
        );
        fs::write(&path, "1").unwrap();
        let file = open().unwrap();
        assert!(!file.look(false) && !file.look(true));
        fs::write(&path, "2").unwrap();
        assert!(!file.look(false));
        // It was not whole yet.
        fs::write(&path, "23").unwrap();
        assert!(!file.look(false));
        assert_eq!(*file.get(), 1);
        assert!(file.look(false));
        assert_eq!(*file.get(), 23);
        fs::write(&path, "bad").unwrap();
        assert!(!file.look(true));
        assert_eq!(*file.get(), 23);
        fs::remove_file(&path).unwrap();
        assert!(!file.look(true) && !file.look(false));
        assert_eq!(*file.get(), 23);
        fs::write(&path, "4").unwrap();
        assert!(file.look(true));
        assert_eq!(*file.get(), 4);
    }
}
