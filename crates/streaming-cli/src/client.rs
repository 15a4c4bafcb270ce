//! One connection: chooses the video, asks for frames batch by batch, holds the server to the
//! protocol.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures::{SinkExt as _, StreamExt as _};
use indicatif::ProgressBar;
use protocol::{
    ClientMessage, FrameRequest, FramesRequest, IndexPiece, MessageError, Priority, ServerMessage,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::{self, Bytes, Message, protocol::WebSocketConfig};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
};

use crate::args::Token;
use crate::frames_file::Frame;
use crate::report::Tally;
use crate::save::Picture;
use crate::tls;

/// The largest picture that is taken.
const MESSAGE_LIMIT: usize = 256 << 20;

/// The server, and how it is reached.
#[derive(Clone)]
pub(crate) struct Server {
    /// Address of its WebSocket.
    pub(crate) url: String,
    /// What it is shown.
    pub(crate) token: Option<Token>,
    /// For an address with `wss://`.
    pub(crate) tls: Connector,
}

/// A connection whose video is chosen.
#[derive(Debug)]
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    silence: Duration,
}

/// Errors of frames: how many of each code, and what the server said of the first.
pub(crate) type Errors = BTreeMap<&'static str, (u64, String)>;

/// What one connection measured.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Counts and times.
    pub(crate) tally: Tally,
    /// Frames that came as errors.
    pub(crate) errors: Errors,
}

/// What is done with each answer besides counting it.
#[derive(Clone, Debug)]
pub(crate) struct Sinks {
    /// Moves by one with each answer.
    pub(crate) bar: ProgressBar,
    /// Takes the pictures.
    pub(crate) save: Option<mpsc::Sender<Picture>>,
}

