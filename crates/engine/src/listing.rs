//! Which objects are videos: by their names at first, and by what they were found to be when
//! somebody opened them.

use std::sync::Arc;

use quick_cache::sync::Cache;
use storage::{Entry, Page, StorageError, Store};

use crate::video::identity;

/// What names of videos end in, in lower case.
const EXTENSIONS: [&str; 12] = [
    "mp4", "m4v", "mov", "qt", "3gp", "3g2", "cmfv", "h265", "265", "hevc", "hvc", "bit",
];
/// Versions of objects of which it is known whether they are videos.
const REMEMBERED: usize = 16_384;

/// A page of a folder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VideoListing {
    /// Folders, each a prefix to list next.
    pub folders: Vec<String>,
    /// Objects that look like videos, and were not found to be none.
    pub videos: Vec<ListedVideo>,
    /// There is more, from here on; a page may have few entries and not be the last.
    pub cursor: Option<String>,
}

/// One object of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedVideo {
    /// The object.
    pub entry: Entry,
    /// As [`crate::Video::identity`] of this version.
    pub identity: String,
    /// This version was opened and is a video; else only its name says so.
    pub confirmed: bool,
}

/// Whether a name is that of a video, as far as names tell.
pub(crate) fn is_video_name(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    let Some((stem, extension)) = last.rsplit_once('.') else {
        return false;
    };
    let known = EXTENSIONS.iter();
    !stem.is_empty() && known.into_iter().any(|e| extension.eq_ignore_ascii_case(e))
}

/// What was found out about versions of objects.
#[derive(Debug)]
pub(crate) struct Verdicts(Cache<Arc<str>, bool>);

impl Default for Verdicts {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

impl Verdicts {
    pub(crate) fn remember(&self, identity: &Arc<str>, is_video: bool) {
        self.0.insert(Arc::clone(identity), is_video);
    }

    pub(crate) async fn list(
        &self,
        store: &Store,
        prefix: &str,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<VideoListing, StorageError> {
        let page = Page {
            prefix,
            limit,
            cursor,
            wanted: is_video_name,
        };
        let listing = store.list(page).await?;
        let videos = listing.objects.into_iter().filter_map(|entry| {
            let identity = identity(&entry.name, &entry.version);
            let verdict = self.0.get(identity.as_str());
            (verdict != Some(false)).then_some(ListedVideo {
                entry,
                identity,
                confirmed: verdict == Some(true),
            })
        });
        Ok(VideoListing {
            folders: listing.folders,
            videos: videos.collect(),
            cursor: listing.cursor,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::is_video_name;

    #[test]
    fn videos_are_told_by_their_extensions() {
        for name in ["a.mp4", "x/y.MOV", "a.b.h265", "видео.hevc", "a b.265"] {
            assert!(is_video_name(name), "{name}");
        }
        for name in [
            "a",
            "a.mp4/",
            "mp4",
            ".mp4",
            "x.mp4/a",
            "a.mp4.json",
            "a.jpg",
        ] {
            assert!(!is_video_name(name), "{name}");
        }
    }
}
