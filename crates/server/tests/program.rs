//! The server as a program: its options, its first line, its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[allow(dead_code)]
mod common;
#[allow(dead_code, reason = "each test file uses its part")]
mod web;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use common::{Backend, Client, folder_with, offsets};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::programs::{Server, command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use web::Web;

const BACKEND: Backend = Backend::Folder;

/// Runs it where it must fail at once.
fn failure(change: impl FnOnce(&mut Command)) -> String {
    let mut command = command("bucket-streamer").unwrap();
    command
        .args(["--listen-addr", "127.0.0.1:0"])
        .stdin(Stdio::null());
    change(&mut command);
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(!status.success(), "{stderr}");
    assert!(stdout.is_empty());
    stderr
}

#[test]
fn a_start_that_cannot_go_well_ends_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let check = |args: &[&str], says: &str| {
        let text = failure(|c| {
            c.current_dir(folder.path()).args(args);
        });
        assert!(text.contains(says), "{args:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    };
    check(&[], "./data cannot be served");
    check(&["--storage-backend", "s3"], "--s3-bucket");
    check(&["--storage-backend", "tape"], "local, s3, gcs or azure");
    check(
        &["--local-path", ".", "--jpeg-quality", "0"],
        "from 1 to 100",
    );
    check(
        &["--local-path", ".", "--jpeg-quality", "101"],
        "from 1 to 100",
    );
    check(
        &["--local-path", ".", "--log-level", "a=b=c"],
        "--log-level",
    );
    check(
        &["--local-path", ".", "--config", "absent.toml"],
        "absent.toml",
    );
    check(&["--local-path", ".", "--unheard-of", "x"], "--unheard-of");
    check(
        &[
            "--storage-backend",
            "s3",
            "--s3-bucket",
            "b",
            "--s3-endpoint",
            "nowhere",
        ],
        "http:// or https://",
    );
    // The cause is told, and once.
    let text = failure(|c| {
        c.current_dir(folder.path())
            .args(["--local-path", ".", "--cache-dir", "/proc/none"]);
    });
    let sentence = "the cache folder /proc/none cannot be made: ";
    assert_eq!(text.matches("cannot be made").count(), 1, "{text}");
    assert_eq!(text.matches("os error").count(), 1, "{text}");
    assert!(text.contains(sentence), "{text}");
    std::fs::write(
        folder.path().join("c.toml"),
        "local-path = \".\"\nspeed = 9\n",
    )
    .unwrap();
    check(&["--config", "c.toml"], "`speed`");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = failure(|c| {
        *c = command("bucket-streamer").unwrap();
        c.args(["--local-path", "/", "--listen-addr", &address]);
    });
    assert!(
        text.contains(&format!("cannot listen on {address}")),
        "{text}"
    );
}

#[test]
fn a_health_check_needs_no_other_program() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start([Path::new("--local-path"), folder.path()]).unwrap();
    let ask = |address: &str| {
        let mut command = command("bucket-streamer").unwrap();
        command.args(["--health", "--listen-addr", address]);
        command.output().unwrap()
    };
    let Output { status, stdout, .. } = ask(server.address());
    assert!(status.success() && stdout.is_empty());
    // Who listens on all addresses is asked on the machine's own.
    let (_, port) = server.address().split_once(':').unwrap();
    assert!(ask(&format!("0.0.0.0:{port}")).status.success());
    let address = server.address().to_owned();
    drop(server);
    let output = ask(&address);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains(&format!("no server answers on {address}")),
        "{text}"
    );
}

