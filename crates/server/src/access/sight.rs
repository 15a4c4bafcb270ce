//! What a caller may see, and what is done about the rest, so that it cannot be told from what does
//! not exist.
//!
//! For a name that may not be seen, the store is asked for one in the caller's own folder that nobody
//! can have given to anything: as many requests, to the same place, with the same answer. What lies
//! behind the forbidden name is neither asked for nor looked up in a cache.

use std::borrow::Cow;
use std::sync::Arc;

use engine::{Engine, ListedVideo, OpenError, Video, VideoListing};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use media::bsidx;
use storage::{Place, Step, StorageError, StorageErrorKind, Store};

use super::{Access, Caller};

/// Places of one listing that are looked at side by side.
const LOOKS: usize = 8;

/// What may be seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Sight {
    /// Everything.
    All,
    /// These places, and what lies below them.
    Below(Arc<[Place]>),
}

/// How a name is seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// As it is.
    AsNamed,
    /// Of the things that the name may mean, some are hidden: by this name, one that is not.
    As(String),
    /// As nothing.
    Hidden,
}

impl Sight {
    pub(super) fn below(places: impl Iterator<Item = Place>) -> Self {
        Self::Below(places.collect())
    }

    /// How a name is seen.
    pub(super) fn of(&self, store: &Store, name: &str) -> Seen {
        let Self::Below(places) = self else {
            return Seen::AsNamed;
        };
        let meanings = store.meanings(name).unwrap_or_default();
        let seen = |place: &Place| places.iter().any(|folder| place.is_within(folder));
        if !meanings.is_empty() && meanings.iter().all(|m| seen(&m.place)) {
            return Seen::AsNamed;
        }
        let first = meanings.into_iter().find(|m| seen(&m.place));
        first.map_or(Seen::Hidden, |meaning| Seen::As(meaning.name))
    }
}

impl Access {
    /// How a caller sees a name.
    pub(crate) fn seen(&self, caller: &Caller, name: &str) -> Seen {
        caller.sight().of(&self.0.store, name)
    }

    /// Opens a video, if the caller may see it.
    ///
    /// # Errors
    /// It may not, or the engine's: those of a hidden name are those of one that is not there.
    pub(crate) async fn open_video(
        &self,
        engine: &Engine,
        caller: &Caller,
        name: &str,
    ) -> Result<Arc<Video>, OpenError> {
        match self.seen(caller, name) {
            Seen::AsNamed => engine.open(name).await,
            Seen::As(other) => {
                let opened = engine.open(&other).await;
                opened.map_err(|error| told_of(error, &other, name))
            }
            Seen::Hidden => Err(self.look_for_nothing(engine, caller, name).await),
        }
    }

    /// Asks the store as for a name that is not there, and gives what came of it.
    pub(crate) async fn look_for_nothing(
        &self,
        engine: &Engine,
        caller: &Caller,
        name: &str,
    ) -> OpenError {
        let other = self.nothing(caller, name);
        match engine.open(&other).await {
            Err(error) => told_of(error, &other, name),
            Ok(_) => OpenError::NotFound { name: name.into() },
        }
    }

    /// A name of nothing, where the caller may look: another one for each name that was asked for,
    /// and the same one for the same.
    fn nothing(&self, caller: &Caller, name: &str) -> String {
        let Access(inner) = self;
        let places = match caller.sight() {
            Sight::Below(places) => &places[..],
            Sight::All => &[],
        };
        let folder = places.first().map(|place| inner.store.full_name(place));
        let folder = folder.filter(|f| !f.is_empty()).map(|f| format!("{f}/"));
        let digest = keys::digest(&format!("{}\0{name}", inner.absent));
        // For an index file, none is looked for beside it.
        let end = if name.ends_with(bsidx::SUFFIX) {
            bsidx::SUFFIX
        } else {
            ""
        };
        format!("{}{digest}{end}", folder.unwrap_or_default())
    }

