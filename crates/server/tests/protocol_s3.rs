//! The protocol over a bucket of a real S3 server, which checks every signature.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;
mod gate;

use common::{Backend, Client, Place, offsets};

const BACKEND: Backend = Backend::Bucket;

#[tokio::test]
async fn what_lies_outside_the_bucket_reads_as_not_there() {
    let place = Place::with(&["closed_gop"]).await;
    let known = offsets("closed_gop");
    let mut client = Client::connect(&place.server).await;
    for path in [
        "absent.h265",
        "s3://other/closed_gop.h265",
        "s3://videos.evil/closed_gop.h265",
        "../videos/closed_gop.h265",
        "fs:///closed_gop.h265",
        "closed_gop.h265/",
        "/closed_gop.h265",
        "closed_gop.h265\u{0}",
    ] {
        assert_eq!(
            client.refused_video(path).await,
            format!("Video not found: {path}")
        );
    }
    for path in ["closed_gop.h265", "s3://videos/closed_gop.h265"] {
        client.set_video(path).await;
        client.request(&[known[33], known[2]]).await;
        for frame in [33, 2] {
            let image = client.reply().await.image.unwrap();
            assert_eq!(testkit::jpeg::frame_number(&image).unwrap(), frame);
        }
    }
}
