//! The routes, and the server's start and end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, FromRef, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::Engine;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::Instrument;

use crate::access::{Access, Visit};
use crate::clock;
use crate::door::{Door, DoorConfig, Tls};
use crate::exchange::{self, Refusal, RequestId};
use crate::http::{self, HttpConfig};
use crate::limits::Limits;
use crate::metrics::{self, Metrics, Scrape};
use crate::outbox::Outboxes;
use crate::rates::{Pace, Rates};
use crate::ready::Ready;
use crate::session::{self, Given};
use crate::viewer;
use crate::who::Who;

/// What tells the server to stop. To be had before anybody is told that it serves: a signal that comes
/// earlier ends the process at once.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?,
        })
    }
}

/// How what is served is served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) signals: Signals,
    pub(crate) door: DoorConfig,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) limits: Limits,
    pub(crate) http: HttpConfig,
    /// Where the metrics are served alone.
    pub(crate) metrics_addr: Option<String>,
}

#[derive(Clone)]
struct App {
    engine: Engine,
    access: Access,
    limits: Limits,
    outboxes: Arc<Outboxes>,
    metrics: Arc<Metrics>,
    /// One permit for each session that may still begin.
    room: Arc<Semaphore>,
    ready: Arc<Ready>,
    rates: Arc<Rates>,
    /// Turns true when the server is to stop.
    stop: watch::Receiver<bool>,
    /// Each session holds it; when nobody does, none runs.
    running: mpsc::WeakSender<()>,
}

impl FromRef<App> for Access {
    fn from_ref(app: &App) -> Self {
        app.access.clone()
    }
}

/// Serves until SIGTERM or SIGINT. Then `/ready` fails, and after the door's delay no new request is
/// taken; what was asked for is finished as far as its time goes, sessions are told to connect
/// again, and this returns. A second signal ends at once.
pub(crate) async fn run(
    listener: TcpListener,
    engine: Engine,
    access: Access,
    config: Served,
) -> anyhow::Result<()> {
    let limits = config.limits;
    let (tell_stop, stop) = watch::channel(false);
    let (running, mut all_ended) = mpsc::channel(1);
    let ready = Ready::new(engine.clone());
    let rates = Rates::new(limits.messages_per_second, limits.frames_per_second);
    let metrics = Metrics::new();
    let outboxes = Outboxes::new(limits.outbox_bytes_in_all);
    let scrape = Scrape::of(&metrics, &engine, &outboxes, limits.sessions);
    let figures = match &config.metrics_addr {
        Some(address) => {
            metrics::on_its_own(address, scrape, stop.clone()).await?;
            Router::new()
        }
        None => metrics::router(scrape, access.clone()),
    };
    let by_url = http::router(
        engine.clone(),
        access.clone(),
        &config.http,
        Arc::clone(&rates),
        Arc::clone(&metrics),
        stop.clone(),
    );
    let app = App {
        engine,
        access,
        limits,
        outboxes,
        metrics: Arc::clone(&metrics),
        room: Arc::new(Semaphore::new(limits.sessions)),
        ready: Arc::clone(&ready),
        rates,
        stop: stop.clone(),
        running: running.downgrade(),
    };
    let router = Router::new()
        .route("/health", get(async || "ok"))
        .route(
            "/ready",
            get(async |State(app): State<App>| app.ready.answer().await),
        )
        .route("/ws", get(websocket))
        .merge(viewer::routes())
        .with_state(app)
        .merge(by_url)
        .merge(figures)
        .layer(axum::middleware::from_fn_with_state(
            metrics,
            exchange::watched,
        ));
    if let Some(tls) = &config.tls {
        let fresh = Arc::clone(tls).keep_fresh();
        tokio::spawn(async {
            if let Err(error) = fresh.await {
                tracing::error!(%error, "a new certificate will not be noticed");
            }
        });
    }
    tokio::spawn(clock::watch());
    let door = Door::new(&config.door, config.tls, router, stop);
    let Signals {
        mut terminate,
        mut interrupt,
    } = config.signals;
    let mut open = tokio::spawn(door.open(listener, running));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut open => return ended.context("the server ended"),
    }
    tracing::info!("stopping");
    ready.leave();
    let rest = async {
        tokio::time::sleep(config.door.drain_delay).await;
        tell_stop.send_replace(true);
        // A session has a time for its frames, and one for its last bytes.
        let patience = limits.drain + limits.grace + Duration::from_secs(1);
        let all_ended = async { while all_ended.recv().await.is_some() {} };
        tokio::time::timeout(patience, all_ended).await.is_ok()
    };
    tokio::select! {
        all = rest => match all {
            true => tracing::info!("stopped"),
            false => tracing::warn!("stopped with sessions still open"),
        },
        _ = terminate.recv() => tracing::warn!("stopped at once"),
        _ = interrupt.recv() => tracing::warn!("stopped at once"),
    }
    open.abort();
    Ok(())
}

async fn websocket(
    Visit { guest, protocols }: Visit,
    upgrade: WebSocketUpgrade,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    State(app): State<App>,
) -> Response {
    let Ok(place) = Arc::clone(&app.room).try_acquire_owned() else {
        app.metrics.session_refused();
        return too_many_sessions(app.limits.sessions);
    };
    // It is gone where the server stops: then the session ends as soon as it has begun.
    let running = app.running.upgrade();
    let pace = Pace {
        rates: Arc::clone(&app.rates),
        who: Who::of(guest.caller(), client.ip()),
    };
    let id = RequestId::current();
    let session = id.as_ref().map(RequestId::as_str);
    let span = tracing::info_span!("session", session, %client, caller = guest.caller().name());
    upgrade
        .protocols(protocols)
        .max_message_size(app.limits.transport_bytes())
        .max_frame_size(app.limits.transport_bytes())
        .on_upgrade(move |socket| {
            let App {
                engine,
                limits,
                outboxes,
                metrics,
                stop,
                ..
            } = app;
            let given = Given {
                engine,
                guest,
                limits,
                pace,
                outboxes,
                metrics,
                stop,
            };
            let session = session::run(socket, given);
            async move {
                session.instrument(span).await;
                drop((place, running));
            }
        })
}

/// Told before the upgrade, so that every HTTP client and balancer understands it.
fn too_many_sessions(most: usize) -> Response {
    const SECONDS: &str = "1";
    const CODE: &str = "too_many_sessions";
    let why = format!("this server takes {most} at the same time");
    let text = format!("{CODE}: {why}\n");
    let headers = [(RETRY_AFTER, SECONDS)];
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, headers, text).into_response();
    response
        .extensions_mut()
        .insert(Refusal { code: CODE, why });
    response
}