    /// A page of what a caller may see below a prefix.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) async fn list(
        &self,
        engine: &Engine,
        caller: &Caller,
        prefix: &str,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<VideoListing, StorageError> {
        let Sight::Below(places) = caller.sight() else {
            return engine.list(prefix, limit, cursor).await;
        };
        let store = &self.0.store;
        let from = store.beginning(prefix);
        if let Some(from) = &from
            && places.iter().any(|place| from.is_within(place))
        {
            let mut listing = engine.list(prefix, limit, cursor).await?;
            // With everything of the first bucket, other buckets are told.
            listing
                .folders
                .retain(|folder| leads_to(store, folder, places));
            let sight = caller.sight();
            listing
                .videos
                .retain(|v| sight.of(store, &v.entry.name) != Seen::Hidden);
            return Ok(listing);
        }
        let mut on_the_way = VideoListing::default();
        let mut there = Vec::new();
        for place in places.iter() {
            let step = from
                .as_ref()
                .and_then(|from| Some((from, from.step_to(place)?)));
            match step {
                Some((from, Step::Folder(folder))) => {
                    let folder = store.listed_name(from, &folder);
                    on_the_way.folders.push(format!("{folder}/"));
                }
                Some((from, Step::There)) => there.push(store.listed_name(from, place)),
                None if prefix.is_empty() => {
                    on_the_way.folders.extend(store.bucket_folder(place));
                }
                None => {}
            }
        }
        if on_the_way.folders.is_empty() && there.is_empty() && !prefix.is_empty() {
            let other = format!("{}/", self.nothing(caller, prefix));
            let listing = engine.list(&other, limit, cursor).await;
            return listing.map_err(|error| error.told_of(&other, prefix));
        }
        let mut looks = stream::iter(there)
            .map(|name| look_at(engine, name))
            .buffered(LOOKS);
        while let Some((folder, video)) = looks.try_next().await? {
            on_the_way.folders.extend(folder);
            on_the_way.videos.extend(video);
        }
        Ok(page(on_the_way, limit, cursor))
    }
}

/// What a place is in the listing of the folder in which it lies: a folder, if something lies below
/// it, and a video, if it is one.
async fn look_at(
    engine: &Engine,
    name: String,
) -> Result<(Option<String>, Option<ListedVideo>), StorageError> {
    let folder = format!("{name}/");
    let (below, own) = tokio::join!(engine.list(&folder, 1, None), engine.list(&name, 1, None));
    let none = |error: StorageError| match error.kind() {
        kind if kind.reads_as_not_found() => Ok(VideoListing::default()),
        _ => Err(error),
    };
    let (below, own) = (below.or_else(none)?, own.or_else(none)?);
    let is_folder = below.cursor.is_some() || !below.folders.is_empty() || !below.videos.is_empty();
    let own = own.videos.into_iter().find(|v| v.entry.name == name);
    Ok((is_folder.then_some(folder), own))
}

/// Whether a folder of a listing is one of what may be seen, or leads there.
fn leads_to(store: &Store, folder: &str, places: &[Place]) -> bool {
    let from = store.beginning(folder);
    from.is_some_and(|from| {
        let mut places = places.iter();
        places.any(|place| from.is_within(place) || from.step_to(place).is_some())
    })
}

