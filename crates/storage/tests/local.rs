//! A local store: what it finds, what it refuses, and what it does when files change under it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use storage::{Page, StorageError, StorageErrorKind, Store};
use tempfile::TempDir;

/// A folder with a store's root `data` and a secret beside it.
struct Place {
    folder: TempDir,
    store: Store,
}

const SECRET: &[u8] = b"secret";

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("data");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(folder.path().join("secret"), SECRET).unwrap();
        fs::write(root.join("a.h265"), b"0123456789").unwrap();
        fs::write(root.join("sub/b.h265"), b"bb").unwrap();
        let store = Store::local(&root).unwrap();
        Self { folder, store }
    }

    fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    async fn whole(&self, name: &str) -> Result<Vec<u8>, StorageError> {
        let opened = self.store.open(name, 4, 4).await?;
        let bytes = opened.object.read(0..opened.object.size()).await?;
        Ok(bytes.to_vec())
    }

    async fn refusal(&self, name: &str) -> StorageErrorKind {
        match self.whole(name).await {
            Ok(bytes) => panic!("{name:?} was opened: {:?}", String::from_utf8_lossy(&bytes)),
            Err(error) => error.kind(),
        }
    }
}

#[tokio::test]
async fn a_file_is_found_by_each_of_its_names() {
    let place = Place::new();
    let absolute = format!("fs://{}/a.h265", place.root().display());
    for name in [
        "a.h265",
        "./a.h265",
        "sub/../a.h265",
        "data/a.h265",
        absolute.as_str(),
    ] {
        assert_eq!(place.whole(name).await.unwrap(), b"0123456789", "{name}");
    }
    assert_eq!(place.whole("data/sub/b.h265").await.unwrap(), b"bb");
}

#[tokio::test]
async fn the_root_folders_own_name_is_only_a_second_try() {
    let place = Place::new();
    fs::create_dir(place.root().join("data")).unwrap();
    fs::write(place.root().join("data/a.h265"), b"inner").unwrap();
    assert_eq!(place.whole("data/a.h265").await.unwrap(), b"inner");
    assert_eq!(
        place.refusal("other/a.h265").await,
        StorageErrorKind::NotFound
    );
}

#[tokio::test]
async fn an_absolute_name_may_go_by_the_roots_symlink() {
    let place = Place::new();
    let link = place.folder.path().join("link");
    symlink(place.root(), &link).unwrap();
    let store = Store::local(&link).unwrap();
    for prefix in [&link, &place.root().canonicalize().unwrap()] {
        let name = format!("fs://{}/a.h265", prefix.display());
        assert_eq!(
            store.open(&name, 4, 4).await.unwrap().object.size(),
            10,
            "{name}"
        );
    }
    // Both of the root's own names.
    assert!(store.open("link/a.h265", 1, 1).await.is_ok());
    assert!(store.open("data/a.h265", 1, 1).await.is_ok());
}

