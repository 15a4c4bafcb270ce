//! An S3 store, against a real S3 server (Garage).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use storage::{Bucket, Page, ReadOptions, S3Config, StorageErrorKind, Store, StoreConfig};
use testkit::garage::Garage;

struct Place {
    garage: Garage,
    writer: AmazonS3,
}

impl Place {
    fn new() -> Self {
        let garage = Garage::start().unwrap();
        let writer = garage.writer(Garage::BUCKET).unwrap();
        Self { garage, writer }
    }

    fn config(&self) -> S3Config {
        S3Config {
            buckets: vec![Garage::BUCKET.into()],
            region: Some(Garage::REGION.into()),
            endpoint: Some(self.garage.endpoint().into()),
            access_key: Some(Garage::ACCESS_KEY.into()),
            secret_key: Some(Garage::SECRET_KEY.into()),
            ..S3Config::default()
        }
    }

    fn store(&self) -> Store {
        Store::s3(self.config()).unwrap()
    }

    async fn put(&self, key: &str, content: &[u8]) {
        put(&self.writer, key, content).await;
    }
}

async fn put(writer: &AmazonS3, key: &str, content: &[u8]) {
    let payload = PutPayload::from(content.to_vec());
    let key = Path::parse(key).unwrap();
    writer.put(&key, payload).await.unwrap();
}

async fn refusal(store: &Store, name: &str) -> (StorageErrorKind, String) {
    match store.open(name, 4, 4).await {
        Ok(_) => panic!("{name:?} was opened"),
        Err(error) => (error.kind(), error.to_string()),
    }
}

#[tokio::test]
async fn an_object_is_opened_and_read() {
    let place = Place::new();
    let store = place.store();
    let content: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    place.put("flights/cam 0 ä%2f.mp4", &content).await;
    for name in [
        "flights/cam 0 ä%2f.mp4",
        "s3://videos/flights/cam 0 ä%2f.mp4",
    ] {
        let before = store.counters();
        let opened = store.open(name, 1000, 2000).await.unwrap();
        let after = store.counters();
        assert_eq!(
            (after.requests - before.requests, after.bytes - before.bytes),
            (2, 3000)
        );
        assert_eq!(opened.object.size(), 3_000_000);
        assert_eq!(opened.head[..], content[..1000]);
        assert_eq!(opened.tail[..], content[2_998_000..]);
        assert_eq!(opened.object.read(5..17).await.unwrap()[..], content[5..17]);

        let before = store.counters();
        let ranges = [2_900_000..2_900_010, 100..20_000, 20_100..30_000];
        let parts = opened.object.read_ranges(&ranges).await.unwrap();
        for (part, range) in parts.iter().zip(&ranges) {
            assert_eq!(part[..], content[range.start as usize..range.end as usize]);
        }
        assert_eq!(store.counters().requests - before.requests, 2);
        let error = opened.object.read(2_999_999..3_000_001).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::OutOfRange);
    }
}

#[tokio::test]
async fn small_and_empty_objects_are_opened() {
    let place = Place::new();
    let store = place.store();
    place.put("empty", b"").await;
    place.put("one", b"1").await;
    place.put("ten", b"0123456789").await;
    let check = async |name: &str, head: u64, tail: u64, expected: (&[u8], &[u8])| {
        let opened = store.open(name, head, tail).await.unwrap();
        assert_eq!(
            (&opened.head[..], &opened.tail[..]),
            expected,
            "{name} {head} {tail}"
        );
        let size = opened.object.size();
        assert_eq!(
            opened.object.read(0..size).await.unwrap().len() as u64,
            size
        );
    };
    check("empty", 100, 100, (b"", b"")).await;
    check("empty", 0, 0, (b"", b"")).await;
    check("one", 100, 100, (b"1", b"1")).await;
    check("one", 0, 0, (b"", b"")).await;
    check("ten", 10, 10, (b"0123456789", b"0123456789")).await;
    check("ten", 100, 4, (b"0123456789", b"6789")).await;
    check("ten", 4, 100, (b"0123", b"0123456789")).await;
}