/// A page of a listing that is known whole.
fn page(mut all: VideoListing, limit: usize, cursor: Option<&str>) -> VideoListing {
    all.folders.sort_unstable();
    all.folders.dedup();
    let after = |name: &str| cursor.is_none_or(|cursor| name > cursor);
    all.folders.retain(|name| after(name));
    all.videos.retain(|video| after(&video.entry.name));
    all.videos
        .sort_unstable_by(|a, b| a.entry.name.cmp(&b.entry.name));
    all.videos.dedup_by(|a, b| a.entry.name == b.entry.name);
    let mut names: Vec<Cow<'_, str>> = Vec::new();
    names.extend(all.folders.iter().map(|name| Cow::from(name.clone())));
    names.extend(all.videos.iter().map(|v| Cow::from(v.entry.name.clone())));
    names.sort_unstable();
    if names.len() > limit {
        let last = limit.checked_sub(1).and_then(|last| names.get(last));
        let last = last.cloned().unwrap_or_default();
        all.folders.retain(|name| name.as_str() <= last.as_ref());
        all.videos
            .retain(|video| video.entry.name.as_str() <= last.as_ref());
        all.cursor = Some(last.into_owned());
    }
    all
}

/// The same failure, told of the name that was asked for.
pub(crate) fn told_of(error: OpenError, other: &str, name: &str) -> OpenError {
    if other == name {
        return error;
    }
    match error {
        OpenError::NotFound { .. } => OpenError::NotFound { name: name.into() },
        OpenError::Storage(error) if error.kind() == StorageErrorKind::NotFound => {
            OpenError::NotFound { name: name.into() }
        }
        OpenError::Storage(error) => OpenError::Storage(error.told_of(other, name)),
        OpenError::NotVideo { error, .. } => OpenError::NotVideo {
            name: name.into(),
            error,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use engine::ListedVideo;
    use proptest::prelude::*;
    use storage::{Bucket, S3Config, StoreConfig};

    use super::*;

    fn below(store: &Store, prefixes: &[&str]) -> Sight {
        let places = prefixes.iter().map(|prefix| store.place(prefix).unwrap());
        Sight::below(places)
    }

    fn buckets() -> Store {
        let bucket = |name: &str, prefix: &str| Bucket {
            name: name.into(),
            prefix: prefix.into(),
        };
        let config = S3Config {
            buckets: vec![bucket("flights", "raw"), bucket("lab", "")],
            anonymous: true,
            ..S3Config::default()
        };
        Store::new(&StoreConfig::S3(config), storage::ReadOptions::default()).unwrap()
    }

    #[test]
    fn names_of_buckets_are_seen_by_where_they_lead() {
        let store = buckets();
        let sight = below(
            &store,
            &["2026", "s3://lab/public/", "s3://flights/raw/x/a.mp4"],
        );
        for (name, seen) in [
            ("2026/a.mp4", true),
            ("raw/2026/a.mp4", true),
            ("s3://flights/raw/2026/a.mp4", true),
            ("x/a.mp4", true),
            ("s3://lab/public/a.mp4", true),
            ("20267/a.mp4", false),
            ("s3://flights/2026/a.mp4", false),
            ("x/a.mp4.bsidx", false),
            ("x/b.mp4", false),
            ("public/a.mp4", false),
            ("s3://lab/publication/a.mp4", false),
            ("s3://lab/2026/a.mp4", false),
            ("s3://other/public/a.mp4", false),
            ("gs://lab/public/a.mp4", false),
            ("s3://lab/public/../a.mp4", false),
            ("s3://lab/public//a.mp4", false),
            ("", false),
        ] {
            let expected = if seen { Seen::AsNamed } else { Seen::Hidden };
            assert_eq!(sight.of(&store, name), expected, "{name}");
        }
        // Whole buckets; more than is served is what is served.
        for (prefix, name) in [
            ("/", "anything.mp4"),
            ("s3://flights", "raw/anything.mp4"),
            ("s3://lab/", "s3://lab/anything.mp4"),
        ] {
            assert_eq!(below(&store, &[prefix]).of(&store, name), Seen::AsNamed);
        }
        for prefix in [
            "s3://other",
            "gs://lab",
            "../x",
            "a//b",
            "s3://flights/cooked",
        ] {
            assert!(store.place(prefix).is_err(), "{prefix}");
        }
    }

    #[test]
    fn folders_are_listed_where_they_lead_to_something() {
        let store = buckets();
        let places = [store.place("s3://lab/public/x"), store.place("2026")];
        let places = places.map(Result::unwrap);
        for (folder, leads) in [
            ("s3://lab/", true),
            ("s3://lab/public/", true),
            ("s3://lab/public/x/", true),
            ("s3://lab/public/x/y/", true),
            ("2026/", true),
            ("s3://lab/private/", false),
            ("2025/", false),
            ("s3://other/", false),
        ] {
            assert_eq!(leads_to(&store, folder, &places), leads, "{folder}");
        }
    }

    #[test]
    fn pages_of_a_listing_follow_each_other() {
        let folders = ["c/", "a/", "b/", "a/"].map(str::to_owned);
        let all = || VideoListing {
            folders: folders.to_vec(),
            videos: Vec::<ListedVideo>::new(),
            cursor: None,
        };
        let first = page(all(), 2, None);
        assert_eq!(first.folders, ["a/", "b/"]);
        let second = page(all(), 2, first.cursor.as_deref());
        assert_eq!(
            (second.folders, second.cursor),
            (vec!["c/".to_owned()], None)
        );
        assert_eq!(page(all(), 3, None).cursor, None);
    }

    /// Files at all of these, each with its own path in it, below a root that is called `a`.
    const FILES: [&str; 8] = [
        "a/a/v", "a/b/v", "a/v", "ab/v", "a.b/v", "b/a/v", "b/v", "v",
    ];

    proptest! {
        /// Whatever a name is made of, what it opens lies below what may be seen.
        #[test]
        fn nothing_else_is_opened_than_what_may_be_seen(
            parts in prop::collection::vec(
                proptest::sample::select(vec!["a", "b", "ab", "a.b", "v", ".", "..", ""]), 1..6,
            ),
            start in proptest::sample::select(vec!["", "/", "fs://ROOT/", "fs://ROOT", "s3://"]),
            prefix in proptest::sample::select(vec!["a", "a/b", "b", "a/a", "v", "a/b/v", "/"]),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().join("a");
            for file in FILES {
                let path = root.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file).unwrap();
            }
            let start = start.replace("ROOT", root.to_str().unwrap());
            let name = format!("{start}{}", parts.join("/"));
            let store = Store::local(&root).unwrap();
            let sight = below(&store, &[prefix]);
            let opens = match sight.of(&store, &name) {
                Seen::AsNamed => name.clone(),
                Seen::As(other) => other,
                Seen::Hidden => String::new(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let open = |name: &str| {
                let opened = runtime.as_ref().unwrap().block_on(store.open(name, 100, 0));
                opened.ok().map(|opened| String::from_utf8(opened.head.to_vec()).unwrap())
            };
            let allowed = |path: &str| {
                let prefix = prefix.trim_matches('/');
                prefix.is_empty() || path == prefix || path.starts_with(&format!("{prefix}/"))
            };
            if let Some(content) = open(&opens) {
                prop_assert!(allowed(&content), "{name} opens {content} for {prefix}");
            }
            // And what is named plainly is seen.
            let plain = start.is_empty() && FILES.contains(&parts.join("/").as_str());
            if plain && allowed(&parts.join("/")) {
                prop_assert_eq!(open(&opens), Some(parts.join("/")));
            }
        }

        #[test]
        fn a_place_that_is_seen_has_all_below_it_seen(
            prefix in "[a-c]{1,2}(/[a-c]{1,2}){0,2}",
            path in "[a-c]{1,2}(/[a-c]{1,2}){0,3}",
        ) {
            let store = buckets();
            let sight = below(&store, &[&format!("s3://lab/{prefix}")]);
            let seen = sight.of(&store, &format!("s3://lab/{path}")) != Seen::Hidden;
            let (prefix, path): (Vec<_>, Vec<_>) =
                (prefix.split('/').collect(), path.split('/').collect());
            prop_assert_eq!(seen, path.starts_with(&prefix));
        }
    }
}
