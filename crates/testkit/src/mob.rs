//! Connections that mean no good: rubbish, requests that never end, messages that are too large.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What a connection does. None goes by itself: each lasts until the server ends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bad {
    /// Says nothing at all.
    Silent,
    /// Sends what is no HTTP.
    Rubbish,
    /// Sends a head a few bytes at a time, for ever (slowloris).
    SlowHead,
    /// Sends a head without an end, as fast as it goes.
    LargeHead,
    /// Sends a body that nobody asked for, a few bytes at a time.
    SlowBody,
    /// Becomes a WebSocket and sends a message without an end.
    LargeMessage,
    /// Begins a TLS handshake and stops there; in clear, that is rubbish.
    HalfHandshake,
}

impl Bad {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Silent,
        Self::Rubbish,
        Self::SlowHead,
        Self::LargeHead,
        Self::SlowBody,
        Self::LargeMessage,
        Self::HalfHandshake,
    ];
}

const DRIP: Duration = Duration::from_millis(250);

/// Makes a connection of this kind, and returns what the server said when it has ended it.
pub async fn suffer(address: &str, bad: Bad) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut from, mut to) = stream.split();
    let mut heard = Vec::new();
    let sending = async {
        // An error: the server has closed already.
        send(&mut to, bad).await.ok();
        std::future::pending::<()>().await;
    };
    let hearing = async {
        let mut buffer = [0; 4096];
        // A reset is an end, too.
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            if heard.len() < 1 << 16 {
                heard.extend_from_slice(buffer.get(..n).unwrap_or_default());
            }
        }
    };
    tokio::select! {
        () = sending => {}
        () = hearing => {}
    }
    Ok(heard)
}

async fn send(to: &mut (impl tokio::io::AsyncWrite + Unpin), bad: Bad) -> std::io::Result<()> {
    const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    match bad {
        Bad::Silent => Ok(()),
        Bad::Rubbish => to.write_all(&[0x55, 0, 0xff, 0x0a].repeat(1024)).await,
        Bad::SlowHead => {
            to.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n").await?;
            drip(to, b"X: y\r\n").await
        }
        Bad::LargeHead => {
            to.write_all(b"GET /health HTTP/1.1\r\nX: ").await?;
            loop {
                to.write_all(&[b'y'; 4096]).await?;
            }
        }
        Bad::SlowBody => {
            let head = b"POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n";
            to.write_all(head).await?;
            drip(to, b"z").await
        }
        Bad::LargeMessage => {
            to.write_all(UPGRADE).await?;
            // A masked text frame of 1 TiB.
            to.write_all(&[0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4])
                .await?;
            loop {
                to.write_all(&[b'y'; 4096]).await?;
                tokio::time::sleep(DRIP).await;
            }
        }
        Bad::HalfHandshake => to.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await,
    }
}

async fn drip(to: &mut (impl tokio::io::AsyncWrite + Unpin), piece: &[u8]) -> std::io::Result<()> {
    loop {
        tokio::time::sleep(DRIP).await;
        to.write_all(piece).await?;
    }
}

/// Many of them at once. Dropped, all are gone.
#[derive(Debug)]
pub struct Mob {
    connections: JoinSet<std::io::Result<()>>,
}

impl Mob {
    /// So many, of all kinds in turn. With `again`, each that was ended comes back, for ever.
    pub fn start(address: &str, count: usize, again: bool) -> Self {
        let mut connections = JoinSet::new();
        for bad in Bad::ALL.into_iter().cycle().take(count) {
            let address = address.to_owned();
            connections.spawn(async move {
                loop {
                    suffer(&address, bad).await?;
                    if !again {
                        return Ok(());
                    }
                    // One that is ended at once does not come back at once.
                    tokio::time::sleep(DRIP).await;
                }
            });
        }
        Self { connections }
    }

    /// Waits until the server has ended all of them, and says how many that were.
    pub async fn ended(&mut self) -> usize {
        let mut ended = 0;
        while let Some(done) = self.connections.join_next().await {
            ended += usize::from(matches!(done, Ok(Ok(()))));
        }
        ended
    }
}

/// Lets this process have as many connections as the system allows.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, all).ok();
}
