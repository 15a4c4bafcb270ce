//! The HTTP API over a folder: what is answered, and what caches are told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[allow(dead_code, reason = "each test file uses its part")]
mod common;
mod web;

use std::fs;
use std::os::unix::fs::symlink;

use common::{Backend, Place, clip, offsets};
use reqwest::StatusCode;
use serde_json::{Value, json};
use web::{Answer, Web, encoded};

const BACKEND: Backend = Backend::Folder;

async fn place(clips: &[&str], args: &[&str]) -> (Place, Web) {
    let place = Place::start(clips, args).await;
    let web = Web::of(&place.server);
    (place, web)
}

/// The frame that a JPEG shows.
fn shown(answer: &Answer) -> u32 {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "image/jpeg");
    testkit::jpeg::frame_number(&answer.body).unwrap()
}

#[tokio::test]
async fn folders_and_videos_are_listed_page_by_page() {
    let (place, web) = place(&["closed_gop"], &[]).await;
    let root = place.root();
    fs::create_dir_all(root.join("flights/2026")).unwrap();
    fs::write(root.join("flights/no.mp4"), b"nothing").unwrap();
    fs::write(root.join("notes.txt"), b"nothing").unwrap();
    symlink("/etc", root.join("etc")).unwrap();
    let page = web.json("/v1/videos").await;
    assert_eq!(page["folders"], json!([{"prefix": "flights/"}]));
    let video = &page["videos"][0];
    assert_eq!(
        (&video["path"], &video["confirmed"]),
        (&json!("closed_gop.h265"), &json!(false))
    );
    let size = fs::metadata(clip("closed_gop")).unwrap().len();
    assert_eq!(video["size"], size);
    assert!(video["modified"].as_str().unwrap().ends_with('Z'));
    assert_eq!(page["videos"].as_array().unwrap().len(), 1);
    assert!(page.get("cursor").is_none());

    // By its name it is a video until somebody looks.
    let folder = web.json("/v1/videos?prefix=flights/").await;
    assert_eq!(folder["folders"], json!([{"prefix": "flights/2026/"}]));
    assert_eq!(folder["videos"][0]["path"], "flights/no.mp4");
    let none = web.get("/v1/videos/flights/no.mp4").await;
    assert_eq!(none.problem(422), "not_a_video");
    let info = web.json("/v1/videos/closed_gop.h265").await;
    let folder = web.json("/v1/videos?prefix=flights/").await;
    assert_eq!(folder["videos"], json!([]));
    let page = web.json("/v1/videos").await;
    assert_eq!(page["videos"][0]["confirmed"], true);
    assert_eq!(page["videos"][0]["version"], info["version"]);

    let first = web.json("/v1/videos?limit=1").await;
    let cursor = encoded(first["cursor"].as_str().unwrap());
    let second = web
        .json(&format!("/v1/videos?limit=1&cursor={cursor}"))
        .await;
    let count = |page: &Value| {
        page["folders"].as_array().unwrap().len() + page["videos"].as_array().unwrap().len()
    };
    assert_eq!((count(&first), count(&second)), (1, 1));
    for (query, status, code) in [
        ("prefix=../", 404, "not_found"),
        ("prefix=/etc/", 404, "not_found"),
        ("prefix=etc/", 404, "not_found"),
        ("prefix=absent/", 404, "not_found"),
        ("prefix=s3://b/", 404, "not_found"),
        ("limit=0", 400, "bad_request"),
        ("limit=1001", 400, "bad_request"),
        ("limit=many", 400, "bad_request"),
    ] {
        let refused = web.get(&format!("/v1/videos?{query}")).await;
        assert_eq!(refused.problem(status), code, "{query}");
    }
}

#[tokio::test]
async fn an_empty_folder_is_an_empty_list() {
    let (_place, web) = place(&[], &[]).await;
    let page = web.json("/v1/videos/").await;
    assert_eq!(page, json!({"prefix": "", "folders": [], "videos": []}));
}