#[test]
fn variables_and_the_file_are_read_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, "jpeg-quality = 0\nlocal-path = \"/nowhere\"\n").unwrap();
    let with = |variables: &[(&str, &str)], arguments: &[&str]| {
        failure(|c| {
            c.env("CONFIG", &file)
                .envs(variables.iter().copied())
                .args(arguments);
        })
    };
    assert!(with(&[], &[]).contains("but is 0"));
    // The variable wins over the file, and the flag over the variable.
    assert!(with(&[("JPEG_QUALITY", "500")], &[]).contains("but is 500"));
    let flag = ["--jpeg-quality", "600"];
    assert!(with(&[("JPEG_QUALITY", "500")], &flag).contains("but is 600"));
    assert!(with(&[("JPEG_QUALITY", "50")], &[]).contains("/nowhere"));
    // An empty variable is as none.
    assert!(with(&[("JPEG_QUALITY", "")], &[]).contains("but is 0"));
    let server = Server::start_with(["--jpeg-quality", "50"], |c| {
        c.env("CONFIG", &file).env("LOCAL_PATH", folder.path());
    });
    server.unwrap();
}

#[test]
fn help_and_version_are_told() {
    let output = |argument: &str| {
        let mut command = command("bucket-streamer").unwrap();
        let output = command
            .env("S3_SECRET_KEY", "hunter2")
            .arg(argument)
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    // However wide the terminal is.
    let help = output("--help")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(
        help.contains("[env: LISTEN_ADDR=") && help.contains("S3_SECRET_KEY"),
        "{help}"
    );
    assert!(!help.contains("hunter2"), "{help}");
    assert!(output("--version").starts_with("bucket-streamer "));
}

/// The program over a folder of clips, so that its end can be waited for.
struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    url: String,
}

impl Program {
    fn start(folder: &Path) -> Self {
        Self::with(folder, &[])
    }

    fn with(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = command("bucket-streamer")
            .unwrap()
            .args(["--listen-addr", "127.0.0.1:0", "--local-path"])
            .arg(folder)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on http://").unwrap().trim();
        let url = format!("ws://{address}/ws");
        Self { child, stdout, url }
    }

    async fn client(&self) -> Client {
        let (socket, _) = tokio_tungstenite::connect_async(self.url.as_str())
            .await
            .unwrap();
        Client { socket }
    }

    fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its good end, and gives what else it wrote to stdout, and its log.
    fn end(mut self) -> (String, String) {
        let (mut rest, mut log) = (String::new(), String::new());
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        self.stdout.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{log}");
        (rest, log)
    }
}

