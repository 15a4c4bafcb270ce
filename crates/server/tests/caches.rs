//! The HTTP API behind real caches: nginx and Varnish, as the distribution builds them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[allow(dead_code, reason = "each test file uses its part")]
mod common;
mod web;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Backend, Place, clip};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use web::{Answer, Web, encoded};

const BACKEND: Backend = Backend::Folder;
const LIFETIME: Duration = Duration::from_secs(3);

/// A cache before a server, ended when dropped.
struct Cache {
    child: Child,
    address: String,
    _folder: TempDir,
}

/// A program of the system; `make test` installs it.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut places = folders.map(|folder| folder.join(name));
    places.find(|p| p.is_file()).unwrap_or_else(|| {
        panic!("{name} is not installed: run `bash scripts/install-deps.sh tests`, or `make test`")
    })
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Whether it is this cache that answers there, and not another test's server that took the port.
fn is_this(address: &str, mark: &str) -> bool {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.to_ascii_lowercase())
    };
    ask().is_ok_and(|answer| answer.contains(&format!("\r\n{mark}: ")))
}

impl Cache {
    /// Starts it on a port that is free; on another one where somebody else was faster.
    /// `mark` is a header of its answers.
    fn start(origin: &str, mark: &str, command: impl Fn(&TempDir, &str, u16) -> Command) -> Self {
        for _ in 0..5 {
            let folder = TempDir::new().unwrap();
            let port = free_port();
            let log = fs::File::create(folder.path().join("log")).unwrap();
            let mut child = command(&folder, origin, port)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap();
            let address = format!("127.0.0.1:{port}");
            loop {
                if is_this(&address, mark) {
                    return Self {
                        child,
                        address,
                        _folder: folder,
                    };
                }
                if child.try_wait().unwrap().is_some() {
                    let log = fs::read_to_string(folder.path().join("log")).unwrap();
                    eprintln!("a cache ended at its start: {log}");
                    break;
                }
                sleep(Duration::from_millis(20));
            }
        }
        panic!("the cache does not start");
    }

    fn nginx(origin: &str) -> Self {
        Self::start(origin, "x-cache", |folder, origin, port| {
            let at = folder.path().display();
            let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .iter()
                .map(|what| format!("{what}_temp_path {at}/{what};\n"))
                .collect();
            // Where it is started as root, its worker must be able to use the folder, too.
            let user = match rustix::process::geteuid().is_root() {
                true => "user root;",
                false => "",
            };
            let config = format!(
                "daemon off;\n{user}\nworker_processes 1;\npid {at}/pid;\nevents {{}}\nhttp {{\n\
                 access_log off;\n{temporary}\
                 proxy_cache_path {at}/cache keys_zone=frames:1m;\n\
                 server {{\nlisten 127.0.0.1:{port};\nlocation / {{\n\
                 proxy_pass http://{origin};\nproxy_http_version 1.1;\nproxy_cache frames;\n\
                 add_header X-Cache $upstream_cache_status always;\n}}\n}}\n}}\n"
            );
            let file = folder.path().join("nginx.conf");
            fs::write(&file, config).unwrap();
            let mut command = Command::new(program("nginx"));
            command
                .arg("-e")
                .arg("stderr")
                .arg("-p")
                .arg(folder.path())
                .arg("-c")
                .arg(&file);
            command
        })
    }

    fn varnish(origin: &str) -> Self {
        Self::start(origin, "x-varnish", |folder, origin, port| {
            let (host, origin_port) = origin.split_once(':').unwrap();
            let config = format!(
                "vcl 4.1;\nbackend default {{ .host = \"{host}\"; .port = \"{origin_port}\"; }}\n"
            );
            let file = folder.path().join("default.vcl");
            fs::write(&file, config).unwrap();
            let mut command = Command::new(program("varnishd"));
            command
                .arg("-F")
                .args(["-j", "none"])
                .arg("-n")
                .arg(folder.path().join("work"))
                .arg("-f")
                .arg(&file)
                .args(["-a", &format!("127.0.0.1:{port}")])
                .args(["-s", "malloc,64m"])
                // It would serve what has expired for ten seconds more.
                .args(["-p", "default_grace=0"]);
            command
        })
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // In good order, so that its workers end with it.
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(id) = id {
            kill_process(id, Signal::TERM).ok();
        }
        self.child.wait().ok();
    }
}

fn frame(answer: &Answer) -> u32 {
    assert_eq!(answer.status, 200, "{}", answer.text());
    testkit::jpeg::frame_number(&answer.body).unwrap()
}

