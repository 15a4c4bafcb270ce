//! A WebSocket client that knows the protocol's form, and a folder or a bucket of videos.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::bucket::Bucket;
use testkit::command::Run;
use testkit::programs::Server;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Long enough for a slow machine; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A reply: the text, and the image if it is a `Frame`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Reply {
    pub(crate) text: Value,
    pub(crate) image: Option<Vec<u8>>,
}

impl Reply {
    pub(crate) fn kind(&self) -> &str {
        self.text["type"].as_str().unwrap()
    }

    pub(crate) fn message(&self) -> &str {
        self.text["message"].as_str().unwrap_or_default()
    }

    /// The code of a `FrameError`, or `Frame`.
    pub(crate) fn code(&self) -> &str {
        self.text["error"].as_str().unwrap_or(self.kind())
    }
}

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub(crate) async fn connect(server: &Server) -> Self {
        let config = WebSocketConfig::default();
        let connecting =
            tokio_tungstenite::connect_async_with_config(server.websocket(), Some(config), true);
        let (socket, _) = tokio::time::timeout(PATIENCE, connecting)
            .await
            .unwrap()
            .unwrap();
        Self { socket }
    }

    pub(crate) async fn send_text(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.send_text(message.to_string()).await;
    }

    /// Sends several messages in one go.
    pub(crate) async fn send_all(&mut self, messages: &[Value]) {
        for message in messages {
            let text = Message::text(message.to_string());
            self.socket.feed(text).await.unwrap();
        }
        self.socket.flush().await.unwrap();
    }

    /// The next message as it comes, or how the connection ended.
    pub(crate) async fn raw(&mut self) -> Option<tungstenite::Result<Message>> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next());
            match next.await.expect("the server says nothing") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return other,
            }
        }
    }

    /// The next reply; checks that a `Frame` is followed at once by its image, and nothing else
    /// is.
    pub(crate) async fn reply(&mut self) -> Reply {
        let message = self.raw().await.expect("the server closed").unwrap();
        let Message::Text(text) = message else {
            panic!("not a text message: {message:?}")
        };
        let text: Value = serde_json::from_str(&text).unwrap();
        let mut image = None;
        if text["type"] == "Frame" {
            let message = self.raw().await.expect("the server closed").unwrap();
            let Message::Binary(bytes) = message else {
                panic!("no image, but {message:?}")
            };
            assert_eq!(text["size"], bytes.len());
            image = Some(bytes.to_vec());
        }
        Reply { text, image }
    }

    pub(crate) async fn replies(&mut self, count: usize) -> Vec<Reply> {
        let mut replies = Vec::new();
        while replies.len() < count {
            replies.push(self.reply().await);
        }
        replies
    }

    /// Sends a message that must be answered by one `Error`, and gives its sentence.
    pub(crate) async fn refusal(&mut self, text: impl Into<String>) -> String {
        self.send_text(text).await;
        let reply = self.reply().await;
        assert_eq!(reply.kind(), "Error", "{reply:?}");
        reply.message().to_owned()
    }

    /// Sets a video that is there, and gives its `VideoSet`.
    pub(crate) async fn set_video(&mut self, path: &str) -> Value {
        self.send(json!({"type": "SetVideo", "path": path})).await;
        let reply = self.reply().await;
        assert_eq!(
            (reply.kind(), &reply.text["ok"]),
            ("VideoSet", &json!(true)),
            "{reply:?}"
        );
        reply.text
    }

    /// Sets a video that cannot be set, and gives the sentence.
    pub(crate) async fn refused_video(&mut self, path: &str) -> String {
        self.send(json!({"type": "SetVideo", "path": path})).await;
        let error = self.reply().await;
        assert_eq!(error.kind(), "Error", "{error:?}");
        let set = self.reply().await.text;
        assert_eq!(set, json!({"type": "VideoSet", "path": path, "ok": false}));
        error.message().to_owned()
    }

    /// Asks for frames by offset, tagged 0, 1, 2 …
    pub(crate) async fn request(&mut self, offsets: &[u64]) {
        let frames: Vec<Value> = offsets
            .iter()
            .enumerate()
            .map(|(i, offset)| json!({"offset": offset, "irap_offset": 0, "index": i}))
            .collect();
        self.send(json!({"type": "RequestFrames", "frames": frames}))
            .await;
    }
}

