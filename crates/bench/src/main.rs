//! `make bench`: the server as a program, against the least that its work can cost on this machine
//! (the same decoder and encoder alone, in this process) and against others that give frames.
//!
//! What is compared is measured turn by turn, so that other load on the machine hits both alike;
//! a ratio is the median over such neighbours. Each measurement is a module of `work`.

mod client;
mod clips;
mod limit;
mod machine;
mod page;
mod peers;
mod pictures;
mod report;
mod server;
mod stats;
mod work;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::report::Report;
use crate::work::{Bench, Section};

/// Measures the server; writes DIR/report.json and DIR/report.html.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Args {
    /// A few minutes: fewer clips, fewer repetitions
    #[arg(long)]
    quick: bool,

    /// Only these measurements
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Section>,

    /// Where the report goes
    #[arg(long, value_name = "DIR", default_value = "bench/out")]
    out: PathBuf,

    /// The Python environment of `make bench-peers`
    #[arg(long, value_name = "DIR", default_value = "bench/peers")]
    peers: PathBuf,

    /// Minutes of random work while the server's memory is watched [default: 2; half a minute
    /// with --quick]
    #[arg(long, value_name = "N")]
    memory_minutes: Option<f64>,

    /// Make the clips and measure nothing
    #[arg(long)]
    clips: bool,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime
        .context("cannot start the network thread")
        .and_then(|runtime| runtime.block_on(run(Args::parse())));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    let mut bench = Bench::new(args.quick, &args.out, &args.peers, args.memory_minutes)?;
    if args.clips {
        return Ok(());
    }
    let mut report = Report {
        environment: machine::describe(),
        ..Report::default()
    };
    bench.tell_peers(&mut report);
    let mut out = std::io::stdout();
    for (name, value) in &report.environment {
        writeln!(out, "{name}: {value}")?;
    }
    for section in Section::ALL {
        if args.only.is_empty() || args.only.contains(&section) {
            section.run(&mut bench, &mut report).await?;
        }
    }
    let (json, html) = (args.out.join("report.json"), args.out.join("report.html"));
    fs::write(&json, serde_json::to_string_pretty(&report)?)?;
    fs::write(&html, page::html(&report)?)?;
    let (met, all) = report.goals();
    writeln!(out, "\n{met} of {all} goals are met")?;
    writeln!(out, "{}\n{}", json.display(), html.display())?;
    Ok(())
}
