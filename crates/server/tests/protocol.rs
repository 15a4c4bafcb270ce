//! The protocol over a folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;
mod gate;

use std::fs;
use std::os::unix::fs::symlink;

use common::{Backend, Client, Place, clip};

const BACKEND: Backend = Backend::Folder;

#[tokio::test]
async fn what_lies_outside_the_root_reads_as_not_there() {
    let place = Place::with(&["closed_gop"]).await;
    // A video that would play: only the refusal keeps it from doing so.
    let secret = place.folder().join("secret.h265");
    fs::copy(clip("closed_gop"), &secret).unwrap();
    let root = place.root();
    symlink("../secret.h265", root.join("link.h265")).unwrap();
    symlink(&secret, root.join("absolute.h265")).unwrap();
    symlink(place.folder(), root.join("up")).unwrap();
    symlink("/", root.join("slash")).unwrap();
    let secret = secret.display().to_string();
    let mut client = Client::connect(&place.server).await;
    for path in [
        "../secret.h265",
        "data/../../secret.h265",
        "./../secret.h265",
        "x/../../secret.h265",
        "link.h265",
        "data/link.h265",
        "absolute.h265",
        "up/secret.h265",
        "up/data/../secret.h265",
        &format!("slash{secret}"),
        &secret,
        &format!("/{secret}"),
        &format!("fs://{secret}"),
        &format!("fs://{}/../secret.h265", root.display()),
        &format!("file://{secret}"),
        "..%2fsecret.h265",
        "%2e%2e/secret.h265",
        "..\\secret.h265",
        "../secret.h265\u{0}",
        "closed_gop.h265\u{0}",
        "closed_gop.h265/",
        "/closed_gop.h265",
        "..",
        "/",
        "/etc/passwd",
    ] {
        assert_eq!(
            client.refused_video(path).await,
            format!("Video not found: {path}")
        );
    }
    // And the one that may be had is had, by each of its names.
    let absolute = format!("fs://{}/closed_gop.h265", root.display());
    for path in [
        "closed_gop.h265",
        "data/closed_gop.h265",
        "./closed_gop.h265",
        &absolute,
    ] {
        assert_eq!(client.set_video(path).await["path"], *path);
    }
}