#[tokio::test]
async fn what_is_known_of_a_video_is_told() {
    let (place, web) = place(&["default_gop"], &[]).await;
    let path = "/v1/videos/default_gop.h265";
    let info = web.json(path).await;
    assert_eq!(info["path"], "default_gop.h265");
    assert_eq!(
        (&info["frame_count"], &info["sample_count"]),
        (&json!(120), &json!(120))
    );
    assert_eq!(info["container"]["layout"], "moov_last");
    assert_eq!(info["gops"]["count"], 1);
    assert_eq!(info["gops"]["samples_max"], 120);
    assert_eq!(
        info["gops"]["bytes_max"].as_f64(),
        info["gops"]["bytes_mean"].as_f64()
    );
    assert!(
        info["codec"].as_str().unwrap().contains("1.1.6.L"),
        "{info}"
    );
    assert_eq!(
        (&info["bit_depth"], &info["chroma"]),
        (&json!(8), &json!("4:2:0"))
    );

    // The same content under another version is told anew.
    let first = web.get(path).await;
    let same = web
        .get_with(path, &[("if-none-match", first.header("etag"))])
        .await;
    assert_eq!(same.status, 304);
    let version = info["version"].as_str().unwrap();
    let pinned = web.get(&format!("{path}?v={version}")).await;
    assert!(pinned.header("cache-control").contains("immutable"));
    let other = web.get(&format!("{path}?v=0000")).await;
    assert_eq!(other.problem(409), "video_changed");
    drop(place);
}