#[tokio::test]
async fn a_signal_ends_it_well() {
    for end in [Signal::TERM, Signal::INT] {
        let folder = folder_with(&["default_gop"]);
        let program = Program::start(&folder.path().join("data"));
        let mut client = program.client().await;
        let mut idle = program.client().await;
        client.set_video("default_gop.h265").await;
        // So few that a slow machine has them made within the grace.
        let known = &offsets("default_gop")[..12];
        client.request(known).await;
        // The request is being worked on; what is due still comes, then good-bye.
        client.reply().await;
        program.signal(end);
        let mut frames = 1;
        let close = loop {
            match client.raw().await.unwrap().unwrap() {
                Message::Text(text) => {
                    let text: serde_json::Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(text["type"], json!("Frame"));
                    frames += 1;
                }
                Message::Binary(_) => {}
                Message::Close(frame) => break frame.unwrap(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((frames, close.code), (known.len(), CloseCode::Restart));
        match idle.raw().await.unwrap().unwrap() {
            Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Restart),
            other => panic!("{other:?}"),
        }
        drop((client, idle));
        // Nothing but the one line goes to stdout; each session has its line in the log.
        let (rest, log) = program.end();
        assert_eq!(rest, "");
        assert_eq!(log.matches("session ended").count(), 2, "{log}");
        assert!(log.contains("frames=12 "), "{log}");
    }
}

#[tokio::test]
async fn a_client_that_vanishes_ends_its_session() {
    let folder = folder_with(&["default_gop"]);
    let program = Program::start(&folder.path().join("data"));
    let known = offsets("default_gop");
    for _ in 0..10 {
        let mut client = program.client().await;
        client.set_video("default_gop.h265").await;
        // Requests that the server takes in, pictures that no buffer on the way holds.
        for _ in 0..8 {
            let many: Vec<u64> = known.iter().cycle().take(4000).copied().collect();
            client.request(&many).await;
        }
        client.reply().await;
        drop(client);
    }
    program.signal(Signal::TERM);
    // All have ended, none with all its work done.
    let (_, log) = program.end();
    assert_eq!(log.matches("session ended").count(), 10, "{log}");
    assert!(!log.contains("still open"), "{log}");
    assert!(!log.contains("frames=32000"), "{log}");
}

#[tokio::test]
async fn what_failed_is_told_once_by_its_id_and_without_secrets() {
    let folder = folder_with(&["closed_gop"]);
    let program = Program::with(&folder.path().join("data"), &["--log-format=json"]);
    let address = program.url.split('/').nth(2).unwrap().to_owned();
    let web = Web::at(&address);

    // An id that is given comes back; one is made where none is, or none that may be.
    let given = [("x-request-id", "given-1")];
    let path = "/v1/videos/absent.mp4/frame.jpg?frame=1&sig=hunter2";
    let refused = web.get_with(path, &given).await;
    assert_eq!(refused.problem(404), "not_found");
    assert_eq!(refused.header("x-request-id"), "given-1");
    let document: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(document["request_id"], "given-1");
    let made = web
        .get_with("/nothing?sig=hunter2", &[("x-request-id", "a b")])
        .await;
    let made = made.header("x-request-id").to_owned();
    assert_eq!(made.len(), 16, "{made}");
    let good = web
        .get("/v1/videos/closed_gop.h265/frame.jpg?frame=1&sig=hunter2")
        .await;
    assert_ne!(good.header("x-request-id"), "");

    let mut request = program.url.as_str().into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("x-request-id", "session-1".parse().unwrap());
    let (socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "session-1");
    let mut client = Client { socket };
    let frames = json!([{"frame": 0, "index": 0}, {"frame": 1, "index": 1}]);
    let message = json!({"type": "RequestFrames", "frames": frames, "request_id": "r-1"});
    client.send(message).await;
    client.replies(2).await;
    client.refused_video("absent.mp4").await;
    client.refusal("{}").await;
    drop(client);

    program.signal(Signal::TERM);
    let (_, log) = program.end();
    assert!(!log.contains("hunter2"), "{log}");
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let lines_that_say = |message: &str| -> Vec<&Value> {
        lines.iter().filter(|l| l["message"] == message).collect()
    };
    let refused = lines_that_say("not served");
    assert_eq!(refused.len(), 2, "{log}");
    let first = refused.iter().find(|l| l["request"] == "given-1").unwrap();
    assert_eq!(first["path"], "/v1/videos/absent.mp4/frame.jpg");
    let told = [
        &first["status"],
        &first["code"],
        &first["route"],
        &first["method"],
    ];
    assert_eq!(
        told,
        [
            &json!(404),
            &json!("not_found"),
            &json!("frame"),
            &json!("GET")
        ]
    );
    assert!(first["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(first["seconds"].is_number());
    let second = refused
        .iter()
        .find(|l| l["request"] == json!(made))
        .unwrap();
    assert_eq!(
        (&second["path"], &second["route"]),
        (&json!("/nothing"), &json!("other"))
    );

    for (message, code) in [
        ("frames not served", "no_video"),
        ("video not set", "not_found"),
        ("message not understood", "bad_request"),
        ("session ended", ""),
    ] {
        let told = lines_that_say(message);
        assert_eq!(told.len(), 1, "{message}: {log}");
        assert_eq!(told[0]["code"].as_str().unwrap_or_default(), code);
        assert_eq!(told[0]["spans"][0]["session"], "session-1", "{}", told[0]);
    }
    let frames = lines_that_say("frames not served")[0];
    assert_eq!(
        (&frames["frames"], &frames["spans"][1]["request_id"]),
        (&json!(2), &json!("r-1"))
    );
    let ended = lines_that_say("session ended")[0];
    assert_eq!(
        (&ended["frame_errors"], &ended["frames"]),
        (&json!(2), &json!(0))
    );
}

/// Has a command run by another one, which it becomes.
fn run_by(command: &mut Command, by: &[&str]) {
    let mut outer = Command::new(by[0]);
    outer
        .args(&by[1..])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    *command = outer;
}

/// The value of a metric.
async fn metric(web: &Web, name: &str) -> f64 {
    let told = web.get("/metrics").await.text();
    let line = told
        .lines()
        .find_map(|l| l.strip_prefix(&format!("bucket_streamer_{name} ")));
    line.unwrap_or_else(|| panic!("{name}: {told}"))
        .parse()
        .unwrap()
}

/// Asks for ever other pictures until that holds; each is served.
async fn ask_until(web: &Web, from: u32, name: &str, holds: impl Fn(f64) -> bool) {
    let mut width = from;
    while !holds(metric(web, name).await) {
        let path = format!("/v1/videos/closed_gop.h265/frame.jpg?frame=3&width={width}");
        let picture = web.get(&path).await;
        assert_eq!(picture.status, 200, "{}", picture.text());
        width = (width + 1).max(from);
    }
}

/// Needs the right to mount something in a namespace of its own; the next test does not.
#[tokio::test]
async fn a_full_disk_costs_the_cache_on_it_and_nothing_else() {
    let small = "mount -t tmpfs -o size=64k none \"$SMALL\" && exec \"$@\"";
    let by = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        small,
        "sh",
    ];
    let folder = folder_with(&["closed_gop"]);
    let cache = tempfile::tempdir().unwrap();
    let mut trial = Command::new(by[0]);
    trial.args(&by[1..]).arg("true").env("SMALL", cache.path());
    if !trial.output().is_ok_and(|output| output.status.success()) {
        eprintln!("note: nothing may be mounted here: left out");
        return;
    }
    let data = folder.path().join("data");
    let paths = [
        Path::new("--local-path"),
        &data,
        Path::new("--cache-dir"),
        cache.path(),
    ];
    let server = Server::start_with(paths, |c| {
        c.args(["--harvest=off"]).env("SMALL", cache.path());
        run_by(c, &by);
    });
    let server = server.unwrap();
    let web = Web::of(&server);
    assert_eq!(metric(&web, "disk_cache_writable").await, 1.0);
    ask_until(&web, 200, "disk_cache_writable", |writable| writable == 0.0).await;
    assert!(metric(&web, "disk_cache_failures_total").await >= 1.0);
    let told = |words: &str| server.log().matches(words).count();
    assert_eq!(told("the cache folder fails: going on without it"), 1);
    assert!(
        server.log().contains("No space left on device"),
        "{}",
        server.log()
    );
    // Somebody makes room: it is kept there again.
    let inside = format!("/proc/{}/root{}", server.id(), cache.path().display());
    let Ok(files) = std::fs::read_dir(&inside) else {
        eprintln!("note: {inside} cannot be seen: left out");
        return;
    };
    for file in files {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    ask_until(&web, 20, "disk_cache_writable", |writable| writable == 1.0).await;
    assert_eq!(told("the cache folder takes files again"), 1);
    assert_eq!(told("the cache folder fails"), 1);
}

#[tokio::test]
async fn files_that_the_system_refuses_cost_the_cache_and_nothing_else() {
    // No file may be larger than some KiB; the signal that tells so is not taken.
    let limited = [
        "sh",
        "-c",
        "trap '' XFSZ && ulimit -f 8 && exec \"$@\"",
        "sh",
    ];
    let folder = folder_with(&["closed_gop"]);
    let cache = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let paths = [
        Path::new("--local-path"),
        &data,
        Path::new("--cache-dir"),
        cache.path(),
    ];
    let server = Server::start_with(paths, |c| {
        c.args(["--harvest=off"]);
        run_by(c, &limited);
    });
    let server = server.unwrap();
    let web = Web::of(&server);
    ask_until(&web, 300, "disk_cache_failures_total", |failures| {
        failures >= 1.0
    })
    .await;
    let log = server.log();
    assert_eq!(log.matches("the cache folder fails").count(), 1, "{log}");
}
