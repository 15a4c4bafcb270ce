//! bucket-streamer: any single frame of an H.265 video in a bucket, exact, over WebSocket and HTTP.
//! The program is [`main`]. It is a library so that what it does with what strangers send can be
//! fuzzed without a network.

mod address;
mod answer;
mod app;
mod byte_size;
mod config;
mod due;
mod duration;
mod executor;
mod forward;
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod http;
mod limits;
mod listing;
mod outbox;
mod session;
mod tally;
mod viewer;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use engine::Engine;
use tracing_subscriber::EnvFilter;

use crate::config::{Args, Config};

/// The program: reads its arguments, and serves until it is told to stop.
pub fn main() -> ExitCode {
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
    start_log(&config.log_level)?;
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
    app::run(listener, engine, config.limits, &config.http).await
}

/// `RUST_LOG` wins over the configured level.
fn start_log(level: &str) -> anyhow::Result<()> {
    let (filter, source) = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => (filter, "RUST_LOG"),
        _ => (level.to_owned(), "--log-level"),
    };
    let filter = EnvFilter::try_new(&filter)
        .with_context(|| format!("{source} \"{filter}\" is not a log filter"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    Ok(())
}
