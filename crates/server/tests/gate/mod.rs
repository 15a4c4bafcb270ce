//! The protocol, held by a real client against the running program. Every test here runs over a
//! folder and over a bucket of a real S3 server: `protocol.rs`, `protocol_s3.rs`.

use std::fs;
use std::io::{Read, Write};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::common::{Client, Place, Reply, clip, offsets};

#[tokio::test]
async fn health_is_ok() {
    let place = Place::with(&[]).await;
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(place.server.address()).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let health = get("/health");
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    assert!(health.ends_with("\r\n\r\nok"), "{health}");
    assert!(get("/nothing").starts_with("HTTP/1.1 404"));
    // Not an upgrade.
    assert!(get("/ws").starts_with("HTTP/1.1 4"), "{}", get("/ws"));
}

#[tokio::test]
async fn what_is_not_understood_is_told_and_the_connection_lives_on() {
    let place = Place::with(&[]).await;
    let mut client = Client::connect(&place.server).await;
    for (text, says) in [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("hello", "not JSON"),
        ("[1]", "must be a JSON object"),
        ("{}", "\"type\" is missing"),
        (r#"{"type":"Fly"}"#, "Unknown message type \"Fly\""),
        (r#"{"type":"SetVideo"}"#, "\"path\" is missing"),
        (
            r#"{"type":"SetVideo","path":3}"#,
            "\"path\" must be a string",
        ),
        (r#"{"type":"RequestFrames"}"#, "\"frames\" is missing"),
        (
            r#"{"type":"RequestFrames","frames":3}"#,
            "\"frames\" must be an array",
        ),
        (
            r#"{"type":"RequestFrames","frames":[{"offset":1,"index":0},{"offset":-1,"index":0}]}"#,
            "\"frames[1].offset\" must be a whole number",
        ),
    ] {
        let message = client.refusal(text).await;
        assert!(message.contains(says), "{text}: {message}");
    }
    client
        .socket_send_binary(b"{\"type\":\"SetVideo\",\"path\":\"x\"}")
        .await;
    let reply = client.reply().await;
    assert_eq!(reply.kind(), "Error");
    assert!(reply.message().contains("binary"), "{reply:?}");
    assert_eq!(
        client.refused_video("still-alive").await,
        "Video not found: still-alive"
    );
}

#[tokio::test]
async fn a_message_that_is_too_large_is_told() {
    let place = Place::with(&[]).await;
    let mut client = Client::connect(&place.server).await;
    let path = |length: usize| {
        let frame = json!({"type": "SetVideo", "path": ""}).to_string().len();
        json!({"type": "SetVideo", "path": "x".repeat(length - frame)}).to_string()
    };
    let message = client.refusal(path((1 << 20) + 1)).await;
    assert_eq!(
        message,
        "The message is 1048577 bytes long; at most 1048576 are taken"
    );
    client.send_text(path(1 << 20)).await;
    assert!(
        client
            .reply()
            .await
            .message()
            .starts_with("Video not found: xxx")
    );
    assert_eq!(client.reply().await.text["ok"], false);
    let message = client.refusal(path(10 << 20)).await;
    assert!(message.contains("10485760 bytes"), "{message}");
    assert_eq!(
        client.refused_video("still-alive").await,
        "Video not found: still-alive"
    );

    // Far too large: the connection ends, with 1009 if the client still hears it.
    let huge = Message::text("x".repeat(20 << 20));
    futures::SinkExt::send(&mut client.socket, huge).await.ok();
    match client.raw().await {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(frame.code, CloseCode::Size),
        Some(Ok(other)) => panic!("{other:?}"),
        // The rest of the message meets a closed connection.
        Some(Err(_)) | None => {}
    }
    let mut other = Client::connect(&place.server).await;
    assert_eq!(other.refused_video("x").await, "Video not found: x");
}

#[tokio::test]
async fn frames_without_a_video_get_an_answer_each() {
    let place = Place::with(&[]).await;
    let mut client = Client::connect(&place.server).await;
    client.request(&[7, 7, 9]).await;
    for (index, offset) in [(0, 7), (1, 7), (2, 9)] {
        let reply = client.reply().await.text;
        assert_eq!(
            reply,
            json!({"type": "FrameError", "index": index, "offset": offset,
                   "error": "no_video", "message": "No video is set"})
        );
    }
    client.request(&[]).await;
    // Every request of a message over the limit is answered all the same.
    client.request(&vec![1; 5000]).await;
    let replies = client.replies(5000).await;
    let count = |code: &str| replies.iter().filter(|r| r.code() == code).count();
    assert_eq!((count("no_video"), count("too_many_frames")), (4096, 904));
    let surplus = |r: &&Reply| r.code() == "too_many_frames";
    let mut late: Vec<_> = replies
        .iter()
        .filter(surplus)
        .map(|r| r.text["index"].as_u64().unwrap())
        .collect();
    late.sort_unstable();
    assert_eq!(late, (4096..5000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_video_that_is_not_there_is_told_in_two_messages() {
    let place = Place::with(&["closed_gop"]).await;
    let mut client = Client::connect(&place.server).await;
    for path in [
        "data/missing.h265",
        "missing.h265",
        "",
        "ä\u{0}\n\"",
        "s3://bucket/key",
    ] {
        assert_eq!(
            client.refused_video(path).await,
            format!("Video not found: {path}")
        );
    }
    // After a failed SetVideo no video is set, whatever was set before.
    client.set_video("closed_gop.h265").await;
    client.refused_video("missing.h265").await;
    client.request(&[offsets("closed_gop")[0]]).await;
    assert_eq!(client.reply().await.code(), "no_video");
}

#[tokio::test]
async fn an_object_that_is_no_video_is_named_for_what_it_is() {
    let place = Place::with(&["closed_gop"]).await;
    let video = fs::read(clip("closed_gop")).unwrap();
    let garbage: Vec<u8> = (0..100_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let files: [(&str, &[u8]); 7] = [
        ("empty.h265", b""),
        ("text.h265", b"Dear Sir or Madam,\nthis is no video.\n"),
        ("image.h265", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
        ("zeros.h265", &[0; 100_000]),
        ("garbage.h265", &garbage),
        ("half.h265", &video[..video.len() / 2]),
        ("head.h265", &video[..20]),
    ];
    let mut client = Client::connect(&place.server).await;
    for (name, content) in files {
        place.put(name, content).await;
        let sentence = client.refused_video(name).await;
        assert!(sentence.starts_with(&format!("{name}: ")), "{sentence}");
        assert!(sentence.len() > name.len() + 10, "{sentence}");
    }
    client.set_video("closed_gop.h265").await;
}

#[tokio::test]
async fn video_set_says_what_the_video_is() {
    let place = Place::with(&["closed_gop", "annexb"]).await;
    let mut client = Client::connect(&place.server).await;
    let mut set = client.set_video("closed_gop.h265").await;
    assert!(
        set["codec"].as_str().unwrap().starts_with("hvc1.1."),
        "{set}"
    );
    set.as_object_mut().unwrap().remove("codec");
    assert_eq!(
        set,
        json!({"type": "VideoSet", "path": "closed_gop.h265", "ok": true,
               "width": 320, "height": 180, "frame_count": 72, "duration_ms": 3000,
               "fps": 24.0, "bit_depth": 8, "chroma": "4:2:0", "rotation": 0,
               "mirrored": false, "pixel_aspect_ratio": [1, 1]})
    );
    assert_eq!(client.set_video("annexb.h265").await["width"], 320);
}

#[tokio::test]
async fn unknown_offsets_are_told_and_known_ones_come() {
    let place = Place::with(&["closed_gop"]).await;
    let known = offsets("closed_gop");
    let mut client = Client::connect(&place.server).await;
    client.set_video("closed_gop.h265").await;
    let wrong = [0, known[5] + 1, known[5] - 1, (1 << 53) - 1];
    let mut asked = wrong.to_vec();
    asked.extend([known[40], known[3], known[40]]);
    client.request(&asked).await;
    let replies = client.replies(asked.len()).await;
    // What is known at once comes first.
    for (i, reply) in replies[..wrong.len()].iter().enumerate() {
        assert_eq!(reply.code(), "unknown_offset");
        assert_eq!(
            (&reply.text["index"], &reply.text["offset"]),
            (&json!(i), &json!(wrong[i]))
        );
        assert!(reply.message().contains(&wrong[i].to_string()), "{reply:?}");
    }
    let shown: Vec<u32> = replies[wrong.len()..]
        .iter()
        .map(|r| testkit::jpeg::frame_number(r.image.as_ref().unwrap()).unwrap())
        .collect();
    assert_eq!(shown, [40, 3, 40]);
    let tags: Vec<&Value> = replies[wrong.len()..]
        .iter()
        .map(|r| &r.text["index"])
        .collect();
    assert_eq!(tags, [4, 5, 6]);
}

#[tokio::test]
async fn tags_are_echoed_and_may_be_shared() {
    let place = Place::with(&["closed_gop"]).await;
    let known = offsets("closed_gop");
    let mut client = Client::connect(&place.server).await;
    client.set_video("closed_gop.h265").await;
    client
        .send(json!({"type": "RequestFrames", "mood": "good", "frames": [
            {"offset": known[1], "index": -5, "irap_offset": 99_999_999, "pts": 7},
            {"offset": known[2], "index": -5},
            {"offset": known[2], "index": 9_007_199_254_740_991u64},
        ]}))
        .await;
    for (frame, tag) in [(1, -5i64), (2, -5), (2, 9_007_199_254_740_991)] {
        let reply = client.reply().await;
        assert_eq!(
            (&reply.text["index"], &reply.text["offset"]),
            (&json!(tag), &json!(known[frame]))
        );
        assert_eq!(
            testkit::jpeg::frame_number(&reply.image.unwrap()).unwrap(),
            frame as u32
        );
    }
}

#[tokio::test]
async fn messages_in_flight_are_all_answered_and_errors_at_once() {
    let place = Place::with(&["closed_gop"]).await;
    let known = offsets("closed_gop");
    let mut client = Client::connect(&place.server).await;
    client
        .send(json!({"type": "SetVideo", "path": "closed_gop.h265"}))
        .await;
    let wanted = [50, 10, 30, 70];
    for frame in wanted {
        let frames = json!([{"offset": known[frame], "index": frame}]);
        client
            .send(json!({"type": "RequestFrames", "priority": "fifo", "frames": frames}))
            .await;
        client.send_text("nonsense").await;
    }
    assert_eq!(client.reply().await.kind(), "VideoSet");
    let replies = client.replies(8).await;
    let (errors, frames): (Vec<Reply>, Vec<Reply>) =
        replies.into_iter().partition(|r| r.kind() == "Error");
    assert_eq!(errors.len(), 4);
    let mut shown: Vec<u64> = Vec::new();
    for reply in frames {
        let number = testkit::jpeg::frame_number(&reply.image.unwrap()).unwrap();
        assert_eq!(reply.text["index"], number);
        shown.push(number.into());
    }
    shown.sort_unstable();
    assert_eq!(shown, [10, 30, 50, 70]);
}

#[tokio::test]
async fn a_second_video_ends_the_first_and_nothing_is_mixed_up() {
    let place = Place::with(&["default_gop", "closed_gop"]).await;
    let (first, second) = (offsets("default_gop"), offsets("closed_gop"));
    let mut client = Client::connect(&place.server).await;
    client.set_video("default_gop.h265").await;
    // Each time in another quality, so that all of it has to be made; and said in one go.
    const TIMES: usize = 30;
    let frames = |offsets: &[u64]| -> Vec<Value> {
        let tagged = offsets.iter().enumerate();
        tagged
            .map(|(i, offset)| json!({"offset": offset, "index": i}))
            .collect()
    };
    let mut messages: Vec<Value> = (0..TIMES)
        .map(|n| json!({"type": "RequestFrames", "quality": 40 + n, "frames": frames(&first)}))
        .collect();
    messages.push(json!({"type": "SetVideo", "path": "closed_gop.h265"}));
    messages.push(json!({"type": "RequestFrames", "frames": frames(&second)}));
    client.send_all(&messages).await;
    // All of the first come before the switch, each once, and each is itself or cancelled.
    let mut answers = vec![0; first.len()];
    let mut cancelled = 0;
    for reply in client.replies(TIMES * first.len()).await {
        let index = reply.text["index"].as_u64().unwrap() as usize;
        assert_eq!(reply.text["offset"], first[index]);
        answers[index] += 1;
        match reply.code() {
            "cancelled" => cancelled += 1,
            _ => {
                let shown = testkit::jpeg::frame_number(reply.image.as_ref().unwrap()).unwrap();
                assert_eq!(shown as usize, index);
            }
        }
    }
    assert!(answers.iter().all(|n| *n == TIMES), "{answers:?}");
    // The SetVideo is on its way while thousands of frames are made: some must have been dropped.
    assert!(cancelled > 0, "nothing was cancelled");
    let set = client.reply().await;
    assert_eq!(
        (&set.text["path"], &set.text["ok"]),
        (&json!("closed_gop.h265"), &json!(true))
    );
    for (index, reply) in client.replies(second.len()).await.iter().enumerate() {
        assert_eq!(reply.text["index"], index);
        let shown = testkit::jpeg::frame_number(reply.image.as_ref().unwrap()).unwrap();
        assert_eq!(shown as usize, index);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_slows_only_itself() {
    let place = Place::with(&["closed_gop"]).await;
    let known = offsets("closed_gop");
    let mut lazy = Client::connect(&place.server).await;
    lazy.set_video("closed_gop.h265").await;
    // Pictures that it cannot get rid of: tens of megabytes. What is beyond is refused.
    let many: Vec<u64> = known.iter().cycle().take(4000).copied().collect();
    lazy.request(&many).await;
    lazy.request(&many).await;
    let mut other = Client::connect(&place.server).await;
    other.set_video("closed_gop.h265").await;
    for frame in [5, 60, 20] {
        other.request(&[known[frame]]).await;
        let image = other.reply().await.image.unwrap();
        assert_eq!(testkit::jpeg::frame_number(&image).unwrap(), frame as u32);
    }
    // It may go on whenever it likes, and has an answer to each.
    let replies = lazy.replies(8000).await;
    let refused = replies.iter().filter(|r| r.code() == "too_many_frames");
    assert!(refused.count() > 1000);
    assert!(replies.iter().filter(|r| r.code() == "Frame").count() >= 4000);
}

#[tokio::test]
async fn clients_that_vanish_leave_the_server_well() {
    let place = Place::with(&["default_gop"]).await;
    let known = offsets("default_gop");
    for _ in 0..20 {
        let mut client = Client::connect(&place.server).await;
        client
            .send(json!({"type": "SetVideo", "path": "default_gop.h265"}))
            .await;
        client.request(&known).await;
        client.reply().await;
        drop(client);
    }
    let mut client = Client::connect(&place.server).await;
    client.set_video("default_gop.h265").await;
    client.request(&[known[100]]).await;
    let image = client.reply().await.image.unwrap();
    assert_eq!(testkit::jpeg::frame_number(&image).unwrap(), 100);
}

#[tokio::test]
async fn a_good_bye_is_answered_whatever_is_due() {
    let place = Place::with(&["default_gop"]).await;
    let known = offsets("default_gop");
    for due in [0, 1, known.len()] {
        let mut client = Client::connect(&place.server).await;
        client.set_video("default_gop.h265").await;
        if due > 0 {
            client.request(&known[..due]).await;
        }
        let reason = CloseFrame {
            code: CloseCode::Away,
            reason: "enough".into(),
        };
        client.socket.close(Some(reason.clone())).await.unwrap();
        let answer = loop {
            match client.raw().await {
                Some(Ok(Message::Text(_) | Message::Binary(_))) => {}
                other => break other,
            }
        };
        assert_eq!(answer.unwrap().unwrap(), Message::Close(Some(reason)));
        assert!(client.raw().await.is_none());
    }
}

#[tokio::test]
async fn a_video_that_is_rewritten_while_it_is_open_is_told() {
    // Nothing of it was read ahead.
    let place = Place::start(&["closed_gop"], &["--cache-size", "0", "--harvest", "off"]).await;
    let known = offsets("closed_gop");
    let mut client = Client::connect(&place.server).await;
    client.set_video("closed_gop.h265").await;
    let mut content = fs::read(clip("closed_gop")).unwrap();
    content.push(0);
    place.put("closed_gop.h265", &content).await;
    client.request(&known[..2]).await;
    for reply in client.replies(2).await {
        assert_eq!(reply.code(), "video_changed", "{reply:?}");
    }
    client.set_video("closed_gop.h265").await;
    client.request(&known[..1]).await;
    assert_eq!(client.reply().await.kind(), "Frame");
}

#[tokio::test]
async fn what_was_read_of_a_video_before_it_was_rewritten_is_of_that_version() {
    let place = Place::with(&["closed_gop", "default_gop"]).await;
    let (old, new) = (offsets("closed_gop"), offsets("default_gop"));
    let mut client = Client::connect(&place.server).await;
    let before = client.set_video("closed_gop.h265").await;
    client.request(&old[..24]).await;
    client.replies(24).await;
    let other = fs::read(clip("default_gop")).unwrap();
    place.put("closed_gop.h265", &other).await;
    // From the cache a picture of the old version, else the error; never one of the new.
    client.request(&old).await;
    for (number, reply) in client.replies(old.len()).await.iter().enumerate() {
        assert_eq!(reply.text["index"], number);
        match &reply.image {
            Some(image) => {
                let shown = testkit::jpeg::frame_number(image).unwrap();
                assert_eq!(shown as usize, number);
            }
            None => assert_eq!(reply.code(), "video_changed", "{reply:?}"),
        }
    }
    let after = client.set_video("closed_gop.h265").await;
    assert_eq!(
        (&before["frame_count"], &after["frame_count"]),
        (&json!(72), &json!(120))
    );
    client.request(&[new[100], new[0]]).await;
    for number in [100, 0] {
        let image = client.reply().await.image.unwrap();
        assert_eq!(testkit::jpeg::frame_number(&image).unwrap(), number);
    }
}

impl Client {
    async fn socket_send_binary(&mut self, bytes: &'static [u8]) {
        let message = Message::binary(bytes);
        futures::SinkExt::send(&mut self.socket, message)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn every_camera_file_is_set_or_refused_in_a_sentence() {
    let Some(files) = testkit::directories::camera_files() else {
        return;
    };
    let place = Place::with(&[]).await;
    let mut client = Client::connect(&place.server).await;
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        place.put(name, &fs::read(&file).unwrap()).await;
        client.send(json!({"type": "SetVideo", "path": name})).await;
        let mut reply = client.reply().await;
        if reply.kind() == "Error" {
            assert!(
                reply.message().starts_with(&format!("{name}: ")),
                "{reply:?}"
            );
            println!("{}", reply.message());
            reply = client.reply().await;
            assert_eq!(
                reply.text,
                json!({"type": "VideoSet", "path": name, "ok": false})
            );
        } else {
            println!("{}", reply.text);
            assert_eq!(reply.text["ok"], true, "{reply:?}");
            assert!(reply.text["width"].as_u64().unwrap() > 0, "{reply:?}");
        }
        // One that is refused sets nothing, and one that is set knows its frames.
        client.request(&[(1 << 53) - 1]).await;
        let code = if reply.text["ok"] == true {
            "unknown_offset"
        } else {
            "no_video"
        };
        assert_eq!(client.reply().await.code(), code);
    }
}