#[tokio::test]
async fn the_index_is_columns_or_the_offsets_file() {
    let (place, web) = place(&["default_gop"], &[]).await;
    let path = "/v1/videos/default_gop.h265/index";
    let index = web.json(path).await;
    let told: Vec<u64> = serde_json::from_value(index["offset"].clone()).unwrap();
    assert_eq!(told, offsets("default_gop"));
    assert_eq!(index["frame_count"], 120);
    for column in ["size", "pts", "keyframe"] {
        assert_eq!(index[column].as_array().unwrap().len(), 120, "{column}");
    }
    assert_eq!(index["keyframe"][0], 1);

    // What repo-cli writes.
    let mut cli = testkit::programs::command("repo-cli").unwrap();
    cli.current_dir(place.root());
    let output = cli.args(["offsets", "default_gop.h265"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = fs::read(place.root().join("default_gop.h265.offsets.json")).unwrap();
    let written: Value = serde_json::from_slice(&text).unwrap();
    let by_accept = web
        .get_with(path, &[("accept", "application/octet-stream")])
        .await;
    let by_format = web.get(&format!("{path}?format=sidecar")).await;
    for sidecar in [by_accept, by_format] {
        assert_eq!(sidecar.header("content-type"), "application/octet-stream");
        let sidecar: Value = serde_json::from_slice(&sidecar.body).unwrap();
        assert_eq!(sidecar["video_url"], "default_gop.h265");
        assert_eq!(sidecar["frames"], written["frames"]);
    }
}

#[tokio::test]
async fn text_is_compressed_for_those_who_take_it() {
    let (_place, web) = place(&["default_gop"], &[]).await;
    let path = "/v1/videos/default_gop.h265/index";
    let plain = web.get(path).await;
    let packed = web.get_with(path, &[("accept-encoding", "gzip")]).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    let mut varies = packed.headers.get_all("vary").iter();
    assert!(varies.any(|v| v.to_str().unwrap().contains("accept-encoding")));
    assert!(packed.body.len() * 2 < plain.body.len());
    let picture = "/v1/videos/default_gop.h265/frame.jpg?frame=3";
    let picture = web.get_with(picture, &[("accept-encoding", "gzip")]).await;
    assert_eq!(shown(&picture), 3);
}

#[tokio::test]
async fn a_picture_is_the_one_that_was_asked_for() {
    let (_place, web) = place(&["default_gop"], &[]).await;
    let path = "/v1/videos/default_gop.h265/frame.jpg";
    let offsets = offsets("default_gop");
    for frame in [0, 1, 59, 118, 119, 7] {
        let answer = web.get(&format!("{path}?frame={frame}")).await;
        assert_eq!(shown(&answer), frame);
        assert_eq!(answer.header("frame-number"), frame.to_string());
        let offset = offsets[frame as usize];
        assert_eq!(answer.header("frame-offset"), offset.to_string());
        let by_offset = web
            .get(&format!("{path}?offset={offset}&irap_offset=0"))
            .await;
        assert_eq!(by_offset.body, answer.body);
        let time = answer.header("frame-time").to_owned();
        let by_time = web.get(&format!("{path}?time={time}")).await;
        assert_eq!(by_time.body, answer.body);
    }
    let small = web
        .get(&format!("{path}?frame=5&width=160&quality=50"))
        .await;
    assert_eq!(testkit::jpeg::decode(&small.body).unwrap().width, 160);
    let key = web.get(&format!("{path}?frame=100&mode=keyframe")).await;
    assert_eq!((shown(&key), key.header("frame-number")), (0, "0"));
}

#[tokio::test]
async fn a_turned_picture_may_be_had_as_it_was_coded() {
    let (_place, web) = place(&["turned_90"], &[]).await;
    let video = "/v1/videos/turned_90.h265";
    let info = web.json(video).await;
    let side = |name: &str| usize::try_from(info[name].as_u64().unwrap()).unwrap();
    let (width, height) = (side("width"), side("height"));
    assert!(width < height, "{info}");
    let auto = web.get(&format!("{video}/frame.png?frame=7")).await;
    let off = web
        .get(&format!("{video}/frame.png?frame=7&rotate=off"))
        .await;
    assert_ne!(auto.header("etag"), off.header("etag"));
    let turned = decoded(&auto.body, width, height);
    let coded = decoded(&off.body, height, width);
    let pixel = |image: &testkit::jpeg::Image, x: usize, y: usize| {
        let at = (y * image.width + x) * 3;
        image.rgb[at..at + 3].to_vec()
    };
    for y in 0..width {
        for x in 0..height {
            // A quarter clockwise.
            assert_eq!(pixel(&turned, width - 1 - y, x), pixel(&coded, x, y));
        }
    }
    for rotate in ["auto", "off"] {
        let path = format!("{video}/frame.jpg?frame=7&rotate={rotate}");
        assert_eq!(shown(&web.get(&path).await), 7);
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_with_what_is() {
    let (_place, web) = place(&["default_gop"], &[]).await;
    let path = "/v1/videos/default_gop.h265/frame.jpg";
    for (query, code) in [
        ("frame=120", "unknown_frame"),
        ("frame=18446744073709551615", "unknown_frame"),
        ("time=1e9", "unknown_frame"),
        ("time=-1", "unknown_frame"),
        ("time=NaN", "unknown_frame"),
        ("offset=1000000000", "unknown_offset"),
    ] {
        let refused = web.get(&format!("{path}?{query}")).await;
        assert_eq!(refused.problem(404), code, "{query}");
        let problem: Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!(problem["range"]["last_frame"], 119);
        assert_eq!(problem["range"]["frame_count"], 120);
        assert!(problem["range"]["duration"].as_f64().unwrap() > 1.0);
        assert_eq!(refused.header("cache-control"), "no-store");
    }
    for query in [
        "",
        "frame=1&time=1",
        "frame=-1",
        "frame=x",
        "frame=1&width=0",
        "frame=1&height=65536",
        "frame=1&quality=0",
        "frame=1&quality=101",
        "frame=1&frame=2",
        "frame=1&mode=near",
    ] {
        let refused = web.get(&format!("{path}?{query}")).await;
        assert_eq!(refused.problem(400), "bad_request", "{query}");
    }
    for path in [
        "/v1/videos/absent.mp4/frame.jpg?frame=0",
        "/v1/other",
        "/v1",
    ] {
        assert_eq!(web.get(path).await.problem(404), "not_found", "{path}");
    }
    let posted = web.send("POST", &format!("{path}?frame=1"), &[]).await;
    assert_eq!(posted.problem(405), "method_not_allowed");
    assert_eq!(posted.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn every_name_has_its_url() {
    let (place, web) = place(&["closed_gop"], &[]).await;
    let source = clip("closed_gop");
    for (frame, name) in [
        "a b+c&d=e?f#g%h.h265",
        "видео/кадр 1.h265",
        "x/frame.jpg/a.h265",
        "y/frame.jpg",
        "index",
        "z/gop",
        "%2F.h265",
        "a%2Fb.h265",
        "q\"'\\<>.h265",
        "日本/🎬.mov",
        "~._-!*().h265",
    ]
    .iter()
    .enumerate()
    {
        let file = place.root().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::copy(&source, file).unwrap();
        // As one part: right for every name.
        let url = format!("/v1/videos/{}", encoded(name));
        assert_eq!(web.json(&url).await["path"], *name);
        let answer = web.get(&format!("{url}/frame.jpg?frame={frame}")).await;
        assert_eq!(shown(&answer) as usize, frame, "{name}");
        // With its slashes: right for what is asked of it.
        let parts: Vec<String> = name.split('/').map(encoded).collect();
        let url = format!("/v1/videos/{}/frame.jpg?frame={frame}", parts.join("/"));
        assert_eq!(shown(&web.get(&url).await) as usize, frame, "{name}");
    }
}

#[tokio::test]
async fn nothing_outside_the_root_has_a_url() {
    let (place, web) = place(&["closed_gop"], &[]).await;
    let secret = place.folder().join("secret.h265");
    fs::copy(clip("closed_gop"), &secret).unwrap();
    symlink("../secret.h265", place.root().join("link.h265")).unwrap();
    symlink(place.folder(), place.root().join("up")).unwrap();
    let secret = secret.display().to_string();
    for name in [
        "../secret.h265",
        "data/../../secret.h265",
        "link.h265",
        "up/secret.h265",
        &secret,
        &format!("fs://{secret}"),
        "s3://b/secret.h265",
        "a\0b",
        "",
    ] {
        for what in ["", "/index", "/frame.jpg?frame=0"] {
            let url = format!("/v1/videos/{}{what}", encoded(name));
            if name.is_empty() && what.is_empty() {
                continue;
            }
            let refused = web.raw(&url).await;
            assert_eq!(refused.problem(404), "not_found", "{url}");
        }
    }
    let refused = web.raw("/v1/videos/../secret.h265/frame.jpg?frame=0").await;
    assert_eq!(refused.problem(404), "not_found");
}

#[tokio::test]
async fn caches_are_told_what_they_have_and_how_long_it_holds() {
    let (place, web) = place(&["closed_gop"], &["--http-lifetime", "1h"]).await;
    let path = "/v1/videos/closed_gop.h265/frame.jpg?frame=4";
    let first = web.get(path).await;
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() > 20, "{tag}");
    let control = first.header("cache-control").to_owned();
    let age = control.strip_prefix("public, max-age=").unwrap();
    let age = age.strip_suffix(", must-revalidate").unwrap();
    assert!(
        (1..=3600).contains(&age.parse::<u32>().unwrap()),
        "{control}"
    );
    assert_eq!(first.header("accept-ranges"), "none");
    // What was sent before is sent again, in the same words.
    let again = web.get(path).await;
    assert_eq!(again.body, first.body);
    for name in ["etag", "content-type", "frame-number", "video-version"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }

    // Whoever has it is told so, and nothing is made for that.
    let known = web.get_with(path, &[("if-none-match", &tag)]).await;
    assert_eq!(
        (known.status, known.body.len()),
        (StatusCode::NOT_MODIFIED, 0)
    );
    assert_eq!(known.header("etag"), tag);
    assert_eq!(known.header("frame-number"), "4");
    let weakly = format!("\"x\", W/{tag}");
    assert_eq!(
        web.get_with(path, &[("if-none-match", &weakly)])
            .await
            .status,
        304
    );
    assert_eq!(
        web.get_with(path, &[("if-none-match", "\"x\"")])
            .await
            .status,
        200
    );
    // A range of what is small is all of it.
    let ranged = web.get_with(path, &[("range", "bytes=0-9")]).await;
    assert_eq!((ranged.status, &ranged.body), (StatusCode::OK, &first.body));

    let head = web.send("HEAD", path, &[]).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    for header in ["etag", "content-type", "content-length", "frame-number"] {
        assert_eq!(head.header(header), first.header(header), "{header}");
    }
    for head in ["frame=999", "frame=x"] {
        let path = format!("/v1/videos/closed_gop.h265/frame.jpg?{head}");
        let (head, whole) = (web.send("HEAD", &path, &[]).await, web.get(&path).await);
        assert_eq!((head.status, head.body.len()), (whole.status, 0));
    }

    // Every parameter that changes the bytes changes the tag; words for the same do not.
    let mut tags = vec![tag.clone()];
    for query in [
        "frame=5",
        "frame=4&width=100",
        "frame=4&height=100",
        "frame=4&quality=79",
    ] {
        let url = format!("/v1/videos/closed_gop.h265/frame.jpg?{query}");
        tags.push(web.get(&url).await.header("etag").to_owned());
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 5);
    let same = web.get(&format!("{path}&quality=80&irap_offset=0")).await;
    assert_eq!(same.header("etag"), tag);

    // A version in the URL makes it hold for ever.
    let version = first.header("video-version");
    let pinned = web.get(&format!("{path}&v={version}")).await;
    assert_eq!(
        pinned.header("cache-control"),
        "public, max-age=31536000, immutable"
    );
    assert_eq!(pinned.body, first.body);
    drop(place);
}

#[tokio::test]
async fn a_replaced_object_is_not_served_stale() {
    let (place, web) = place(&["closed_gop"], &["--http-lifetime", "0s"]).await;
    let path = "/v1/videos/closed_gop.h265/frame.jpg?frame=4";
    let first = web.get(path).await;
    assert_eq!(
        first.header("cache-control"),
        "public, max-age=0, must-revalidate"
    );
    let version = first.header("video-version").to_owned();
    let other = fs::read(clip("default_gop")).unwrap();
    place.put("closed_gop.h265", &other).await;
    let second = web
        .get_with(path, &[("if-none-match", first.header("etag"))])
        .await;
    assert_eq!(shown(&second), 4);
    assert_ne!(second.header("etag"), first.header("etag"));
    let far = web
        .get("/v1/videos/closed_gop.h265/frame.jpg?frame=100")
        .await;
    assert_eq!(shown(&far), 100);
    let pinned = web.get(&format!("{path}&v={version}")).await;
    assert_eq!(pinned.problem(409), "video_changed");
}

#[tokio::test]
async fn a_replacement_that_shows_while_it_is_read_is_the_new_one() {
    // The old one would be taken for true for an hour: reading it shows that it is gone.
    let args = ["--http-lifetime=1h", "--harvest=off", "--prefetch=off"];
    let (place, web) = place(&["closed_gop"], &args).await;
    let path = "/v1/videos/closed_gop.h265/frame.jpg";
    assert_eq!(shown(&web.get(&format!("{path}?frame=4")).await), 4);
    let other = fs::read(clip("default_gop")).unwrap();
    place.put("closed_gop.h265", &other).await;
    let answer = web.get(&format!("{path}?frame=60")).await;
    assert_eq!(shown(&answer), 60);
    let info = web.json("/v1/videos/closed_gop.h265").await;
    assert_eq!(info["frame_count"], 120);
    assert_eq!(info["version"], answer.header("video-version"));
    let near = web.get(&format!("{path}?frame=4")).await;
    assert_eq!(info["version"], near.header("video-version"));
}

#[tokio::test]
async fn pages_of_named_origins_may_use_it() {
    let args = ["--cors-origin=https://a.example,https://b.example"];
    let (_place, web) = place(&["closed_gop"], &args).await;
    let path = "/v1/videos/closed_gop.h265/frame.jpg?frame=1";
    let own = web.get_with(path, &[("origin", "https://b.example")]).await;
    assert_eq!(
        own.header("access-control-allow-origin"),
        "https://b.example"
    );
    assert!(
        own.header("access-control-expose-headers")
            .contains("frame-number")
    );
    let other = web.get_with(path, &[("origin", "https://c.example")]).await;
    assert_eq!(other.header("access-control-allow-origin"), "");
    let preflight = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "if-none-match"),
    ];
    let preflight = web.send("OPTIONS", path, &preflight).await;
    assert!(preflight.status.is_success());
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        "https://a.example"
    );
    let closed = place_without_cors().await;
    let answer = closed
        .1
        .get_with(path, &[("origin", "https://a.example")])
        .await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

async fn place_without_cors() -> (Place, Web) {
    place(&["closed_gop"], &[]).await
}

#[tokio::test]
async fn a_storyboard_shows_what_it_says() {
    let (_place, web) = place(&["closed_gop"], &[]).await;
    let path = "/v1/videos/closed_gop.h265/storyboard";
    let query = "columns=4&rows=3&width=160";
    let board = web.json(&format!("{path}.json?{query}")).await;
    let tiles = board["tiles"].as_array().unwrap();
    assert_eq!(tiles.len(), 12);
    let url = format!(
        "/v1/videos/closed_gop.h265/{}",
        board["url"].as_str().unwrap()
    );
    let sheet = web.get(&url).await;
    assert!(sheet.header("cache-control").contains("immutable"));
    let image = testkit::jpeg::decode(&sheet.body).unwrap();
    let number = |name: &str| usize::try_from(board[name].as_u64().unwrap()).unwrap();
    let (w, h) = (number("tile_width"), number("tile_height"));
    assert_eq!((image.width, image.height), (4 * w, 3 * h));
    let index = web.json("/v1/videos/closed_gop.h265/index").await;
    let mut end = 0.0;
    for tile in tiles {
        let value = |name: &str| tile[name].as_f64().unwrap();
        let (x, y) = (value("x") as usize, value("y") as usize);
        // What the tile shows is the frame that it names.
        let mut rgb = Vec::new();
        for row in y..y + h {
            for column in x..x + w {
                rgb.extend(image.pixel(column, row));
            }
        }
        let cut = testkit::jpeg::Image {
            width: w,
            height: h,
            rgb,
        };
        assert_eq!(
            u64::from(cut.frame_number().unwrap()),
            tile["frame"].as_u64().unwrap()
        );
        // It lies in its span, which begins where the one before ends.
        assert!((value("start") - end).abs() < 1e-6);
        end = value("end");
        let frame = value("frame") as usize;
        let ticks = index["pts"][frame].as_f64().unwrap() - index["pts"][0].as_f64().unwrap();
        let time = ticks / index["timescale"].as_f64().unwrap();
        assert!(value("start") <= time + 1e-6 && time < end, "{tile}");
        // Where there is a keyframe in the span, that is it.
        let keyframes = (0..72).filter(|k| {
            let ticks = index["pts"][k].as_f64().unwrap() - index["pts"][0].as_f64().unwrap();
            let time = ticks / index["timescale"].as_f64().unwrap();
            index["keyframe"][k] == 1 && time >= value("start") && time < end - 1e-9
        });
        let keyframes: Vec<usize> = keyframes.collect();
        assert!(
            keyframes.is_empty() || keyframes.contains(&frame),
            "{tile}: {keyframes:?}"
        );
    }
    let vtt = web.get(&format!("{path}.vtt?{query}")).await;
    assert_eq!(vtt.header("content-type"), "text/vtt");
    let text = vtt.text();
    assert!(text.starts_with("WEBVTT\n\n00:00:00.000 --> "), "{text}");
    assert_eq!(text.matches("#xywh=").count(), 12);
    assert!(
        text.contains(&format!("#xywh={},{},{w},{h}\n", 3 * w, 2 * h)),
        "{text}"
    );

    // A tile for each half second, in as many rows as that takes.
    let timed = web
        .json(&format!("{path}.json?columns=2&interval=0.5&width=64"))
        .await;
    let duration = web.json("/v1/videos/closed_gop.h265").await["duration"]
        .as_f64()
        .unwrap();
    let expected = (duration / 0.5).ceil() as usize;
    assert_eq!(timed["tiles"].as_array().unwrap().len(), expected);
    assert_eq!(timed["rows"], expected.div_ceil(2));
    for query in [
        "columns=0",
        "columns=33",
        "rows=33",
        "width=15",
        "width=641",
        "interval=0",
        "interval=NaN",
        "interval=0.001",
        "columns=1&rows=1&interval=0.5",
    ] {
        let refused = web.get(&format!("{path}.jpg?{query}")).await;
        assert_eq!(refused.problem(400), "bad_request", "{query}");
    }
}

/// An image file's pixels, R'G'B' of 8 bits, by ffmpeg.
fn decoded(file: &[u8], width: usize, height: usize) -> testkit::jpeg::Image {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    fs::write(&path, file).unwrap();
    let rgb = testkit::command::Run::ffmpeg()
        .args(["-i"])
        .arg(&path)
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()
        .unwrap();
    assert_eq!(rgb.len(), width * height * 3);
    testkit::jpeg::Image { width, height, rgb }
}

#[tokio::test]
async fn a_picture_comes_in_every_format() {
    let (_place, web) = place(&["default_gop"], &["--harvest=off"]).await;
    let info = web.json("/v1/videos/default_gop.h265").await;
    let side = |name: &str| usize::try_from(info[name].as_u64().unwrap()).unwrap();
    let (width, height) = (side("width"), side("height"));
    let path = "/v1/videos/default_gop.h265/frame";
    let jpeg = web.get(&format!("{path}.jpg?frame=37&quality=95")).await;
    let expected = testkit::jpeg::decode(&jpeg.body).unwrap();
    let mut tags = vec![jpeg.header("etag").to_owned()];
    for format in ["webp", "avif", "png"] {
        let answer = web
            .get(&format!("{path}.{format}?frame=37&quality=95"))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), format!("image/{format}"));
        assert_eq!(answer.header("vary"), "");
        let image = decoded(&answer.body, width, height);
        assert_eq!(image.frame_number(), Some(37), "{format}");
        // The same colours as the JPEG's, but for what the formats lose.
        let differences = image.rgb.iter().zip(&expected.rgb);
        let sum: u64 = differences.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = sum as f64 / image.rgb.len() as f64;
        assert!(mean < 4.0, "{format}: {mean}");
        tags.push(answer.header("etag").to_owned());
        // By Accept, where the URL names no format.
        let accept = format!("image/{format}");
        let chosen = web
            .get_with(
                &format!("{path}?frame=37&quality=95"),
                &[("accept", &accept)],
            )
            .await;
        assert_eq!(chosen.body, answer.body);
        assert_eq!(chosen.header("vary"), "accept");
        // Smaller, and cut.
        let cut = format!("{path}.{format}?frame=37&width=64&height=64&fit=cover");
        let cut = web.get(&cut).await;
        decoded(&cut.body, 64, 64);
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 4);
    let any = web.get(&format!("{path}?frame=37")).await;
    assert_eq!(any.header("content-type"), "image/jpeg");
    let none = web
        .get_with(&format!("{path}?frame=37"), &[("accept", "text/html")])
        .await;
    assert_eq!(none.problem(406), "not_acceptable");
    let cover = web
        .get(&format!("{path}.jpg?frame=37&width=64&height=64&fit=cover"))
        .await;
    let cover = testkit::jpeg::decode(&cover.body).unwrap();
    assert_eq!((cover.width, cover.height), (64, 64));
}

#[tokio::test]
async fn a_frame_can_be_decoded_from_its_closure() {
    let (_place, web) = place(&["default_gop"], &[]).await;
    let path = "/v1/videos/default_gop.h265";
    let info = web.json(path).await;
    for frame in [0, 3, 77, 119] {
        let answer = web.get(&format!("{path}/gop?frame={frame}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            answer.header("content-type"),
            "application/vnd.bucket-streamer.gop"
        );
        let (length, rest) = answer.body.split_at(4);
        let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
        let (header, units) = rest.split_at(length);
        let header: Value = serde_json::from_slice(header).unwrap();
        assert_eq!(header["frame"], frame);
        assert!(header["codec"].as_str().unwrap().starts_with("hev1."));
        assert_eq!(
            (&header["width"], &header["height"]),
            (&info["width"], &info["height"])
        );
        let listed = header["units"].as_array().unwrap();
        let sizes = listed.iter().map(|u| u["bytes"].as_u64().unwrap());
        assert_eq!(sizes.sum::<u64>(), units.len() as u64);
        assert_eq!(listed[0]["type"], "key");
        assert!(listed[1..].iter().all(|u| u["type"] == "delta"));
        let own = listed.last().unwrap();
        assert_eq!(
            (&own["frame"], &own["timestamp"]),
            (&json!(frame), &header["timestamp"])
        );
        // The closure alone: fewer than everything from the IRAP on.
        assert!(listed.len() <= 120);

        let folder = tempfile::tempdir().unwrap();
        let stream = folder.path().join("closure.h265");
        fs::write(&stream, units).unwrap();
        let shown = testkit::command::Run::ffmpeg()
            .args(["-i"])
            .arg(&stream)
            .args(["-vsync", "0", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
            .output()
            .unwrap();
        let side = |name: &str| usize::try_from(info[name].as_u64().unwrap()).unwrap();
        let (width, height) = (side("width"), side("height"));
        let pictures = shown.chunks_exact(width * height * 3);
        let numbers: Vec<Option<u32>> = pictures
            .map(|rgb| {
                let rgb = rgb.to_vec();
                testkit::jpeg::Image { width, height, rgb }.frame_number()
            })
            .collect();
        assert!(numbers.contains(&Some(frame)), "{frame}: {numbers:?}");
    }
    let missing = web.get(&format!("{path}/gop?frame=120")).await;
    assert_eq!(missing.problem(404), "unknown_frame");
    assert_eq!(
        web.get(&format!("{path}/gop")).await.problem(400),
        "bad_request"
    );
}

/// The parts of a clip: the frames that they say they are, and their images.
fn parts(body: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut parts = Vec::new();
    let mut rest = body;
    loop {
        let end = rest.windows(4).position(|w| w == b"\r\n\r\n");
        let Some(end) = end else {
            assert_eq!(rest, b"--frame--\r\n");
            return parts;
        };
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        assert!(
            head.starts_with("--frame\r\nContent-Type: image/jpeg\r\n"),
            "{head}"
        );
        let field = |name: &str| {
            let line = head.lines().find_map(|l| l.strip_prefix(name));
            line.unwrap().trim().parse::<usize>().unwrap()
        };
        let (length, frame) = (field("Content-Length:"), field("Frame-Number:"));
        let image = rest[end + 4..end + 4 + length].to_vec();
        parts.push((frame as u32, image));
        rest = rest[end + 4 + length..].strip_prefix(b"\r\n").unwrap();
    }
}

#[tokio::test]
async fn a_clip_is_picture_after_picture() {
    let (_place, web) = place(&["default_gop"], &[]).await;
    let path = "/v1/videos/default_gop.h265";
    let fps = web.json(path).await["frame_rate"].as_f64().unwrap();
    let (from, to) = (10.0 / fps, 50.0 / fps);
    let clip = web
        .get(&format!(
            "{path}/clip?from={from}&to={to}&fps={fps}&width=160"
        ))
        .await;
    assert_eq!(
        clip.header("content-type"),
        "multipart/x-mixed-replace; boundary=frame"
    );
    let parts = parts(&clip.body);
    let frames: Vec<u32> = parts.iter().map(|p| p.0).collect();
    assert_eq!(frames, (10..50).collect::<Vec<u32>>());
    for (frame, image) in &parts {
        assert_eq!(testkit::jpeg::frame_number(image).unwrap(), *frame);
    }
    for (query, status, code) in [
        ("from=1e6", 404, "not_found"),
        ("from=2&to=1", 404, "not_found"),
        ("from=-1", 404, "not_found"),
        ("fps=0", 400, "bad_request"),
        ("fps=121", 400, "bad_request"),
        ("format=gif", 400, "bad_request"),
        ("width=0", 400, "bad_request"),
    ] {
        let refused = web.get(&format!("{path}/clip?{query}")).await;
        assert_eq!(refused.problem(status), code, "{query}");
    }
}

/// Waits for a condition.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1200 {
        if holds().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("still not: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_enough_to_do_says_so() {
    let args = ["--max-http-requests=1", "--workers=1", "--harvest=off"];
    let (_place, web) = place(&["default_gop"], &args).await;
    let path = "/v1/videos/default_gop.h265/frame";
    let kept = format!("{path}.jpg?frame=119");
    let first = web.get(&kept).await;
    assert_eq!(shown(&first), 119);
    let mut width = 100;
    until("refused", async || {
        width += 1;
        let urls: Vec<String> = (0..16)
            .map(|n| format!("{path}.png?frame={}&width={width}", 110 - n * 6))
            .collect();
        let answers = urls.iter().map(|url| web.get(url));
        let answers = futures::future::join_all(answers).await;
        let refused: Vec<&Answer> = answers.iter().filter(|a| a.status != 200).collect();
        for answer in &refused {
            assert_eq!(answer.problem(503), "too_many_frames");
            assert_eq!(answer.header("retry-after"), "1");
        }
        // What is kept needs no place.
        assert_eq!(web.get(&kept).await.body, first.body);
        !refused.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_takes_back_what_was_asked_for() {
    use std::io::Write as _;
    let args = ["--workers=1", "--harvest=off", "--log-level=debug"];
    let (place, web) = place(&["default_gop"], &args).await;
    let address = place.server.address().to_owned();
    let cancelled = |log: &str| -> u64 {
        let counts = log.split("targets_cancelled: ").skip(1);
        let count = |t: &str| t.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
        counts.filter_map(count).max().unwrap_or(0)
    };
    let mut width = 100;
    until("cancelled", async || {
        width += 1;
        let mut sockets = Vec::new();
        for n in 0..24 {
            let mut socket = std::net::TcpStream::connect(&address).unwrap();
            let frame = 119 - n * 4;
            write!(
                socket,
                "GET /v1/videos/default_gop.h265/frame.png?frame={frame}&width={width} \
                 HTTP/1.1\r\nHost: x\r\n\r\n"
            )
            .unwrap();
            sockets.push(socket);
        }
        drop(sockets);
        // The end of a session writes the engine's counters into the log.
        drop(common::Client::connect(&place.server).await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        cancelled(&place.server.log()) > 0
    })
    .await;
    // And it goes on for others.
    let answer = web
        .get("/v1/videos/default_gop.h265/frame.jpg?frame=60")
        .await;
    assert_eq!(shown(&answer), 60);
}
