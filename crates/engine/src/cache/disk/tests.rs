//! The cache as its users see it, and what may happen to its folder.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use super::*;

const MIB: u64 = 1 << 20;

/// A value that says which key it belongs to, by its length and by every stretch of it.
fn value_of(key: &str) -> Bytes {
    value_below(100_000, key)
}

fn value_below(most: usize, key: &str) -> Bytes {
    static BLOCK: LazyLock<Bytes> = LazyLock::new(|| {
        let mut bytes = vec![0; 4 << 20];
        StdRng::seed_from_u64(0).fill(&mut bytes[..]);
        bytes.into()
    });
    let hash = xxhash_rust::xxh3::xxh3_64(key.as_bytes());
    let length = hash as usize % most + 1;
    let start = (hash >> 40) as usize % (BLOCK.len() - most);
    BLOCK.slice(start..start + length)
}

fn key(number: u64) -> String {
    format!("image/\"etag\"/{number}/q80")
}

async fn put(cache: &DiskCache, key: &str) {
    cache.put(key.into(), value_of(key));
    cache.flush().await;
}

/// A cache with these keys in it, flushed.
async fn filled(folder: &Path, keys: std::ops::Range<u64>) -> DiskCache {
    let cache = DiskCache::open(folder, 256 * MIB).unwrap();
    for number in keys {
        put(&cache, &key(number)).await;
    }
    cache
}

fn file_of(folder: &Path, key: &str) -> PathBuf {
    folder.join(Name::of(key).to_string())
}

