//! The log: to standard error, for people or as JSON, a line for each event. And spans, to a
//! collector, where one is named.

use std::io::IsTerminal as _;

use anyhow::{Context as _, bail};
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// How the log is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum LogFormat {
    /// For people on a terminal, else as JSON.
    #[default]
    Auto,
    Human,
    Json,
}

impl LogFormat {
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "auto" => Self::Auto,
            "human" => Self::Human,
            "json" => Self::Json,
            other => bail!("--log-format must be auto, human or json, but is {other}"),
        })
    }

    fn is_json(self, terminal: bool) -> bool {
        self == Self::Json || (self == Self::Auto && !terminal)
    }
}

/// Held while the program runs; when it is dropped, spans that wait are sent.
#[derive(Debug)]
pub(crate) struct Log {
    #[cfg(feature = "otel")]
    _traces: Option<crate::trace::Traces>,
}

/// `RUST_LOG` wins over the configured level. `collector`: where spans are sent.
pub(crate) fn start(
    level: &str,
    format: LogFormat,
    collector: Option<&str>,
) -> anyhow::Result<Log> {
    let (filter, source) = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => (filter, "RUST_LOG"),
        _ => (level.to_owned(), "--log-level"),
    };
    let filter = EnvFilter::try_new(&filter)
        .with_context(|| format!("{source} \"{filter}\" is not a log filter"))?;
    #[cfg(feature = "otel")]
    if let Some(collector) = collector {
        let traces = crate::trace::Traces::to(collector)?;
        // The log's level is the log's alone.
        tracing_subscriber::registry()
            .with(writer(format).with_filter(filter))
            .with(traces.layer())
            .init();
        let _traces = Some(traces);
        return Ok(Log { _traces });
    }
    #[cfg(not(feature = "otel"))]
    if collector.is_some() {
        bail!("--otlp-endpoint needs a program that was built with the feature otel");
    }
    tracing_subscriber::registry()
        .with(filter)
        .with(writer(format))
        .init();
    Ok(Log {
        #[cfg(feature = "otel")]
        _traces: None,
    })
}

fn writer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let terminal = std::io::stderr().is_terminal();
    let log = fmt::layer::<S>().with_writer(std::io::stderr);
    match format.is_json(terminal) {
        true => log
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .boxed(),
        false => log.with_ansi(terminal).boxed(),
    }
}
