//! The program against servers that break the protocol, close, or are not there: one clear line
//! on stderr, nothing on stdout, and an exit code that is not 0.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::Path;
use std::process::{Command, Output};

use futures::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

type Socket = WebSocketStream<TcpStream>;

const FRAMES: &str = r#"{"video_url":"fs:///v.h265","frames":[
    {"offset":10,"irap_offset":10},{"offset":30,"irap_offset":10},{"offset":20,"irap_offset":10}]}"#;

const VIDEO_SET: &str = r#"{"type":"VideoSet","path":"v","ok":true}"#;

/// The program, run on a frames file, or with `--video` alone without one.
fn program(folder: &Path, frames: &str, args: &[&str]) -> Output {
    let file = folder.join("frames.json");
    std::fs::write(&file, frames).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_streaming-cli"));
    if !args.contains(&"--video") {
        program.arg("--frames-file").arg(&file);
    }
    program.args(args).output().unwrap()
}

/// The program against a server that treats each connection with `serve`.
async fn against<F>(serve: fn(Socket) -> F, args: &[&str]) -> (Output, tempfile::TempDir)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            tokio::spawn(serve(socket));
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let args: Vec<String> = args
        .iter()
        .map(|a| a.replace("DIR", path.join("out").to_str().unwrap()))
        .collect();
    let output = tokio::task::spawn_blocking(move || {
        let mut all = vec!["--url", &url];
        all.extend(args.iter().map(String::as_str));
        program(&path, FRAMES, &all)
    })
    .await
    .unwrap();
    (output, folder)
}

