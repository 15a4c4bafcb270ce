//! Who comes in: TLS, connections that mean no good, limits, and the end of the server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::{Backend, Client, Place, offsets};
use futures::{SinkExt as _, StreamExt as _};
use reqwest::{StatusCode, Version};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::bucket::Bucket;
use testkit::mob::{self, Bad, Mob};
use testkit::programs::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};

const BACKEND: Backend = Backend::Folder;
/// Long enough for a slow machine; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
const CLIP: &str = "default_gop.h265";

fn process(server: &Server) -> Pid {
    Pid::from_raw(i32::try_from(server.id()).unwrap()).unwrap()
}

fn signal(server: &Server, signal: Signal) {
    kill_process(process(server), signal).unwrap();
}

/// Waits until it is so.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(PAUSE).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "waited in vain: {what}");
}

async fn until_logged(server: &Server, text: &str) {
    until(text, async || server.log().contains(text)).await;
}

/// Asks on a connection of its own.
async fn get(server: &Server, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder().pool_max_idle_per_host(0);
    let answer = client.build().unwrap().get(server.http(path)).send().await;
    let answer = answer.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The number of the frame that is served for this one.
async fn frame(client: &mut Client, number: u32) -> u32 {
    let frames = json!([{"frame": number, "index": number}]);
    client
        .send(json!({"type": "RequestFrames", "frames": frames}))
        .await;
    let reply = client.reply().await;
    let image = reply.image.unwrap_or_else(|| panic!("{:?}", reply.text));
    testkit::jpeg::frame_number(&image).unwrap()
}

/// A certificate and its key in files.
struct Identity {
    folder: TempDir,
}

impl Identity {
    fn new() -> (Self, CertificateDer<'static>) {
        let identity = Self {
            folder: TempDir::new().unwrap(),
        };
        let shown = identity.replace();
        (identity, shown)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts another in its place.
    fn replace(&self) -> CertificateDer<'static> {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        // Each by one step, as those who renew certificates do it.
        let put = |name: &str, text: String| {
            fs::write(self.file("new"), text).unwrap();
            fs::rename(self.file("new"), self.file(name)).unwrap();
        };
        put("cert.pem", made.cert.pem());
        put("key.pem", made.signing_key.serialize_pem());
        made.cert.der().clone()
    }

    fn arguments(&self) -> Vec<String> {
        let path = |name: &str| self.file(name).to_str().unwrap().to_owned();
        let (cert, key) = (path("cert.pem"), path("key.pem"));
        vec!["--tls-cert".into(), cert, "--tls-key".into(), key]
    }

    async fn serve(&self, more: &[&str]) -> Place {
        let own = self.arguments();
        let args: Vec<&str> = own
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        Place::start(&["default_gop"], &args).await
    }
}

/// A TLS connection by somebody who trusts these.
async fn shake(
    server: &Server,
    trusted: &[&CertificateDer<'static>],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for cert in trusted {
        roots.add((*cert).clone()).unwrap();
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address()).await?;
    let name = "localhost".try_into().unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

type Wss = tokio_tungstenite::WebSocketStream<TlsStream<TcpStream>>;

async fn websocket_by_tls(server: &Server, trusted: &CertificateDer<'static>) -> Wss {
    let stream = shake(server, &[trusted]).await.unwrap();
    let connecting = tokio_tungstenite::client_async("wss://localhost/ws", stream);
    connecting.await.unwrap().0
}

async fn next(socket: &mut Wss) -> Message {
    let next = tokio::time::timeout(PATIENCE, socket.next());
    next.await
        .expect("the server says nothing")
        .unwrap()
        .unwrap()
}

/// Asks for a frame over WebSocket and TLS, and checks that it is the right one.
async fn check_frame(socket: &mut Wss, number: u32) {
    let ask = json!({"type": "RequestFrames", "frames": [{"frame": number, "index": 0}]});
    socket.send(Message::text(ask.to_string())).await.unwrap();
    let Message::Text(text) = next(socket).await else {
        panic!()
    };
    assert!(text.contains("\"Frame\""), "{text}");
    let Message::Binary(image) = next(socket).await else {
        panic!()
    };
    assert_eq!(testkit::jpeg::frame_number(&image).unwrap(), number);
}

async fn set_video(socket: &mut Wss) {
    let set = json!({"type": "SetVideo", "path": CLIP});
    socket.send(Message::text(set.to_string())).await.unwrap();
    let Message::Text(text) = next(socket).await else {
        panic!()
    };
    assert!(text.contains("\"ok\":true"), "{text}");
}

fn by_tls(cert: &CertificateDer<'static>) -> reqwest::ClientBuilder {
    let cert = reqwest::Certificate::from_der(cert).unwrap();
    reqwest::Client::builder().tls_certs_only([cert])
}

#[tokio::test]
async fn pictures_come_by_tls_over_http_and_websocket() {
    let (identity, cert) = Identity::new();
    let place = identity.serve(&[]).await;
    let address = place.server.address();
    let frame = format!("https://{address}/v1/videos/{CLIP}/frame.jpg?frame=7");
    for (client, version) in [
        (by_tls(&cert), Version::HTTP_2),
        (by_tls(&cert).http1_only(), Version::HTTP_11),
    ] {
        let client = client.build().unwrap();
        let answer = client.get(&frame).send().await.unwrap();
        assert_eq!(
            (answer.status(), answer.version()),
            (StatusCode::OK, version)
        );
        let lasts = answer.headers()["strict-transport-security"]
            .to_str()
            .unwrap();
        assert!(lasts.starts_with("max-age="), "{lasts}");
        let image = answer.bytes().await.unwrap();
        assert_eq!(testkit::jpeg::frame_number(&image).unwrap(), 7);
    }
    // Many requests on one connection at the same time.
    let client = by_tls(&cert).build().unwrap();
    let many = (0..120u32).map(|number| {
        let asked = client.get(format!(
            "https://{address}/v1/videos/{CLIP}/frame.jpg?frame={number}"
        ));
        async move {
            let image = asked.send().await.unwrap().bytes().await.unwrap();
            assert_eq!(testkit::jpeg::frame_number(&image).unwrap(), number);
        }
    });
    futures::future::join_all(many).await;
    let mut socket = websocket_by_tls(&place.server, &cert).await;
    set_video(&mut socket).await;
    check_frame(&mut socket, 100).await;
    // The health check knows by the same options that TLS is spoken.
    let mut command = testkit::programs::command("bucket-streamer").unwrap();
    command.args(["--health", "--listen-addr", address]);
    assert!(!command.output().unwrap().status.success());
    let output = command.args(identity.arguments()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // The benchmark client trusts it when it is told to, and else says how it would.
    let mut command = testkit::programs::command("streaming-cli").unwrap();
    let url = format!("wss://localhost:{}/ws", address.rsplit(':').next().unwrap());
    command.args(["--url", &url, "--video", CLIP, "--limit", "3", "--json"]);
    let refused = command.output().unwrap();
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("--ca"), "{why}");
    command.arg("--ca").arg(identity.file("cert.pem"));
    let output = command.output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["frames_received"], 3, "{output:?}");
    // In clear there is nothing.
    let clear = reqwest::get(format!("http://{address}/health")).await;
    assert!(clear.is_err(), "{clear:?}");
}

#[tokio::test]
async fn a_certificate_is_replaced_and_no_connection_is_lost() {
    let (identity, first) = Identity::new();
    let place = identity.serve(&[]).await;
    let server = &place.server;
    let mut socket = websocket_by_tls(server, &first).await;
    set_video(&mut socket).await;
    let kept = by_tls(&first).build().unwrap();
    let health = format!("https://{}/health", server.address());
    assert!(
        kept.get(&health)
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );

    let shows = async |cert: &CertificateDer<'static>| shake(server, &[cert]).await.is_ok();
    let second = identity.replace();
    signal(server, Signal::HUP);
    until("the second certificate", async || shows(&second).await).await;
    assert!(!shows(&first).await);
    check_frame(&mut socket, 3).await;
    // It trusts the first only: this is the connection that it had.
    assert!(
        kept.get(&health)
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );

    // What cannot be used changes nothing, and is told.
    fs::write(identity.file("cert.pem"), "no certificate").unwrap();
    signal(server, Signal::HUP);
    until_logged(server, "the certificate that was used before is kept").await;
    assert!(
        server.log().contains("it holds no certificate"),
        "{}",
        server.log()
    );
    assert!(shows(&second).await);
    check_frame(&mut socket, 4).await;

    // A change is noticed without a signal.
    let third = identity.replace();
    until("the third certificate", async || shows(&third).await).await;
    check_frame(&mut socket, 5).await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_ends_the_start_with_a_sentence() {
    let (identity, _) = Identity::new();
    fs::write(identity.file("cert.pem"), "none").unwrap();
    let args = identity.arguments();
    let start = Server::start(args.iter().map(String::as_str).chain(["--local-path", "/"]));
    let text = format!("{:#}", start.err().unwrap());
    assert!(text.contains("cert.pem: it holds no certificate"), "{text}");
    let start = Server::start(["--local-path", "/", "--tls-cert", "x"]);
    let text = format!("{:#}", start.err().unwrap());
    assert!(
        text.contains("--tls-cert needs its key: set --tls-key"),
        "{text}"
    );
}

#[tokio::test]
async fn http2_is_spoken_in_clear_to_those_who_know() {
    let place = Place::with(&["default_gop"]).await;
    let client = reqwest::Client::builder().http2_prior_knowledge();
    let url = place
        .server
        .http(&format!("/v1/videos/{CLIP}/frame.jpg?frame=9"));
    let answer = client.build().unwrap().get(url).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let image = answer.bytes().await.unwrap();
    assert_eq!(testkit::jpeg::frame_number(&image).unwrap(), 9);
}

#[tokio::test]
async fn every_answer_has_its_security_headers() {
    let place = Place::with(&["default_gop"]).await;
    for path in [
        "/health",
        "/ready",
        "/v1/videos",
        "/v1/videos/none",
        "/v1/videos/default_gop.h265/frame.jpg?frame=0",
        "/nothing",
        "/ws",
        "/",
    ] {
        let answer = reqwest::get(place.server.http(path)).await.unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        let policy = header("content-security-policy");
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(!answer.headers().contains_key("strict-transport-security"));
    }
}

#[tokio::test]
async fn bad_connections_are_ended_one_by_one() {
    let args = ["--handshake-timeout", "2s", "--idle-timeout", "4s"];
    let place = Place::start(&["default_gop"], &args).await;
    let address = place.server.address();
    let ends = Bad::ALL.map(|bad| async move {
        let end = tokio::time::timeout(PATIENCE, mob::suffer(address, bad)).await;
        let heard = end
            .unwrap_or_else(|_| panic!("{bad:?} is not ended"))
            .unwrap();
        (bad, String::from_utf8_lossy(&heard).into_owned())
    });
    for (bad, heard) in futures::future::join_all(ends).await {
        let begins = match bad {
            Bad::Silent | Bad::SlowHead => "",
            Bad::Rubbish | Bad::HalfHandshake => "HTTP/1.1 400",
            Bad::LargeHead => "HTTP/1.1 431",
            Bad::SlowBody => "HTTP/1.1 405",
            Bad::LargeMessage => "HTTP/1.1 101",
        };
        // What was said may be lost where more was on its way than the server read.
        let said = heard.starts_with(begins) || heard.is_empty();
        assert!(said, "{bad:?}: {heard}");
    }
    // A connection that is kept open and asks for nothing.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut heard = String::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut heard)).await;
    end.unwrap().unwrap();
    assert!(
        heard.starts_with("HTTP/1.1 200 OK") && heard.ends_with("ok"),
        "{heard}"
    );
    assert_eq!(get(&place.server, "/health").await, (200, "ok".into()));
}

#[tokio::test]
async fn half_a_tls_handshake_is_ended() {
    let (identity, cert) = Identity::new();
    let place = identity.serve(&["--handshake-timeout", "2s"]).await;
    let address = place.server.address();
    let ends = [
        Bad::Silent,
        Bad::HalfHandshake,
        Bad::Rubbish,
        Bad::SlowHead,
        Bad::LargeHead,
    ];
    let ends = ends.map(|bad| tokio::time::timeout(PATIENCE, mob::suffer(address, bad)));
    for end in futures::future::join_all(ends).await {
        end.unwrap().unwrap();
    }
    // After the handshake, a head has its time, too.
    let mut slow = shake(&place.server, &[&cert]).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let end = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut Vec::new())).await;
    end.unwrap().ok();
    assert!(shake(&place.server, &[&cert]).await.is_ok());
}

