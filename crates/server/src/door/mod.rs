//! The front door: who comes in, how long each may take for what, and how all are seen out.
//!
//! `axum::serve` takes everybody and waits for ever. Here a connection has a place ([`guests`]), a
//! time for its TLS handshake and for each request's head, and ends when it is silent or takes
//! nothing ([`pulse`]). What may be kept open is what the system allows ([`files`]). When the server
//! is to stop, what is in progress is finished; who comes later is told 503.

mod files;
mod guests;
mod manners;
mod pulse;
mod seldom;
mod tls;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};

pub(crate) use self::files::raise as raise_open_files;
use self::guests::{Full, Guest, Guests};
use self::pulse::{Counted, Patience, Pulse, Watched};
use self::seldom::Seldom;
pub(crate) use self::tls::{Tls, TlsFiles};
use crate::who::Who;

/// How connections are taken, and how long each may take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DoorConfig {
    /// Connections at the same time.
    pub(crate) connections: usize,
    /// Of one address; as many as there may be where it is not given.
    pub(crate) connections_per_address: Option<usize>,
    /// For a TLS handshake, and for the head of a request.
    pub(crate) handshake: Duration,
    /// Silence after which a connection ends.
    pub(crate) idle: Duration,
    /// How long everything goes on after a signal to stop, while `/ready` fails.
    pub(crate) drain_delay: Duration,
    /// A certificate and its key.
    pub(crate) tls: Option<TlsFiles>,
}

impl Default for DoorConfig {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: None,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            drain_delay: Duration::ZERO,
            tls: None,
        }
    }
}

/// Streams of one HTTP/2 connection: as many requests at the same time.
const STREAMS: u32 = 128;
/// Bytes of all headers of a request.
const HEADER_BYTES: u32 = 32 << 10;
/// Bytes of HTTP/1 that are read ahead, the head among them.
const READ_AHEAD: usize = 64 << 10;
/// What waits to be sent on one HTTP/2 stream.
const STREAM_BYTES: usize = 256 << 10;
/// So many, for so long at the most, are told that there is no place; others are just closed.
const TURNED_AWAY: usize = 16;
const LINGER: Duration = Duration::from_secs(2);
/// A pause after a connection could not be taken because something has run out.
const PAUSE: Duration = Duration::from_millis(50);
/// A peer that says nothing for so long is asked by TCP whether it is there, so often, so many times.
const TCP_IDLE: Duration = Duration::from_secs(60);
const TCP_INTERVAL: Duration = Duration::from_secs(15);
const TCP_PROBES: u32 = 4;

/// Connections that the system keeps for the server until it takes them. Of more, it lets go without a
/// word, so that peers believe in connections that there are not.
const QUEUE: u32 = 4096;

/// Listens at the first address of this name at which it can be done.
pub(crate) async fn listen(name: &str) -> io::Result<TcpListener> {
    let mut last = None;
    for address in tokio::net::lookup_host(name).await? {
        let listening = || {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(QUEUE)
        };
        match listening() {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("the name has no address")))
}

/// Held by what has to end before the server may.
pub(crate) type Running = mpsc::Sender<()>;

/// Takes connections.
#[derive(Clone)]
pub(crate) struct Door {
    router: TowerToHyperService<Router>,
    http: Builder<TokioExecutor>,
    tls: Option<Arc<Tls>>,
    patience: Patience,
    guests: Arc<Guests>,
    full: Arc<Seldom>,
    /// Places for those who are told that there is no other.
    turned_away: Arc<Semaphore>,
    /// Turns true when the server is to stop.
    stop: watch::Receiver<bool>,
}

