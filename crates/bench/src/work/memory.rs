//! The server's memory while clients do random work on 50 videos, with a small cache that is soon
//! full.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::sleep;

use crate::client::Client;
use crate::clips::Structure;
use crate::limit::Frame;
use crate::report::{Goal, Plot, Report, Row, number};
use crate::server::{Setup, is_known, resident};
use crate::stats::median;
use crate::work::Bench;

const VIDEOS: usize = 50;
const CLIENTS: usize = 4;
const CACHE_MIB: u64 = 128;
const MIB: f64 = (1 << 20) as f64;

/// The peak, and whether it goes on growing.
pub(crate) async fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    report.begin("memory", "random work of 4 clients on 50 videos")?;
    let kinds = [
        (480, Structure::Default),
        (1080, Structure::Default),
        (1080, Structure::Converted),
    ];
    let mut videos: Vec<(String, &[Frame])> = Vec::new();
    for (at, (lines, structure)) in kinds.into_iter().enumerate() {
        let clip = bench.clip(lines, structure)?;
        let count = (VIDEOS + at) / kinds.len();
        let names = bench.shelf.put(clip, count)?;
        videos.extend(names.into_iter().map(|name| (name, clip.source.frames())));
    }
    let setup = Setup {
        cache_mib: CACHE_MIB,
        ..Setup::default()
    };
    let server = setup.start(&bench.shelf)?;
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(bench.memory_minutes * 60.0);
    let url = server.websocket();
    let working = try_join_all((0..CLIENTS as u64).map(|seed| work(&url, &videos, seed, end)));
    let watching = async {
        let mut seen = Vec::new();
        while Instant::now() < end {
            sleep(Duration::from_millis(250)).await;
            let now = begin.elapsed().as_secs_f64();
            seen.push((now, resident(&server)? as f64 / MIB));
        }
        Ok(seen)
    };
    let (frames, seen) = futures::future::try_join(working, watching).await?;
    let peak = seen.iter().map(|(_, mib)| *mib).fold(0.0, f64::max);
    let has_cache = is_known("--cache-size");
    let cache = if has_cache { CACHE_MIB as f64 } else { 0.0 };
    let row = Row::new("the server's peak", "", peak, "MiB")
        .ratio(
            peak / cache.max(1.0),
            format!("its cache of {} MiB", number(cache)),
        )
        .goal(Goal::at_most(
            peak,
            cache + 100.0,
            "MiB (the cache and 100)",
        ))
        .note(format!(
            "{} minutes, {} frames, {} videos",
            number(bench.memory_minutes),
            frames.iter().sum::<usize>(),
            videos.len()
        ));
    report.row(row)?;
    let quarter = |n: usize| {
        let part = seen.chunks(seen.len().div_ceil(4).max(1)).nth(n);
        median(
            &part
                .unwrap_or_default()
                .iter()
                .map(|s| s.1)
                .collect::<Vec<_>>(),
        )
    };
    let growth = quarter(3) / quarter(1);
    let mut row = Row::new("the last quarter of the time", "", quarter(3), "MiB").ratio(
        growth,
        format!("the second quarter ({} MiB)", number(quarter(1))),
    );
    // In less time the cache is still being filled.
    row = if bench.memory_minutes >= 2.0 {
        row.goal(Goal::at_most(growth, 1.05, "× (flat)"))
    } else {
        row.note("too short a time to say whether it is flat")
    };
    report.row(row)?;
    report.plots.push(Plot {
        title: "The server's memory".into(),
        x: "seconds",
        y: "MiB",
        log_x: false,
        curves: vec![("resident".into(), seen)],
    });
    Ok(())
}

/// Frames that one client got.
async fn work(url: &str, videos: &[(String, &[Frame])], seed: u64, end: Instant) -> Result<usize> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut client: Option<Client> = None;
    let mut count = 0;
    while Instant::now() < end {
        let (name, frames) = videos.choose(&mut random).context("no videos")?;
        match &mut client {
            Some(client) => client.set_video(name).await?,
            None => client = Some(Client::open(url, name).await?),
        }
        let Some(client) = &mut client else { continue };
        let some: Vec<Frame> = (0..random.random_range(1..6))
            .filter_map(|_| frames.choose(&mut random).copied())
            .collect();
        count += client.batch(&some).await?.len();
    }
    Ok(count)
}
