//! Names of objects, prefixes of listings, and files of keys.

use std::cell::OnceCell;
use std::fs;
use std::os::unix::fs::symlink;

use storage::{Page, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A folder that is served, and files beside it that must not be seen.
struct Place {
    _folder: TempDir,
    store: Store,
    runtime: Runtime,
}

const INSIDE: &[u8] = b"inside";

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        fs::create_dir_all(folder.path().join("rooted")).unwrap();
        for name in ["a.mp4", "sub/b.mp4", "sub/deep/c.mp4", "sub/..mp4", "%2e"] {
            fs::write(root.join(name), INSIDE).unwrap();
        }
        for name in ["secret.mp4", "rooted/secret.mp4"] {
            fs::write(folder.path().join(name), b"outside").unwrap();
        }
        symlink("../secret.mp4", root.join("out.mp4")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("/", root.join("top")).unwrap();
        symlink("sub", root.join("same")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        Self {
            store: Store::local(&root).unwrap(),
            _folder: folder,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }
}

thread_local! {
    static PLACE: OnceCell<Place> = const { OnceCell::new() };
}

pub(crate) fn run(data: &[u8]) {
    let Ok(name) = std::str::from_utf8(data) else {
        return;
    };
    PLACE.with(|place| {
        let place = place.get_or_init(Place::new);
        place.runtime.block_on(check(&place.store, name));
    });
}

async fn check(store: &Store, name: &str) {
    if let Ok(opened) = store.open(name, 64, 64).await {
        assert_eq!(opened.head, INSIDE, "{name:?} leads out");
        let whole = opened.object.read(0..opened.object.size()).await;
        assert_eq!(whole.unwrap(), INSIDE, "{name:?}");
    }
    // The same as a prefix, and as where a page before ended.
    for (prefix, cursor) in [(name, None), ("", Some(name)), ("sub/", Some(name))] {
        let page = Page {
            prefix,
            limit: 3,
            cursor,
            wanted: |_| true,
        };
        let Ok(listing) = store.list(page).await else {
            continue;
        };
        for entry in listing.objects {
            let opened = store.open(&entry.name, 64, 0).await.unwrap();
            assert_eq!(opened.head, INSIDE, "{name:?} lists {}", entry.name);
        }
    }
}

pub(crate) fn credentials(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (profile, file) = text.split_once('\n').unwrap_or(("default", &text));
    storage::fuzzing::profile(file, profile);
}
