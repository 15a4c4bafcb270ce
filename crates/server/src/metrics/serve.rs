//! `GET /metrics`: Prometheus' text format.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::Engine;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Metrics;
use super::exposition::Exposition;
use crate::access::{Access, Presented};
use crate::outbox::Outboxes;

/// What all names begin with.
const PREFIX: &str = "bucket_streamer";

/// What a scrape reads.
#[derive(Clone, Debug)]
pub(crate) struct Scrape(Arc<Registry>);

impl Scrape {
    pub(crate) fn of(
        metrics: &Arc<Metrics>,
        engine: &Engine,
        outboxes: &Arc<Outboxes>,
        most_sessions: usize,
    ) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(Exposition {
            metrics: Arc::clone(metrics),
            engine: engine.clone(),
            outboxes: Arc::clone(outboxes),
            most_sessions,
        }));
        Self(Arc::new(registry))
    }
}

/// The route on the server's own listener. The metrics hold no names of videos and of people, but they
/// tell how much is done: where tokens are asked for, any of them shows them, whatever else it shows.
pub(crate) fn router(scrape: Scrape, access: Access) -> Router {
    let guarded = async move |State(scrape): State<Scrape>, request: Parts| {
        let token = match access.is_open() {
            true => Ok(None),
            false => Presented::of_header(&request.headers),
        };
        match token.and_then(|token| access.admit(token.as_ref())) {
            Ok(_) => answer(&scrape),
            Err(refused) => crate::http::refusal(refused),
        }
    };
    Router::new()
        .route("/metrics", get(guarded))
        .with_state(scrape)
}

/// Serves `/metrics`, and nothing else, at an address of its own until `stop` turns true.
pub(crate) async fn on_its_own(
    address: &str,
    scrape: Scrape,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for metrics (--metrics-addr)"))?;
    let address = listener.local_addr().context("cannot tell the address")?;
    tracing::info!(%address, "serving metrics");
    let open = async |State(scrape): State<Scrape>| answer(&scrape);
    let router = Router::new()
        .route("/metrics", get(open))
        .with_state(scrape);
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
        stop.wait_for(|stop| *stop).await.ok();
    });
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    Ok(())
}

fn answer(scrape: &Scrape) -> Response {
    let mut text = String::new();
    if prometheus_text::encode(&mut text, &scrape.0).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let headers = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static(prometheus_text::CONTENT_TYPE),
        ),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, text).into_response()
}
