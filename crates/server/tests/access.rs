//! Who may see what, over HTTP and WebSocket, by the real program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[allow(dead_code, reason = "each test file uses its part")]
mod common;
mod web;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{Backend, Client, Place, clip};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use testkit::programs::{Server, command};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest as _};
use web::{Answer, Web, encoded};

const BACKEND: Backend = Backend::Folder;

/// A server with videos in three folders, and files that say who may see them.
struct House {
    place: Place,
    web: Web,
    files: tempfile::TempDir,
}

impl House {
    /// `tokens`: names, and what each may see. Gives the tokens, too.
    async fn with(tokens: &[(&str, &[&str])], args: &[&str]) -> (Self, Vec<String>) {
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("tokens");
        fs::write(&path, "# who may\n").unwrap();
        let made: Vec<String> = tokens.iter().map(|t| token(&path, t.0, t.1)).collect();
        let flag = path.to_str().unwrap().to_owned();
        let mut all = vec!["--auth-token-file", &flag, "--http-lifetime", "0s"];
        all.extend(args);
        let place = Place::start(&[], &all).await;
        let root = place.root();
        for name in [
            "flights/2026/a.mp4",
            "flights/20267/a.mp4",
            "lab/b.mp4",
            "top.mp4",
        ] {
            let to = root.join(name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(clip("closed_gop"), to).unwrap();
        }
        let web = Web::of(&place.server);
        (Self { place, web, files }, made)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        let header = format!("Bearer {token}");
        self.web.get_with(path, &[("authorization", &header)]).await
    }

    async fn json(&self, path: &str, token: &str) -> Value {
        let answer = self.get(path, token).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    async fn connect(&self, headers: &[(&'static str, &str)]) -> Client {
        let (client, _) = knock(&self.place.server, headers).await.unwrap();
        client
    }

    async fn enter(&self, token: &str) -> Client {
        let header = format!("Bearer {token}");
        self.connect(&[("authorization", &header)]).await
    }

    /// Waits until the log says it.
    async fn until_logged(&self, words: &str) {
        until(|| self.place.server.log().contains(words)).await;
    }

    fn hang_up(&self) {
        let id = i32::try_from(self.place.server.id()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::HUP).unwrap();
    }
}

async fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "it does not come"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Opens a session with these headers, and gives those of the answer; or the status by which it was
/// refused, and the headers.
async fn knock(
    server: &Server,
    headers: &[(&'static str, &str)],
) -> Result<(Client, HeaderMap), (u16, HeaderMap)> {
    let mut request = server.websocket().into_client_request().unwrap();
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().insert(*name, value);
    }
    match tokio_tungstenite::connect_async(request).await {
        Ok((socket, response)) => Ok((Client { socket }, response.headers().clone())),
        Err(tungstenite::Error::Http(response)) => {
            Err((response.status().as_u16(), response.headers().clone()))
        }
        Err(other) => panic!("{other}"),
    }
}

fn run(mut command: Command) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Makes a token, as people do.
fn token(file: &Path, name: &str, prefixes: &[&str]) -> String {
    let mut cli = command("repo-cli").unwrap();
    cli.args(["token", name, "--file"]).arg(file);
    for prefix in prefixes {
        cli.args(["--prefix", prefix]);
    }
    run(cli)
}

fn sign(file: &Path, key: &str, url: &str, expires: &str) -> String {
    let mut cli = command("repo-cli").unwrap();
    cli.args([
        "sign",
        url,
        "--key",
        key,
        "--expires",
        expires,
        "--key-file",
    ]);
    cli.arg(file);
    run(cli)
}

/// What cannot be told from another answer, but for the name.
fn shape(answer: &Answer, name: &str) -> (u16, Vec<(String, String)>, String) {
    let headers = answer.headers.iter();
    let own = ["date", "content-length", "x-request-id"];
    let headers = headers.filter(|(n, _)| !own.contains(&n.as_str()));
    let headers = headers.map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned()));
    let mut text = answer.text().replace(name, "NAME");
    if let Some(id) = answer.headers.get("x-request-id") {
        text = text.replace(id.to_str().unwrap(), "ID");
    }
    (answer.status.as_u16(), headers.collect(), text)
}

#[tokio::test]
async fn a_server_that_all_may_reach_warns_or_does_not_start() {
    const WARNING: &str = "everybody who reaches this address sees every video";
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let open = Server::start_at("0.0.0.0:0", ["--local-path", root], |_| {}).unwrap();
    until(|| open.log().contains(WARNING)).await;
    assert_eq!(open.log().matches("WARN").count(), 1);
    let own = Server::start(["--local-path", root]).unwrap();
    assert_eq!(Web::of(&own).get("/v1/videos").await.status, 200);
    assert!(!own.log().contains("WARN"));
    let tokens = folder.path().join("tokens");
    let secret = token(&tokens, "alice", &[]);
    let file = tokens.to_str().unwrap();
    let args = [
        "--local-path",
        root,
        "--auth-token-file",
        file,
        "--require-auth",
    ];
    let closed = Server::start_at("0.0.0.0:0", args, |_| {}).unwrap();
    assert_eq!(Web::of(&closed).get("/v1/videos").await.status, 401);
    assert!(!closed.log().contains("WARN"));
    for address in ["0.0.0.0:0", "127.0.0.1:0"] {
        let args = ["--local-path", root, "--require-auth"];
        let refused = Server::start_at(address, args, |_| {}).err().unwrap();
        assert!(
            refused.to_string().contains("nothing says who may come in"),
            "{refused}"
        );
    }
    // A file that is bad from the start.
    let hash = "a".repeat(64);
    for (text, says) in [
        (format!("a:{hash}\nhunter2\n"), "line 2: "),
        (
            format!("\n\na:{hash} ../up\n"),
            "line 3: the prefix \"../up\" of a has a part",
        ),
        (
            format!("a:{hash} s3://b/x\n"),
            "line 1: the prefix \"s3://b/x\"",
        ),
    ] {
        fs::write(&tokens, text).unwrap();
        let args = ["--local-path", root, "--auth-token-file", file];
        let refused = Server::start(args).err().unwrap().to_string();
        assert!(
            refused.contains(says) && refused.contains("--auth-token-file"),
            "{refused}"
        );
        assert!(
            !refused.contains("hunter2") && !refused.contains(&secret),
            "{refused}"
        );
    }
    for (args, says) in [
        (
            ["--auth-token-file", "/nowhere/tokens"],
            "/nowhere/tokens cannot be read",
        ),
        (
            ["--jwt-audience", "x"],
            "--jwt-audience needs --jwt-key-file",
        ),
        (["--jwt-prefix-claim", "x"], "--jwt-prefix-claim needs"),
    ] {
        let args = ["--local-path", root].into_iter().chain(args);
        let refused = Server::start(args).err().unwrap().to_string();
        assert!(refused.contains(says), "{refused}");
    }
}

#[tokio::test]
async fn who_shows_no_token_sees_nothing() {
    let (house, made) = House::with(&[("alice", &[])], &[]).await;
    let frame = "/v1/videos/top.mp4/frame.jpg?frame=3";
    for path in [
        "/v1/videos",
        "/v1/videos/",
        "/v1/videos?limit=0",
        "/v1/videos/top.mp4",
        "/v1/videos/absent.mp4",
        frame,
        "/v1/videos/top.mp4/clip",
        "/v1/videos/top.mp4/index",
    ] {
        let none = house.web.get(path).await;
        assert_eq!(none.problem(401), "unauthorized", "{path}");
        assert_eq!(
            none.header("www-authenticate"),
            "Bearer realm=\"bucket-streamer\""
        );
        assert_eq!(none.header("cache-control"), "no-store");
        let huge = "x".repeat(9000);
        for bad in ["bst_wrong", "a.b.c", &made[0][1..], &huge] {
            let bad = house.get(path, bad).await;
            assert_eq!(bad.problem(401), "unauthorized", "{path}");
            assert!(
                bad.header("www-authenticate")
                    .ends_with("error=\"invalid_token\"")
            );
        }
        let basic = house
            .web
            .get_with(path, &[("authorization", "Basic eDp5")])
            .await;
        assert_eq!(basic.problem(401), "unauthorized");
        // Never in a query.
        let sep = if path.contains('?') { '&' } else { '?' };
        for name in ["token", "access_token"] {
            let query = format!("{path}{sep}{name}={}", made[0]);
            assert_eq!(house.web.get(&query).await.status, 401);
        }
    }
    for path in ["/health", "/", "/viewer/key.js", "/v1/openapi.json"] {
        assert_eq!(house.web.get(path).await.status, 200, "{path}");
    }
    let picture = house.get(frame, &made[0]).await;
    assert_eq!(testkit::jpeg::frame_number(&picture.body).unwrap(), 3);
    assert!(
        picture
            .header("cache-control")
            .starts_with("private, max-age=0")
    );
    assert_eq!(picture.header("vary"), "authorization");
    // Kept by its URL, but not for others.
    let version = picture.header("video-version");
    let pinned = format!("{frame}&v={version}");
    for _ in 0..2 {
        let picture = house.get(&pinned, &made[0]).await;
        assert_eq!(
            picture.header("cache-control"),
            "private, max-age=31536000, immutable"
        );
        assert_eq!(picture.header("vary"), "authorization");
        assert_eq!(house.web.get(&pinned).await.status, 401);
        let head = house.web.send("HEAD", &pinned, &[]).await;
        assert_eq!(head.status, 401);
    }
    let list = house.get("/v1/videos", &made[0]).await;
    assert_eq!(
        (list.status.as_u16(), list.header("cache-control")),
        (200, "no-store")
    );
    for headers in [&[][..], &[("authorization", "Bearer bst_wrong")]] {
        let (status, told) = knock(&house.place.server, headers).await.err().unwrap();
        assert_eq!(status, 401);
        assert!(told.contains_key("www-authenticate"));
    }
    house.enter(&made[0]).await.set_video("top.mp4").await;
    house.until_logged("caller=\"alice\"").await;
    let log = house.place.server.log();
    assert!(!log.contains(&made[0]) && !log.contains("bst_"), "{log}");
}

#[tokio::test]
async fn what_a_token_may_not_see_does_not_exist_for_it() {
    let tokens: [(&str, &[&str]); 3] = [
        ("all", &[]),
        ("some", &["flights/2026", "lab/b.mp4"]),
        ("none", &["nowhere"]),
    ];
    let (house, made) = House::with(&tokens, &[]).await;
    let root = house.place.root();
    let absolute = format!("fs://{}/top.mp4", root.display());
    // All of it was seen before, by somebody else: nothing kept for that one answers.
    for name in [
        "top.mp4",
        "flights/20267/a.mp4",
        "flights/2026/a.mp4",
        "lab/b.mp4",
    ] {
        for rest in ["", "/frame.jpg?frame=3", "/index"] {
            let path = format!("/v1/videos/{}{rest}", encoded(name));
            assert_eq!(house.get(&path, &made[0]).await.status, 200, "{path}");
        }
    }
    let wanted = [
        "",
        "/index",
        "/frame?frame=3",
        "/frame.jpg?frame=3",
        "/frame.jpg?frame=999",
        "/frame.jpg",
        "/storyboard.jpg",
        "/storyboard.json",
        "/clip",
        "/gop?frame=3",
        "/frame.jpg?frame=3&v=00",
        "/frame.jpg?frame=x",
    ];
    let hidden = [
        "top.mp4",
        "flights/20267/a.mp4",
        "flights/2026/../20267/a.mp4",
        "flights/2026/../../top.mp4",
        "flights/2026/../2026/a.mp4",
        "lab/b.mp4x",
        "data/top.mp4",
        "./top.mp4",
        &absolute,
        "../x.mp4",
        "s3://bucket/flights/2026/a.mp4",
        "flights",
        "top.mp4/",
    ];
    for rest in wanted {
        // What is missing below what the token may see.
        let name = "flights/2026/absent.mp4";
        let missing = house
            .get(&format!("/v1/videos/{}{rest}", encoded(name)), &made[1])
            .await;
        let missing = shape(&missing, name);
        assert_ne!(missing.0, 200);
        for name in hidden {
            let path = format!("/v1/videos/{}{rest}", encoded(name));
            let answer = house.get(&path, &made[1]).await;
            assert_eq!(shape(&answer, name), missing, "{path}");
        }
    }
    let mut client = house.enter(&made[1]).await;
    for name in hidden {
        let refused = client.refused_video(name).await;
        assert_eq!(refused, format!("Video not found: {name}"));
    }
    // Whole parts of a path; and by each of their names.
    let seen = format!("fs://{}/lab/b.mp4", root.display());
    for name in [
        "flights/2026/a.mp4",
        "data/flights/2026/a.mp4",
        "./flights//2026/a.mp4",
        "lab/b.mp4",
        &seen,
    ] {
        assert_eq!(client.set_video(name).await["path"], *name);
        let path = format!("/v1/videos/{}/frame.jpg?frame=5", encoded(name));
        for _ in 0..2 {
            let picture = house.get(&path, &made[1]).await;
            assert_eq!(
                testkit::jpeg::frame_number(&picture.body).unwrap(),
                5,
                "{path}"
            );
        }
        assert_eq!(house.get(&path, &made[2]).await.problem(404), "not_found");
    }
}

#[tokio::test]
async fn a_name_that_may_mean_two_things_means_the_one_that_is_seen() {
    let (house, made) = House::with(&[("some", &["data", "lab"]), ("all", &[])], &[]).await;
    let root = house.place.root();
    // The root's own name is `data`: `data/c.mp4` may be below a folder of that name, or not.
    fs::create_dir(root.join("data")).unwrap();
    fs::copy(clip("default_gop"), root.join("c.mp4")).unwrap();
    let path = "/v1/videos/data%2Fc.mp4/frame.jpg?frame=1";
    assert_eq!(house.get(path, &made[1]).await.status, 200);
    // Not the one beside it, not even out of a cache.
    assert_eq!(house.get(path, &made[0]).await.problem(404), "not_found");
    fs::copy(clip("closed_gop"), root.join("data/c.mp4")).unwrap();
    let frames = |info: Value| info["frame_count"].as_u64().unwrap();
    let info = house.json("/v1/videos/data%2Fc.mp4", &made[0]).await;
    assert_eq!(
        (frames(info.clone()), &info["path"]),
        (72, &json!("data/c.mp4"))
    );
    let mut client = house.enter(&made[0]).await;
    assert_eq!(client.set_video("data/c.mp4").await["frame_count"], 72);
}

#[tokio::test]
async fn a_listing_shows_what_leads_to_what_may_be_seen() {
    let tokens: [(&str, &[&str]); 4] = [
        (
            "some",
            &["flights/2026", "lab/b.mp4", "flights/2025/absent"],
        ),
        ("none", &["nowhere"]),
        ("root", &["/"]),
        ("all", &[]),
    ];
    let (house, made) = House::with(&tokens, &[]).await;
    let (house, made) = (&house, &made);
    let list = async |who: usize, query: &str| {
        let page = house.json(&format!("/v1/videos?{query}"), &made[who]).await;
        let folders = page["folders"].as_array().unwrap().iter();
        let folders = folders.map(|f| f["prefix"].as_str().unwrap().to_owned());
        let videos = page["videos"].as_array().unwrap().iter();
        let videos = videos.map(|v| v["path"].as_str().unwrap().to_owned());
        let cursor = page["cursor"].as_str().map(str::to_owned);
        (folders.chain(videos).collect::<Vec<_>>(), cursor)
    };
    for (query, expected) in [
        ("", &["flights/", "lab/"][..]),
        ("prefix=fl", &["flights/"]),
        ("prefix=flights", &["flights/"]),
        ("prefix=flights/", &["flights/2025/", "flights/2026/"]),
        ("prefix=flights/2026", &["flights/2026/"]),
        ("prefix=flights/2026/", &["flights/2026/a.mp4"]),
        ("prefix=flights/2026/a", &["flights/2026/a.mp4"]),
        ("prefix=lab/", &["lab/b.mp4"]),
        ("prefix=flights/2025/", &[]),
    ] {
        assert_eq!(
            list(0, query).await,
            (expected.iter().map(|e| (*e).to_owned()).collect(), None),
            "{query}"
        );
    }
    let (first, cursor) = list(0, "limit=1").await;
    let cursor = cursor.unwrap();
    let (second, end) = list(0, &format!("limit=1&cursor={}", encoded(&cursor))).await;
    assert_eq!(
        (first, second, end),
        (vec!["flights/".to_owned()], vec!["lab/".to_owned()], None)
    );
    assert_eq!(list(1, "").await, (vec![], None));
    assert_eq!(list(2, "").await, list(3, "").await);
    // What may not be seen is as a folder that is not there.
    let missing = house
        .get("/v1/videos?prefix=flights/2026/absent/", &made[0])
        .await;
    let missing = shape(&missing, "flights/2026/absent/");
    assert_eq!(missing.0, 404);
    for prefix in [
        "flights/20267/",
        "flights/20267/a",
        "top",
        "x/",
        "../",
        "flights/2026/../20267/",
        "/etc/",
        "flights//",
        "s3://b/",
        "lab/b.mp4/",
    ] {
        let answer = house
            .get(&format!("/v1/videos?prefix={prefix}"), &made[0])
            .await;
        assert_eq!(shape(&answer, prefix), missing, "{prefix}");
    }
}

#[tokio::test]
async fn a_token_that_ends_ends_new_requests_of_its_sessions() {
    let (house, made) = House::with(&[("alice", &[]), ("bob", &[])], &[]).await;
    let path = house.file("tokens");
    let both = fs::read_to_string(&path).unwrap();
    let mut alice = house.enter(&made[0]).await;
    let mut bob = house.enter(&made[1]).await;
    for client in [&mut alice, &mut bob] {
        client.set_video("lab/b.mp4").await;
    }
    // A bad file changes nothing.
    fs::write(&path, format!("{both}carol:hunter2\n")).unwrap();
    house
        .until_logged("what it said before stays: line 4")
        .await;
    assert!(!house.place.server.log().contains("hunter2"));
    assert_eq!(house.get("/v1/videos", &made[0]).await.status, 200);
    // Bob may see less, Alice is gone; and the signal says so at once.
    let bob_now: Vec<String> = both
        .lines()
        .filter(|line| line.starts_with("bob:"))
        .map(|line| format!("{line} flights"))
        .collect();
    fs::write(&path, bob_now.join("\n")).unwrap();
    house.hang_up();
    house.until_logged("was read anew").await;
    assert_eq!(
        house.get("/v1/videos", &made[0]).await.problem(401),
        "unauthorized"
    );
    let frames =
        json!({"type": "RequestFrames", "frames": [{"frame": 1, "index": 4}], "request_id": 9});
    alice.send(frames.clone()).await;
    let refused = alice.reply().await;
    assert_eq!(
        (refused.code(), &refused.text["index"]),
        ("unauthorized", &json!(4))
    );
    assert_eq!(refused.text["request_id"], 9);
    alice.send(json!({"type": "GetIndex"})).await;
    assert_eq!(alice.reply().await.text["error"], "unauthorized");
    alice.send(json!({"type": "GetStats"})).await;
    assert_eq!(alice.reply().await.kind(), "Stats");
    let told = alice.refused_video("lab/b.mp4").await;
    assert!(told.contains("has ended"), "{told}");
    // What is set and not seen any more is not set any more.
    bob.send(frames.clone()).await;
    assert_eq!(bob.reply().await.code(), "no_video");
    bob.refused_video("lab/b.mp4").await;
    bob.set_video("flights/2026/a.mp4").await;
    // A change is noticed without a signal, too; a token that is back is good again.
    fs::write(&path, &both).unwrap();
    until(|| house.place.server.log().matches("was read anew").count() == 2).await;
    alice.set_video("lab/b.mp4").await;
    alice.send(frames).await;
    assert_eq!(alice.reply().await.kind(), "Frame");
}

fn jwt(secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes()).unwrap();
    encode(&Header::default(), claims, &key).unwrap()
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[tokio::test]
async fn a_jwt_says_what_may_be_seen_and_until_when() {
    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    let files = tempfile::tempdir().unwrap();
    let key = files.path().join("secret");
    fs::write(&key, format!("{SECRET}\n")).unwrap();
    let args = [
        "--jwt-key-file",
        key.to_str().unwrap(),
        "--jwt-audience=videos",
        "--jwt-issuer=us",
        "--jwt-prefix-claim=see",
    ];
    let (house, made) = House::with(&[("static", &[])], &args).await;
    let claims = |exp: u64, see: Value| json!({"sub": "dave", "iss": "us", "aud": "videos", "exp": exp, "see": see});
    let token = jwt(
        SECRET,
        &claims(now() + 600, json!(["flights/2026", "s3://not/here"])),
    );
    let picture = "/v1/videos/flights/2026/a.mp4/frame.jpg?frame=2";
    assert_eq!(house.get(picture, &token).await.status, 200);
    assert_eq!(
        house.get("/v1/videos/top.mp4", &token).await.problem(404),
        "not_found"
    );
    // Both kinds at once.
    assert_eq!(house.get("/v1/videos/top.mp4", &made[0]).await.status, 200);
    // No answer is kept for longer than its token.
    let version = house.json("/v1/videos/flights/2026/a.mp4", &token).await;
    let pinned = format!("{picture}&v={}", version["version"].as_str().unwrap());
    let kept = house.get(&pinned, &token).await;
    let lifetime = kept.header("cache-control").to_owned();
    let seconds = lifetime.split(['=', ',']).nth(2).unwrap();
    assert!(seconds.parse::<u64>().unwrap() <= 630, "{lifetime}");
    for bad in [
        jwt(
            SECRET,
            &json!({"exp": now() + 600, "iss": "us", "aud": "videos"}),
        ),
        jwt(
            SECRET,
            &json!({"exp": now() + 600, "iss": "us", "see": "lab"}),
        ),
        jwt(SECRET, &claims(now() - 60, json!("lab"))),
        jwt(
            "another secret of thirty-two bytes",
            &claims(now() + 600, json!("lab")),
        ),
    ] {
        assert_eq!(house.get(picture, &bad).await.problem(401), "unauthorized");
    }
    // Its time, and the half minute that clocks may differ, is over in a moment.
    let short = jwt(SECRET, &claims(now() - 20, json!("lab")));
    let mut client = house.enter(&short).await;
    client.set_video("lab/b.mp4").await;
    let start = Instant::now();
    loop {
        client.request(&[0]).await;
        let code = client.reply().await.code().to_owned();
        if code == "unauthorized" {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{code}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A session's line in the log comes at its end.
    drop(client);
    house.until_logged("caller=\"jwt:dave\"").await;
    assert!(!house.place.server.log().contains("eyJ"));
}

#[tokio::test]
async fn a_signed_url_shows_what_it_names_until_its_time() {
    let files = tempfile::tempdir().unwrap();
    let key_file = files.path().join("keys");
    fs::write(
        &key_file,
        "# first the new one\nnew:0123456789abcdef\nold:fedcba9876543210\n",
    )
    .unwrap();
    let args = [
        "--url-key-file",
        key_file.to_str().unwrap(),
        "--log-level",
        "debug",
    ];
    let (house, made) = House::with(&[("all", &[])], &args).await;
    let path = "/v1/videos/flights%2F2026%2Fa.mp4/frame.jpg?frame=7&width=64";
    for key in ["new", "old"] {
        let signed = sign(&key_file, key, path, "1h");
        for _ in 0..2 {
            let picture = house.web.get(&signed).await;
            assert_eq!(picture.status, 200, "{}", picture.text());
            assert_eq!(picture.header("content-type"), "image/jpeg");
            assert!(
                picture
                    .header("cache-control")
                    .starts_with("private, max-age=0")
            );
            assert_eq!(house.web.send("HEAD", &signed, &[]).await.status, 200);
        }
        for (from, to) in [
            ("frame=7", "frame=8"),
            ("width=64", "width=65"),
            ("&width=64", ""),
            ("width=64", "width=64&quality=1"),
            ("frame.jpg", "frame.png"),
            ("frame.jpg", "index"),
            ("%2Fa.mp4", "%2Fb.mp4"),
            ("%2F2026", "%2F20267"),
            ("key=", "key=x"),
            ("signature=", "signature=x"),
            ("expires=", "expires=9"),
        ] {
            let other = signed.replacen(from, to, 1);
            assert_ne!(other, signed);
            assert_eq!(
                house.web.get(&other).await.problem(401),
                "unauthorized",
                "{other}"
            );
        }
        assert_eq!(house.web.send("POST", &signed, &[]).await.status, 405);
        // Not for the list, nor for a session.
        let (_, query) = signed.split_once('?').unwrap();
        assert_eq!(
            house.web.get(&format!("/v1/videos?{query}")).await.status,
            401
        );
        assert_eq!(house.web.get(&format!("/ws?{query}")).await.status, 401);
    }
    // What was kept for it is not there without a signature, nor is it made twice for a token.
    assert_eq!(house.web.get(path).await.problem(401), "unauthorized");
    assert_eq!(house.get(path, &made[0]).await.status, 200);
    // Of a version, it is kept for as long as it may be seen.
    let version = house
        .get(path, &made[0])
        .await
        .header("video-version")
        .to_owned();
    let pinned = sign(&key_file, "new", &format!("{path}&v={version}"), "100s");
    for _ in 0..2 {
        let picture = house.web.get(&pinned).await;
        let lifetime = picture.header("cache-control").to_owned();
        let seconds = lifetime.split(['=', ',']).nth(2).unwrap();
        assert!(seconds.parse::<u64>().unwrap() <= 100, "{lifetime}");
        assert!(lifetime.starts_with("private, "));
    }
    // Its end.
    let short = sign(&key_file, "new", path, "1s");
    let start = Instant::now();
    loop {
        let answer = house.web.get(&short).await;
        if answer.status == 401 {
            assert!(
                answer.text().contains("The URL's time is over"),
                "{}",
                answer.text()
            );
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A key that is taken out of the file shows nothing any more.
    let old = sign(&key_file, "old", path, "1h");
    fs::write(&key_file, "new:0123456789abcdef\n").unwrap();
    house.hang_up();
    house.until_logged("--url-key-file was read anew").await;
    assert_eq!(house.web.get(&old).await.status, 401);
    let log = house.place.server.log();
    assert!(
        !log.contains("signature=") && !log.contains("0123456789abcdef"),
        "{log}"
    );
}

#[tokio::test]
async fn a_browser_shows_its_token_in_a_protocol_and_its_origin() {
    const NAME: &str = "bucket-streamer.v1";
    let args = ["--cors-origin", "https://a.example"];
    let (house, made) = House::with(&[("alice", &["lab"])], &args).await;
    let server = &house.place.server;
    let carried = format!("bearer.{}", URL_SAFE_NO_PAD.encode(&made[0]));
    let offered = format!("{NAME}, {carried}");
    let (mut client, told) = knock(server, &[("sec-websocket-protocol", &offered)])
        .await
        .unwrap();
    let chosen: Vec<_> = told.get_all("sec-websocket-protocol").iter().collect();
    assert_eq!(chosen, [NAME]);
    client.set_video("lab/b.mp4").await;
    client.refused_video("top.mp4").await;
    let wrong = format!("{NAME}, bearer.{}", URL_SAFE_NO_PAD.encode("bst_wrong"));
    let refused = knock(server, &[("sec-websocket-protocol", &wrong)]).await;
    assert_eq!(refused.err().unwrap().0, 401);
    let own = format!("http://{}", server.address());
    for (origin, status) in [
        ("https://a.example", 101),
        (own.as_str(), 101),
        ("https://b.example", 403),
        ("null", 403),
        ("http://127.0.0.1", 403),
    ] {
        let headers = [("origin", origin), ("sec-websocket-protocol", &offered)];
        let answer = knock(server, &headers).await;
        let got = answer.map_or_else(|(status, _)| status, |_| 101);
        assert_eq!(got, status, "{origin}");
    }
    let refused = house
        .web
        .get_with("/ws", &[("origin", "https://b.example")])
        .await;
    assert_eq!(refused.problem(403), "forbidden_origin");
    // A page may show its token.
    let preflight = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "authorization"),
    ];
    let allowed = house.web.send("OPTIONS", "/v1/videos", &preflight).await;
    assert!(
        allowed
            .header("access-control-allow-headers")
            .contains("authorization")
    );
}

#[tokio::test]
async fn the_client_shows_its_token() {
    let (house, made) = House::with(&[("alice", &[])], &[]).await;
    let file = house.file("token");
    fs::write(&file, format!("{}\n", made[0])).unwrap();
    let url = house.place.server.websocket();
    let client = || {
        let mut client = command("streaming-cli").unwrap();
        client.args([
            "--url", &url, "--video", "top.mp4", "--limit", "2", "--json",
        ]);
        client
    };
    let refused = client().output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && told.contains("asks for a token"),
        "{told}"
    );
    let mut by_variable = client();
    by_variable.env("BUCKET_STREAMER_TOKEN", &made[0]);
    let mut by_file = client();
    by_file.arg("--token-file").arg(&file);
    let mut by_flag = client();
    by_flag.args(["--token", &made[0]]);
    for client in [by_variable, by_file, by_flag] {
        assert!(run(client).starts_with('{'));
    }
}
