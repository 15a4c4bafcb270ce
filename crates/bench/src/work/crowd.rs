//! 1 to 64 clients that ask for random frames, caches and harvest off: first each of a video of its
//! own, so that nobody's work helps another; then 64 of one video, where it may.
//!
//! Of two clients, each has a decoder that stands in its video and may go on from there; of 64, hardly
//! anybody has. So what 64 reach is compared with two who change the video for each frame.

use std::time::Duration;

use anyhow::Result;

use crate::client::Options;
use crate::clips::Structure;
use crate::limit;
use crate::report::{Goal, Plot, Report, Row, number};
use crate::server::Setup;
use crate::stats::{mean, quantile};
use crate::work::many::{Load, load};
use crate::work::{Bench, any_frame};

const MOST: usize = 64;
/// Frames that each client should get, and the seconds that this may take.
const EACH: f64 = 8.0;
const LONGEST: f64 = 60.0;

/// Throughput and shares.
pub(crate) async fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    report.begin(
        "clients",
        "random frames for 1 to 64 clients, caches and harvest off",
    )?;
    let short = if bench.quick { 4.0 } else { 6.0 };
    let steps: &[usize] = if bench.quick {
        &[1, 2, MOST]
    } else {
        &[1, 2, 4, 8, 16, 32, MOST]
    };
    let clip = bench.clip(480, Structure::Default)?;
    let frames = clip.source.frames();
    let mut random = bench.random.clone();
    let closures = (0..40)
        .map(|_| clip.source.closure(any_frame(&mut random, clip)?.number))
        .collect::<Result<Vec<_>>>()?;
    let alone = || limit::random(&clip.source, &closures, Duration::from_secs_f64(short));
    let mut least = vec![alone()?];
    let names = bench.shelf.put(clip, MOST)?;
    let server = Setup::COLD.start(&bench.shelf)?;
    let url = server.websocket();
    let ask = async |videos: Vec<&[String]>, time: Duration| {
        load(&url, &videos, frames, 1, Options::default(), time).await
    };
    // Two who change videos, before and after the others.
    let wander = || {
        ask(
            vec![names.as_slice(); 2],
            Duration::from_secs_f64(2.0 * short),
        )
    };
    let mut wandering = vec![wander().await?.rate];
    let mut measured: Vec<(usize, Load)> = Vec::new();
    for &clients in steps {
        let videos = names.chunks(1).take(clients).collect();
        // So long that some frames come to each.
        let rate = measured.last().map_or(f64::INFINITY, |(_, load)| load.rate);
        let enough = (EACH * clients as f64 / rate).clamp(short, LONGEST);
        let time = Duration::from_secs_f64(enough);
        measured.push((clients, ask(videos, time).await?));
    }
    wandering.push(wander().await?.rate);
    least.push(alone()?);
    let least = mean(&least);
    let of = format!("limit ({} frames/s on all cores)", number(least));
    let rates = |wanted: usize| {
        let of_these = measured.iter().filter(|(clients, _)| *clients == wanted);
        mean(&of_these.map(|(_, load)| load.rate).collect::<Vec<_>>())
    };
    let mut curve: Vec<(f64, f64)> = Vec::new();
    for (clients, load) in &measured {
        curve.push((*clients as f64, load.rate));
        let word = if *clients == 1 { "client" } else { "clients" };
        let row = Row::new(
            format!("{clients} {word}"),
            &clip.name,
            load.rate,
            "frames/s",
        )
        .ratio(load.rate / least, &of)
        .note(format!(
            "p95 {} ms",
            number(quantile(&load.latencies, 0.95))
        ));
        report.row(row)?;
    }
    let (all, two, elsewhere) = (rates(MOST), rates(2), mean(&wandering));
    let row = Row::new(
        "2 clients, each frame of another video",
        &clip.name,
        elsewhere,
        "frames/s",
    )
    .ratio(elsewhere / least, &of);
    report.row(row)?;
    let gain = all / elsewhere;
    let row = Row::new("64 clients against 2", &clip.name, all, "frames/s")
        .ratio(
            gain,
            format!(
                "2 clients, each frame of another video ({} frames/s)",
                number(elsewhere)
            ),
        )
        .goal(Goal::at_least(gain, 0.95, "× that of 2 clients"))
        .note(format!(
            "{} of 2 clients who stay with their videos, whose decoders go on",
            number(all / two)
        ));
    report.row(row)?;
    if let Some((_, load)) = measured.iter().find(|(clients, _)| *clients == MOST) {
        let share = load.least_share();
        let fewest = load.each.iter().min().copied().unwrap_or(0) as f64;
        let row = Row::new(
            "the client with the fewest frames, of 64",
            &clip.name,
            fewest,
            "frames",
        )
        .ratio(share, "mean of all")
        .goal(Goal::at_least(share, 0.5, "× mean"));
        report.row(row)?;
    }
    let one: Vec<&[String]> = names.chunks(1).take(1).cycle().take(MOST).collect();
    let shared = ask(one, Duration::from_secs_f64(short)).await?;
    let row = Row::new(
        "64 clients of one video",
        &clip.name,
        shared.rate,
        "frames/s",
    )
    .ratio(shared.rate / least, &of)
    .note(format!(
        "p95 {} ms; the fewest frames of a client are {} of the mean",
        number(quantile(&shared.latencies, 0.95)),
        number(shared.least_share())
    ));
    report.row(row)?;
    report.plots.push(Plot {
        title: format!("Throughput against clients, {}", clip.name),
        x: "clients",
        y: "frames/s",
        log_x: true,
        curves: vec![
            ("limit".into(), vec![(1.0, least), (MOST as f64, least)]),
            ("server".into(), curve),
        ],
    });
    Ok(())
}