async fn second_fetches_are_theirs(start: fn(&str) -> Cache) {
    let place = Place::start(&["closed_gop"], &["--http-lifetime=1h"]).await;
    let cache = start(place.server.address());
    let (web, direct) = (Web::at(&cache.address), Web::of(&place.server));
    let name = "кадр 1/frame.jpg/a.h265";
    fs::create_dir_all(place.root().join("кадр 1/frame.jpg")).unwrap();
    fs::copy(clip("closed_gop"), place.root().join(name)).unwrap();
    let video = format!("/v1/videos/{}", encoded(name));
    let version = direct.json(&video).await["version"]
        .as_str()
        .unwrap()
        .to_owned();
    let fixed = [
        video.clone(),
        format!("{video}/frame.jpg?frame=7"),
        format!("{video}/frame.png?frame=7&width=64"),
        format!("{video}/frame.jpg?frame=8&v={version}"),
        format!("{video}/storyboard.jpg?columns=2&rows=2"),
    ];
    let mut firsts = Vec::new();
    for path in &fixed {
        let first = web.get(path).await;
        assert_eq!(first.status, 200, "{path}: {}", first.text());
        firsts.push(first);
    }
    // One URL, two formats: a cache must tell them apart.
    let by_accept = format!("{video}/frame?frame=9");
    let of = async |kind: &str| web.get_with(&by_accept, &[("accept", kind)]).await;
    let (jpeg, png) = (of("image/jpeg").await, of("image/png").await);
    assert_eq!(jpeg.header("content-type"), "image/jpeg");
    assert_eq!(png.header("content-type"), "image/png");
    // Errors are not kept.
    let missing = web.get(&format!("{video}/frame.jpg?frame=999")).await;
    assert_eq!(missing.problem(404), "unknown_frame");

    // The server is gone; what was fetched is there.
    drop(place);
    for (path, first) in fixed.iter().zip(&firsts) {
        let second = web.get(path).await;
        assert_eq!(second.status, 200, "{path}");
        assert_eq!(second.body, first.body, "{path}");
        assert_eq!(second.header("etag"), first.header("etag"));
        let known = [("if-none-match", first.header("etag"))];
        assert_eq!(web.get_with(path, &known).await.status, 304, "{path}");
    }
    assert_eq!(of("image/jpeg").await.body, jpeg.body);
    assert_eq!(of("image/png").await.body, png.body);
    let missing = web.get(&format!("{video}/frame.jpg?frame=999")).await;
    assert!(missing.status.is_server_error(), "{}", missing.status);
}

async fn what_is_replaced_is_not_served_beyond_its_lifetime(start: fn(&str) -> Cache) {
    let lifetime = format!("--http-lifetime={}s", LIFETIME.as_secs());
    let place = Place::start(&["closed_gop"], &[&lifetime]).await;
    let cache = start(place.server.address());
    let web = Web::at(&cache.address);
    let path = "/v1/videos/closed_gop.h265/frame.jpg?frame=4";
    let old = web.get(path).await;
    assert_eq!(frame(&old), 4);
    let version = old.header("video-version").to_owned();
    let pinned = format!("{path}&v={version}");
    assert_eq!(web.get(&pinned).await.body, old.body);

    let other = fs::read(clip("default_gop")).unwrap();
    place.put("closed_gop.h265", &other).await;
    let replaced = Instant::now();
    loop {
        let begun = replaced.elapsed();
        let answer = web.get(path).await;
        assert_eq!(frame(&answer), 4);
        if answer.header("video-version") != version {
            assert_ne!(answer.header("etag"), old.header("etag"));
            break;
        }
        // Caches count whole seconds.
        assert!(
            begun < LIFETIME + Duration::from_secs(2),
            "still {version} after {begun:?}"
        );
        sleep(Duration::from_millis(100));
    }
    // What names the version is of that version.
    assert_eq!(web.get(&pinned).await.body, old.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_fetches_are_those_of_nginx() {
    second_fetches_are_theirs(Cache::nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn second_fetches_are_those_of_varnish() {
    second_fetches_are_theirs(Cache::varnish).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_does_not_serve_what_was_replaced() {
    what_is_replaced_is_not_served_beyond_its_lifetime(Cache::nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn varnish_does_not_serve_what_was_replaced() {
    what_is_replaced_is_not_served_beyond_its_lifetime(Cache::varnish).await;
}
