//! Sessions from outside: what comes first, what is taken back, who is in whose way, and what
//! happens at each limit. No test here asserts a time. Every one runs over a folder and over a
//! bucket of a real S3 server: `sessions.rs`, `sessions_s3.rs`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use testkit::programs::{self, Server};
use testkit::{Recipe, footage, jpeg};
use tokio_tungstenite::tungstenite;

use crate::common::{self, Backend, Random, Videos};
use crate::peer::{Answer, Event, PATIENCE, Peer, request, with};

/// Nothing is kept and nothing made ahead, and one thing at a time.
const BARE: [&str; 6] = ["--workers", "1", "--cache-size", "0", "--harvest", "off"];

/// Hours of work for a person: the first 110 frames of `default_gop` (one GOP of 120) in 36
/// qualities, one round after the other.
fn burst() -> Vec<Value> {
    let rounds = (60..96).flat_map(|quality| (0..110).map(move |frame| (quality, frame)));
    rounds
        .map(|(quality, frame)| json!({"frame": frame, "quality": quality}))
        .collect()
}

fn by_number(frames: impl IntoIterator<Item = u64>) -> Vec<Value> {
    frames.into_iter().map(|n| json!({"frame": n})).collect()
}

fn number(answer: &Answer) -> u64 {
    let image = answer
        .image
        .as_ref()
        .unwrap_or_else(|| panic!("{answer:?}"));
    jpeg::frame_number(image).unwrap().into()
}

fn count(answers: &[Answer], code: &str) -> usize {
    answers.iter().filter(|a| a.code() == code).count()
}

/// Where the answer with this request's id and tag stands.
fn place(answers: &[Answer], id: &Value, index: i64) -> usize {
    let key = (id.to_string(), index);
    answers.iter().position(|a| a.key == key).unwrap()
}

#[tokio::test]
async fn the_newest_message_is_served_first() {
    // Three GOPs of 24: no pass over the first two comes by the third.
    let videos = Videos::of(crate::BACKEND, &["closed_gop"]).await;
    let server = videos.serve(&BARE);
    let mut peer = Peer::connect(&server).await;
    peer.video("closed_gop").await;
    let rounds = (15..95).flat_map(|quality| (0..48).map(move |frame| (quality, frame)));
    let old: Vec<Value> = rounds
        .map(|(quality, frame)| json!({"frame": frame, "quality": quality}))
        .collect();
    let new = request(json!("new"), &by_number([70]));
    peer.say(&[request(json!("old"), &old), new]).await;
    let answers = peer.settle().await;
    let new = place(&answers, &json!("new"), 0);
    assert_eq!(number(&answers[new]), 70);
    // Far before the end, and the older message is answered all the same.
    assert!(new < answers.len() / 2, "{new} of {}", answers.len());
    assert_eq!(count(&answers, "Frame"), old.len() + 1);
}

#[tokio::test]
async fn fifo_waits_for_what_came_before() {
    // Two GOPs of about a second's work each. Messages are answered side by side as their pictures
    // are made: the last picture is made long after all of the first GOP, and not on their way.
    let recipe = Recipe::new("two_slow_gops")
        .size(1280, 720)
        .frames(120)
        .preset("ultrafast")
        .x265("keyint=60:min-keyint=60:scenecut=0:open-gop=0:bframes=0:wpp=0");
    let slow = ("slow", footage::make(&recipe).unwrap().path);
    let videos = Videos::of_files(crate::BACKEND, [slow]).await;
    let server = videos.serve(&BARE);
    let mut peer = Peer::connect(&server).await;
    peer.video("slow").await;
    let old = request(json!("old"), &by_number(0..60));
    let new = request(json!("new"), &by_number([119]));
    peer.say(&[old, with(new, json!({"priority": "fifo"}))])
        .await;
    let answers = peer.settle().await;
    assert_eq!(place(&answers, &json!("new"), 0), 60);
    assert_eq!(number(&answers[60]), 119);
}

#[tokio::test]
async fn inside_one_message_the_order_is_kept() {
    let videos = Videos::of(crate::BACKEND, &["closed_gop"]).await;
    let server = videos.serve(&[]);
    let mut peer = Peer::connect(&server).await;
    peer.video("closed_gop").await;
    let wanted = [70, 3, 3, 50, 0, 49, 71, 20];
    peer.say(&[request(json!(1), &by_number(wanted))]).await;
    let shown: Vec<u64> = peer.settle().await.iter().map(number).collect();
    assert_eq!(shown, wanted);
}

