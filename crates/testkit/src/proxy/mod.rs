//! A proxy between a program and an S3 server: it counts what passes, and does what networks and
//! servers do on a bad day.
//!
//! The program is told the proxy's address as its endpoint, and signs it as `Host`. Requests are
//! handed on with all their headers as they are, so the server behind checks the very signature
//! that the program made (a path-style request is good under any `Host`).
//!
//! Round trips are counted as *waves*. With [`Proxy::gather`] a request is held until nothing
//! more has been asked for a while; then all that are held go on together. Requests that are sent
//! side by side make one wave; one that is sent because of an answer begins the next. So the
//! number of waves is the length of the longest chain of requests that wait for each other, on a
//! fast machine and on a slow one.

mod fault;
mod flow;
mod seen;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

pub use fault::{Fault, Part, Rule, Work};
use flow::Body;
pub use seen::{Asked, Seen, bytes, table, waves};

/// A running proxy; it ends, and cuts all its connections, when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    upstream: String,
    client: Client<HttpConnector, Incoming>,
    state: Mutex<State>,
    /// Waves up to this one go on.
    released: watch::Sender<u32>,
}

#[derive(Default)]
struct State {
    latency: Duration,
    gather: Option<Duration>,
    rules: Vec<Rule>,
    seen: Vec<Seen>,
    /// Requests that have come and are not answered to their last byte, and the most there were.
    at_once: (usize, usize),
    /// Connections that are open, and how many there ever were.
    connections: (usize, usize),
    /// The wave that is being gathered, and when its last request came.
    wave: u32,
    last_asked: Option<Instant>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// A proxy before the server at this endpoint (`http://HOST:PORT`), on a free port of
    /// 127.0.0.1.
    pub fn before(endpoint: &str) -> Result<Self> {
        let upstream = endpoint.strip_prefix("http://").unwrap_or_default();
        ensure!(!upstream.is_empty(), "not an http:// address: {endpoint}");
        // A thread and a runtime of its own: a test that blocks does not stop it.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = {
            // Nothing is waited for: this may be called in a runtime of the test's.
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            client: Client::builder(TokioExecutor::new()).build(connector),
            state: Mutex::new(State {
                wave: 1,
                ..State::default()
            }),
            released: watch::Sender::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let serving = serve(listener, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("proxy".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serving => {}
                        _ = stopped => {}
                    }
                });
            })
            .context("cannot start the proxy's thread")?;
        Ok(Self {
            address,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// `http://127.0.0.1:PORT`: what the program takes for the server.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request from now on is handed on so much later than it came.
    pub fn latency(&self, latency: Duration) {
        self.shared.lock().latency = latency;
    }

    /// From now on requests are held until nothing more has been asked for so long, and then go on
    /// together: see the module.
    pub fn gather(&self, quiet: Duration) {
        self.shared.lock().gather = Some(quiet);
    }

    /// What is to go wrong, besides what earlier rules say. The first rule that fits a request and
    /// has not been used up is its fault.
    pub fn rule(&self, rule: Rule) {
        self.shared.lock().rules.push(rule);
    }

    /// Nothing is to go wrong any more with this key.
    pub fn heal(&self, key: &str) {
        self.shared.lock().rules.retain(|rule| !rule.is_of(key));
    }

    /// Nothing is to go wrong any more.
    pub fn heal_all(&self) {
        self.shared.lock().rules.clear();
    }

    /// How many requests there were so far: a mark for [`Proxy::since`].
    pub fn mark(&self) -> usize {
        self.shared.lock().seen.len()
    }

    /// The requests that came after the mark, in the order in which they came.
    pub fn since(&self, mark: usize) -> Vec<Seen> {
        let state = self.shared.lock();
        state.seen.get(mark..).unwrap_or_default().to_vec()
    }

    /// The most requests that there were at one moment.
    pub fn most_at_once(&self) -> usize {
        self.shared.lock().at_once.1
    }

    /// Requests that are not answered to their last byte.
    pub fn pending(&self) -> usize {
        self.shared.lock().at_once.0
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.lock().connections.0
    }

    /// Connections that there were so far.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections.1
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files pass, or the test fails by itself.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(connection(stream, Arc::clone(&shared)));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let open = Open::new(Arc::clone(&shared));
    let reset = Arc::new(AtomicBool::new(false));
    let line = Line {
        stream,
        reset: Arc::clone(&reset),
    };
    let service = service_fn(|request| pass(Arc::clone(&shared), Arc::clone(&reset), request));
    // An error is a connection that was cut, by a fault or by the program.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(line), service)
        .await;
    drop(open);
}

/// Counts a connection as long as it lives.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: Arc<Shared>) -> Self {
        let mut state = shared.lock();
        state.connections = (state.connections.0 + 1, state.connections.1 + 1);
        drop(state);
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().connections.0 -= 1;
    }
}