impl Client {
    /// Connects and chooses the video. `silence` is the longest wait for any message.
    pub(crate) async fn open(
        server: &Server,
        video: &str,
        silence: Duration,
    ) -> anyhow::Result<Self> {
        let Server { url, token, tls } = server;
        let mut request = url
            .into_client_request()
            .with_context(|| format!("{url} is no address"))?;
        if let Some(token) = token {
            let header = HeaderValue::from_str(&token.header()).context("no token")?;
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_LIMIT))
            .max_frame_size(Some(MESSAGE_LIMIT));
        let connecting =
            connect_async_tls_with_config(request, Some(config), true, Some(tls.clone()));
        let (socket, _) = timeout(silence, connecting)
            .await
            .with_context(|| format!("no answer from {url} within {} s", silence.as_secs()))?
            .map_err(|error| match error {
                tungstenite::Error::Http(answer) if answer.status() == StatusCode::UNAUTHORIZED => {
                    anyhow::anyhow!(
                        "the server at {url} asks for a token that it knows: --token-file"
                    )
                }
                error => {
                    let more = match tls::is_about_certificate(&error) {
                        true => " (--ca names a file with certificates to trust)",
                        false => "",
                    };
                    let what = format!("cannot reach the server at {url}{more}");
                    anyhow::Error::new(error).context(what)
                }
            })?;
        let mut client = Self { socket, silence };
        client
            .send(&ClientMessage::SetVideo {
                path: video.to_owned(),
            })
            .await?;
        let mut reason = None;
        loop {
            match client.text().await? {
                ServerMessage::VideoSet { ok: true, .. } => return Ok(client),
                ServerMessage::VideoSet { ok: false, .. } => {
                    bail!(reason.unwrap_or_else(|| format!("the server does not open {video}")))
                }
                // Followed by `VideoSet` with `ok` false.
                ServerMessage::Error { message, .. } => reason = Some(message),
                other => bail!("the server answers SetVideo with {}", kind(&other)),
            }
        }
    }

    /// Asks the server where the video's frames lie, in presentation order; at least one.
    pub(crate) async fn index(&mut self) -> anyhow::Result<Vec<Frame>> {
        let all = ClientMessage::GetIndex {
            from: None,
            count: None,
        };
        self.send(&all).await?;
        let mut frames: Vec<Frame> = Vec::new();
        loop {
            let piece: IndexPiece = match self.text().await? {
                ServerMessage::Index(piece) => piece,
                ServerMessage::Error { message, .. } => bail!("the server says: {message}"),
                other => bail!("the server answers GetIndex with {}", kind(&other)),
            };
            ensure!(
                piece.from == frames.len() as u64,
                "the server sends the index from frame {} on, but {} is next",
                piece.from,
                frames.len()
            );
            let before = frames.len();
            frames.extend(piece.offset.iter().map(|&offset| Frame {
                offset,
                irap_offset: None,
            }));
            if frames.len() as u64 >= piece.frame_count {
                ensure!(!frames.is_empty(), "the video has no frames");
                return Ok(frames);
            }
            ensure!(
                frames.len() > before,
                "the server sends no more of the index"
            );
        }
    }

    /// Asks for the frames at these places, `batch` in each message.
    pub(crate) async fn run(
        mut self,
        frames: &[Frame],
        sequence: &[usize],
        batch: usize,
        sinks: &Sinks,
    ) -> anyhow::Result<Measured> {
        let mut measured = Measured {
            tally: Tally::new()?,
            errors: Errors::new(),
        };
        for places in sequence.chunks(batch.max(1)) {
            self.batch(frames, places, sinks, &mut measured).await?;
        }
        // The server need not hear the farewell.
        let _ = self.socket.close(None).await;
        Ok(measured)
    }

    async fn batch(
        &mut self,
        frames: &[Frame],
        places: &[usize],
        sinks: &Sinks,
        measured: &mut Measured,
    ) -> anyhow::Result<()> {
        let mut due: HashMap<(i64, u64), u32> = HashMap::new();
        let mut requests = Vec::new();
        for &place in places {
            let frame = frames.get(place).context("a frame beyond the list")?;
            let index = i64::try_from(place)?;
            *due.entry((index, frame.offset)).or_default() += 1;
            let (offset, irap_offset) = (frame.offset, frame.irap_offset);
            requests.push(FrameRequest {
                irap_offset,
                ..FrameRequest::at_offset(offset, index)
            });
        }
        let tally = &mut measured.tally;
        tally.requested += requests.len() as u64;
        let mut waiting = requests.len();
        let sent = Instant::now();
        // Messages wait for each other here: none is to be served before an earlier one.
        let request = FramesRequest {
            frames: requests,
            priority: Some(Priority::Fifo),
            ..FramesRequest::default()
        };
        self.send(&ClientMessage::RequestFrames(request)).await?;
        while waiting > 0 {
            match self.text().await? {
                ServerMessage::Frame {
                    index,
                    offset,
                    size,
                    preview,
                    ..
                } => {
                    ensure!(!preview, "the server sends a preview, which is not wanted");
                    take(&mut due, index, Some(offset))?;
                    let data = self.picture(size).await?;
                    tally.picture(sent.elapsed(), size);
                    if let Some(save) = &sinks.save {
                        let index = usize::try_from(index)?;
                        // A failed saver has its own words, which are told at the end.
                        let _ = save
                            .send(Picture {
                                index,
                                offset,
                                data,
                            })
                            .await;
                    }
                }
                ServerMessage::FrameError {
                    index,
                    offset,
                    error,
                    message,
                    ..
                } => {
                    take(&mut due, index, offset)?;
                    tally.errored += 1;
                    let entry = measured.errors.entry(error.as_str());
                    entry.or_insert((0, message)).0 += 1;
                }
                ServerMessage::Error { message, .. } => bail!("the server says: {message}"),
                other => bail!("the server answers RequestFrames with {}", kind(&other)),
            }
            sinks.bar.inc(1);
            waiting -= 1;
        }
        Ok(())
    }

    async fn send(&mut self, message: &ClientMessage) -> anyhow::Result<()> {
        let sending = self.socket.send(Message::text(message.to_json()));
        timeout(self.silence, sending)
            .await
            .with_context(|| self.silent())?
            .map_err(|e| lost(&e))
    }

    /// The next text message. One of a type that a later version of the protocol may have is
    /// passed over.
    async fn text(&mut self) -> anyhow::Result<ServerMessage> {
        loop {
            let Message::Text(text) = self.next().await? else {
                bail!("the server sends a picture that no Frame announced");
            };
            match ServerMessage::parse(text.as_str()) {
                Err(MessageError::UnknownType { .. }) => {}
                read => return read.context("the server does not keep to the protocol"),
            }
        }
    }

    /// The picture that a `Frame` announced.
    async fn picture(&mut self, size: u64) -> anyhow::Result<Bytes> {
        match self.next().await? {
            Message::Binary(data) => {
                ensure!(
                    data.len() as u64 == size,
                    "the server announced a picture of {size} bytes and sent {}",
                    data.len()
                );
                Ok(data)
            }
            _ => bail!("the server announced a picture and sent a text"),
        }
    }

    /// The next text or binary message.
    async fn next(&mut self) -> anyhow::Result<Message> {
        loop {
            let next = timeout(self.silence, self.socket.next()).await;
            match next.with_context(|| self.silent())? {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => return Ok(message),
                Some(Ok(Message::Close(Some(frame)))) if !frame.reason.is_empty() => {
                    bail!("the server closed the connection: {}", frame.reason)
                }
                None | Some(Ok(Message::Close(_))) => bail!("the server closed the connection"),
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(lost(&e)),
            }
        }
    }

    fn silent(&self) -> String {
        format!("the server said nothing for {} s", self.silence.as_secs())
    }
}

fn lost(error: &tungstenite::Error) -> anyhow::Error {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            anyhow::anyhow!("the server closed the connection")
        }
        e => anyhow::anyhow!("the connection broke: {e}"),
    }
}

/// Marks a frame as answered.
fn take(due: &mut HashMap<(i64, u64), u32>, index: i64, offset: Option<u64>) -> anyhow::Result<()> {
    let offset = offset.context("the server answers a frame without its offset")?;
    match due.get_mut(&(index, offset)) {
        Some(left) if *left > 0 => *left -= 1,
        _ => bail!("the server answers frame {index} at {offset}, which is not due"),
    }
    Ok(())
}

fn kind(message: &ServerMessage) -> &'static str {
    match message {
        ServerMessage::VideoSet { .. } => "VideoSet",
        ServerMessage::Frame { .. } => "Frame",
        ServerMessage::FrameError { .. } => "FrameError",
        ServerMessage::Index(_) => "Index",
        ServerMessage::Stats(_) => "Stats",
        ServerMessage::Error { .. } => "Error",
    }
}