#[tokio::test]
async fn what_is_replaced_is_answered_cancelled() {
    let videos = Videos::of(crate::BACKEND, &["default_gop"]).await;
    let server = videos.serve(&BARE);
    let mut peer = Peer::connect(&server).await;
    peer.video("default_gop").await;
    let old = request(json!("old"), &burst());
    let older = request(json!("older"), &by_number([0]));
    let new = request(json!("new"), &by_number([5, 118]));
    peer.say(&[older, old, with(new, json!({"replace": true}))])
        .await;
    let answers = peer.settle().await;
    let (new, old): (Vec<Answer>, Vec<Answer>) =
        answers.into_iter().partition(|a| a.key.0 == "\"new\"");
    assert_eq!(new.iter().map(number).collect::<Vec<_>>(), [5, 118]);
    let cancelled = count(&old, "cancelled");
    assert_eq!(cancelled + count(&old, "Frame"), old.len());
    // It was said with the burst: most of that had not begun.
    assert!(cancelled > old.len() / 2, "{cancelled} of {}", old.len());
    let told = old.iter().find(|a| a.code() == "cancelled").unwrap();
    assert_eq!(told.text["message"], "A later request replaced this one");
    // What is due later is none of its business.
    let answers = peer.frames(&by_number([7])).await;
    assert_eq!(number(&answers[0]), 7);
}

#[tokio::test]
async fn cancel_takes_back_all_or_what_it_names() {
    let videos = Videos::of(crate::BACKEND, &["default_gop"]).await;
    let server = videos.serve(&BARE);
    let mut peer = Peer::connect(&server).await;
    peer.video("default_gop").await;

    // Nothing is due: nothing is answered.
    peer.say(&[
        json!({"type": "Cancel"}),
        json!({"type": "Cancel", "index": 3}),
    ])
    .await;
    peer.quiet().await;

    peer.say(&[request(json!(1), &burst()), json!({"type": "Cancel"})])
        .await;
    let answers = peer.settle().await;
    assert!(count(&answers, "cancelled") > answers.len() / 2);
    assert_eq!(
        count(&answers, "cancelled") + count(&answers, "Frame"),
        answers.len()
    );

    // By name: the last of a long message, which has not begun.
    let last = burst().len() as i64 - 1;
    let cancelled = |answers: &[Answer]| {
        let cancelled = answers.iter().filter(|a| a.code() == "cancelled");
        let mut keys: Vec<_> = cancelled.map(|a| a.key.clone()).collect();
        keys.sort();
        keys
    };
    let key = |id: &str, index| (id.to_owned(), index);
    let two = || {
        [
            request(json!("a"), &burst()),
            request(json!(7), &by_number([4])),
        ]
    };
    for (cancel, taken) in [
        (json!({"index": last}), vec![key("\"a\"", last)]),
        (
            json!({"index": last, "request_id": "a"}),
            vec![key("\"a\"", last)],
        ),
        (json!({"index": last, "request_id": "b"}), vec![]),
        (json!({"index": last + 1}), vec![]),
    ] {
        let mut said = two().to_vec();
        said.push(with(json!({"type": "Cancel"}), cancel.clone()));
        peer.say(&said).await;
        let answers = peer.settle().await;
        assert_eq!(cancelled(&answers), taken, "{cancel}");
        assert_eq!(answers.len() as i64, last + 2);
    }
    // A whole message, and only that.
    let cancel = json!({"type": "Cancel", "request_id": "a"});
    let [a, b] = two();
    peer.say(&[a, with(b, json!({"priority": "fifo"})), cancel])
        .await;
    let answers = peer.settle().await;
    let of_a = answers.iter().filter(|a| a.key.0 == "\"a\"");
    assert!(of_a.filter(|a| a.code() == "cancelled").count() > 2000);
    let b = &answers[place(&answers, &json!(7), 0)];
    assert_eq!(number(b), 4);
}

/// The value of `name: VALUE` in the last line of the log that has it after `from`.
fn figures(log: &str, name: &str) -> Vec<u64> {
    let lines = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once(&format!(" {name}: "))?;
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        rest[..end].parse().ok()
    });
    lines.collect()
}

/// Waits until the log holds this so many times. What is done meanwhile is its clock.
async fn until_logged(server: &Server, what: &str, times: usize) -> String {
    let begun = Instant::now();
    loop {
        let log = server.log();
        if log.matches(what).count() >= times {
            return log;
        }
        assert!(begun.elapsed() < PATIENCE, "no {what} in\n{log}");
        common::health(server);
    }
}