impl Door {
    pub(crate) fn new(
        config: &DoorConfig,
        tls: Option<Arc<Tls>>,
        router: Router,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let mut http = Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            // The pulse has its own, which tells silence from slowness.
            .header_read_timeout(None)
            .max_buf_size(READ_AHEAD);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADER_BYTES)
            .max_send_buf_size(STREAM_BYTES)
            .keep_alive_interval(config.idle / 2)
            .keep_alive_timeout(config.idle / 2);
        let connections = files::fitting(config.connections);
        Self {
            router: TowerToHyperService::new(router),
            http,
            tls,
            patience: Patience {
                handshake: config.handshake,
                idle: config.idle,
            },
            guests: Guests::new(connections, config.connections_per_address),
            full: Arc::default(),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
            stop,
        }
    }

    /// Takes connections for ever. `running` is held by each that has something in progress when the
    /// server is to stop, and by nothing of those that come later.
    pub(crate) async fn open(self, listener: TcpListener, running: Running) {
        let mut running = Some(running);
        let mut stop = self.stop.clone();
        let exhausted = Seldom::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop), if running.is_some() => {
                    running = None;
                    continue;
                }
            };
            match accepted {
                Ok((stream, address)) => self.receive(stream, address, running.clone()),
                // It went before it was taken.
                Err(error) if is_of_one_connection(&error) => {
                    tracing::debug!(%error, "a connection was not taken");
                }
                Err(error) => {
                    if let Some(unsaid) = exhausted.say() {
                        tracing::error!(%error, unsaid, "no connection can be taken");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn receive(&self, stream: TcpStream, address: SocketAddr, running: Option<Running>) {
        match self.guests.admit(Who::at(address.ip())) {
            Ok(guest) => {
                tune(&stream);
                tokio::spawn(self.clone().serve(stream, address, guest, running));
            }
            Err(full) => {
                if let Some(unsaid) = self.full.say() {
                    tracing::warn!(client = %address, ?full, unsaid, "a connection was refused");
                }
                // With TLS there are no words for it before the handshake.
                if self.tls.is_none()
                    && let Ok(place) = Arc::clone(&self.turned_away).try_acquire_owned()
                {
                    tokio::spawn(async move {
                        tokio::time::timeout(LINGER, turn_away(stream, full))
                            .await
                            .ok();
                        drop(place);
                    });
                }
            }
        }
    }

    async fn serve(
        self,
        stream: TcpStream,
        address: SocketAddr,
        guest: Guest,
        running: Option<Running>,
    ) {
        let Some(tls) = &self.tls else {
            return self.converse(stream, address, guest, running).await;
        };
        // Who has not even shaken hands has nothing in progress.
        let running = running.map(|running| running.downgrade());
        let shaking = tls.acceptor().accept(stream);
        match tokio::time::timeout(self.patience.handshake, shaking).await {
            Ok(Ok(stream)) => {
                let running = running.and_then(|running| running.upgrade());
                self.converse(stream, address, guest, running).await;
            }
            Ok(Err(error)) => tracing::debug!(client = %address, %error, "no TLS handshake"),
            Err(_) => tracing::debug!(client = %address, "a TLS handshake took too long"),
        }
    }

    /// Speaks HTTP until the connection ends, or is a WebSocket.
    async fn converse<S>(
        self,
        stream: S,
        address: SocketAddr,
        guest: Guest,
        mut running: Option<Running>,
    ) where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let pulse = Arc::new(Pulse::new(self.patience));
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&pulse), guest));
        let desk = Arc::new(Desk {
            router: self.router.clone(),
            address,
            tls: self.tls.is_some(),
            stop: self.stop.clone(),
            pulse: Arc::clone(&pulse),
        });
        let service = service_fn(move |request| Arc::clone(&desk).answer(request));
        let mut conversation = pin!(self.http.serve_connection_with_upgrades(io, service));
        let mut stop = self.stop.clone();
        // Who comes while the server stops is told so, each request anew.
        let mut told = running.is_none();
        loop {
            tokio::select! {
                ended = conversation.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(client = %address, %error, "a connection broke");
                    }
                    return;
                }
                _ = stop.wait_for(|stop| *stop), if !told => {
                    told = true;
                    conversation.as_mut().graceful_shutdown();
                    if !pulse.is_busy() {
                        drop(running.take());
                    }
                }
                () = tokio::time::sleep_until(pulse.next_look()) => {
                    if let Some(end) = pulse.is_over() {
                        tracing::debug!(client = %address, ?end, "a connection was ended");
                        return;
                    }
                }
            }
        }
    }
}

/// One connection's way to the routes.
struct Desk {
    router: TowerToHyperService<Router>,
    address: SocketAddr,
    tls: bool,
    stop: watch::Receiver<bool>,
    pulse: Arc<Pulse>,
}

impl Desk {
    async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Counted<Body>>, Infallible> {
        let work = self.pulse.begin(request.version());
        let mut response = if *self.stop.borrow() && !is_about_the_server(request.uri().path()) {
            stopping()
        } else {
            request.extensions_mut().insert(ConnectInfo(self.address));
            self.router.call(request).await?
        };
        manners::put(response.headers_mut(), self.tls);
        Ok(response.map(|body| Counted::new(body, work)))
    }
}

/// What balancers ask until the end.
fn is_about_the_server(path: &str) -> bool {
    matches!(path, "/health" | "/ready")
}

/// The answer to whoever comes too late.
fn stopping() -> Response<Body> {
    let mut response = Response::new(Body::from("stopping: this server takes no more requests\n"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, text);
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    // HTTP/2 knows no such header; there it is left out.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Says that there is no place, when something was asked.
async fn turn_away(mut stream: TcpStream, full: Full) -> io::Result<()> {
    let text = match full {
        Full::All => "too_many_connections: this server has as many as it takes\n",
        Full::Address => "too_many_connections: this address has as many as it may\n",
    };
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Retry-After: 1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    let mut heard = [0; 1024];
    if stream.read(&mut heard).await? == 0 {
        return Ok(());
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // What comes after a connection is closed would take the answer back.
    while stream.read(&mut heard).await? > 0 {}
    Ok(())
}

/// A frame's last packet must not wait for the acknowledgement of the one before, and a peer whose
/// machine is gone is to be noticed.
fn tune(stream: &TcpStream) {
    use rustix::net::sockopt;
    let tuned = stream.set_nodelay(true).and_then(|()| {
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, TCP_IDLE)?;
        sockopt::set_tcp_keepintvl(stream, TCP_INTERVAL)?;
        Ok(sockopt::set_tcp_keepcnt(stream, TCP_PROBES)?)
    });
    if let Err(error) = tuned {
        tracing::debug!(%error, "a connection's options");
    }
}

/// Whether the error is that of a connection that was to be taken (accept(2)), and not of this
/// process.
fn is_of_one_connection(error: &io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
            | ErrorKind::PermissionDenied
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            | ErrorKind::TimedOut
    )
}
