//! Spans, sent to an OpenTelemetry collector by OTLP over HTTP (the cargo feature `otel`).
//!
//! They are those of the log: one for each HTTP request, session and message, and one for each run
//! of a stage. What a collector does not take is lost, and nobody waits for it.

use anyhow::Context as _;
use axum::http::HeaderMap;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

const NAME: &str = "bucket-streamer";
/// Whose spans are sent: not those of the libraries that send them.
const OURS: [&str; 5] = ["bucket_streamer", "engine", "storage", "codec", "media"];

/// The way to the collector, until it is dropped: then what waits is sent.
#[derive(Debug)]
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// To the collector at `http://HOST:PORT`.
    pub(crate) fn to(endpoint: &str) -> anyhow::Result<Self> {
        let address = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(address)
            .build()
            .with_context(|| format!("--otlp-endpoint {endpoint} cannot be used"))?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder()
            .with_service_name(NAME)
            .with_attribute(version)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        global::set_text_map_propagator(TraceContextPropagator::new());
        Ok(Self(provider))
    }

    /// What listens to spans.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let ours = OURS.map(|target| (target, Level::DEBUG));
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer(NAME))
            .with_filter(Targets::new().with_targets(ours))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Makes a span part of the trace that a request names (`traceparent`), if it names one.
pub(crate) fn go_on(span: &tracing::Span, headers: &HeaderMap) {
    if headers.contains_key("traceparent") {
        let extractor = HeaderExtractor(headers);
        let context = global::get_text_map_propagator(|propagator| propagator.extract(&extractor));
        // Where nothing listens to the span, there is nothing to go on with.
        span.set_parent(context).ok();
    }
}