/// Where a test's videos lie. The test's crate says it: `BACKEND`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(dead_code, reason = "each test file uses one of them")]
pub(crate) enum Backend {
    Folder,
    Bucket,
}

/// A running server with made clips.
pub(crate) struct Place {
    // Ends before what it serves is gone.
    pub(crate) server: Server,
    content: Content,
}

enum Content {
    /// A folder `data`, beside which nothing may be reached.
    Folder(TempDir),
    Bucket(Bucket),
}

/// A folder with a folder `data` in it that holds these clips, under `NAME.h265`.
pub(crate) fn folder_with(clips: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("data");
    fs::create_dir(&root).unwrap();
    for name in clips {
        fs::copy(clip(name), root.join(format!("{name}.h265"))).unwrap();
    }
    folder
}

#[allow(dead_code, reason = "each test file uses its part")]
impl Place {
    /// A server of these clips.
    pub(crate) async fn with(clips: &[&str]) -> Self {
        Self::start(clips, &[]).await
    }

    /// A server of these clips, with these further arguments.
    pub(crate) async fn start(clips: &[&str], args: &[&str]) -> Self {
        match crate::BACKEND {
            Backend::Folder => {
                let folder = folder_with(clips);
                let root = folder.path().join("data");
                let place = ["--local-path".as_ref(), root.as_os_str()];
                let args = args.iter().map(|a| a.as_ref());
                Self {
                    server: Server::start(place.into_iter().chain(args)).unwrap(),
                    content: Content::Folder(folder),
                }
            }
            Backend::Bucket => {
                let bucket = Bucket::start().unwrap();
                for name in clips {
                    let key = format!("{name}.h265");
                    bucket.put_file(&key, &clip(name)).await.unwrap();
                }
                Self {
                    server: bucket.serve(args).unwrap(),
                    content: Content::Bucket(bucket),
                }
            }
        }
    }

    /// Puts a video there, or another in its place.
    pub(crate) async fn put(&self, name: &str, content: &[u8]) {
        match &self.content {
            Content::Folder(_) => fs::write(self.root().join(name), content).unwrap(),
            Content::Bucket(bucket) => bucket.put(name, content.to_vec()).await.unwrap(),
        }
    }

    /// The folder in which the root lies.
    pub(crate) fn folder(&self) -> &Path {
        match &self.content {
            Content::Folder(folder) => folder.path(),
            Content::Bucket(_) => panic!("a bucket is no folder"),
        }
    }

    /// The root of the videos.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder().join("data")
    }
}

pub(crate) fn clip(name: &str) -> PathBuf {
    testkit::footage::clip(name).unwrap().path
}

/// Offsets of a clip's frames in presentation order, by ffprobe.
pub(crate) fn offsets(name: &str) -> Vec<u64> {
    let packets = Run::ffprobe()
        .args([
            "-select_streams",
            "v:0",
            "-show_entries",
            "packet=pts,pos",
            "-of",
            "csv=p=0",
        ])
        .arg(clip(name))
        .output()
        .unwrap();
    let mut packets: Vec<(i64, u64)> = String::from_utf8(packets)
        .unwrap()
        .lines()
        .map(|line| {
            let mut fields = line.split(',').map(str::trim);
            let mut number = || fields.next().unwrap().parse::<i64>().unwrap();
            let (pts, pos) = (number(), number());
            (pts, u64::try_from(pos).unwrap())
        })
        .collect();
    packets.sort_unstable();
    packets.into_iter().map(|(_, pos)| pos).collect()
}
