//! One client that asks for frames, alone and beside a thousand connections that mean no good: rubbish,
//! slow and large heads, bodies, messages. Each that the server ends comes back.

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::mob::{self, Mob};

use crate::client::{Client, Options};
use crate::clips::Structure;
use crate::report::{Goal, Plot, Report, Row, number};
use crate::server::Setup;
use crate::stats::{median, quantile};
use crate::work::{Bench, any_frame, ms, shows};

const BAD: usize = 1000;

/// p95 beside them as a multiple of p95 without, turn by turn.
pub(crate) async fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    report.begin("door", "random frames beside 1,000 bad connections")?;
    mob::raise_open_files();
    let clip = bench.clip(1080, Structure::Default)?;
    let name = bench.shelf.put(clip, 1)?.remove(0);
    let mut random = bench.random.clone();
    // Each frame is decoded anew: nothing but the door differs.
    let server = Setup::COLD.start(&bench.shelf)?;
    let (rounds, frames) = if bench.quick { (3, 40) } else { (5, 80) };
    let mut client = Client::open(&server.websocket(), &name).await?;
    let (mut alone, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut order = Vec::new();
        for _ in 0..frames {
            order.push(any_frame(&mut random, clip)?);
        }
        let mut times = [Vec::new(), Vec::new()];
        for (bad, times) in [0, BAD].into_iter().zip(&mut times) {
            let mob = Mob::start(server.address(), bad, true);
            // Until all are there.
            tokio::time::sleep(Duration::from_secs(if bad > 0 { 3 } else { 0 })).await;
            for &frame in &order {
                let (time, image) = client.frame_as(frame, &Options::default()).await?;
                ensure!(shows(&image, frame.number), "a wrong picture");
                times.push(ms(time));
            }
            drop(mob);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let [without, with] = times;
        ratios.push(quantile(&with, 0.95) / quantile(&without, 0.95));
        alone.extend(without);
        beside.extend(with);
    }
    let (p95, ratio) = (quantile(&beside, 0.95), median(&ratios));
    let row = Row::new(
        "a frame beside 1,000 bad connections, p95",
        &clip.name,
        p95,
        "ms",
    )
    .ratio(
        ratio,
        format!(
            "the same frames alone ({} ms)",
            number(quantile(&alone, 0.95))
        ),
    )
    .goal(Goal::at_most(ratio, 1.5, "of it alone"))
    .note(format!(
        "{} frames each way, all right; who makes the connections shares the cores with the server",
        beside.len()
    ));
    report.row(row)?;
    let mut plot = Plot::distributions(format!("A frame, {}", clip.name), "ms");
    plot.distribution("alone", &alone);
    plot.distribution("beside 1,000 bad connections", &beside);
    report.plots.push(plot);
    Ok(())
}