#[tokio::test]
async fn nothing_outside_the_root_is_opened() {
    let place = Place::new();
    let root = place.root();
    let outside = place.folder.path().join("secret");
    symlink(&outside, root.join("absolute-link")).unwrap();
    symlink("../secret", root.join("relative-link")).unwrap();
    symlink("..", root.join("parent-link")).unwrap();
    symlink("parent-link/secret", root.join("link-to-link")).unwrap();
    symlink("/proc/self/root", root.join("magic-link")).unwrap();
    let outside = outside.display();
    for name in [
        "../secret",
        "sub/../../secret",
        "data/../../secret",
        "./../secret",
        "..",
        "../data/a.h265",
        "absolute-link",
        "relative-link",
        "parent-link/secret",
        "link-to-link",
        "magic-link/etc/passwd",
        "/etc/passwd",
        "//etc/passwd",
        &format!("{outside}"),
        &format!("fs://{outside}"),
        &format!("fs://{}/../secret", root.display()),
        &format!("fs://{}-other/x", root.display()),
        "fs:///etc/passwd",
        "s3://videos/a.h265",
    ] {
        assert_eq!(
            place.refusal(name).await,
            StorageErrorKind::OutsideStore,
            "{name}"
        );
    }
    // Encodings are names like any other, and such files do not exist.
    for name in [
        "%2e%2e/secret",
        "..%2fsecret",
        "..\\secret",
        "%2e%2e%2fsecret",
        "．．/secret",
    ] {
        assert_eq!(
            place.refusal(name).await,
            StorageErrorKind::NotFound,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_symlink_that_stays_inside_is_followed() {
    let place = Place::new();
    symlink("sub/b.h265", place.root().join("inside")).unwrap();
    symlink("../a.h265", place.root().join("sub/up")).unwrap();
    assert_eq!(place.whole("inside").await.unwrap(), b"bb");
    assert_eq!(place.whole("sub/up").await.unwrap(), b"0123456789");
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused_without_waiting() {
    let place = Place::new();
    let fifo = place.root().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    let socket = place.root().join("socket");
    let _socket = std::os::unix::net::UnixListener::bind(socket).unwrap();
    for name in ["fifo", "socket", "sub", ".", "data", "sub/", "sub/.", ""] {
        assert_eq!(
            place.refusal(name).await,
            StorageErrorKind::InvalidName,
            "{name:?}"
        );
    }
}

#[tokio::test]
async fn names_that_lead_nowhere_are_refused() {
    let place = Place::new();
    symlink("loop-b", place.root().join("loop-a")).unwrap();
    symlink("loop-a", place.root().join("loop-b")).unwrap();
    symlink("gone", place.root().join("dangling")).unwrap();
    for name in [
        "absent",
        "sub/absent",
        "a.h265/",
        "a.h265/x",
        "dangling",
        "loop-a",
        "data/x",
    ] {
        assert_eq!(
            place.refusal(name).await,
            StorageErrorKind::NotFound,
            "{name}"
        );
    }
    for name in [
        "a.h265\0".to_owned(),
        "\0".to_owned(),
        "../secret\0.h265".to_owned(),
        "x".repeat(300),
        "x/".repeat(5000),
        "x".repeat(1_000_000),
    ] {
        let kind = place.refusal(&name).await;
        assert_eq!(
            kind,
            StorageErrorKind::InvalidName,
            "{} characters",
            name.len()
        );
    }
}

#[tokio::test]
async fn the_error_names_the_object_and_not_the_folder() {
    let place = Place::new();
    let error = place.whole("absent.h265").await.unwrap_err();
    assert_eq!(error.to_string(), "absent.h265 does not exist");
    let error = place.whole("../secret").await.unwrap_err();
    assert_eq!(error.to_string(), "../secret leads outside the store");
}

#[tokio::test]
async fn head_and_tail_are_cut_to_the_object() {
    let place = Place::new();
    let check = async |name: &str, head: u64, tail: u64, expected: (&[u8], &[u8])| {
        let opened = place.store.open(name, head, tail).await.unwrap();
        assert_eq!(
            (&opened.head[..], &opened.tail[..]),
            expected,
            "{name} {head} {tail}"
        );
    };
    check("a.h265", 4, 3, (b"0123", b"789")).await;
    check("a.h265", 8, 8, (b"01234567", b"23456789")).await;
    check("a.h265", 100, 100, (b"0123456789", b"0123456789")).await;
    check("a.h265", 0, 0, (b"", b"")).await;
    check("a.h265", u64::MAX, u64::MAX, (b"0123456789", b"0123456789")).await;
    fs::write(place.root().join("empty"), b"").unwrap();
    check("empty", 4, 4, (b"", b"")).await;
}

#[tokio::test]
async fn reads_give_exactly_the_range() {
    let place = Place::new();
    let object = place.store.open("a.h265", 1, 1).await.unwrap().object;
    assert_eq!(&object.read(2..5).await.unwrap()[..], b"234");
    assert_eq!(&object.read(10..10).await.unwrap()[..], b"");
    let ranges = [7..9, 0..2, 3..3, 1..10];
    let parts = object.read_ranges(&ranges).await.unwrap();
    assert_eq!(parts, [&b"78"[..], b"01", b"", b"123456789"]);
    assert!(object.read_ranges(&[]).await.unwrap().is_empty());
    #[allow(clippy::reversed_empty_ranges)]
    for range in [0..11, 10..11, 5..4, 0..u64::MAX, u64::MAX..u64::MAX] {
        let kind = object.read(range.clone()).await.unwrap_err().kind();
        assert_eq!(kind, StorageErrorKind::OutOfRange, "{range:?}");
        assert!(object.read_ranges(&[0..1, range]).await.is_err());
    }
}

#[tokio::test]
async fn near_ranges_are_read_as_one_and_counted() {
    let place = Place::new();
    fs::write(place.root().join("large"), vec![7; 1_000_000]).unwrap();
    let object = place.store.open("large", 1, 1).await.unwrap().object;
    let before = place.store.counters();
    object
        .read_ranges(&[0..10, 20..30, 900_000..900_010])
        .await
        .unwrap();
    let after = place.store.counters();
    assert_eq!(after.requests - before.requests, 2);
    assert_eq!(after.bytes - before.bytes, 30 + 10);
}

fn touch(path: &Path, content: &[u8]) {
    // In place: the same inode. The clock of file systems may tick as slowly as the kernel's
    // timer, so the time is set apart by hand.
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(content, 0).unwrap();
    file.set_len(content.len() as u64).unwrap();
    file.set_modified(modified + std::time::Duration::from_secs(1))
        .unwrap();
}

#[tokio::test]
async fn a_file_that_is_rewritten_in_place_is_not_mixed() {
    let place = Place::new();
    let path = place.root().join("a.h265");
    for content in [
        &b"ABCDEFGHIJ"[..],
        b"short",
        b"much longer than it was before",
    ] {
        let old = place.store.open("a.h265", 4, 4).await.unwrap().object;
        touch(&path, content);
        for range in [0..4, old.size() - 2..old.size(), 0..old.size()] {
            let error = old.read(range).await.unwrap_err();
            assert_eq!(error.kind(), StorageErrorKind::Changed);
        }
        let new = place.store.open("a.h265", 4, 4).await.unwrap().object;
        assert_ne!(new.version(), old.version());
        assert_eq!(&new.read(0..new.size()).await.unwrap()[..], content);
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_or_removed_is_read_on_in_its_old_version() {
    let place = Place::new();
    let path = place.root().join("a.h265");
    let old = place.store.open("a.h265", 4, 4).await.unwrap().object;
    fs::write(place.root().join("new"), b"ABCDEFGHIJ").unwrap();
    fs::rename(place.root().join("new"), &path).unwrap();
    assert_eq!(&old.read(0..10).await.unwrap()[..], b"0123456789");
    let new = place.store.open("a.h265", 4, 4).await.unwrap().object;
    assert_ne!(new.version(), old.version());
    fs::remove_file(&path).unwrap();
    assert_eq!(&new.read(0..10).await.unwrap()[..], b"ABCDEFGHIJ");
    assert_eq!(place.refusal("a.h265").await, StorageErrorKind::NotFound);
}

#[tokio::test]
async fn the_same_file_has_the_same_version() {
    let place = Place::new();
    let a = place.store.open("a.h265", 1, 1).await.unwrap().object;
    let b = place.store.open("data/a.h265", 9, 9).await.unwrap().object;
    assert_eq!(a.version(), b.version());
}

#[tokio::test]
async fn a_range_as_long_as_a_sparse_file_is_refused_not_fatal() {
    let place = Place::new();
    let file = fs::File::create(place.root().join("sparse")).unwrap();
    file.set_len(1 << 42).unwrap();
    let opened = place.store.open("sparse", 16, 16).await.unwrap();
    assert_eq!((opened.head.len(), opened.tail.len()), (16, 16));
    assert_eq!(
        &opened.object.read((1 << 42) - 2..1 << 42).await.unwrap()[..],
        [0, 0]
    );
}

#[test]
fn a_root_that_is_no_folder_is_told() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), b"").unwrap();
    for root in ["absent", "file"] {
        let error = Store::local(&folder.path().join(root)).unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Misconfigured);
        assert!(error.to_string().contains(root), "{error}");
    }
}

#[tokio::test]
async fn many_readers_share_a_file() {
    let place = Place::new();
    let content: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
    fs::write(place.root().join("large"), &content).unwrap();
    let object = place.store.open("large", 1, 1).await.unwrap().object;
    let readers: Vec<_> = (0..200u64)
        .map(|i| {
            let object = object.clone();
            tokio::spawn(async move { (i, object.read(i * 900..i * 900 + 1000).await) })
        })
        .collect();
    for reader in readers {
        let (i, bytes) = reader.await.unwrap();
        let start = i as usize * 900;
        assert_eq!(bytes.unwrap()[..], content[start..start + 1000]);
    }
}

/// All pages of a listing, of so many entries each: folders, then objects.
async fn listed(store: &Store, prefix: &str, limit: usize) -> Result<Vec<String>, StorageError> {
    let wanted = |name: &str| name.ends_with(".h265");
    let (mut all, mut cursor): (Vec<String>, Option<String>) = (Vec::new(), None);
    loop {
        let page = Page {
            prefix,
            limit,
            cursor: cursor.as_deref(),
            wanted,
        };
        let page = store.list(page).await?;
        assert!(page.folders.len() + page.objects.len() <= limit);
        all.extend(page.folders);
        for entry in page.objects {
            let opened = store.open(&entry.name, 1, 1).await?;
            assert_eq!(opened.object.size(), entry.size);
            assert_eq!(*opened.object.version(), entry.version);
            assert!(entry.modified.is_some());
            all.push(entry.name);
        }
        cursor = page.cursor;
        if cursor.is_none() {
            all.sort();
            return Ok(all);
        }
    }
}

#[tokio::test]
async fn folders_are_listed_page_by_page() {
    let place = Place::new();
    let root = place.root();
    for name in [
        "no.txt",
        "c d.h265",
        "видео.h265",
        "frame.jpg",
        "a%2Fb.h265",
    ] {
        fs::write(root.join(name), b"x").unwrap();
    }
    fs::create_dir_all(root.join("x/frame.jpg/y")).unwrap();
    fs::write(root.join("x/frame.jpg/v.h265"), b"x").unwrap();
    symlink("sub", root.join("within")).unwrap();
    symlink("../a.h265", root.join("sub/up.h265")).unwrap();
    // None of these may be seen.
    symlink("../secret", root.join("out.h265")).unwrap();
    symlink(place.folder.path(), root.join("outside")).unwrap();
    symlink("/", root.join("slash")).unwrap();
    symlink("round", root.join("round")).unwrap();
    symlink("absent", root.join("dangling.h265")).unwrap();
    for limit in [1, 2, 3, 1000] {
        assert_eq!(
            listed(&place.store, "", limit).await.unwrap(),
            [
                "a%2Fb.h265",
                "a.h265",
                "c d.h265",
                "sub/",
                "within/",
                "x/",
                "видео.h265"
            ]
        );
    }
    let check = async |prefix: &str, expected: &[&str]| {
        let found = listed(&place.store, prefix, 2).await.unwrap();
        assert_eq!(found, expected, "{prefix}");
    };
    check("sub/", &["sub/b.h265", "sub/up.h265"]).await;
    check("within/", &["within/b.h265", "within/up.h265"]).await;
    check("s", &["sub/"]).await;
    check("x/", &["x/frame.jpg/"]).await;
    check("x/frame.jpg/", &["x/frame.jpg/v.h265", "x/frame.jpg/y/"]).await;
    check("x/frame.jpg/v", &["x/frame.jpg/v.h265"]).await;
    check("nothing", &[]).await;
    let absolute = format!("fs://{}/sub/", root.display());
    check(&absolute, &["sub/b.h265", "sub/up.h265"]).await;
}

#[tokio::test]
async fn nothing_outside_the_root_is_listed() {
    let place = Place::new();
    let root = place.root();
    symlink(place.folder.path(), root.join("outside")).unwrap();
    let beside = format!("fs://{}/", place.folder.path().display());
    for prefix in [
        "../",
        "outside/",
        "sub/../../",
        "/",
        "//",
        "/etc/",
        "a.h265/",
        "absent/",
        "s3://b/",
        "fs:///",
        "sub\0/",
        &beside,
    ] {
        let error = listed(&place.store, prefix, 10).await.unwrap_err();
        assert!(error.kind().reads_as_not_found(), "{prefix}: {error:?}");
    }
}