#[tokio::test]
async fn a_client_that_is_killed_mid_burst_takes_its_work_with_it() {
    let videos = Videos::of(crate::BACKEND, &["default_gop"]).await;
    let server = videos.serve_with(&BARE, |command| {
        command.env("RUST_LOG", "bucket_streamer=debug");
    });
    let mut killed = Peer::connect(&server).await;
    killed.video("default_gop").await;
    killed.say(&[request(json!(1), &burst())]).await;
    killed.answer().await;
    drop(killed);
    until_logged(&server, "session ended", 1).await;
    // Somebody else is served at once, and what is made is made for them.
    let mut other = Peer::connect(&server).await;
    other.video("default_gop").await;
    for frame in (0..100).rev() {
        let answers = other.frames(&by_number([frame])).await;
        assert_eq!(number(&answers[0]), frame);
    }
    drop(other);
    let log = until_logged(&server, "session ended", 2).await;
    let log = if figures(&log, "images_encoded").len() < 2 {
        until_logged(&server, "images_encoded", 2).await
    } else {
        log
    };
    let encoded = figures(&log, "images_encoded");
    // The session has ended when nothing is made for it any more, but for the images that were in
    // the making: of each of two pictures one.
    let made = encoded[1] - encoded[0];
    assert!(
        (100..=102).contains(&made),
        "{made} images: {encoded:?}\n{log}"
    );
    assert!(!log.contains("frames=3960"), "{log}");
}

#[tokio::test]
async fn a_slow_reader_slows_only_itself() {
    let videos = Videos::of(crate::BACKEND, &["default_gop", "closed_gop"]).await;
    let server = videos.serve(&["--max-outbox-bytes", "64KiB", "--workers", "1"]);
    let mut slow = Peer::connect(&server).await;
    slow.video("default_gop").await;
    slow.say(&[request(json!(1), &burst())]).await;
    let mut other = Peer::connect(&server).await;
    other.video("closed_gop").await;
    for frame in [5, 60, 20, 71, 0] {
        let answers = other.frames(&by_number([frame])).await;
        assert_eq!(number(&answers[0]), frame);
    }
    // It goes on whenever it likes, and misses nothing.
    let answers = slow.settle().await;
    assert_eq!(count(&answers, "Frame"), 36 * 110);
}

fn open_files(server: &Server) -> usize {
    let folder = format!("/proc/{}/fd", server.id());
    Path::new(&folder).read_dir().unwrap().count()
}

