//! Buckets as users of AWS tools set them up, against a real S3 server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use std::fs;

use common::{Backend, Client};
use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3;
use serde_json::json;
use testkit::footage;
use testkit::garage::Garage;
use testkit::programs::Server;

const BACKEND: Backend = Backend::Bucket;

async fn put(writer: &AmazonS3, key: &str, clip: &str) {
    let content = fs::read(footage::clip(clip).unwrap().path).unwrap();
    writer.put(&key.into(), content.into()).await.unwrap();
}

#[tokio::test]
async fn the_environment_of_aws_tools_is_enough() {
    let garage = Garage::start().unwrap();
    garage.add_bucket("lab").unwrap();
    put(
        &garage.writer(Garage::BUCKET).unwrap(),
        "flights/a.h265",
        "closed_gop",
    )
    .await;
    put(
        &garage.writer("lab").unwrap(),
        "public/b.h265",
        "default_gop",
    )
    .await;
    put(
        &garage.writer("lab").unwrap(),
        "private/c.h265",
        "default_gop",
    )
    .await;
    let args = [
        "--storage-backend=s3",
        "--s3-bucket=videos,lab",
        "--s3-prefix=lab=public",
        "--log-level=trace",
    ];
    let server = Server::start_with(args, |command| {
        command
            .env("AWS_ENDPOINT_URL", garage.endpoint())
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", Garage::REGION)
            .env("AWS_ACCESS_KEY_ID", Garage::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", Garage::SECRET_KEY);
    })
    .unwrap();
    let mut client = Client::connect(&server).await;
    for (path, frames) in [
        ("flights/a.h265", 72),
        ("s3://videos/flights/a.h265", 72),
        ("s3://lab/public/b.h265", 120),
    ] {
        assert_eq!(client.set_video(path).await["frame_count"], frames);
        client
            .send(json!({"type": "RequestFrames", "frames": [{"frame": 40, "index": 0}]}))
            .await;
        let image = client.reply().await.image.unwrap();
        assert_eq!(testkit::jpeg::frame_number(&image).unwrap(), 40);
    }
    for path in ["s3://lab/private/c.h265", "s3://other/a", "absent"] {
        let refusal = client.refused_video(path).await;
        assert_eq!(refusal, format!("Video not found: {path}"));
    }
    // Not even the most talkative log tells secrets.
    let log = server.log();
    assert!(log.contains("serving"), "{log}");
    for secret in [Garage::SECRET_KEY, Garage::ACCESS_KEY] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test]
async fn a_replaced_object_is_told_once_for_each_frame_and_set_again() {
    let garage = Garage::start().unwrap();
    let bucket = garage.writer(Garage::BUCKET).unwrap();
    put(&bucket, "a.h265", "closed_gop").await;
    let args = [
        "--storage-backend=s3",
        "--s3-bucket=videos",
        "--harvest=off",
        "--prefetch=off",
    ];
    let server = Server::start_with(args, |command| {
        command
            .env("S3_ENDPOINT", garage.endpoint())
            .env("S3_ACCESS_KEY", Garage::ACCESS_KEY)
            .env("S3_SECRET_KEY", Garage::SECRET_KEY);
    })
    .unwrap();
    let mut client = Client::connect(&server).await;
    let request = |frames: std::ops::Range<u64>| {
        let frames: Vec<_> = frames.map(|n| json!({"frame": n, "index": n})).collect();
        json!({"type": "RequestFrames", "frames": frames})
    };
    client.set_video("a.h265").await;
    client.send(request(0..24)).await;
    for reply in client.replies(24).await {
        assert_eq!(reply.code(), "Frame", "{reply:?}");
    }
    put(&bucket, "a.h265", "default_gop").await;
    // What was read before is in the cache; what was not is gone, and then all is.
    client.send(request(24..72)).await;
    for (at, reply) in client.replies(48).await.iter().enumerate() {
        assert_eq!(reply.code(), "video_changed", "{reply:?}");
        assert_eq!(reply.text["index"], 24 + at);
    }
    client.send(request(0..24)).await;
    for reply in client.replies(24).await {
        assert_eq!(reply.code(), "video_changed", "{reply:?}");
    }
    assert_eq!(client.set_video("a.h265").await["frame_count"], 120);
    client.send(request(0..120)).await;
    for (at, reply) in client.replies(120).await.iter().enumerate() {
        let image = reply.image.as_ref().unwrap();
        let shown = testkit::jpeg::frame_number(image).unwrap();
        assert_eq!((shown as usize, &reply.text["index"]), (at, &json!(at)));
    }
}