/// Counts a request until its last byte has gone, and notes what became of it.
struct Passing {
    shared: Arc<Shared>,
    at: usize,
}

impl Passing {
    fn note(&self, what: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.shared.lock().seen.get_mut(self.at) {
            what(seen);
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.shared.lock().at_once.0 -= 1;
    }
}

/// Why no answer is given.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoAnswer(&'static str);

/// One request's way to the server and back.
async fn pass(
    shared: Arc<Shared>,
    reset: Arc<AtomicBool>,
    request: Request<Incoming>,
) -> Result<Response<Body>, NoAnswer> {
    let asked = Asked::of(&request);
    let (passing, fault, wave, latency) = {
        let mut state = shared.lock();
        let fault = state.rules.iter_mut().find_map(|rule| rule.hit(&asked));
        let wave = state.gather.map(|_| state.wave);
        state.last_asked = Some(Instant::now());
        let at = state.seen.len();
        let name = fault.as_ref().map(Fault::name);
        state.seen.push(Seen::new(asked, wave.unwrap_or(0), name));
        state.at_once.0 += 1;
        state.at_once.1 = state.at_once.1.max(state.at_once.0);
        let passing = Passing {
            shared: Arc::clone(&shared),
            at,
        };
        (passing, fault, wave, state.latency)
    };
    if let Some(wave) = wave {
        go_with(&shared, wave).await;
    }
    sleep(latency).await;
    match &fault {
        Some(Fault::Late(time)) => sleep(*time).await,
        Some(Fault::Meanwhile(work)) => work().await,
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Reset) => {
            reset.store(true, Ordering::Relaxed);
            return Err(NoAnswer("reset"));
        }
        Some(Fault::Refused { status, code }) => {
            let answer = fault::refusal(*status, code);
            passing.note(|seen| seen.status = Some(*status));
            return Ok(answer);
        }
        _ => {}
    }
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
    head.uri = format!("http://{}{path}", shared.upstream)
        .parse::<Uri>()
        .map_err(|_| NoAnswer("not an address"))?;
    let answer = shared.client.request(Request::from_parts(head, body)).await;
    let answer = answer.map_err(|_| NoAnswer("the server behind gave none"))?;
    passing.note(|seen| seen.status = Some(answer.status().as_u16()));
    Ok(flow::answer(answer, fault, passing, reset))
}

/// Waits until this wave goes on. The first of it waits for the others.
async fn go_with(shared: &Arc<Shared>, wave: u32) {
    let mut released = shared.released.subscribe();
    let gathered = async {
        loop {
            let (quiet, last) = {
                let state = shared.lock();
                (state.gather.unwrap_or_default(), state.last_asked)
            };
            let until = last.unwrap_or_else(Instant::now) + quiet;
            if until <= Instant::now() {
                break;
            }
            sleep_until(until).await;
        }
        let mut state = shared.lock();
        if state.wave == wave {
            state.wave += 1;
        }
        drop(state);
        shared.released.send_if_modified(|released| {
            let newer = *released < wave;
            *released = wave.max(*released);
            newer
        });
    };
    tokio::select! {
        _ = released.wait_for(|released| *released >= wave) => {}
        () = gathered => {}
    }
}

/// A connection that can be ended by a reset.
struct Line {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // With nothing to linger for, closing is a reset.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(task, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