fn threads(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find(|l| l.starts_with("Threads:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_thousand_sessions_come_and_go() {
    let videos = Videos::of(crate::BACKEND, &["closed_gop"]).await;
    let server = videos.serve(&[]);
    let mut first = Peer::connect(&server).await;
    first.video("closed_gop").await;
    first.frames(&by_number([0, 30, 60])).await;
    let mut files = open_files(&server);
    if crate::BACKEND == Backend::Bucket {
        // Connections to the store are kept for the next request.
        files += 64;
    }
    for round in 0..5u64 {
        let opening = (0..200).map(|_| Peer::connect(&server));
        let mut peers = futures::future::join_all(opening).await;
        assert!(open_files(&server) >= 200);
        for (n, peer) in peers.iter_mut().enumerate() {
            match n % 4 {
                // Says nothing.
                0 => {}
                // Leaves without its answers.
                1 => {
                    let set = json!({"type": "SetVideo", "path": "closed_gop"});
                    peer.say(&[set, request(json!(1), &by_number(0..72))]).await;
                }
                _ => {
                    peer.video("closed_gop").await;
                    let wanted = (n as u64 * 7 + round) % 72;
                    let answers = peer.frames(&by_number([wanted])).await;
                    assert_eq!(number(&answers[0]), wanted);
                }
            }
        }
    }
    // They are gone, with all that they held; who was there before is still served.
    let log = until_logged(&server, "session ended", 1000).await;
    assert_eq!(log.matches("session ended").count(), 1000);
    let begun = Instant::now();
    while open_files(&server) > files {
        assert!(begun.elapsed() < PATIENCE, "{} files", open_files(&server));
        common::health(&server);
    }
    // Network, workers, and what reads files; none of them for a session of its own.
    assert!(threads(&server) < 100, "{} threads", threads(&server));
    let answers = first.frames(&by_number([71])).await;
    assert_eq!(number(&answers[0]), 71);
}

#[tokio::test]
async fn a_session_too_many_is_refused_before_it_begins() {
    let videos = Videos::of(crate::BACKEND, &["closed_gop"]).await;
    let server = videos.serve(&["--max-sessions", "3"]);
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(Peer::connect(&server).await);
    }
    let refused = Peer::try_connect(&server).await.err().unwrap();
    let tungstenite::Error::Http(response) = refused else {
        panic!("{refused}")
    };
    assert_eq!(response.status(), 503);
    let after = response.headers().get("retry-after").unwrap();
    assert!(after.to_str().unwrap().parse::<u32>().unwrap() > 0);
    let body = String::from_utf8(response.body().clone().unwrap()).unwrap();
    assert!(body.starts_with("too_many_sessions"), "{body}");
    assert!(common::health(&server).starts_with("HTTP/1.1 200"));
    for peer in &mut peers {
        peer.video("closed_gop").await;
    }
    // One goes, one comes.
    peers.pop();
    let begun = Instant::now();
    let mut next = loop {
        match Peer::try_connect(&server).await {
            Ok(peer) => break peer,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    };
    next.video("closed_gop").await;
}

/// The whole index, put together from its pieces.
async fn index(peer: &mut Peer) -> Value {
    peer.ask(json!({"type": "GetIndex"})).await
}

fn numbers(index: &Value, field: &str) -> Vec<i64> {
    let array = index[field].as_array().unwrap();
    array.iter().map(|n| n.as_i64().unwrap()).collect()
}

const STRUCTURES: [&str; 7] = [
    "closed_gop",
    "open_gop_rasl",
    "variable_frame_rate",
    "edit_list_cut",
    "edit_list_delay",
    "fragmented",
    "annexb_open_gop",
];

#[tokio::test]
async fn number_and_time_name_the_same_picture_as_the_offset() {
    let videos = Videos::of(crate::BACKEND, &STRUCTURES).await;
    let server = videos.serve(&["--cache-size", "0", "--harvest", "off"]);
    let mut peer = Peer::connect(&server).await;
    for clip in STRUCTURES {
        peer.video(clip).await;
        let index = index(&mut peer).await;
        let (offsets, times) = (numbers(&index, "offset"), numbers(&index, "pts"));
        let scale = index["timescale"].as_f64().unwrap();
        let places: Vec<usize> = (0..offsets.len()).step_by(7).collect();
        let seconds = |ticks: f64| json!({"time": (ticks - times[0] as f64) / scale});
        let (mut by_offset, mut by_number, mut by_time, mut between) =
            (vec![], vec![], vec![], vec![]);
        for &at in &places {
            let time = times[at] as f64;
            let gap = times.get(at + 1).map_or(1.0, |next| *next as f64 - time);
            by_offset.push(json!({"offset": offsets[at]}));
            by_number.push(json!({"frame": at}));
            by_time.push(seconds(time));
            between.push(seconds(time + gap / 4.0));
        }
        let expected = peer.frames(&by_offset).await;
        let some = expected.iter().find(|a| a.image.is_some()).unwrap();
        assert_eq!(some.text["frame"], places[some.key.1 as usize], "{clip}");
        for frames in [by_number, by_time, between] {
            // Byte for byte, and in the words of the answers.
            assert_eq!(peer.frames(&frames).await, expected, "{clip}: {frames:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_in_the_video_is_an_unknown_frame() {
    let videos = Videos::of(crate::BACKEND, &["closed_gop"]).await;
    let server = videos.serve(&[]);
    let mut peer = Peer::connect(&server).await;
    peer.video("closed_gop").await;
    // 72 frames, 3 seconds.
    let frames = [
        json!({"frame": 72}),
        json!({"frame": 4_294_967_296u64}),
        json!({"frame": 9_007_199_254_740_991u64}),
        json!({"time": 3}),
        json!({"time": 1e300}),
        json!({"time": 2.999}),
        json!({"frame": 71}),
    ];
    let answers = peer.frames(&frames).await;
    for answer in &answers[..5] {
        assert_eq!(answer.code(), "unknown_frame", "{answer:?}");
        assert!(answer.text.get("offset").is_none(), "{answer:?}");
        let message = answer.text["message"].as_str().unwrap();
        let range = if answer.key.1 < 3 {
            "0 to 71"
        } else {
            "0 to 3.000 s"
        };
        assert!(message.contains(range), "{message}");
    }
    assert_eq!(number(&answers[5]), 71);
    assert_eq!(answers[5].image, answers[6].image);
}

/// What `repo-cli offsets` says of a file.
fn offsets_file(video: &Path, folder: &Path) -> Value {
    let file = folder.join("offsets.json");
    let output = programs::command("repo-cli")
        .unwrap()
        .args(["offsets", "--force", "--output"])
        .args([&file, &PathBuf::from(video)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[tokio::test]
async fn the_index_is_the_one_that_repo_cli_writes() {
    let videos = Videos::of(crate::BACKEND, &STRUCTURES).await;
    let server = videos.serve(&[]);
    let mut peer = Peer::connect(&server).await;
    let answer = peer.ask(json!({"type": "GetIndex"})).await;
    assert_eq!(answer["type"], "Error");
    assert_eq!(answer["message"], "GetIndex: no video is set");
    let elsewhere = tempfile::tempdir().unwrap();
    for clip in STRUCTURES {
        let set = peer.video(clip).await;
        let index = index(&mut peer).await;
        let file = offsets_file(&footage::clip(clip).unwrap().path, elsewhere.path());
        let frames = file["frames"].as_array().unwrap();
        assert_eq!(index["type"], "Index");
        assert_eq!(index["frame_count"], frames.len());
        assert_eq!(set["frame_count"], frames.len());
        let column = |name: &str| frames.iter().map(|f| f[name].clone()).collect::<Vec<_>>();
        assert_eq!(index["offset"], json!(column("offset")), "{clip}");
        assert_eq!(index["size"], json!(column("size")), "{clip}");
        let scale = index["timescale"].as_f64().unwrap();
        for (ticks, seconds) in numbers(&index, "pts").into_iter().zip(column("pts")) {
            let difference = ticks as f64 / scale - seconds.as_f64().unwrap();
            assert!(difference.abs() < 1e-9, "{clip}: {ticks} and {seconds}");
        }
        let keyframes = numbers(&index, "keyframe").into_iter().map(|k| k == 1);
        assert_eq!(
            json!(keyframes.collect::<Vec<_>>()),
            json!(column("keyframe")),
            "{clip}"
        );

        // Parts of it.
        let count = frames.len() as i64;
        for (from, asked, there) in [
            (0, Some(1), 1),
            (10, Some(5), 5),
            (count - 2, None, 2),
            (count - 2, Some(100), 2),
            (count, None, 0),
            (count + 1000, Some(7), 0),
            (3, Some(0), 0),
        ] {
            let mut ask = json!({"type": "GetIndex", "from": from});
            if let Some(count) = asked {
                ask["count"] = json!(count);
            }
            let piece = peer.ask(ask).await;
            assert_eq!(
                (&piece["from"], &piece["frame_count"]),
                (&json!(from), &json!(count))
            );
            let from = (from as usize).min(frames.len());
            for field in ["offset", "size", "pts", "keyframe"] {
                let all = index[field].as_array().unwrap();
                assert_eq!(piece[field], json!(all[from..from + there]), "{field}");
            }
        }
        peer.quiet().await;
    }
}

#[tokio::test]
async fn width_height_and_quality_are_kept_to() {
    let videos = Videos::of(crate::BACKEND, &["closed_gop"]).await;
    let server = videos.serve(&[]);
    let mut peer = Peer::connect(&server).await;
    peer.video("closed_gop").await;
    // 320×180 as it is.
    let frames = [
        json!({"frame": 9}),
        json!({"frame": 9, "width": 160}),
        json!({"frame": 9, "height": 90}),
        json!({"frame": 9, "width": 160, "height": 45}),
        json!({"frame": 9, "width": 65535}),
        json!({"frame": 9, "width": 320, "height": 65535}),
        json!({"frame": 9, "quality": 5}),
        json!({"frame": 9, "quality": 100}),
        json!({"frame": 9, "width": 1}),
    ];
    let answers = peer.frames(&frames).await;
    let size = |answer: &Answer| {
        let image = jpeg::decode(answer.image.as_ref().unwrap()).unwrap();
        (image.width, image.height)
    };
    let sizes: Vec<_> = answers.iter().map(size).collect();
    let whole = (320, 180);
    assert_eq!(
        sizes,
        [
            whole,
            (160, 90),
            (160, 90),
            (80, 45),
            whole,
            whole,
            whole,
            whole,
            (1, 1)
        ]
    );
    assert_eq!(answers[1].image, answers[2].image);
    assert_eq!(answers[0].image, answers[4].image);
    let bytes = |n: usize| answers[n].image.as_ref().unwrap().len();
    assert!(bytes(6) < bytes(0) && bytes(0) < bytes(7));

    // The message's are for frames that have none.
    let mixed = [json!({"frame": 9}), json!({"frame": 9, "width": 80})];
    let message = with(
        request(json!(1), &mixed),
        json!({"width": 160, "quality": 5}),
    );
    peer.say(&[message]).await;
    let answers = peer.settle().await;
    assert_eq!(
        answers.iter().map(size).collect::<Vec<_>>(),
        [(160, 90), (80, 45)]
    );
    assert!(answers[0].image.as_ref().unwrap().len() < bytes(1));
}

#[tokio::test]
async fn a_preview_is_followed_by_the_exact_frame() {
    let videos = Videos::of(crate::BACKEND, &["default_gop"]).await;
    let server = videos.serve(&["--workers", "1", "--harvest", "off"]);
    let mut peer = Peer::connect(&server).await;
    peer.video("default_gop").await;
    // Something of the GOP is at hand.
    peer.frames(&by_number([0])).await;
    for frame in (0..12).rev().map(|n| 5 + 10 * n) {
        // Made anew each time: no other size or quality helps.
        let wanted = [json!({"frame": frame, "quality": 81})];
        let message = with(request(json!(frame), &wanted), json!({"preview": true}));
        peer.say(&[message]).await;
        let answers = peer.settle().await;
        assert_eq!(number(&answers[0]), frame);
        assert_eq!(answers[0].text["frame"], frame);
    }
    let index = index(&mut peer).await;
    // Each says what it really is.
    for preview in &peer.previews {
        let shown = number(preview);
        assert_eq!(preview.text["frame"], shown);
        assert_eq!(preview.text["offset"], index["offset"][shown as usize]);
        assert_ne!(preview.key.0, shown.to_string());
    }
    assert!(
        !peer.previews.is_empty(),
        "no preview in twelve cold frames"
    );
    // None where it is not wanted: the peer would not take it.
    for frame in [119, 57] {
        peer.frames(&by_number([frame])).await;
    }
}

#[tokio::test]
async fn ids_are_echoed_in_every_answer() {
    let videos = Videos::of(crate::BACKEND, &["closed_gop"]).await;
    let server = videos.serve(&[]);
    let mut peer = Peer::connect(&server).await;
    let no_video = [json!({"frame": 1}), json!({"offset": 7})];
    peer.say(&[request(json!("ä \" 1"), &no_video)]).await;
    for answer in peer.settle().await {
        assert_eq!(answer.code(), "no_video");
        assert_eq!(answer.text["request_id"], "ä \" 1");
    }
    peer.video("closed_gop").await;
    for id in [
        json!(""),
        json!("x"),
        json!(0),
        json!(-9_007_199_254_740_991i64),
    ] {
        let frames = [
            json!({"frame": 1}),
            json!({"offset": 1}),
            json!({"frame": 99}),
        ];
        peer.say(&[request(id.clone(), &frames)]).await;
        for answer in peer.settle().await {
            assert_eq!(answer.text["request_id"], id);
        }
    }
    let answers = peer.frames(&by_number([2])).await;
    assert!(answers[0].text.get("request_id").is_none());
}

#[tokio::test]
async fn each_limit_has_its_code() {
    let videos = Videos::of(crate::BACKEND, &["default_gop"]).await;
    let mut args = BARE.to_vec();
    args.extend([
        "--max-frames-per-message",
        "50",
        "--max-queued-frames",
        "60",
    ]);
    args.extend(["--max-message-bytes", "8KiB"]);
    let server = videos.serve(&args);
    let mut peer = Peer::connect(&server).await;
    peer.video("default_gop").await;

    let answers = peer.frames(&by_number(0..52)).await;
    assert_eq!(count(&answers[..50], "Frame"), 50);
    for answer in &answers[50..] {
        assert_eq!(answer.code(), "too_many_frames");
        let message = answer.text["message"].as_str().unwrap();
        assert_eq!(message, "At most 50 frames are taken in one message");
    }

    // What needs no work needs no place; what is beyond the places is told, and the rest comes.
    let first: Vec<Value> = (0..50)
        .map(|n| json!({"frame": n, "quality": 50}))
        .collect();
    let mut second = by_number((50..75).rev());
    second.insert(3, json!({"frame": 1000}));
    peer.say(&[request(json!(1), &first), request(json!(2), &second)])
        .await;
    let answers = peer.settle().await;
    assert_eq!(count(&answers, "unknown_frame"), 1);
    let refused = count(&answers, "too_many_frames");
    assert_eq!(count(&answers, "Frame") + refused, 75);
    // Some of the first may have been answered when the second was read.
    assert!(refused <= 15, "{refused}");
    for answer in answers.iter().filter(|a| a.code() == "too_many_frames") {
        let message = answer.text["message"].as_str().unwrap();
        assert_eq!(message, "At most 60 frames may be due on one connection");
        assert!(answer.key.1 > 10, "{answer:?}");
    }

    // Places of what is taken back are free for what comes next.
    for taking_back in [
        json!({"type": "Cancel"}),
        json!({"type": "RequestFrames", "frames": [],
        "replace": true}),
    ] {
        for _ in 0..20 {
            let wanted: Vec<Value> = (0..50).map(|n| json!({"frame": 119 - n})).collect();
            peer.say(&[request(json!("x"), &wanted), taking_back.clone()])
                .await;
            let again = request(json!("y"), &wanted);
            peer.say(&[again]).await;
            let answers = peer.settle().await;
            assert_eq!(count(&answers, "too_many_frames"), 0);
            let of_y = answers.iter().filter(|a| a.key.0 == "\"y\"");
            assert!(of_y.clone().all(|a| a.code() == "Frame"));
            assert_eq!(of_y.count(), 50);
        }
    }

    let long = json!({"type": "SetVideo", "path": "x".repeat(8192)});
    let length = long.to_string().len();
    let answer = peer.ask(long).await;
    assert_eq!(
        answer["message"],
        format!("The message is {length} bytes long; at most 8192 are taken")
    );
}

#[tokio::test]
async fn a_session_knows_what_it_had() {
    let videos = Videos::of(crate::BACKEND, &["default_gop"]).await;
    let server = videos.serve(&BARE);
    let mut peer = Peer::connect(&server).await;
    let none = peer.ask(json!({"type": "GetStats"})).await;
    assert_eq!(
        (&none["type"], &none["frames"]),
        (&json!("Stats"), &json!(0))
    );
    peer.video("default_gop").await;
    let mut wanted = by_number([3, 50, 119]);
    wanted.push(json!({"frame": 500}));
    peer.frames(&wanted).await;
    peer.say(&[request(json!(1), &burst()), json!({"type": "Cancel"})])
        .await;
    let answers = peer.settle().await;
    let cancelled = count(&answers, "cancelled");
    // The last picture counts as sent a little after the client has it, and a pass for those who
    // had it made when it ends.
    let pictures = 3 + count(&answers, "Frame");
    let begun = Instant::now();
    let stats = loop {
        let stats = peer.ask(json!({"type": "GetStats"})).await;
        let counted = |stage: &str| stats["stages"][stage]["count"].as_u64().unwrap();
        if counted("send") == pictures as u64 && counted("plan") > 0 && counted("decode") > 0 {
            break stats;
        }
        assert!(begun.elapsed() < PATIENCE, "{stats}");
    };
    assert_eq!(stats["frames"], pictures);
    assert_eq!(stats["previews"], 0);
    assert_eq!(stats["cancelled"], cancelled);
    assert_eq!(stats["frame_errors"], cancelled + 1);
    assert_eq!(stats["image_bytes"], peer.image_bytes);
    let figure = |name: &str| stats[name].as_u64().unwrap();
    assert!(figure("access_units_needed") > 3, "{stats}");
    assert!(figure("access_units_decoded") > 3, "{stats}");
    assert!(
        figure("bytes_fetched") > 0 && figure("bytes_needed") > 0,
        "{stats}"
    );
    for stage in [
        "queue", "fetch", "plan", "decode", "convert", "encode", "send",
    ] {
        let (count, ms) = (
            &stats["stages"][stage]["count"],
            &stats["stages"][stage]["ms"],
        );
        assert!(count.as_u64().unwrap() > 0, "{stage}: {stats}");
        assert!(ms.as_f64().unwrap() > 0.0, "{stage}: {stats}");
    }
    // They are the session's own.
    let mut other = Peer::connect(&server).await;
    let none = other.ask(json!({"type": "GetStats"})).await;
    assert_eq!(
        (&none["frames"], &none["image_bytes"]),
        (&json!(0), &json!(0))
    );
}

#[tokio::test]
async fn a_later_video_ends_what_is_due_of_the_first() {
    let videos = Videos::of(crate::BACKEND, &["default_gop", "closed_gop"]).await;
    let server = videos.serve(&BARE);
    let mut peer = Peer::connect(&server).await;
    peer.video("default_gop").await;
    let set = json!({"type": "SetVideo", "path": "closed_gop"});
    let [old, new] = ["old", "new"].map(|id| json!(id));
    peer.say(&[
        request(old, &burst()),
        set,
        request(new, &by_number([3, 70])),
    ])
    .await;
    // The peer sees to it that answers before the VideoSet are of the first video, and all there.
    let (mut before, mut after, mut set) = (Vec::new(), Vec::new(), false);
    while !peer.is_settled() {
        match peer.event().await {
            Event::Answer(answer) if set => after.push(answer),
            Event::Answer(answer) => before.push(answer),
            Event::Preview => {}
            Event::Other(text) => {
                assert_eq!(text["path"], "closed_gop");
                set = true;
            }
        }
    }
    assert_eq!(before.len(), burst().len());
    let cancelled = count(&before, "cancelled");
    assert!(cancelled > before.len() / 2, "{cancelled}");
    let told = before.iter().find(|a| a.code() == "cancelled").unwrap();
    assert_eq!(told.text["message"], "Another video was set");
    assert_eq!(after.iter().map(number).collect::<Vec<_>>(), [3, 70]);
    peer.quiet().await;
}

/// Everything at once, in an order that chance gives: the peer panics at the first frame that is
/// answered twice, late, or about another video, and hangs on one that is not answered.
#[tokio::test]
async fn whatever_is_said_each_frame_is_answered_once() {
    let counts = [
        ("default_gop", 120u64),
        ("open_gop_rasl", 72),
        ("missing", 1),
    ];
    let videos = Videos::of(crate::BACKEND, &["default_gop", "open_gop_rasl"]).await;
    let server = videos.serve(&["--max-queued-frames", "40", "--cache-size", "2MiB"]);
    let storms = (0..3u64).map(|seed| {
        let server = &server;
        async move {
            let mut random = Random::new(seed + 1);
            let mut peer = Peer::connect(server).await;
            peer.video("default_gop").await;
            let (mut codes, mut wrong) = (std::collections::BTreeMap::new(), 0);
            let mut frames = counts[0].1;
            for id in 0..300 {
                let message = match random.below(20) {
                    0 => {
                        let (path, count) = counts[[0, 1, 0, 1, 0, 1, 2][random.below(7)]];
                        frames = count;
                        json!({"type": "SetVideo", "path": path})
                    }
                    1 => json!({"type": "Cancel"}),
                    2 => json!({"type": "Cancel", "index": random.below(30)}),
                    3 => json!({"type": "Cancel", "request_id": random.below(300)}),
                    4 => json!({"type": "GetStats"}),
                    5 => json!({"type": "GetIndex", "from": random.below(100), "count": 3}),
                    _ => {
                        let wanted: Vec<Value> = (0..random.below(30))
                            .map(|_| match random.below(6) {
                                0 => json!({"offset": random.below(1000)}),
                                1 => json!({"time": random.below(60) as f64 / 10.0}),
                                2 => json!({"frame": random.below(200), "width": 100}),
                                _ => json!({"frame": random.next() % frames}),
                            })
                            .collect();
                        let mut flags = json!({});
                        if random.below(8) == 0 {
                            flags["replace"] = json!(true);
                        }
                        if random.below(4) == 0 {
                            flags["priority"] = json!("fifo");
                        }
                        if random.below(3) == 0 {
                            flags["preview"] = json!(true);
                        }
                        with(request(json!(id), &wanted), flags)
                    }
                };
                peer.say(&[message]).await;
                let mut reads = random.below(20);
                while reads > 0 && !peer.is_settled() {
                    reads -= 1;
                    if let Event::Answer(answer) = peer.event().await {
                        wrong += check(&answer, &mut codes);
                    }
                }
            }
            while !peer.is_settled() {
                if let Event::Answer(answer) = peer.event().await {
                    wrong += check(&answer, &mut codes);
                }
            }
            assert_eq!(wrong, 0);
            codes
        }
    });
    let mut seen = std::collections::BTreeMap::new();
    for codes in futures::future::join_all(storms).await {
        for (code, count) in codes {
            *seen.entry(code).or_insert(0) += count;
        }
    }
    println!("{seen:?}");
    for code in [
        "Frame",
        "cancelled",
        "unknown_frame",
        "unknown_offset",
        "too_many_frames",
    ] {
        assert!(seen.contains_key(code), "no {code}: {seen:?}");
    }
    assert!(!seen.contains_key("decode_failed"), "{seen:?}");
}

/// Counts an answer's code; 1 if a picture is not the one that the answer says.
fn check(answer: &Answer, codes: &mut std::collections::BTreeMap<String, usize>) -> usize {
    *codes.entry(answer.code().to_owned()).or_default() += 1;
    let Ok(image) = answer.result() else { return 0 };
    let image = jpeg::decode(image).unwrap();
    // A small one's number cannot be read.
    let whole = image.width == 320;
    let frame = answer.text["frame"].as_u64();
    usize::from(whole && image.frame_number().map(u64::from) != frame)
}
