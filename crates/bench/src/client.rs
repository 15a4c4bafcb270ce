//! A client of the server: asks, and says when each answer was whole.
//!
//! It writes and reads the messages of docs/protocol.md by itself and passes over what it does not
//! know, so that servers of other commits can be measured too.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::limit::Frame;

/// The longest silence of a server that has something due.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a `RequestFrames` says besides its frames. Absent fields are not sent.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub(crate) struct Options {
    /// What of earlier messages is still due is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replace: Option<bool>,
    /// A nearby picture may come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) preview: Option<bool>,
    /// Of the JPEG images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quality: Option<u8>,
}

#[derive(Serialize)]
struct RequestFrames<'a> {
    r#type: &'static str,
    frames: Vec<Asked>,
    #[serde(flatten)]
    options: &'a Options,
}

#[derive(Serialize)]
struct Asked {
    offset: u64,
    irap_offset: u64,
    index: i64,
}

#[derive(Debug, Deserialize)]
struct Reply {
    r#type: String,
    #[serde(default)]
    index: i64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    preview: bool,
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    message: String,
}

/// One answer to a requested frame.
#[derive(Debug)]
pub(crate) struct Answer {
    /// As in the request.
    pub(crate) index: i64,
    /// A nearby picture; the exact one is still due.
    pub(crate) preview: bool,
    /// The image, or the error's code and words.
    pub(crate) image: Result<Bytes, String>,
    /// When it was whole.
    pub(crate) at: Instant,
}

impl Answer {
    fn new(reply: &Reply, image: Result<Bytes, String>) -> Self {
        Self {
            index: reply.index,
            preview: reply.preview,
            image,
            at: Instant::now(),
        }
    }

    /// Whether it was given up for a later request.
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(&self.image, Err(words) if words.starts_with("cancelled"))
    }
}

/// A connection with a video set.
#[derive(Debug)]
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// A `Frame` whose picture has not come yet.
    announced: Option<Reply>,
}

impl Client {
    /// Connects and sets the video.
    pub(crate) async fn open(url: &str, video: &str) -> Result<Self> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(256 << 20))
            .max_frame_size(Some(256 << 20))
            .read_buffer_size(1 << 20);
        let connecting = connect_async_with_config(url, Some(config), true);
        let (socket, _) = timeout(PATIENCE, connecting)
            .await
            .context("the server does not take the connection")??;
        let mut client = Self {
            socket,
            announced: None,
        };
        client.set_video(video).await?;
        Ok(client)
    }

    /// Sets another video. Nothing may be due.
    pub(crate) async fn set_video(&mut self, video: &str) -> Result<()> {
        let message = serde_json::json!({ "type": "SetVideo", "path": video });
        self.send(message.to_string()).await?;
        loop {
            let reply: Reply = serde_json::from_str(&self.text().await?)?;
            match reply.r#type.as_str() {
                "VideoSet" if reply.ok => return Ok(()),
                "Error" | "VideoSet" => bail!("SetVideo {video}: {}", reply.message),
                _ => {}
            }
        }
    }

    /// Asks for frames; the tag of each is its number. Returns when the message is on its way.
    pub(crate) async fn ask(&mut self, frames: &[Frame], options: &Options) -> Result<Instant> {
        let tagged = frames.iter().map(|f| (*f, i64::from(f.number)));
        self.ask_tagged(tagged, options).await
    }

    /// Asks for frames with tags of the caller's.
    pub(crate) async fn ask_tagged(
        &mut self,
        frames: impl IntoIterator<Item = (Frame, i64)>,
        options: &Options,
    ) -> Result<Instant> {
        let frames = frames.into_iter().map(|(frame, index)| Asked {
            offset: frame.offset,
            irap_offset: frame.irap_offset,
            index,
        });
        let message = serde_json::to_string(&RequestFrames {
            r#type: "RequestFrames",
            frames: frames.collect(),
            options,
        })?;
        let sent = Instant::now();
        self.send(message).await?;
        Ok(sent)
    }

    /// The next answer. Cancel safe: what was read stays for the next call.
    pub(crate) async fn answer(&mut self) -> Result<Answer> {
        loop {
            if self.announced.is_some() {
                let message = self.message().await?;
                let Some(reply) = self.announced.take() else {
                    continue;
                };
                let Message::Binary(data) = message else {
                    bail!("a Frame without its picture");
                };
                ensure!(data.len() as u64 == reply.size, "a picture of another size");
                return Ok(Answer::new(&reply, Ok(data)));
            }
            let reply: Reply = serde_json::from_str(&self.text().await?)?;
            match reply.r#type.as_str() {
                "Frame" => self.announced = Some(reply),
                "FrameError" => {
                    let words = format!("{}: {}", reply.error, reply.message);
                    return Ok(Answer::new(&reply, Err(words)));
                }
                "Error" => bail!("the server says: {}", reply.message),
                _ => {}
            }
        }
    }

    /// One frame, exact: its latency and its image.
    pub(crate) async fn frame(&mut self, frame: Frame) -> Result<(Duration, Bytes)> {
        self.frame_as(frame, &Options::default()).await
    }

    /// The same with options.
    pub(crate) async fn frame_as(
        &mut self,
        frame: Frame,
        options: &Options,
    ) -> Result<(Duration, Bytes)> {
        let sent = self.ask(&[frame], options).await?;
        let answer = self.answer().await?;
        let image = answer.image.map_err(anyhow::Error::msg)?;
        Ok((answer.at - sent, image))
    }

    /// Asks for these frames in one message and takes all of them; gives the images by tag.
    pub(crate) async fn batch(&mut self, frames: &[Frame]) -> Result<Vec<(i64, Bytes)>> {
        self.ask(frames, &Options::default()).await?;
        let mut images = Vec::with_capacity(frames.len());
        while images.len() < frames.len() {
            let answer = self.answer().await?;
            images.push((answer.index, answer.image.map_err(anyhow::Error::msg)?));
        }
        Ok(images)
    }

    /// One of the session's own figures, as GetStats names it; nothing where the server has none.
    pub(crate) async fn figure(&mut self, name: &str) -> Result<Option<f64>> {
        self.send(r#"{"type":"GetStats"}"#.to_owned()).await?;
        loop {
            let value: Value = serde_json::from_str(&self.text().await?)?;
            match value.get("type").and_then(Value::as_str) {
                Some("Stats") => return Ok(value.get(name).and_then(Value::as_f64)),
                Some("Error") => return Ok(None),
                _ => {}
            }
        }
    }

    async fn send(&mut self, text: String) -> Result<()> {
        Ok(self.socket.send(Message::text(text)).await?)
    }

    async fn text(&mut self) -> Result<String> {
        match self.message().await? {
            Message::Text(text) => Ok(text.as_str().to_owned()),
            _ => bail!("a picture that no Frame announced"),
        }
    }

    async fn message(&mut self) -> Result<Message> {
        loop {
            let next = timeout(PATIENCE, self.socket.next()).await;
            match next.context("the server said nothing for two minutes")? {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => return Ok(message),
                Some(Ok(Message::Close(_))) | None => bail!("the server closed the connection"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }
}
