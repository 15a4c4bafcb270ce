//! A WebSocket client that counts answers, and what the system says of a process.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::bucket::Bucket;
use testkit::footage;
use testkit::programs::Server;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Long enough for a slow machine; what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    /// Sentences that came before a `VideoSet` with `ok` false.
    pub(crate) refusals: Vec<String>,
    /// Their codes.
    pub(crate) codes: Vec<String>,
}

impl Client {
    pub(crate) async fn connect(server: &Server) -> Self {
        let connecting = tokio_tungstenite::connect_async(server.websocket());
        let connected = tokio::time::timeout(PATIENCE, connecting).await;
        Self {
            socket: connected.expect("the server hangs").unwrap().0,
            refusals: Vec::new(),
            codes: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    async fn message(&mut self) -> Message {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match next
                .expect("the server hangs")
                .expect("the server closed")
                .unwrap()
            {
                Message::Ping(_) | Message::Pong(_) => {}
                other => return other,
            }
        }
    }

    /// The next reply, with its image if it is a `Frame`.
    pub(crate) async fn reply(&mut self) -> (Value, Option<Vec<u8>>) {
        let Message::Text(text) = self.message().await else {
            panic!("an image without its Frame")
        };
        let reply: Value = serde_json::from_str(&text).unwrap();
        if reply["type"] != "Frame" {
            return (reply, None);
        }
        let Message::Binary(image) = self.message().await else {
            panic!("a Frame without its image: {reply}")
        };
        assert_eq!(reply["size"], image.len());
        (reply, Some(image.to_vec()))
    }

    /// Sets a video; gives its `VideoSet`.
    pub(crate) async fn set_video(&mut self, path: &str) -> Value {
        self.send(json!({"type": "SetVideo", "path": path})).await;
        loop {
            let (reply, image) = self.reply().await;
            assert!(image.is_none());
            match reply["type"].as_str() {
                Some("VideoSet") => return reply,
                // The sentence that comes before a `VideoSet` with `ok` false.
                Some("Error") => {
                    let sentence = reply["message"].as_str().unwrap();
                    assert!(!sentence.is_empty());
                    self.refusals.push(sentence.to_owned());
                    let code = reply["error"].as_str().unwrap_or_default();
                    self.codes.push(code.to_owned());
                }
                _ => panic!("{reply}"),
            }
        }
    }

    /// Asks for frames by offset; every one must be answered exactly once. Gives the answers in
    /// the order of the offsets: images, or codes.
    pub(crate) async fn frames(&mut self, offsets: &[u64]) -> Vec<Result<Vec<u8>, String>> {
        let frames: Vec<Value> = offsets
            .iter()
            .enumerate()
            .map(|(index, offset)| json!({"offset": offset, "irap_offset": 0, "index": index}))
            .collect();
        self.send(json!({"type": "RequestFrames", "frames": frames}))
            .await;
        let mut answers = BTreeMap::new();
        while answers.len() < offsets.len() {
            let (reply, image) = self.reply().await;
            let index = reply["index"].as_u64().unwrap();
            assert_eq!(reply["offset"], offsets[index as usize]);
            let answer = image.ok_or_else(|| reply["error"].as_str().unwrap().to_owned());
            assert!(
                answers.insert(index, answer).is_none(),
                "two answers: {reply}"
            );
        }
        // Its answer tells that nothing of the request is still to come.
        self.send(json!({"type": "The end"})).await;
        let (reply, _) = self.reply().await;
        let message = reply["message"].as_str().unwrap_or_default();
        assert!(message.contains("The end"), "{reply}");
        let indexes: Vec<u64> = answers.keys().copied().collect();
        assert_eq!(indexes, (0..offsets.len() as u64).collect::<Vec<_>>());
        answers.into_values().collect()
    }
}

/// Where videos lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Backend {
    Folder,
    Bucket,
}

/// Clips under their names, in a folder or in a bucket.
pub(crate) enum Videos {
    Folder(TempDir),
    Bucket(Bucket),
}

impl Videos {
    /// These clips.
    pub(crate) async fn of(backend: Backend, clips: &[&str]) -> Self {
        let clips = clips
            .iter()
            .map(|name| (*name, footage::clip(name).unwrap().path));
        Self::of_files(backend, clips).await
    }

    /// These files under these names.
    pub(crate) async fn of_files(
        backend: Backend,
        clips: impl IntoIterator<Item = (&str, PathBuf)>,
    ) -> Self {
        match backend {
            Backend::Folder => {
                let folder = tempfile::tempdir().unwrap();
                for (name, path) in clips {
                    std::fs::copy(path, folder.path().join(name)).unwrap();
                }
                Self::Folder(folder)
            }
            Backend::Bucket => {
                let bucket = Bucket::start().unwrap();
                for (name, path) in clips {
                    bucket.put_file(name, &path).await.unwrap();
                }
                Self::Bucket(bucket)
            }
        }
    }

    /// A server of them, with these further arguments.
    pub(crate) fn serve(&self, args: &[&str]) -> Server {
        self.serve_with(args, |_| {})
    }

    /// The same, with a last change to the command.
    pub(crate) fn serve_with(&self, args: &[&str], change: impl FnOnce(&mut Command)) -> Server {
        let started = Server::start_with(args, |command| {
            match self {
                Self::Folder(folder) => {
                    command.arg("--local-path").arg(folder.path());
                }
                Self::Bucket(bucket) => bucket.tell(command, bucket.endpoint()),
            }
            change(command);
        });
        started.unwrap()
    }
}

/// What the server answers to `GET /health`.
pub(crate) fn health(server: &Server) -> String {
    let mut socket = TcpStream::connect(server.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = "GET /health HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).unwrap();
    reply
}

/// A field of `/proc/PID/status` that holds KiB, in MiB: `VmRSS` (resident now), `VmHWM` (at
/// most).
pub(crate) fn memory_mib(server: &Server, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}

/// Numbers that look random and are the same each time (xorshift64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end
    }
}

/// Offsets of a file's frames in decode order, by ffprobe.
pub(crate) fn offsets(path: &std::path::Path) -> Vec<u64> {
    let packets = testkit::reference::packets(path, Default::default()).unwrap();
    packets.iter().map(|packet| packet.position).collect()
}