#[tokio::test]
async fn a_silent_websocket_gives_its_place_back() {
    let args = ["--max-sessions", "1", "--idle-timeout", "4s"];
    let place = Place::start(&["default_gop"], &args).await;
    let (mut silent, _) = tokio_tungstenite::connect_async(place.server.websocket())
        .await
        .unwrap();
    silent.send(Message::text("{}")).await.unwrap();
    // It is there, but reads nothing any more, so that it answers no ping.
    let connect = async || tokio_tungstenite::connect_async(place.server.websocket()).await;
    match connect().await.unwrap_err() {
        tungstenite::Error::Http(answer) => assert_eq!(answer.status(), 503),
        other => panic!("{other}"),
    }
    until("a place", async || connect().await.is_ok()).await;
    until_logged(&place.server, "end=\"silent\"").await;
    drop(silent);

    // Who only listens is asked whether it is there, and stays.
    let waiting = async {
        loop {
            if let Ok((socket, _)) = connect().await {
                break socket;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let mut socket = tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    let mut pings = 0;
    while pings < 3 {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
        pings += usize::from(matches!(message.unwrap().unwrap(), Message::Ping(_)));
    }
    let stats = Message::text(json!({"type": "GetStats"}).to_string());
    socket.send(stats).await.unwrap();
    let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
    assert!(
        message
            .unwrap()
            .unwrap()
            .into_text()
            .unwrap()
            .contains("Stats")
    );
}

#[tokio::test]
async fn a_thousand_bad_connections_hurt_nobody() {
    const BAD: usize = 1000;
    mob::raise_open_files();
    let args = ["--handshake-timeout", "3s", "--idle-timeout", "20s"];
    let place = Place::start(&["default_gop"], &args).await;
    let mut client = Client::connect(&place.server).await;
    client.set_video(CLIP).await;
    let mut mob = Mob::start(place.server.address(), BAD, false);
    let good = async {
        for number in (0..120).rev() {
            assert_eq!(frame(&mut client, number).await, number);
            // A newcomer among them is let in, too.
            if number % 40 == 0 {
                assert_eq!(get(&place.server, "/health").await, (200, "ok".into()));
            }
        }
    };
    let ended = async { tokio::time::timeout(PATIENCE * 3, mob.ended()).await };
    let ((), ended) = tokio::join!(good, ended);
    assert_eq!(ended.expect("some are not ended"), BAD);
    assert_eq!(frame(&mut client, 60).await, 60);
}

#[tokio::test]
async fn connections_are_bounded_in_all_and_of_each_address() {
    for (flag, of) in [
        ("--max-connections", "full=All"),
        ("--max-connections-per-address", "full=Address"),
    ] {
        let place = Place::start(&["default_gop"], &[flag, "2"]).await;
        let server = &place.server;
        let mut client = Client::connect(server).await;
        client.set_video(CLIP).await;
        let second = Client::connect(server).await;
        let (status, text) = get(server, "/health").await;
        assert_eq!(status, 503);
        assert!(text.starts_with("too_many_connections"), "{text}");
        until_logged(server, of).await;
        assert_eq!(frame(&mut client, 11).await, 11);
        drop(second);
        until("a place", async || get(server, "/health").await.0 == 200).await;
    }
}

/// Changes the command so that the system lets it open so many files.
fn with_open_files(command: &mut Command, most: u64) {
    let mut shell = Command::new("bash");
    let line = format!("ulimit -n {most}; exec \"$0\" \"$@\"");
    shell.arg("-c").arg(line).arg(command.get_program());
    shell.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    *command = shell;
}

#[tokio::test]
async fn few_open_files_are_fewer_connections() {
    let folder = common::folder_with(&["default_gop"]);
    let args = [Path::new("--local-path").into(), folder.path().join("data")];
    let server = Server::start_with(args, |command| with_open_files(command, 64)).unwrap();
    let mut client = Client::connect(&server).await;
    client.set_video(CLIP).await;
    until_logged(&server, "the limit of open files leaves fewer connections").await;
    let mut held = Vec::new();
    while !server.log().contains("a connection was refused") {
        assert!(held.len() < 64, "{}", server.log());
        held.push(TcpStream::connect(server.address()).await.unwrap());
        tokio::time::sleep(PAUSE).await;
    }
    // Files and whatever else is needed can still be opened.
    for number in [0, 119, 60] {
        assert_eq!(frame(&mut client, number).await, number);
    }
    client.set_video(CLIP).await;
    assert!(
        !server.log().contains("no connection can be taken"),
        "{}",
        server.log()
    );
    drop(held);
    until("a place", async || get(&server, "/health").await.0 == 200).await;
}

#[tokio::test]
async fn a_server_that_may_open_nothing_serves_those_who_are_there_and_recovers() {
    let place = Place::with(&["default_gop"]).await;
    let server = &place.server;
    let mut client = Client::connect(server).await;
    client.set_video(CLIP).await;
    assert_eq!(frame(&mut client, 5).await, 5);
    let limit = getrlimit(Resource::Nofile);
    let now = fs::read_dir(format!("/proc/{}/fd", server.id()))
        .unwrap()
        .count() as u64;
    let few = Rlimit {
        current: Some(now),
        maximum: limit.maximum,
    };
    let before = prlimit(Some(process(server)), Resource::Nofile, few).unwrap();
    // The system takes them into its queue; the server cannot.
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream
            .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        waiting.push(stream);
    }
    until_logged(server, "no connection can be taken").await;
    for number in 20..40 {
        assert_eq!(frame(&mut client, number).await, number);
    }
    // Told once in a while, not each time.
    let log = server.log();
    assert!(
        log.matches("no connection can be taken").count() < 10,
        "{log}"
    );
    prlimit(Some(process(server)), Resource::Nofile, before).unwrap();
    for mut stream in waiting {
        let mut heard = String::new();
        let read = stream.read_to_string(&mut heard);
        tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
        assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
    }
}

#[tokio::test]
async fn a_signal_lets_frames_be_finished_and_nothing_new_begin() {
    let args = ["--drain-timeout", "60s", "--max-outbox-bytes", "65536"];
    let place = Place::start(&["default_gop"], &args).await;
    let mut client = Client::connect(&place.server).await;
    client.set_video(CLIP).await;
    // More than all that lies between holds, so that the rest is made when it is taken.
    let known = offsets("default_gop");
    let wanted: Vec<u64> = known.iter().cycle().take(4000).copied().collect();
    client.request(&wanted).await;
    client.reply().await;
    let server = &place.server;
    assert_eq!(get(server, "/ready").await.0, 200);
    signal(server, Signal::TERM);
    until("not ready", async || get(server, "/ready").await.0 == 503).await;
    let (_, told) = get(server, "/ready").await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        told,
        json!({"ready": false, "server": "it is stopping", "store": "ok", "workers": "ok"})
    );
    assert_eq!(get(server, "/health").await, (200, "ok".into()));
    until("nothing new", async || {
        get(server, "/v1/videos").await.0 == 503
    })
    .await;
    match tokio_tungstenite::connect_async(server.websocket()).await {
        Err(tungstenite::Error::Http(answer)) => {
            assert_eq!(answer.status(), 503);
            assert!(answer.headers().contains_key("retry-after"));
        }
        other => panic!("{other:?}"),
    }
    let mut frames = 1;
    let close = loop {
        match client.raw().await.unwrap().unwrap() {
            Message::Text(text) => {
                assert!(text.contains("\"Frame\""), "{text}");
                frames += 1;
            }
            Message::Binary(_) => {}
            Message::Close(frame) => break frame.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((frames, close.code), (wanted.len(), CloseCode::Restart));
    drop(client);
    let (status, log) = place.server.wait().unwrap();
    assert!(status.success(), "{status}\n{log}");
    assert!(
        log.contains("stopped") && !log.contains("still open"),
        "{log}"
    );
}

#[tokio::test]
async fn balancers_have_time_to_notice() {
    let place = Place::start(&["default_gop"], &["--drain-delay", "1h"]).await;
    let server = &place.server;
    signal(server, Signal::TERM);
    until("not ready", async || get(server, "/ready").await.0 == 503).await;
    // Until then all is served, to newcomers as well.
    let mut client = Client::connect(server).await;
    client.set_video(CLIP).await;
    assert_eq!(frame(&mut client, 8).await, 8);
    assert_eq!(get(server, "/v1/videos").await.0, 200);
    // A second signal ends at once.
    signal(server, Signal::TERM);
    let (status, log) = place.server.wait().unwrap();
    assert!(status.success() && log.contains("stopped at once"), "{log}");
}

#[tokio::test]
async fn connections_that_do_nothing_do_not_hold_the_end_up() {
    let place = Place::start(&["default_gop"], &["--drain-timeout", "1h"]).await;
    let server = &place.server;
    let address = server.address();
    // One that is kept, one in the middle of a head, one that has said nothing.
    let kept = reqwest::Client::new();
    let health = server.http("/health");
    assert!(
        kept.get(&health)
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let silent = TcpStream::connect(address).await.unwrap();
    // A clip plays as long as somebody looks.
    let clip = format!("/v1/videos/{CLIP}/clip?fps=1");
    let mut clip = kept.get(server.http(&clip)).send().await.unwrap();
    assert_eq!(clip.status(), 200);
    clip.chunk().await.unwrap().unwrap();
    signal(server, Signal::TERM);
    while let Ok(Some(_)) = clip.chunk().await {}
    let (status, log) = place.server.wait().unwrap();
    assert!(status.success() && !log.contains("still open"), "{log}");
    drop((slow, silent));
}

#[tokio::test]
async fn ready_says_which_part_is_not() {
    let place = Place::with(&["default_gop"]).await;
    let server = &place.server;
    let ready = async |server: &Server| -> (u16, Value) {
        let (status, text) = get(server, "/ready").await;
        (status, serde_json::from_str(&text).unwrap())
    };
    let all = json!({"ready": true, "server": "ok", "store": "ok", "workers": "ok"});
    assert_eq!(ready(server).await, (200, all.clone()));
    fs::remove_dir_all(place.root()).unwrap();
    until("not ready", async || ready(server).await.0 == 503).await;
    let (_, told) = ready(server).await;
    assert!(
        told["store"].as_str().unwrap().contains("cannot be read"),
        "{told}"
    );
    assert_eq!(get(server, "/health").await, (200, "ok".into()));

    let bucket = Bucket::start().unwrap();
    let server = bucket.serve(&[]).unwrap();
    until("ready", async || ready(&server).await == (200, all.clone())).await;
}

#[tokio::test]
async fn many_who_ask_whether_it_is_ready_are_one_look() {
    // A store that takes connections and says nothing.
    let store = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", store.local_addr().unwrap());
    let args = [
        "--storage-backend=s3",
        "--s3-bucket=b",
        "--hedge=off",
        "--s3-endpoint",
    ];
    let server = Server::start(args.into_iter().chain([endpoint.as_str()])).unwrap();
    let taking = tokio::spawn(async move {
        let mut taken = Vec::new();
        loop {
            taken.push(store.accept().await.unwrap());
            if taken.len() > 5 {
                return;
            }
        }
    });
    let asked = (0..100).map(|_| get(&server, "/ready"));
    for (status, text) in futures::future::join_all(asked).await {
        assert_eq!(status, 503);
        assert!(text.contains("answer"), "{text}");
    }
    assert!(!taking.is_finished(), "the store is flooded");
    assert_eq!(get(&server, "/health").await, (200, "ok".into()));
}

#[tokio::test]
async fn who_asks_for_too_much_in_a_second_is_told_so() {
    let place = Place::start(&["default_gop"], &["--max-frames-per-second", "5"]).await;
    let mut client = Client::connect(&place.server).await;
    client.set_video(CLIP).await;
    let known = offsets("default_gop");
    client.request(&known).await;
    let replies = client.replies(known.len()).await;
    let count = |code: &str| replies.iter().filter(|r| r.code() == code).count();
    let (frames, refused) = (count("Frame"), count("rate_limited"));
    assert!(frames >= 5 && refused > 0, "{frames} {refused}");
    assert_eq!(frames + refused, known.len());
    let limited = replies.iter().find(|r| r.code() == "rate_limited").unwrap();
    assert_eq!(
        limited.message(),
        "At most 5 frames may be asked for in a second"
    );
    // Over HTTP it is the same address's share.
    let path = format!("/v1/videos/{CLIP}/frame.jpg?frame=1");
    let many = (0..50).map(|_| reqwest::get(place.server.http(&path)));
    let mut refused = 0;
    for answer in futures::future::join_all(many).await {
        let answer = answer.unwrap();
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            refused += 1;
            assert!(answer.headers().contains_key("retry-after"));
            let problem: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            assert_eq!(problem["code"], "rate_limited");
        } else {
            assert_eq!(answer.status(), StatusCode::OK);
        }
    }
    assert!(refused > 0);
    // Later it goes well.
    let path = path.as_str();
    until("a frame", async || get(&place.server, path).await.0 == 200).await;
}

#[tokio::test]
async fn messages_beyond_the_rate_wait_and_requests_are_refused() {
    let place = Place::start(&["default_gop"], &["--max-messages-per-second", "20"]).await;
    let mut client = Client::connect(&place.server).await;
    // Each is answered, however fast they are sent.
    let stats = vec![json!({"type": "GetStats"}); 60];
    client.send_all(&stats).await;
    for reply in client.replies(stats.len()).await {
        assert_eq!(reply.kind(), "Stats");
    }
    let many = (0..100).map(|_| get(&place.server, "/v1/videos"));
    let answers = futures::future::join_all(many).await;
    assert!(answers.iter().any(|(status, _)| *status == 429));
    assert!(
        answers
            .iter()
            .all(|(status, _)| [200, 429].contains(status))
    );
    // What balancers ask is not counted.
    assert_eq!(get(&place.server, "/ready").await.0, 200);
    assert_eq!(get(&place.server, "/health").await.0, 200);
}
