//! bucket-streamer: any single frame of an H.265 video in a bucket, exact, over WebSocket and HTTP.
//! The program is [`main`]. It is a library so that what it does with what strangers send can be
//! fuzzed without a network.

mod access;
mod address;
mod answer;
mod app;
mod byte_size;
mod clock;
mod config;
mod door;
mod due;
mod duration;
mod exchange;
mod executor;
mod forward;
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod http;
mod limits;
mod listing;
mod log;
mod metrics;
mod outbox;
mod rates;
mod ready;
mod session;
mod tally;
#[cfg(feature = "otel")]
mod trace;
mod viewer;
mod who;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use engine::Engine;

use crate::access::Access;
use crate::app::{Served, Signals};
use crate::config::{Args, Config};
use crate::door::Tls;

/// The program: reads its arguments, and serves until it is told to stop.
pub fn main() -> ExitCode {
    // Before anything else is there: this process is to have nothing but what decoding needs.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == config::DECODE_WORKER)
    {
        return engine::decode_worker();
    }
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
        return health::ask(&config.listen_addr, config.door.tls.is_some());
    }
    let collector = config.otlp_endpoint.as_deref();
    // To the end: then the last spans are sent.
    let _log = log::start(&config.log_level, config.log_format, collector)?;
    door::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("network")
        .build()
        .context("cannot start the network threads")?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let tls = config.door.tls.as_ref().map(Tls::open).transpose()?;
    let store = config.open_store()?;
    let engine = Engine::new(store, config.engine).await?;
    let access = Access::open(&config.access, engine.store())?;
    let listener = door::listen(&config.listen_addr)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen_addr))?;
    let address = listener.local_addr().context("cannot tell the address")?;
    access.check_start(config.access.required, address)?;
    access.keep_up()?;
    let signals = Signals::new()?;
    tracing::info!(%address, storage = %config.storage, "serving");
    // The only line on stdout: what started this program can wait for it.
    let mut stdout = std::io::stdout().lock();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let told = writeln!(stdout, "listening on {scheme}://{address}").and_then(|()| stdout.flush());
    drop(stdout);
    if let Err(error) = told {
        tracing::warn!(%error, "nobody reads stdout");
    }
    let served = Served {
        signals,
        door: config.door,
        tls,
        limits: config.limits,
        http: config.http,
        metrics_addr: config.metrics_addr,
    };
    app::run(listener, engine, access, served).await
}
