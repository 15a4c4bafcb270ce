//! The first frames of a clip, a whole GOP of them, in order, through a server as it comes, started anew for each pass:
//! ten frames a message, one a message, and one a message backwards.

use std::time::Instant;

use anyhow::Result;
use testkit::programs::Server;

use crate::client::Client;
use crate::clips::{Clip, Structure};
use crate::limit::{self, Frame};
use crate::report::{Goal, Report, Row, number};
use crate::server::Setup;
use crate::stats::{median, paired};
use crate::work::{Bench, shows};

/// Frames of one pass: a whole GOP.
const FRAMES: u32 = 250;

/// Every so many frames the picture is looked at.
const LOOK: u32 = 10;

/// The server's three ways, and the peers' one.
pub(crate) async fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    report.begin("sequential", "the first 250 frames of a clip in order")?;
    let kinds: &[(usize, Structure)] = if bench.quick {
        &[(1080, Structure::Default)]
    } else {
        &[
            (720, Structure::Default),
            (1080, Structure::Default),
            (1080, Structure::Converted),
        ]
    };
    for &(lines, structure) in kinds {
        let rounds = if bench.quick { 2 } else { 3 };
        bench.clip(lines, structure)?;
        one(bench, report, (lines, structure), rounds).await?;
    }
    Ok(())
}

/// Frames a second of each round, and how many of the pictures that were looked at were wrong.
#[derive(Default)]
struct Rates {
    values: Vec<f64>,
    wrong: usize,
}

async fn one(
    bench: &mut Bench,
    report: &mut Report,
    (lines, structure): (usize, Structure),
    rounds: usize,
) -> Result<()> {
    let (mut least, mut tens) = (Vec::new(), Rates::default());
    let (mut ones, mut backwards) = (Rates::default(), Rates::default());
    let mut peers: Vec<(&'static str, Rates)> = Vec::new();
    for round in 0..rounds {
        let clip = bench.clip(lines, structure)?;
        let name = bench.shelf.put(clip, 1)?.remove(0);
        let frames = clip.source.frames();
        let frames = frames.get(..FRAMES as usize).unwrap_or(frames);
        least.push(limit::sequential(&clip.source, FRAMES)?);
        walk(&mut tens, bench, &name, frames.iter().copied(), 10).await?;
        walk(&mut ones, bench, &name, frames.iter().copied(), 1).await?;
        if structure == Structure::Default {
            walk(
                &mut backwards,
                bench,
                &name,
                frames.iter().rev().copied(),
                1,
            )
            .await?;
        }
        if round > 0 || structure != Structure::Default {
            continue;
        }
        let Bench {
            clips,
            peers: others,
            ..
        } = bench;
        let Some(clip) = clips
            .iter()
            .find(|c| c.lines == lines && c.structure == structure)
        else {
            continue;
        };
        for peer in others {
            peer.open(clip)?;
            let (rate, count, images) = peer.all(FRAMES as usize, LOOK)?;
            let expected = (0u32..).step_by(LOOK as usize).zip(&images);
            let mut wrong = expected.filter(|(n, image)| !shows(image, *n)).count();
            wrong += usize::from(count != FRAMES as usize);
            let values = vec![rate];
            // It is asked for one frame after the other here, without any seeking.
            let name = peer.name.trim_end_matches(" -ss");
            peers.push((name, Rates { values, wrong }));
        }
    }
    let clip = bench.clip(lines, structure)?;
    rows(report, clip, &least, &tens, &ones, &backwards, &peers)
}

async fn walk(
    rates: &mut Rates,
    bench: &Bench,
    name: &str,
    frames: impl Iterator<Item = Frame>,
    batch: usize,
) -> Result<()> {
    let server: Server = Setup::default().start(&bench.shelf)?;
    let mut client = Client::open(&server.websocket(), name).await?;
    let frames: Vec<Frame> = frames.collect();
    let mut kept = Vec::new();
    let begin = Instant::now();
    for some in frames.chunks(batch) {
        let images = client.batch(some).await?;
        kept.extend(images.into_iter().filter(|(n, _)| n % i64::from(LOOK) == 0));
    }
    rates
        .values
        .push(frames.len() as f64 / begin.elapsed().as_secs_f64());
    rates.wrong += kept
        .iter()
        .filter(|(n, image)| u32::try_from(*n).map_or(true, |n| !shows(image, n)))
        .count();
    Ok(())
}

fn rows(
    report: &mut Report,
    clip: &Clip,
    least: &[f64],
    tens: &Rates,
    ones: &Rates,
    backwards: &Rates,
    peers: &[(&'static str, Rates)],
) -> Result<()> {
    let of = format!("limit ({} frames/s on all cores)", number(median(least)));
    let row = |work: &str, rates: &Rates| {
        let wrong = format!(
            "rounds: {}; of the looked-at wrong: {}",
            rates.values.len(),
            rates.wrong
        );
        Row::new(work, &clip.name, median(&rates.values), "frames/s")
            .ratio(paired(&rates.values, least), of.clone())
            .note(wrong)
    };
    let share = paired(&tens.values, least);
    let mut ten = row("server, 10 frames a message", tens);
    if clip.lines == 1080 {
        ten = ten.goal(Goal::at_least(share, 0.92, "× limit"));
    }
    report.row(ten)?;
    report.row(row("server, 1 frame a message", ones))?;
    if !backwards.values.is_empty() {
        report.row(row("server, 1 frame a message, backwards", backwards))?;
    }
    for (name, rates) in peers {
        report.row(row(name, rates))?;
    }
    let exact = peers.iter().filter(|(_, rates)| rates.wrong == 0);
    let rates = exact.map(|(name, rates)| (median(&rates.values), name));
    if let Some((theirs, name)) = rates.max_by(|a, b| a.0.total_cmp(&b.0)) {
        let ours = median(&tens.values);
        let gain = ours / theirs;
        let of = format!("the rate of {name} ({} frames/s)", number(theirs));
        let mut row = Row::new(
            "server, 10 a message, against the fastest peer",
            &clip.name,
            ours,
            "frames/s",
        )
        .ratio(gain, of);
        if clip.lines == 1080 {
            row = row.goal(Goal::at_least(gain, 1.8, "× fastest peer"));
        }
        report.row(row)?;
    }
    Ok(())
}