#[tokio::test]
async fn a_replaced_object_is_never_mixed() {
    let place = Place::new();
    let store = place.store();
    place.put("video", b"0123456789").await;
    let old = store.open("video", 4, 4).await.unwrap().object;
    // The same size, so that only the version tells.
    place.put("video", b"ABCDEFGHIJ").await;
    assert_eq!(
        old.read(0..4).await.unwrap_err().kind(),
        StorageErrorKind::Changed
    );
    let new = store.open("video", 4, 4).await.unwrap().object;
    assert_ne!(new.version(), old.version());
    assert_eq!(&new.read(0..4).await.unwrap()[..], b"ABCD");
    place.put("video", b"A").await;
    assert_eq!(
        new.read(8..10).await.unwrap_err().kind(),
        StorageErrorKind::Changed
    );
    let again = store.open("video", 4, 4).await.unwrap().object;
    place.writer.delete(&Path::from("video")).await.unwrap();
    assert_eq!(
        again.read(0..1).await.unwrap_err().kind(),
        StorageErrorKind::Changed
    );
    assert_eq!(refusal(&store, "video").await.0, StorageErrorKind::NotFound);
}

#[tokio::test]
async fn what_cannot_be_had_is_told_without_secrets() {
    let place = Place::new();
    place.put("video", b"0123456789").await;
    let store = place.store();
    let (kind, text) = refusal(&store, "absent.mp4").await;
    assert_eq!(
        (kind, text.as_str()),
        (StorageErrorKind::NotFound, "absent.mp4 does not exist")
    );
    assert_eq!(
        refusal(&store, "s3://other/video").await.0,
        StorageErrorKind::OutsideStore
    );
    assert_eq!(
        refusal(&store, "fs:///video").await.0,
        StorageErrorKind::OutsideStore
    );
    assert_eq!(
        refusal(&store, "../videos/video").await.0,
        StorageErrorKind::InvalidName
    );

    let wrong_secret = S3Config {
        secret_key: Some("f".repeat(64)),
        ..place.config()
    };
    let wrong_key = S3Config {
        access_key: Some("GKffffffffffffffffffffffff".into()),
        ..place.config()
    };
    for config in [wrong_secret, wrong_key] {
        let store = Store::s3(config.clone()).unwrap();
        let (kind, text) = refusal(&store, "video").await;
        assert_eq!(kind, StorageErrorKind::Forbidden, "{text}");
        assert!(
            text.starts_with("video: the S3 server refuses access"),
            "{text}"
        );
        for secret in [config.access_key.unwrap(), config.secret_key.unwrap()] {
            assert!(!text.contains(&secret), "{text}");
        }
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_told() {
    let place = Place::new();
    let store = Store::s3(S3Config {
        buckets: vec!["absent".into()],
        ..place.config()
    })
    .unwrap();
    let (kind, text) = refusal(&store, "video").await;
    assert!(
        matches!(
            kind,
            StorageErrorKind::Misconfigured | StorageErrorKind::Forbidden
        ),
        "{kind:?}: {text}"
    );
}

#[tokio::test]
async fn several_buckets_are_served_each_below_its_prefix() {
    let place = Place::new();
    place.garage.add_bucket("lab").unwrap();
    let lab = place.garage.writer("lab").unwrap();
    place.put("flights/a", b"video").await;
    place.put("secret", b"no").await;
    put(&lab, "public/a", b"lab").await;
    put(&lab, "publicity", b"no").await;
    put(&lab, "private/a", b"no").await;
    let store = |prefixes: &str| {
        Store::s3(S3Config {
            buckets: Bucket::list("videos,lab", prefixes).unwrap(),
            ..place.config()
        })
        .unwrap()
    };
    let whole = async |store: &Store, name: &str| {
        let opened = store.open(name, 100, 100).await;
        opened.map(|o| o.head.to_vec()).map_err(|e| e.kind())
    };
    let all = store("");
    for (name, content) in [
        ("flights/a", &b"video"[..]),
        ("s3://videos/flights/a", b"video"),
        ("s3://lab/public/a", b"lab"),
        ("s3://lab/private/a", b"no"),
    ] {
        assert_eq!(whole(&all, name).await.unwrap(), content, "{name}");
    }
    // The first bucket is that of plain names, and no other.
    assert_eq!(
        whole(&all, "public/a").await,
        Err(StorageErrorKind::NotFound)
    );

    let some = store("flights,lab=public/");
    for (name, content) in [
        ("flights/a", &b"video"[..]),
        ("a", b"video"),
        ("s3://videos/flights/a", b"video"),
        ("s3://lab/public/a", b"lab"),
    ] {
        assert_eq!(whole(&some, name).await.unwrap(), content, "{name}");
    }
    let before = some.counters();
    for name in [
        "s3://videos/secret",
        "s3://lab/private/a",
        "s3://lab/publicity",
        "s3://other/a",
    ] {
        let refused = whole(&some, name).await;
        assert_eq!(refused, Err(StorageErrorKind::OutsideStore), "{name}");
    }
    // The server has not even been asked.
    assert_eq!(some.counters(), before);
    assert_eq!(
        whole(&some, "secret").await,
        Err(StorageErrorKind::NotFound)
    );
}

/// All pages of a listing, of so many entries each.
async fn listed(store: &Store, prefix: &str, limit: usize) -> Vec<String> {
    let wanted = |name: &str| name.ends_with(".h265");
    let (mut all, mut cursor): (Vec<String>, Option<String>) = (Vec::new(), None);
    loop {
        let page = Page {
            prefix,
            limit,
            cursor: cursor.as_deref(),
            wanted,
        };
        let page = store.list(page).await.unwrap();
        all.extend(page.folders);
        for entry in page.objects {
            let opened = store.open(&entry.name, 1, 1).await.unwrap();
            assert_eq!(opened.object.size(), entry.size);
            assert_eq!(*opened.object.version(), entry.version);
            assert!(entry.modified.is_some());
            all.push(entry.name);
        }
        cursor = page.cursor;
        if cursor.is_none() {
            all.sort();
            return all;
        }
    }
}

#[tokio::test]
async fn buckets_are_listed_each_below_its_prefix() {
    let place = Place::new();
    place.garage.add_bucket("lab").unwrap();
    let lab = place.garage.writer("lab").unwrap();
    for key in [
        "flights/a.h265",
        "flights/b c.h265",
        "flights/notes.txt",
        "flights/frame.jpg/видео.h265",
        "flights/y/z/deep.h265",
        "secret.h265",
    ] {
        place.put(key, b"video").await;
    }
    put(&lab, "public/a.h265", b"lab").await;
    put(&lab, "publicity/a.h265", b"no").await;
    let store = |prefixes: &str| {
        Store::s3(S3Config {
            buckets: Bucket::list("videos,lab", prefixes).unwrap(),
            ..place.config()
        })
        .unwrap()
    };
    let (all, some) = (store(""), store("flights,lab=public/"));
    for limit in [1, 2, 1000] {
        let check = async |store: &Store, prefix: &str, expected: &[&str]| {
            let found = listed(store, prefix, limit).await;
            assert_eq!(found, expected, "{prefix} {limit}");
        };
        check(&all, "", &["flights/", "s3://lab/", "secret.h265"]).await;
        check(
            &all,
            "flights/",
            &[
                "flights/a.h265",
                "flights/b c.h265",
                "flights/frame.jpg/",
                "flights/y/",
            ],
        )
        .await;
        check(
            &all,
            "flights/frame.jpg/",
            &["flights/frame.jpg/видео.h265"],
        )
        .await;
        check(&all, "flights/y/z", &["flights/y/z/"]).await;
        check(&all, "s3://videos/sec", &["s3://videos/secret.h265"]).await;
        check(
            &all,
            "s3://lab/",
            &["s3://lab/public/", "s3://lab/publicity/"],
        )
        .await;
        check(&all, "absent/", &[]).await;
        // Plain names are as short as they may be, below the prefix.
        check(
            &some,
            "",
            &["a.h265", "b c.h265", "frame.jpg/", "s3://lab/", "y/"],
        )
        .await;
        check(&some, "y/", &["y/z/"]).await;
        check(&some, "s3://lab/", &["s3://lab/public/"]).await;
        check(&some, "s3://lab/public/", &["s3://lab/public/a.h265"]).await;
        check(&some, "s3://videos/", &["s3://videos/flights/"]).await;
    }
    for outside in ["s3://lab/publicity/", "s3://other/", "gs://lab/", "fs:///"] {
        let page = Page {
            prefix: outside,
            limit: 10,
            cursor: None,
            wanted: |_| true,
        };
        let error = some.list(page).await.unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::OutsideStore, "{outside}");
    }
}

#[tokio::test]
async fn equal_reads_at_the_same_time_are_one() {
    let place = Place::new();
    let content: Vec<u8> = (0..500_000u32).map(|i| (i % 251) as u8).collect();
    place.put("video", &content).await;
    let store = place.store();
    let object = store.open("video", 10, 10).await.unwrap().object;
    let before = store.counters();
    let reads = (0..50).map(|_| object.read(1000..400_000));
    for read in futures::future::join_all(reads).await {
        assert_eq!(read.unwrap()[..], content[1000..400_000]);
    }
    let after = store.counters();
    assert_eq!((after.requests, after.joined), (before.requests + 1, 49));
    assert_eq!(after.bytes - before.bytes, 399_000);
}

/// A store whose server answers every request with what `answer` makes of its `Range`.
fn scripted(answer: impl Fn(&str) -> String + Send + 'static) -> Store {
    scripted_with(S3Config::default(), Duration::from_secs(20), move |heads| {
        let range = heads.lines().find_map(|l| l.strip_prefix("range: bytes="));
        Answer::of(answer(range.unwrap_or_default()))
    })
}

/// What a scripted server does with a request.
struct Answer {
    text: String,
    /// Then nothing comes any more, but the connection stays.
    hangs: bool,
}

impl Answer {
    fn of(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            hangs: false,
        }
    }

    fn hang() -> Self {
        Self {
            text: String::new(),
            hangs: true,
        }
    }
}

