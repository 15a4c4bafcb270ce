//! A WebSocket client that keeps account: every frame that is asked for is answered once, about
//! the right video, and nothing comes that nobody asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use testkit::programs::Server;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Long enough for a slow machine; what takes longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A frame by the request's id (as JSON, `null` if it has none) and its index.
pub(crate) type Key = (String, i64);

pub(crate) struct Peer {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    due: BTreeMap<Key, Asked>,
    /// `SetVideo`s that were said, and `VideoSet`s that came.
    videos: (u64, u64),
    /// Previews that came so far.
    pub(crate) previews: Vec<Answer>,
    /// Bytes of all images that came.
    pub(crate) image_bytes: u64,
}

/// A frame that is due.
struct Asked {
    /// The `SetVideo`s said before it.
    video: u64,
    preview: bool,
    offset: Option<u64>,
}

/// A `Frame` with its image, or a `FrameError`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Answer {
    pub(crate) key: Key,
    pub(crate) text: Value,
    pub(crate) image: Option<Vec<u8>>,
}

impl Answer {
    /// The image, or the code of the error.
    pub(crate) fn result(&self) -> Result<&[u8], &str> {
        let code = || self.text["error"].as_str().unwrap();
        self.image.as_deref().ok_or_else(code)
    }

    pub(crate) fn code(&self) -> &str {
        self.result().err().unwrap_or("Frame")
    }
}

/// What comes from the server.
pub(crate) enum Event {
    /// A frame is answered.
    Answer(Answer),
    /// A picture was shown meanwhile; it is in [`Peer::previews`].
    Preview,
    /// Anything else.
    Other(Value),
}

fn key(text: &Value) -> Key {
    let id = text.get("request_id").unwrap_or(&Value::Null);
    (id.to_string(), text["index"].as_i64().unwrap())
}

impl Peer {
    pub(crate) async fn connect(server: &Server) -> Self {
        Self::try_connect(server).await.unwrap()
    }

    pub(crate) async fn try_connect(server: &Server) -> tungstenite::Result<Self> {
        let connecting = tokio::time::timeout(PATIENCE, connect_async(server.websocket()));
        let (socket, _) = connecting.await.expect("the server hangs")?;
        Ok(Self {
            socket,
            due: BTreeMap::new(),
            videos: (0, 0),
            previews: Vec::new(),
            image_bytes: 0,
        })
    }

    /// Says all of this in one go.
    pub(crate) async fn say(&mut self, messages: &[Value]) {
        for message in messages {
            if message["type"] == "SetVideo" {
                self.videos.0 += 1;
            }
            for frame in message["frames"].as_array().into_iter().flatten() {
                let id = message.get("request_id").unwrap_or(&Value::Null);
                let key = (id.to_string(), frame["index"].as_i64().unwrap());
                let asked = Asked {
                    video: self.videos.0,
                    preview: message["preview"] == true,
                    offset: frame["offset"].as_u64(),
                };
                let before = self.due.insert(key, asked);
                assert!(before.is_none(), "the test shares a tag: {message}");
            }
            let text = Message::text(message.to_string());
            self.socket.feed(text).await.unwrap();
        }
        self.socket.flush().await.unwrap();
    }

    async fn message(&mut self) -> Message {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            let next = next.expect("the server hangs");
            match next.expect("the server closed").unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                other => return other,
            }
        }
    }

    /// The next thing that comes, held against what is due.
    pub(crate) async fn event(&mut self) -> Event {
        let Message::Text(text) = self.message().await else {
            panic!("an image without its Frame")
        };
        let text: Value = serde_json::from_str(&text).unwrap();
        let image = match text["type"].as_str() {
            Some("Frame") => {
                let Message::Binary(image) = self.message().await else {
                    panic!("a Frame without its image: {text}")
                };
                assert_eq!(text["size"], image.len());
                self.image_bytes += image.len() as u64;
                Some(image.to_vec())
            }
            Some("FrameError") => None,
            Some("VideoSet") => {
                self.videos.1 += 1;
                let late = self.due.iter().find(|(_, a)| a.video < self.videos.1);
                assert!(
                    late.is_none(),
                    "{:?} is due of the video before",
                    late.unwrap().0
                );
                return Event::Other(text);
            }
            _ => return Event::Other(text),
        };
        let key = key(&text);
        let asked = self.due.get_mut(&key);
        let asked = asked.unwrap_or_else(|| panic!("{key:?} is not due: {text}"));
        assert_eq!(asked.video, self.videos.1, "about another video: {text}");
        let answer = Answer {
            key: key.clone(),
            image,
            text,
        };
        if answer.text["preview"] == true {
            assert!(asked.preview, "an unwanted or second preview: {key:?}");
            asked.preview = false;
            self.previews.push(answer);
            return Event::Preview;
        }
        if let Some(offset) = asked.offset {
            assert_eq!(answer.text["offset"], offset);
        }
        self.due.remove(&key);
        Event::Answer(answer)
    }

    /// The next answer; previews are kept, and nothing else may come.
    pub(crate) async fn answer(&mut self) -> Answer {
        loop {
            match self.event().await {
                Event::Answer(answer) => return answer,
                Event::Preview => {}
                Event::Other(text) => panic!("{text}"),
            }
        }
    }

    /// All answers that are due, in the order in which they come; then makes sure that nothing
    /// more comes.
    pub(crate) async fn settle(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        while !self.due.is_empty() {
            answers.push(self.answer().await);
        }
        self.quiet().await;
        answers
    }

    /// Makes sure that nothing more comes than was read.
    pub(crate) async fn quiet(&mut self) {
        let fence = self.ask(json!({"type": "Fence"})).await;
        assert!(
            fence["message"].as_str().unwrap().contains("Fence"),
            "{fence}"
        );
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.due.is_empty()
    }

    /// Says something that has one answer, where nothing else is due.
    pub(crate) async fn ask(&mut self, message: Value) -> Value {
        self.say(&[message]).await;
        match self.event().await {
            Event::Other(text) => text,
            _ => panic!("a frame comes in place of an answer"),
        }
    }

    /// Sets a video that is there.
    pub(crate) async fn video(&mut self, path: &str) -> Value {
        let set = self.ask(json!({"type": "SetVideo", "path": path})).await;
        assert_eq!(
            (&set["type"], &set["ok"]),
            (&json!("VideoSet"), &json!(true)),
            "{set}"
        );
        set
    }

    /// Asks for these frames, each `{"frame": 3}` or the like, tagged 0, 1, 2 …, and gives the
    /// answers in the order of the tags.
    pub(crate) async fn frames(&mut self, frames: &[Value]) -> Vec<Answer> {
        self.say(&[request(Value::Null, frames)]).await;
        let mut answers = self.settle().await;
        answers.sort_by_key(|answer| answer.key.1);
        answers
    }
}

/// A `RequestFrames` of these frames, tagged 0, 1, 2 …
pub(crate) fn request(id: Value, frames: &[Value]) -> Value {
    let tagged: Vec<Value> = frames
        .iter()
        .enumerate()
        .map(|(index, frame)| {
            let mut frame = frame.clone();
            frame["index"] = json!(index);
            frame
        })
        .collect();
    let mut message = json!({"type": "RequestFrames", "frames": tagged});
    if !id.is_null() {
        message["request_id"] = id;
    }
    message
}

/// The message with further fields.
pub(crate) fn with(mut message: Value, more: Value) -> Value {
    let more = more.as_object().unwrap().clone();
    message.as_object_mut().unwrap().extend(more);
    message
}
