//! A time of day that jumps, forward and back, under the real program: libfaketime tells it another
//! one, while time passes as it does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[allow(dead_code, reason = "each test file uses its part")]
mod common;
#[allow(dead_code, reason = "each test file uses its part")]
mod web;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Backend, Client, folder_with};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use testkit::programs::{Server, command};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use web::Web;

const BACKEND: Backend = Backend::Folder;
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const PICTURE: &str = "/v1/videos/closed_gop.h265/frame.jpg?frame=";

/// Debian's package `faketime`.
fn faketime() -> Option<PathBuf> {
    let below = fs::read_dir("/usr/lib").ok()?.flatten();
    let folders = below.map(|entry| entry.path()).chain(["/usr/lib64".into()]);
    let mut files = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    files.find(|file| file.is_file())
}

async fn enter(server: &Server, token: &str) -> Client {
    let mut request = server.websocket().into_client_request().unwrap();
    let header = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", header);
    let (socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let mut client = Client { socket };
    client.set_video("closed_gop.h265").await;
    client
}

/// What the answer says, and the number in its picture.
async fn ask(client: &mut Client, frame: u32) -> (String, Option<u32>) {
    let frames = json!([{"frame": frame, "index": 0}]);
    client
        .send(json!({"type": "RequestFrames", "frames": frames}))
        .await;
    let reply = client.reply().await;
    let number = |image: &Vec<u8>| testkit::jpeg::frame_number(image).unwrap();
    (reply.code().to_owned(), reply.image.as_ref().map(number))
}

/// By URL: the status, and the number in the picture.
async fn get(web: &Web, token: &str, frame: u32) -> (u16, Option<u32>) {
    let header = format!("Bearer {token}");
    let path = format!("{PICTURE}{frame}");
    let answer = web.get_with(&path, &[("authorization", &header)]).await;
    let number = (answer.status == 200).then(|| testkit::jpeg::frame_number(&answer.body).unwrap());
    (answer.status.as_u16(), number)
}

async fn until_logged(server: &Server, words: &str) {
    let start = Instant::now();
    while !server.log().contains(words) {
        assert!(start.elapsed() < Duration::from_secs(60), "{words}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_is_good_until_a_time_ends_by_it_and_nothing_else_notices() {
    let Some(library) = faketime() else {
        eprintln!("skipped: libfaketime is not installed");
        return;
    };
    let folder = folder_with(&["closed_gop"]);
    let file = |name: &str| folder.path().join(name);
    fs::write(file("secret"), SECRET).unwrap();
    fs::write(file("time"), "+0").unwrap();
    // By a rename: no half of it is read.
    let jump = |by: &str| {
        fs::write(file("next"), by).unwrap();
        fs::rename(file("next"), file("time")).unwrap();
    };
    let mut cli = command("repo-cli").unwrap();
    let made = (cli.args(["token", "always", "--file"]).arg(file("tokens")))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let always = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let claims = json!({"sub": "dave", "exp": now.as_secs() + 1800});
    let key = EncodingKey::from_secret(SECRET.as_bytes()).unwrap();
    let until = encode(&Header::default(), &claims, &key).unwrap();

    let root = file("data");
    let (secret, tokens) = (file("secret"), file("tokens"));
    let args = [
        "--local-path".as_ref(),
        root.as_os_str(),
        "--jwt-key-file".as_ref(),
        secret.as_os_str(),
        "--auth-token-file".as_ref(),
        tokens.as_os_str(),
    ];
    let server = Server::start_with(args, |server| {
        server
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", file("time"))
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    })
    .unwrap();
    let web = Web::of(&server);
    let mut stays = enter(&server, &always).await;
    let mut ends = enter(&server, &until).await;
    let frame = |number| ("Frame".to_owned(), Some(number));
    assert_eq!(ask(&mut stays, 1).await, frame(1));
    assert_eq!(ask(&mut ends, 2).await, frame(2));

    jump("+1h");
    until_logged(&server, "the clock of this machine went forward").await;
    assert_eq!(ask(&mut ends, 3).await, ("unauthorized".to_owned(), None));
    assert_eq!(get(&web, &until, 3).await, (401, None));
    assert_eq!(ask(&mut stays, 3).await, frame(3));
    assert_eq!(get(&web, &always, 4).await, (200, Some(4)));

    jump("-2d");
    until_logged(&server, "the clock of this machine went back").await;
    let mut again = enter(&server, &until).await;
    assert_eq!(ask(&mut again, 5).await, frame(5));
    assert_eq!(ask(&mut stays, 6).await, frame(6));
    assert_eq!(get(&web, &until, 7).await, (200, Some(7)));
    assert_eq!(web.get("/ready").await.status, 200);

    // It stops in its time, too.
    let id = i32::try_from(server.id()).unwrap();
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let (status, log) = server.wait().unwrap();
    assert!(status.success(), "{log}");
}