fn names(folder: &Path) -> Vec<String> {
    let listed = fs::read_dir(folder).unwrap();
    let name = |file: fs::DirEntry| file.file_name().into_string().unwrap();
    let mut names: Vec<_> = listed.map(|file| name(file.unwrap())).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_is_put_in_comes_out() {
    let folder = TempDir::new().unwrap();
    let cache = DiskCache::open(folder.path(), MIB).unwrap();
    assert!(cache.is_empty());
    assert_eq!(cache.get("a").await, None);
    cache.put("a".into(), Bytes::from_static(b"one"));
    cache.put("b".into(), Bytes::new());
    cache.flush().await;
    assert_eq!(cache.get("a").await.unwrap(), "one");
    assert_eq!(cache.get("b").await.unwrap(), "");
    cache.put("a".into(), Bytes::from_static(b"two"));
    cache.flush().await;
    assert_eq!(cache.get("a").await.unwrap(), "two");
    assert_eq!((cache.len(), cache.bytes()), (2, 2 * 4096));
    let expected = DiskCacheCounters {
        hits: 3,
        misses: 1,
        written: 3,
        ..Default::default()
    };
    assert_eq!(cache.counters(), expected);
}

#[tokio::test]
async fn a_restart_keeps_what_was_put_even_just_before() {
    let folder = TempDir::new().unwrap();
    let new = folder.path().join("not/there yet");
    let cache = DiskCache::open(&new, 256 * MIB).unwrap();
    assert_eq!(fs::metadata(&new).unwrap().mode() & 0o777, 0o700);
    for number in 0..100 {
        cache.put(key(number), value_of(&key(number)));
    }
    let counters = cache.counters();
    assert_eq!(counters.dropped, 0);
    drop(cache);
    for _ in 0..2 {
        let cache = DiskCache::open(&new, 256 * MIB).unwrap();
        assert_eq!(cache.len(), 100);
        for number in 0..100 {
            assert_eq!(
                cache.get(&key(number)).await.unwrap(),
                value_of(&key(number))
            );
        }
        assert_eq!(cache.get(&key(100)).await, None);
    }
    let file = fs::metadata(file_of(&new, &key(0))).unwrap();
    assert_eq!(file.mode() & 0o777, 0o600);
}

#[tokio::test]
async fn one_folder_serves_one_cache_at_a_time() {
    let folder = TempDir::new().unwrap();
    let first = filled(folder.path(), 0..1).await;
    let error = DiskCache::open(folder.path(), MIB).unwrap_err();
    assert!(matches!(&error, DiskCacheError::InUse { .. }), "{error:?}");
    let path = folder.path().display().to_string();
    assert_eq!(
        error.to_string(),
        format!("the cache folder {path} is in use by another server")
    );
    assert!(first.get(&key(0)).await.is_some());
    drop(first);
    assert_eq!(DiskCache::open(folder.path(), MIB).unwrap().len(), 1);
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    let locked = folder.path().join("locked");
    fs::create_dir_all(locked.join("lock")).unwrap();
    for path in [
        file.clone(),
        file.join("below"),
        locked,
        "/proc/none".into(),
    ] {
        let error = DiskCache::open(&path, MIB).unwrap_err();
        assert!(
            matches!(error, DiskCacheError::Unusable { .. }),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()), "{text}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

#[tokio::test]
async fn a_cut_file_is_a_miss_and_goes() {
    let folder = TempDir::new().unwrap();
    let cache = filled(folder.path(), 0..1).await;
    let path = file_of(folder.path(), &key(0));
    let whole = fs::metadata(&path).unwrap().len();
    for (time, length) in [0, 1, 31, 32, 40, whole / 2, whole - 1]
        .into_iter()
        .enumerate()
    {
        put(&cache, &key(0)).await;
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length)
            .unwrap();
        assert_eq!(cache.get(&key(0)).await, None, "{length}");
        assert_eq!(cache.counters().damaged, time as u64 + 1);
        cache.flush().await;
        assert!(!path.exists() && cache.is_empty());
    }
    put(&cache, &key(0)).await;
    assert_eq!(cache.get(&key(0)).await.unwrap(), value_of(&key(0)));
}

#[tokio::test]
async fn a_flipped_bit_is_a_miss_after_a_restart_too() {
    let folder = TempDir::new().unwrap();
    let mut random = StdRng::seed_from_u64(1);
    drop(filled(folder.path(), 0..200).await);
    for number in 0..100 {
        let path = file_of(folder.path(), &key(number));
        let mut bytes = fs::read(&path).unwrap();
        let bit = random.random_range(0..bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
    }
    let cache = DiskCache::open(folder.path(), 256 * MIB).unwrap();
    for number in 0..200 {
        let expected = (number >= 100).then(|| value_of(&key(number)));
        assert_eq!(cache.get(&key(number)).await, expected, "{number}");
    }
    cache.flush().await;
    assert_eq!((cache.counters().damaged, cache.len()), (100, 100));
}

#[tokio::test]
async fn a_whole_file_under_another_name_is_a_miss() {
    let folder = TempDir::new().unwrap();
    let cache = filled(folder.path(), 0..2).await;
    let (first, second) = (
        file_of(folder.path(), &key(0)),
        file_of(folder.path(), &key(1)),
    );
    fs::copy(first, second).unwrap();
    assert_eq!(cache.get(&key(1)).await, None);
    assert_eq!(cache.get(&key(0)).await.unwrap(), value_of(&key(0)));
}

#[tokio::test]
async fn foreign_files_are_left_alone_and_nothing_outside_is_touched() {
    let outside = TempDir::new().unwrap();
    drop(filled(outside.path(), 0..4).await);
    let treasure = |number| file_of(outside.path(), &key(number));
    let before = names(outside.path());

    let folder = TempDir::new().unwrap();
    let inside = |number| file_of(folder.path(), &key(number));
    let foreign = [
        "photo.jpg",
        "LOCK",
        "0123",
        "unfinished-business",
        ".hidden",
    ];
    for name in foreign {
        fs::write(folder.path().join(name), name).unwrap();
    }
    fs::create_dir(folder.path().join("unfinished-1")).unwrap();
    // What a crash left.
    fs::write(folder.path().join("unfinished-77-3"), "half").unwrap();
    // Names that the cache gives, and what it never makes: links, folders, pipes, junk.
    symlink(treasure(0), inside(0)).unwrap();
    fs::create_dir(inside(2)).unwrap();
    let made = Command::new("mkfifo").arg(inside(3)).status().unwrap();
    assert!(made.success());
    let junk = folder.path().join("f".repeat(32));
    File::create(&junk).unwrap().set_len(64 * MIB).unwrap();

    let cache = DiskCache::open(folder.path(), 32 * MIB).unwrap();
    assert!(!junk.exists(), "it has one of our names, and no room");
    assert!(!folder.path().join("unfinished-77-3").exists());
    for number in 0..4 {
        assert_eq!(cache.get(&key(number)).await, None);
    }
    // While it is open, too: links where files were.
    for number in [1, 4] {
        put(&cache, &key(number)).await;
    }
    fs::remove_file(inside(1)).unwrap();
    symlink(treasure(1), inside(1)).unwrap();
    fs::remove_file(inside(4)).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(inside(4))
            .status()
            .unwrap()
            .success()
    );
    for number in [1, 4] {
        assert_eq!(cache.get(&key(number)).await, None, "{number}");
    }
    for number in 0..5 {
        put(&cache, &key(number)).await;
    }
    for number in [0, 1, 3, 4] {
        let value = cache.get(&key(number)).await;
        assert_eq!(value.unwrap(), value_of(&key(number)), "{number}");
        assert!(fs::symlink_metadata(inside(number)).unwrap().is_file());
    }
    assert_eq!(cache.get(&key(2)).await, None, "a folder stands in its way");
    for name in foreign {
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), name);
    }
    // Evicting through a link must not follow it either.
    fs::remove_file(inside(0)).unwrap();
    symlink(treasure(0), inside(0)).unwrap();
    drop(cache);
    drop(DiskCache::open(folder.path(), 0).unwrap());
    assert_eq!(names(outside.path()), before);
    drop(outside);
}