fn refused(output: &Output, reason: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{stderr}");
    assert!(stderr.contains(reason), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(output.stdout.is_empty());
}

async fn request(socket: &mut Socket) -> serde_json::Value {
    let message = socket.next().await.unwrap().unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

async fn say(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
}

/// Answers `SetVideo`; gives the first `RequestFrames`.
async fn begin(socket: &mut Socket) -> serde_json::Value {
    assert_eq!(request(socket).await["type"], "SetVideo");
    say(socket, VIDEO_SET).await;
    request(socket).await
}

/// Answers each frame with a picture that names its offset; `broken` are errors instead.
async fn serve_frames(mut socket: Socket, broken: &[u64]) {
    let mut message = begin(&mut socket).await;
    loop {
        for frame in message["frames"].as_array().unwrap() {
            let (index, offset) = (&frame["index"], frame["offset"].as_u64().unwrap());
            if broken.contains(&offset) {
                let code = r#""error":"decode_failed","message":"bad slice""#;
                let text =
                    format!(r#"{{"type":"FrameError","index":{index},"offset":{offset},{code}}}"#);
                say(&mut socket, &text).await;
                continue;
            }
            let picture = format!("picture {offset}");
            let size = picture.len();
            let text =
                format!(r#"{{"type":"Frame","index":{index},"offset":{offset},"size":{size}}}"#);
            say(&mut socket, &text).await;
            socket.send(Message::binary(picture)).await.unwrap();
        }
        match socket.next().await {
            Some(Ok(Message::Text(text))) => message = serde_json::from_str(text.as_str()).unwrap(),
            _ => return,
        }
    }
}

#[tokio::test]
async fn pictures_are_counted_and_saved_under_their_names() {
    let serve = |socket| serve_frames(socket, &[]);
    for batch in ["1", "2", "5"] {
        let args = ["--batch", batch, "--output", "DIR", "--pattern", "reverse"];
        let (output, folder) = against(serve, &args).await;
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        assert!(
            stdout.starts_with("=== Benchmark Results ===\nFrames requested: 3\n"),
            "{stdout}"
        );
        let out = folder.path().join("out");
        assert!(
            stdout.ends_with(&format!("\n\nFrames saved to: {}\n", out.display())),
            "{stdout}"
        );
        let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(read("frame_000000_10.jpg"), "picture 10");
        assert_eq!(read("frame_000001_30.jpg"), "picture 30");
        assert_eq!(read("frame_000002_20.jpg"), "picture 20");
    }
}

/// Answers `SetVideo` and `GetIndex` (with these pieces); gives the first `RequestFrames`.
async fn begin_with_index(socket: &mut Socket, pieces: &[&str]) -> serde_json::Value {
    let asked = begin(socket).await;
    assert_eq!(asked, serde_json::json!({"type": "GetIndex"}));
    for piece in pieces {
        let text = format!(r#"{{"type":"Index","frame_count":3,"timescale":1,{piece}}}"#);
        say(socket, &text).await;
    }
    request(socket).await
}

#[tokio::test]
async fn without_a_file_the_server_says_where_the_frames_are() {
    let serve = |mut socket: Socket| async move {
        let pieces = [
            r#""from":0,"offset":[10,30],"size":[1,1],"pts":[0,1],"keyframe":[1,0]"#,
            r#""from":2,"offset":[20],"size":[1],"pts":[2],"keyframe":[0]"#,
        ];
        let asked = begin_with_index(&mut socket, &pieces).await;
        assert_eq!(asked["priority"], "fifo");
        let offsets: Vec<u64> = (asked["frames"].as_array().unwrap().iter())
            .map(|f| f["offset"].as_u64().unwrap())
            .collect();
        assert_eq!(offsets, [10, 30, 20]);
        for (index, offset) in offsets.iter().enumerate() {
            let text = format!(r#"{{"type":"Frame","index":{index},"offset":{offset},"size":1}}"#);
            say(&mut socket, &text).await;
            socket.send(Message::binary("x")).await.unwrap();
        }
        socket.next().await;
    };
    let args = ["--video", "v", "--batch", "3", "--json"];
    let (output, _) = against(serve, &args).await;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["frames_received"], 3, "{output:?}");
    assert!(output.status.success());
}

#[tokio::test]
async fn an_index_with_a_hole_or_without_an_end_is_a_breach() {
    let serve = |mut socket: Socket| async move {
        let hole = r#""from":1,"offset":[30],"size":[1],"pts":[1],"keyframe":[0]"#;
        begin_with_index(&mut socket, &[hole]).await;
    };
    refused(
        &against(serve, &["--video", "v"]).await.0,
        "the index from frame 1 on, but 0 is next",
    );
    let serve = |mut socket: Socket| async move {
        let none = r#""from":0,"offset":[],"size":[],"pts":[],"keyframe":[]"#;
        begin_with_index(&mut socket, &[none]).await;
    };
    refused(
        &against(serve, &["--video", "v"]).await.0,
        "sends no more of the index",
    );
}

#[tokio::test]
async fn a_preview_that_nobody_asked_for_is_a_breach() {
    let serve = |mut socket: Socket| async move {
        begin(&mut socket).await;
        say(
            &mut socket,
            r#"{"type":"Frame","index":0,"offset":10,"size":1,"preview":true}"#,
        )
        .await;
        socket.next().await;
    };
    refused(
        &against(serve, &[]).await.0,
        "a preview, which is not wanted",
    );
}

#[tokio::test]
async fn a_reply_of_a_later_version_is_passed_over() {
    let serve = |mut socket: Socket| async move {
        say(&mut socket, r#"{"type":"Greeting","text":"hello"}"#).await;
        serve_frames(socket, &[]).await;
    };
    let (output, _) = against(serve, &[]).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("Frames received:  3\n"));
}

#[tokio::test]
async fn json_is_one_object_and_clients_are_added_up() {
    let (output, _) = against(
        |socket| serve_frames(socket, &[30]),
        &[
            "--json",
            "--clients",
            "4",
            "--pattern",
            "random",
            "--batch",
            "2",
        ],
    )
    .await;
    assert!(output.status.success());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["frames_requested"], 12);
    assert_eq!(json["frames_received"], 8);
    assert_eq!(json["frames_errored"], 4);
    assert_eq!(json["total_bytes"], 8 * "picture 10".len());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        stderr,
        "4 frames errored with decode_failed (first: bad slice)\n"
    );
}

#[tokio::test]
async fn a_run_without_a_single_picture_fails_after_its_report() {
    let (output, _) = against(|socket| serve_frames(socket, &[10, 20, 30]), &[]).await;
    assert!(!output.status.success());
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("Frames errored:   3\n"), "{stdout}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.ends_with("error: no frame came as a picture\n"),
        "{stderr}"
    );
}

#[tokio::test]
async fn a_missing_video_is_told_in_the_servers_words() {
    let serve = |mut socket: Socket| async move {
        request(&mut socket).await;
        say(
            &mut socket,
            r#"{"type":"Error","message":"Video not found: fs:///v.h265"}"#,
        )
        .await;
        say(
            &mut socket,
            r#"{"type":"VideoSet","path":"fs:///v.h265","ok":false}"#,
        )
        .await;
        socket.next().await;
    };
    refused(
        &against(serve, &[]).await.0,
        "Video not found: fs:///v.h265",
    );
}

#[tokio::test]
async fn a_picture_of_another_size_is_a_breach() {
    let serve = |mut socket: Socket| async move {
        begin(&mut socket).await;
        say(
            &mut socket,
            r#"{"type":"Frame","index":0,"offset":10,"size":5}"#,
        )
        .await;
        socket.send(Message::binary("four")).await.unwrap();
        socket.next().await;
    };
    refused(
        &against(serve, &[]).await.0,
        "a picture of 5 bytes and sent 4",
    );
}

#[tokio::test]
async fn a_text_in_the_place_of_a_picture_is_a_breach() {
    let serve = |mut socket: Socket| async move {
        begin(&mut socket).await;
        for _ in 0..2 {
            say(
                &mut socket,
                r#"{"type":"Frame","index":0,"offset":10,"size":5}"#,
            )
            .await;
        }
        socket.next().await;
    };
    refused(
        &against(serve, &[]).await.0,
        "announced a picture and sent a text",
    );
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_a_breach() {
    let serve = |mut socket: Socket| async move {
        begin(&mut socket).await;
        say(
            &mut socket,
            r#"{"type":"Frame","index":1,"offset":10,"size":1}"#,
        )
        .await;
        socket.next().await;
    };
    refused(
        &against(serve, &[]).await.0,
        "frame 1 at 10, which is not due",
    );
}

#[tokio::test]
async fn one_frame_answered_twice_is_a_breach() {
    let serve = |mut socket: Socket| async move {
        begin(&mut socket).await;
        for _ in 0..2 {
            say(
                &mut socket,
                r#"{"type":"Frame","index":0,"offset":10,"size":1}"#,
            )
            .await;
            socket.send(Message::binary("x")).await.unwrap();
        }
        socket.next().await;
    };
    refused(
        &against(serve, &["--batch", "3"]).await.0,
        "frame 0 at 10, which is not due",
    );
}

#[tokio::test]
async fn a_server_that_closes_in_the_middle_is_told() {
    let serve = |mut socket: Socket| async move {
        begin(&mut socket).await;
        socket.close(None).await.unwrap();
        while socket.next().await.is_some() {}
    };
    refused(
        &against(serve, &[]).await.0,
        "the server closed the connection",
    );
    let serve = |mut socket: Socket| async move {
        begin(&mut socket).await;
    };
    refused(&against(serve, &[]).await.0, "the connection broke");
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let serve = |mut socket: Socket| async move {
        begin(&mut socket).await;
        socket.next().await;
    };
    // Long enough for what the server does say, on a slow machine.
    let (output, _) = against(serve, &["--timeout", "3"]).await;
    refused(&output, "the server said nothing for 3 s");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let serve = |socket| serve_frames(socket, &[]);
    let (output, _) = against(serve, &["--output", file.to_str().unwrap()]).await;
    refused(&output, "cannot make the folder");
}

#[test]
fn an_unreachable_server_and_wrong_files_are_told() {
    let folder = tempfile::tempdir().unwrap();
    // Port 1 is not listened on.
    let url = ["--url", "ws://127.0.0.1:1/ws"];
    refused(
        &program(folder.path(), FRAMES, &url),
        "cannot reach the server at ws://127.0.0.1:1/ws",
    );
    refused(
        &program(folder.path(), "[]", &url),
        "is not an offsets file",
    );
    refused(
        &program(folder.path(), r#"{"frames":[]}"#, &url),
        "lists no frames",
    );
}
