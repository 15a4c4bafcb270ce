//! Spans as they reach a collector: a small one, which speaks the real protocol.
#![cfg(feature = "otel")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[allow(dead_code, reason = "each test file uses its part")]
mod common;
#[allow(dead_code, reason = "each test file uses its part")]
mod web;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use common::{Backend, Client, folder_with, offsets};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use testkit::programs::Server;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use web::Web;

const BACKEND: Backend = Backend::Folder;

/// What a collector was sent.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

impl Collected {
    /// Collects at the address that it gives.
    async fn start() -> (Self, String) {
        let collected = Self::default();
        let take = async |State(Collected(all)): State<Collected>, body: Bytes| {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            all.lock().unwrap().push(request);
            // An empty answer says that all was taken.
            Bytes::new()
        };
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(collected.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        (collected, address)
    }

    fn spans(&self) -> Vec<Span> {
        let all = self.0.lock().unwrap();
        let resources = all.iter().flat_map(|r| &r.resource_spans);
        let scopes = resources.flat_map(|r| &r.scope_spans);
        scopes.flat_map(|s| s.spans.clone()).collect()
    }

    /// The first span for which that holds, as soon as it is there.
    async fn wait(&self, holds: impl Fn(&Span) -> bool) -> Span {
        loop {
            if let Some(span) = self.spans().into_iter().find(&holds) {
                return span;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test]
async fn requests_and_stages_are_spans_of_their_callers_traces() {
    let (collected, address) = Collected::start().await;
    let folder = folder_with(&["closed_gop"]);
    let data = folder.path().join("data");
    let arguments = [
        "--local-path",
        data.to_str().unwrap(),
        "--otlp-endpoint",
        &address,
    ];
    let server = Server::start_with(arguments, |c| {
        c.env("OTEL_BSP_SCHEDULE_DELAY", "50");
    });
    let server = server.unwrap();
    let web = Web::of(&server);
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let traceparent = format!("00-{trace}-{parent}-01");
    let path = "/v1/videos/closed_gop.h265/frame.jpg?frame=3&sig=hunter2";
    let headers = [
        ("traceparent", traceparent.as_str()),
        ("x-request-id", "it"),
    ];
    assert_eq!(web.get_with(path, &headers).await.status, 200);
    let http = collected
        .wait(|s| s.name == "http" && hex(&s.trace_id) == trace)
        .await;
    assert_eq!(hex(&http.parent_span_id), parent);
    let told = format!("{:?}", http.attributes);
    assert!(
        told.contains("\"frame\"") && told.contains("\"it\""),
        "{told}"
    );
    // What its frame waited for is of the same trace; what many share has traces of its own.
    collected
        .wait(|s| s.name == "queue" && hex(&s.trace_id) == trace)
        .await;
    for stage in ["fetch", "plan", "decode", "convert", "encode"] {
        collected.wait(|s| s.name == stage).await;
    }

    let mut request = server.websocket().into_client_request().unwrap();
    let other = "1bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{other}-{parent}-01");
    request
        .headers_mut()
        .insert("traceparent", traceparent.parse().unwrap());
    let (socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let mut client = Client { socket };
    client.set_video("closed_gop.h265").await;
    client.request(&offsets("closed_gop")[..2]).await;
    client.replies(2).await;
    drop(client);
    let session = collected.wait(|s| s.name == "session").await;
    assert_eq!(hex(&session.trace_id), other);
    let message = collected.wait(|s| s.name == "request").await;
    assert_eq!(message.parent_span_id, session.span_id);
    let sent = collected.wait(|s| s.name == "send").await;
    assert_eq!(hex(&sent.trace_id), other);
    let everything = format!("{:?}", collected.0.lock().unwrap());
    assert!(!everything.contains("hunter2"));
    assert!(
        everything.contains("\"bucket-streamer\""),
        "the service's name"
    );
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_nothing() {
    let folder = folder_with(&["closed_gop"]);
    let data = folder.path().join("data");
    let arguments = [
        "--local-path",
        data.to_str().unwrap(),
        "--otlp-endpoint",
        "http://127.0.0.1:9",
    ];
    let server = Server::start(arguments).unwrap();
    let web = Web::of(&server);
    let path = "/v1/videos/closed_gop.h265/frame.jpg?frame=3";
    assert_eq!(web.get(path).await.status, 200);
}
