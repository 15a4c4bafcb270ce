//! bucket-streamer: any single frame of an H.265 video in a bucket, exact, over WebSocket.

mod address;
mod answer;
mod app;
mod byte_size;
mod config;
mod due;
mod duration;
mod exchange;
mod executor;
mod forward;
mod health;
mod http;
mod limits;
mod listing;
mod log;
mod metrics;
mod outbox;
mod session;
mod tally;
#[cfg(feature = "otel")]
mod trace;
mod viewer;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use engine::Engine;

use crate::config::{Args, Config};

fn main() -> ExitCode {
    let args = Args::parse();
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may be turned off; a start that fails is told in any case.
            eprintln!("bucket-streamer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> anyhow::Result<()> {
    let only_ask = args.health;
    let config = Config::resolve(args)?;
    if only_ask {
        return health::ask(&config.listen_addr);
    }
    let collector = config.otlp_endpoint.as_deref();
    // To the end: then the last spans are sent.
    let _log = log::start(&config.log_level, config.log_format, collector)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("network")
        .build()
        .context("cannot start the network threads")?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let store = config.open_store()?;
    let engine = Engine::new(store, config.engine).await?;
    let listener = tokio::net::TcpListener::bind(&config.listen_addr)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen_addr))?;
    let address = listener.local_addr().context("cannot tell the address")?;
    tracing::info!(%address, storage = %config.storage, "serving");
    // The only line on stdout: what started this program can wait for it.
    let mut stdout = std::io::stdout().lock();
    let told = writeln!(stdout, "listening on http://{address}").and_then(|()| stdout.flush());
    drop(stdout);
    if let Err(error) = told {
        tracing::warn!(%error, "nobody reads stdout");
    }
    let metrics_addr = config.metrics_addr.as_deref();
    app::run(listener, engine, config.limits, &config.http, metrics_addr).await
}