/// The same; it sees the heads of each request, in small letters. Keys are added to `config`.
fn scripted_with(
    config: S3Config,
    timeout: Duration,
    answer: impl Fn(&str) -> Answer + Send + 'static,
) -> Store {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut hanging: Vec<TcpStream> = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut heads = String::new();
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let line = line.unwrap_or_default().to_lowercase();
                if line.is_empty() {
                    break;
                }
                heads.push_str(&line);
                heads.push('\n');
            }
            let answer = answer(&heads);
            let _ = stream.write_all(answer.text.as_bytes());
            if answer.hangs {
                hanging.push(stream);
            }
        }
    });
    let keys = (!config.anonymous).then(|| ("key".to_owned(), "secret".to_owned()));
    let config = S3Config {
        buckets: vec!["videos".into()],
        endpoint: Some(endpoint),
        access_key: keys.clone().map(|k| k.0),
        secret_key: keys.map(|k| k.1),
        ..config
    };
    let options = ReadOptions {
        timeout,
        hedge: false,
    };
    Store::new(&StoreConfig::S3(config), options).unwrap()
}

/// A server of one honest object of ten bytes, whose answers to reads of its middle are, one after
/// the other, these, and then honest.
fn troubled(timeout: Duration, troubles: Vec<Answer>) -> (Store, Arc<Mutex<usize>>) {
    let troubles = Mutex::new(std::collections::VecDeque::from(troubles));
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let store = scripted_with(S3Config::default(), timeout, move |heads| {
        let range = heads.lines().find_map(|l| l.strip_prefix("range: bytes="));
        let range = range.unwrap_or_default();
        if matches!(range, "0-3" | "-4") {
            return Answer::of(honest(range, "a"));
        }
        *count.lock().unwrap() += 1;
        let trouble = troubles.lock().unwrap().pop_front();
        trouble.unwrap_or_else(|| {
            let (first, last) = range.split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let content_range = format!("bytes {range}/10");
            Answer::of(partial(&content_range, "a", &"0123456789"[first..=last]))
        })
    });
    (store, asked)
}

