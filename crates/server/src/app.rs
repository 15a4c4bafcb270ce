//! The HTTP side: routes, and the server's start and end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use engine::Engine;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::Instrument;

use crate::exchange::{self, Refusal, RequestId};
use crate::http::{self, HttpConfig};
use crate::limits::Limits;
use crate::metrics::{self, Metrics, Scrape};
use crate::outbox::Outboxes;
use crate::session;
use crate::viewer;

#[derive(Clone)]
struct App {
    engine: Engine,
    limits: Limits,
    outboxes: Arc<Outboxes>,
    metrics: Arc<Metrics>,
    /// One permit for each session that may still begin.
    room: Arc<Semaphore>,
    /// Turns true when the server is to stop.
    stop: watch::Receiver<bool>,
    /// Each session holds a clone; when all are dropped, none runs.
    running: mpsc::Sender<()>,
}

/// Serves until SIGTERM or SIGINT. Then no new connection is taken, sessions finish what was
/// asked of them as far as their grace goes, and this returns. A second signal ends at once.
pub(crate) async fn run(
    listener: TcpListener,
    engine: Engine,
    limits: Limits,
    http: &HttpConfig,
    metrics_addr: Option<&str>,
) -> anyhow::Result<()> {
    let (tell_stop, stop) = watch::channel(false);
    let (running, mut all_ended) = mpsc::channel(1);
    let metrics = Metrics::new();
    let outboxes = Outboxes::new(limits.outbox_bytes_in_all);
    let scrape = Scrape::of(&metrics, &engine, &outboxes, limits.sessions);
    let figures = match metrics_addr {
        Some(address) => {
            metrics::on_its_own(address, scrape, stop.clone()).await?;
            Router::new()
        }
        None => metrics::router(scrape),
    };
    let by_url = http::router(engine.clone(), http, Arc::clone(&metrics), stop.clone());
    let app = App {
        engine,
        limits,
        outboxes,
        metrics: Arc::clone(&metrics),
        room: Arc::new(Semaphore::new(limits.sessions)),
        stop: stop.clone(),
        running,
    };
    let router = Router::new()
        .route("/health", get(async || "ok"))
        .route("/ws", get(websocket))
        .merge(viewer::routes())
        .with_state(app)
        .merge(by_url)
        .merge(figures)
        .layer(axum::middleware::from_fn_with_state(
            metrics,
            exchange::watched,
        ))
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = listener.tap_io(|connection| {
        // A frame's last packet must not wait for the acknowledgement of the one before.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
    });
    let mut stopping = stop;
    let mut server = tokio::spawn(
        axum::serve(listener, router)
            .with_graceful_shutdown(async move {
                stopping.wait_for(|stop| *stop).await.ok();
            })
            .into_future(),
    );
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut server => return ended.context("the server ended")?.context("the server ended"),
    }
    tracing::info!("stopping");
    tell_stop.send_replace(true);
    let rest = async {
        // Its end drops the router's clone of `running`.
        (&mut server).await.ok();
        while all_ended.recv().await.is_some() {}
    };
    // A session has its grace twice: for its frames, and for its last bytes.
    let patience = limits.grace * 2 + Duration::from_secs(1);
    tokio::select! {
        () = rest => tracing::info!("stopped"),
        () = tokio::time::sleep(patience) => tracing::warn!("stopped with sessions still open"),
        _ = terminate.recv() => tracing::warn!("stopped at once"),
        _ = interrupt.recv() => tracing::warn!("stopped at once"),
    }
    Ok(())
}

async fn websocket(
    upgrade: WebSocketUpgrade,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    State(app): State<App>,
) -> Response {
    let Ok(place) = Arc::clone(&app.room).try_acquire_owned() else {
        app.metrics.session_refused();
        return too_many_sessions(app.limits.sessions);
    };
    let id = RequestId::current();
    let session = id.as_ref().map(RequestId::as_str);
    let span = tracing::info_span!("session", session, %client);
    upgrade
        .max_message_size(app.limits.transport_bytes())
        .max_frame_size(app.limits.transport_bytes())
        .on_upgrade(move |socket| {
            let running = app.running;
            let session = session::run(
                socket,
                app.engine,
                app.limits,
                app.outboxes,
                app.metrics,
                app.stop,
            );
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