#[tokio::test]
async fn the_budget_holds_after_every_write() {
    let folder = TempDir::new().unwrap();
    let budget = 2 * MIB;
    let cache = DiskCache::open(folder.path(), budget).unwrap();
    let mut random = StdRng::seed_from_u64(3);
    for number in 0..400 {
        let length = 2_f64.powf(random.random_range(0.0..20.5)) as usize;
        let value = Bytes::from(vec![number as u8; length]);
        cache.put(key(random.random_range(0..300)), value);
        cache.flush().await;
        let mut used = 0;
        let mut files = 0;
        for file in fs::read_dir(folder.path()).unwrap() {
            let metadata = file.unwrap().metadata().unwrap();
            // Blocks may be given out later than they are written.
            used += (metadata.blocks() * 512).max(metadata.len().next_multiple_of(4096));
            files += 1;
        }
        assert!(used <= budget, "{used} of {budget}");
        assert_eq!(files, cache.len() + 1, "the files, and the lock");
        assert!(cache.bytes() >= used && cache.bytes() <= budget);
    }
    let counters = cache.counters();
    assert_eq!(counters.written + counters.too_large, 400);
    assert!(cache.bytes() > budget / 2, "{}", cache.bytes());
}

#[tokio::test]
async fn a_smaller_budget_keeps_the_newest() {
    let folder = TempDir::new().unwrap();
    drop(filled(folder.path(), 0..100).await);
    for number in 0..100 {
        let file = File::options()
            .write(true)
            .open(file_of(folder.path(), &key(number)));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(number);
        file.unwrap().set_modified(time).unwrap();
    }
    let cache = DiskCache::open(folder.path(), 2 * MIB).unwrap();
    assert!(
        cache.bytes() <= 2 * MIB && cache.bytes() > MIB,
        "{}",
        cache.bytes()
    );
    let kept = cache.len() as u64;
    assert_eq!(names(folder.path()).len() as u64, kept + 1);
    for number in 0..100 {
        let found = cache.get(&key(number)).await.is_some();
        assert_eq!(found, number >= 100 - kept, "{number} of {kept}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_not_kept() {
    let folder = TempDir::new().unwrap();
    let cache = DiskCache::open(folder.path(), 64 * MIB).unwrap();
    cache.put("large".into(), vec![7; MAX_VALUE_BYTES].into());
    cache.put("too large".into(), vec![7; MAX_VALUE_BYTES + 1].into());
    cache.put("k".repeat(MAX_KEY_BYTES + 1), Bytes::from_static(b"v"));
    cache.flush().await;
    assert_eq!(cache.get("large").await.unwrap().len(), MAX_VALUE_BYTES);
    assert_eq!(cache.get("too large").await, None);
    assert_eq!((cache.counters().too_large, cache.len()), (2, 1));
    for (bytes, takes) in [
        (0, true),
        (16 << 20, true),
        ((16 << 20) + 1, false),
        (u64::MAX, false),
    ] {
        assert_eq!(cache.takes(bytes), takes, "{bytes}");
    }

    let folder = TempDir::new().unwrap();
    let nothing = DiskCache::open(folder.path(), 0).unwrap();
    put(&nothing, "a").await;
    assert!(!nothing.takes(1));
    assert_eq!(
        (nothing.get("a").await, nothing.counters().too_large),
        (None, 1)
    );
}

#[tokio::test]
async fn what_the_writer_cannot_take_is_dropped_and_counted() {
    let folder = TempDir::new().unwrap();
    let cache = DiskCache::open(folder.path(), 256 * MIB).unwrap();
    let value = Bytes::from(vec![1; 9 << 20]);
    for number in 0..12 {
        cache.put(key(number), value.clone());
    }
    cache.flush().await;
    let counters = cache.counters();
    assert_eq!(counters.written + counters.dropped, 12, "{counters:?}");
    assert_eq!(cache.len() as u64, counters.written);
    assert!(counters.written >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_readers_and_writers_see_whole_values_only() {
    let folder = TempDir::new().unwrap();
    // Room for about a third: files go while they are read.
    let cache = Arc::new(DiskCache::open(folder.path(), 2 * MIB).unwrap());
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move {
                let mut random = StdRng::seed_from_u64(task);
                for _ in 0..500 {
                    let key = key(random.random_range(0..120));
                    if random.random_bool(0.3) {
                        cache.put(key.clone(), value_of(&key));
                        // Else tasks are done before a slow disk has anything.
                        cache.flush().await;
                    } else if let Some(value) = cache.get(&key).await {
                        assert_eq!(value, value_of(&key));
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    cache.flush().await;
    let counters = cache.counters();
    assert!(counters.hits > 100, "{counters:?}");
    assert_eq!((counters.damaged, counters.failed), (0, 0), "{counters:?}");
    assert!(cache.bytes() <= 2 * MIB);
    assert_eq!(names(folder.path()).len(), cache.len() + 1);
}

/// Runs one of the scenarios below in a process of its own.
fn child(scenario: &str, folder: &Path) -> Command {
    child_of(&std::env::current_exe().unwrap(), scenario, folder)
}

fn child_of(program: &Path, scenario: &str, folder: &Path) -> Command {
    let (_, module) = module_path!().split_once("::").unwrap();
    let mut command = Command::new(program);
    command
        .args(["--exact", "--nocapture", &format!("{module}::{scenario}")])
        .env(FOLDER_OF_CHILD, folder)
        .stdin(Stdio::null());
    command
}

/// Set where a scenario runs as a child.
const FOLDER_OF_CHILD: &str = "BUCKET_STREAMER_TEST_CACHE_FOLDER";

fn folder_of_child() -> Option<PathBuf> {
    std::env::var_os(FOLDER_OF_CHILD).map(PathBuf::from)
}

/// Large, so that most of the writer's time is spent within a write.
fn run(number: u64) -> Bytes {
    value_below(2_000_000, &key(number))
}

#[tokio::test]
async fn scenario_write_without_end() {
    let Some(folder) = folder_of_child() else {
        return;
    };
    let cache = DiskCache::open(&folder, 4 << 30).unwrap();
    let mut out = std::io::stdout();
    for number in cache.len() as u64.. {
        cache.put(key(number), run(number));
        if number % 7 == 0 {
            cache.flush().await;
            writeln!(out, "written {number}").unwrap();
        }
    }
}

#[tokio::test]
async fn a_kill_at_any_moment_leaves_whole_values_or_none() {
    let folder = TempDir::new().unwrap();
    let mut random = StdRng::seed_from_u64(5);
    let (mut seen, mut sure, mut cut_short) = (0, 0, 0);
    for _ in 0..24 {
        let mut child = child("scenario_write_without_end", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut numbers = lines.filter_map(|line| {
            let line = line.unwrap();
            line.strip_prefix("written ")?.parse::<u64>().ok()
        });
        // The child goes on writing while this is read, and the kill comes while it is at it.
        let turns = random.random_range(1..4);
        sure = numbers
            .by_ref()
            .take(turns)
            .last()
            .expect("the child wrote");
        let unfinished = |name: &String| name.starts_with(folder::UNFINISHED);
        (0..2_000).find(|_| names(folder.path()).iter().any(unfinished));
        child.kill().unwrap();
        child.wait().unwrap();

        cut_short += names(folder.path())
            .iter()
            .filter(|n| unfinished(n))
            .count();
        let cache = DiskCache::open(folder.path(), 4 << 30).unwrap();
        assert!(!names(folder.path()).iter().any(unfinished));
        for number in seen..sure + 50 {
            let found = cache.get(&key(number)).await;
            if let Some(value) = &found {
                assert_eq!(*value, run(number), "{number}");
            }
            // The system had all of it when the writer said so: only a power cut could lose it.
            assert!(
                found.is_some() || number > sure,
                "{number} of {sure} is lost"
            );
        }
        // A file that is cut short never bears its name.
        assert_eq!(cache.counters().damaged, 0);
        seen = sure;
    }
    let cache = DiskCache::open(folder.path(), 4 << 30).unwrap();
    for number in 0..=sure {
        assert_eq!(cache.get(&key(number)).await.unwrap(), run(number));
    }
    println!("{sure} values; {cut_short} of 24 kills cut a file short");
}

/// Counts warnings of the whole process.
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Relaxed);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

fn count_warnings() -> Arc<AtomicUsize> {
    let warnings = Arc::new(AtomicUsize::new(0));
    tracing::subscriber::set_global_default(Warnings(Arc::clone(&warnings))).unwrap();
    warnings
}

#[tokio::test]
async fn scenario_folder_vanishes() {
    let Some(folder) = folder_of_child() else {
        return;
    };
    let warnings = count_warnings();
    let cache = filled(&folder, 0..20).await;
    fs::remove_dir_all(&folder).unwrap();
    for number in 0..40 {
        assert_eq!(cache.get(&key(number)).await, None);
        put(&cache, &key(number)).await;
        assert_eq!(cache.get(&key(number)).await, None);
    }
    let counters = cache.counters();
    assert_eq!(
        (counters.failed + counters.skipped, counters.written),
        (40, 20),
        "{counters:?}"
    );
    assert_eq!(warnings.load(Relaxed), 1);
    // Nor does it come back by itself.
    drop(cache);
    assert!(!folder.exists());
    println!("ended well");
}

#[tokio::test]
async fn scenario_folder_becomes_read_only() {
    let Some(folder) = folder_of_child() else {
        return;
    };
    let warnings = count_warnings();
    let permit = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    let cache = filled(&folder, 0..20).await;
    permit(0o500);
    for number in 0..40 {
        put(&cache, &key(number)).await;
    }
    // An older value of the key was to go first; that, too, was refused.
    let counters = cache.counters();
    assert!(counters.failed >= 2, "{counters:?}");
    assert!(counters.failed + counters.skipped >= 40, "{counters:?}");
    assert!(!cache.is_writable());
    permit(0o000);
    for number in 0..40 {
        assert_eq!(cache.get(&key(number)).await, None);
    }
    assert_eq!(warnings.load(Relaxed), 1);
    permit(0o700);
    // It is tried again after a while.
    while !cache.is_writable() {
        put(&cache, &key(50)).await;
    }
    assert_eq!(cache.get(&key(50)).await.unwrap(), value_of(&key(50)));
    drop(cache);
    permit(0o500);
    let error = DiskCache::open(&folder, MIB).unwrap_err();
    assert!(error.to_string().contains("cannot be written"), "{error}");
    permit(0o700);
    println!("ended well");
}

/// Whether the scenario really ran, and went well.
fn ends_well(mut command: Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("ended well"),
        "{text}\n{errors}"
    );
}

#[test]
fn a_folder_that_vanishes_is_misses_and_one_warning() {
    let folder = TempDir::new().unwrap();
    ends_well(child(
        "scenario_folder_vanishes",
        &folder.path().join("cache"),
    ));
}

#[test]
fn a_folder_that_becomes_read_only_is_misses_and_one_warning() {
    let place = TempDir::new().unwrap();
    let folder = place.path().join("cache");
    fs::create_dir(&folder).unwrap();
    let owner = fs::metadata(&folder).unwrap().uid();
    if owner != 0 {
        return ends_well(child("scenario_folder_becomes_read_only", &folder));
    }
    // To the superuser nothing is read-only: the child is somebody else.
    const NOBODY: u32 = 65534;
    let program = place.path().join("program");
    // By another process: while this one had it open for writing, a child that another test begins
    // just then would have it, too, and a file that is open for writing cannot be run.
    let copied = Command::new("cp")
        .args([&std::env::current_exe().unwrap(), &program])
        .status();
    assert!(copied.unwrap().success());
    for path in [place.path(), &folder, &program] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut command = child_of(&program, "scenario_folder_becomes_read_only", &folder);
    std::os::unix::process::CommandExt::uid(&mut command, NOBODY);
    command.current_dir(place.path());
    ends_well(command);
}
