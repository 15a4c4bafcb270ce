//! What a token may not see, over a real S3 server: how the store is asked about it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[allow(dead_code, reason = "each test file uses its part")]
mod web;

use serde_json::Value;
use testkit::bucket::Bucket;
use testkit::footage;
use testkit::programs::command;
use testkit::proxy::Proxy;
use web::{Web, encoded};

/// Folders and videos of a page.
fn names(page: &Value) -> Vec<&str> {
    let folders = page["folders"].as_array().unwrap().iter();
    let videos = page["videos"].as_array().unwrap().iter();
    let folders = folders.map(|f| f["prefix"].as_str().unwrap());
    folders
        .chain(videos.map(|v| v["path"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn what_may_not_be_seen_is_asked_for_as_what_is_not_there_and_never_itself() {
    let bucket = Bucket::start().unwrap();
    let clip = footage::clip("closed_gop").unwrap().path;
    for key in [
        "flights/2026/a.mp4",
        "flights/20267/a.mp4",
        "lab/b.mp4",
        "lab/c/d.mp4",
    ] {
        bucket.put_file(key, &clip).await.unwrap();
    }
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("tokens");
    let mut cli = command("repo-cli").unwrap();
    cli.args([
        "token",
        "some",
        "--prefix",
        "flights/2026",
        "--prefix",
        "lab/b.mp4",
    ]);
    let made = cli
        .args(["--prefix", "lab/c", "--file"])
        .arg(&path)
        .output()
        .unwrap();
    let token = format!("Bearer {}", String::from_utf8(made.stdout).unwrap().trim());
    let proxy = Proxy::before(bucket.endpoint()).unwrap();
    let file = path.to_str().unwrap().to_owned();
    let args = [
        "--auth-token-file",
        &file,
        "--hedge",
        "off",
        "--harvest",
        "off",
    ];
    let server = bucket.serve_by(&proxy.endpoint(), &args).unwrap();
    let web = Web::of(&server);
    let auth = [("authorization", token.as_str())];
    let get = async |name: &str| {
        let mark = proxy.mark();
        let url = format!("/v1/videos/{}/frame.jpg?frame=2", encoded(name));
        let status = web.get_with(&url, &auth).await.status.as_u16();
        let asked = proxy.since(mark).into_iter().map(|seen| seen.asked);
        (status, asked.collect::<Vec<_>>())
    };
    let (status, missing) = get("flights/2026/absent.mp4").await;
    assert_eq!(status, 404);
    let mut keys: Vec<String> = Vec::new();
    let full = |key: &str| format!("s3://{}/{key}", testkit::garage::Garage::BUCKET);
    for name in [
        "flights/20267/a.mp4",
        "flights/20267/absent.mp4",
        &full("lab/other.mp4"),
        "s3://another/lab/b.mp4",
        "fs:///etc/passwd",
    ] {
        let (status, asked) = get(name).await;
        assert_eq!(status, 404, "{name}");
        // The same requests, in the caller's own folder.
        assert_eq!(asked.len(), missing.len(), "{name}: {asked:?}");
        let mut ways: Vec<_> = asked
            .iter()
            .map(|a| (&a.method, &a.range, a.last))
            .collect();
        let mut ways_of_missing: Vec<_> = missing
            .iter()
            .map(|a| (&a.method, &a.range, a.last))
            .collect();
        ways.sort_by_key(|w| format!("{w:?}"));
        ways_of_missing.sort_by_key(|w| format!("{w:?}"));
        assert_eq!(ways, ways_of_missing, "{name}");
        keys.extend(asked.into_iter().map(|a| a.key));
    }
    assert!(
        keys.iter().all(|key| key.starts_with("flights/2026/")),
        "{keys:?}"
    );
    for name in ["flights/2026/a.mp4", "lab/b.mp4", &full("lab/c/d.mp4")] {
        assert_eq!(get(name).await.0, 200, "{name}");
    }
    let mark = proxy.mark();
    for (prefix, expected) in [
        ("", &["flights/", "lab/"][..]),
        ("flights/", &["flights/2026/"]),
        ("flights/2026/", &["flights/2026/a.mp4"]),
        ("lab/", &["lab/c/", "lab/b.mp4"]),
        ("flights/20267/", &[]),
        ("nowhere/", &[]),
        ("s3://another/", &[]),
    ] {
        let url = format!("/v1/videos?prefix={}", encoded(prefix));
        let answer = web.get_with(&url, &auth).await;
        let page: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(names(&page), expected, "{prefix}");
        assert!(page.get("cursor").is_none(), "{page}");
    }
    let asked = proxy.since(mark);
    assert!(
        asked.iter().all(|seen| !seen.asked.key.contains("20267")),
        "{asked:?}"
    );
}
