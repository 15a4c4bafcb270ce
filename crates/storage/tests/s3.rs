//! An S3 store, against a real S3 server (Garage).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use storage::{S3Config, StorageErrorKind, Store};
use testkit::garage::Garage;

struct Place {
    garage: Garage,
    writer: AmazonS3,
}

impl Place {
    fn new() -> Self {
        let garage = Garage::start().unwrap();
        let writer = AmazonS3Builder::new()
            .with_endpoint(garage.endpoint())
            .with_allow_http(true)
            .with_bucket_name(Garage::BUCKET)
            .with_region(Garage::REGION)
            .with_access_key_id(Garage::ACCESS_KEY)
            .with_secret_access_key(Garage::SECRET_KEY)
            .build()
            .unwrap();
        Self { garage, writer }
    }

    fn config(&self) -> S3Config {
        S3Config {
            bucket: Garage::BUCKET.into(),
            region: Garage::REGION.into(),
            endpoint: Some(self.garage.endpoint().into()),
            access_key: Some(Garage::ACCESS_KEY.into()),
            secret_key: Some(Garage::SECRET_KEY.into()),
        }
    }

    fn store(&self) -> Store {
        Store::s3(self.config()).unwrap()
    }

    async fn put(&self, key: &str, content: &[u8]) {
        let payload = PutPayload::from(content.to_vec());
        self.writer
            .put(&Path::parse(key).unwrap(), payload)
            .await
            .unwrap();
    }
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
        let ranges = [2_900_000..2_900_010, 100..200, 300..400];
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
        bucket: "absent".into(),
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

/// A store whose server answers every request with what `answer` makes of its `Range`.
fn scripted(answer: impl Fn(&str) -> String + Send + 'static) -> Store {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut range = String::new();
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let line = line.unwrap_or_default().to_lowercase();
                if let Some(value) = line.strip_prefix("range: bytes=") {
                    range = value.to_owned();
                }
                if line.is_empty() {
                    break;
                }
            }
            let _ = stream.write_all(answer(&range).as_bytes());
        }
    });
    Store::s3(S3Config {
        bucket: "videos".into(),
        region: "us-east-1".into(),
        endpoint: Some(endpoint),
        access_key: Some("key".into()),
        secret_key: Some("secret".into()),
    })
    .unwrap()
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
        bucket: "videos".into(),
        region: "us-east-1".into(),
        endpoint: Some("http://127.0.0.1:1".into()),
        access_key: None,
        secret_key: None,
    })
    .unwrap();
    let (kind, text) = refusal(&store, "video").await;
    assert_eq!(kind, StorageErrorKind::Unavailable);
    assert_eq!(text, "video: the S3 server cannot be reached");
}