fn refused(status: u16, code: &str) -> Answer {
    let body = format!("<Error><Code>{code}</Code><Message>AKIAEXAMPLE</Message></Error>");
    Answer::of(format!(
        "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// Announces four bytes and breaks off after so many.
fn broken(bytes: usize) -> Answer {
    let whole = partial("bytes 2-5/10", "a", "2345");
    Answer::of(&whole[..whole.len() - 4 + bytes])
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for troubles in [
        vec![refused(503, "SlowDown")],
        vec![refused(500, "InternalError"), refused(429, "Throttled")],
        vec![refused(502, ""), refused(504, "")],
        // The connection is closed before anything comes, and in the middle of the body.
        vec![Answer::of("")],
        vec![broken(0)],
        vec![broken(2), Answer::of("")],
    ] {
        let count = troubles.len();
        let (store, asked) = troubled(Duration::from_secs(60), troubles);
        let object = store.open("video", 4, 4).await.unwrap().object;
        assert_eq!(&object.read(2..6).await.unwrap()[..], b"2345");
        assert_eq!(*asked.lock().unwrap(), count + 1);
        assert_eq!(store.counters().retries, count as u64);
    }
}

#[tokio::test]
async fn what_does_not_pass_is_not_tried_again() {
    use StorageErrorKind as Kind;
    for (status, code, kind) in [
        (403, "AccessDenied", Kind::Forbidden),
        (404, "NoSuchKey", Kind::Changed),
        (412, "PreconditionFailed", Kind::Changed),
        (416, "InvalidRange", Kind::Changed),
        (501, "NotImplemented", Kind::Unavailable),
    ] {
        let (store, asked) = troubled(Duration::from_secs(60), vec![refused(status, code)]);
        let object = store.open("video", 4, 4).await.unwrap().object;
        let error = object.read(2..6).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!error.to_string().contains("AKIA"), "{error}");
        assert_eq!((*asked.lock().unwrap(), store.counters().retries), (1, 0));
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_asked_again_and_given_up_in_the_end() {
    let read = async |seconds, hangs| {
        let (store, _) = troubled(Duration::from_secs(seconds), hangs);
        let object = store.open("video", 4, 4).await.unwrap().object;
        object.read(2..6).await.map_err(|e| e.kind())
    };
    let stalled = || Answer {
        hangs: true,
        ..broken(0)
    };
    let (once, ever, in_the_body) = futures::join!(
        read(24, vec![Answer::hang()]),
        read(8, (0..100).map(|_| Answer::hang()).collect()),
        read(8, (0..100).map(|_| stalled()).collect()),
    );
    assert_eq!(&once.unwrap()[..], b"2345");
    assert_eq!(ever, Err(StorageErrorKind::Timeout));
    assert_eq!(in_the_body, Err(StorageErrorKind::Timeout));
}

#[tokio::test]
async fn anonymous_requests_are_not_signed() {
    let signed = Arc::new(Mutex::new(Vec::new()));
    for anonymous in [true, false] {
        let config = S3Config {
            anonymous,
            ..S3Config::default()
        };
        let seen = Arc::clone(&signed);
        let store = scripted_with(config, Duration::from_secs(20), move |heads| {
            let range = heads.lines().find_map(|l| l.strip_prefix("range: bytes="));
            seen.lock().unwrap().push(heads.contains("authorization:"));
            Answer::of(honest(range.unwrap_or_default(), "a"))
        });
        store.open("video", 4, 4).await.unwrap();
    }
    assert_eq!(*signed.lock().unwrap(), [false, false, true, true]);
}

fn partial(content_range: &str, etag: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: {}\r\n\
         Content-Range: {content_range}\r\nETag: \"{etag}\"\r\n\
         Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n{body}",
        body.len()
    )
}

/// Answers as the server of an object of 10 bytes does: the requests are 0-3, -4, and 2-5.
fn honest(range: &str, etag: &str) -> String {
    match range {
        "0-3" => partial("bytes 0-3/10", etag, "0123"),
        "-4" => partial("bytes 6-9/10", etag, "6789"),
        _ => partial("bytes 2-5/10", etag, "2345"),
    }
}

#[tokio::test]
async fn the_scripted_server_is_believed_when_it_is_honest() {
    let store = scripted(|range| honest(range, "a"));
    let opened = store.open("video", 4, 4).await.unwrap();
    assert_eq!(
        (&opened.head[..], &opened.tail[..]),
        (&b"0123"[..], &b"6789"[..])
    );
    assert_eq!(&opened.object.read(2..6).await.unwrap()[..], b"2345");
}

#[tokio::test]
async fn lies_about_ranges_are_errors() {
    for content_range in [
        "bytes 0-18446744073709551615/0",
        "bytes 0-18446744073709551615/18446744073709551615",
        "bytes 5-2/10",
        "bytes 1-4/10",
        "bytes 0-3/*",
        "nonsense",
    ] {
        let store = scripted(move |_| partial(content_range, "a", "0123"));
        let (kind, text) = refusal(&store, "video").await;
        assert_eq!(
            kind,
            StorageErrorKind::Unavailable,
            "{content_range}: {text}"
        );
    }
    // Says four bytes, sends three or five.
    for body in ["012", "01234"] {
        let store = scripted(move |range| match range {
            "0-3" => partial("bytes 0-3/10", "a", body),
            _ => honest(range, "a"),
        });
        let (kind, text) = refusal(&store, "video").await;
        assert_eq!(kind, StorageErrorKind::Unavailable, "{body}: {text}");
    }
    let store = scripted(|range| match range {
        "2-5" => partial("bytes 2-5/10", "a", "234"),
        _ => honest(range, "a"),
    });
    let object = store.open("video", 4, 4).await.unwrap().object;
    assert_eq!(
        object.read(2..6).await.unwrap_err().kind(),
        StorageErrorKind::Unavailable
    );
}

#[tokio::test]
async fn head_and_tail_of_two_versions_are_not_one_object() {
    // A new version for every request: the second try fails as the first did.
    let asked = std::sync::atomic::AtomicU32::new(0);
    let store = scripted(move |range| {
        let n = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        honest(range, &n.to_string())
    });
    assert_eq!(refusal(&store, "video").await.0, StorageErrorKind::Changed);
    assert_eq!(store.counters().requests, 4);

    // Replaced once, between the first two reads.
    let asked = std::sync::atomic::AtomicU32::new(0);
    let store = scripted(move |range| {
        let n = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        honest(range, if n == 0 { "old" } else { "new" })
    });
    let object = store.open("video", 4, 4).await.unwrap().object;
    assert_eq!(store.counters().requests, 4);
    // A server that ignores If-Match does not get its other version through.
    assert_eq!(&object.read(2..6).await.unwrap()[..], b"2345");

    let store = scripted(|range| honest(range, if range == "2-5" { "new" } else { "old" }));
    let object = store.open("video", 4, 4).await.unwrap().object;
    assert_eq!(
        object.read(2..6).await.unwrap_err().kind(),
        StorageErrorKind::Changed
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    // Port 1 is not listened on; one that was free a moment ago may be another test's by now.
    let store = Store::s3(S3Config {
        buckets: vec!["videos".into()],
        endpoint: Some("http://127.0.0.1:1".into()),
        ..S3Config::default()
    })
    .unwrap();
    let (kind, text) = refusal(&store, "video").await;
    assert_eq!(kind, StorageErrorKind::Unavailable);
    assert_eq!(text, "video: the S3 server cannot be reached");
}
