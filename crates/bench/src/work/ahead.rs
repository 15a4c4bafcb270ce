//! One frame after the other, asked for no faster than the video plays: the server has time to make
//! the next ones before they are asked for.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep_until};

use crate::client::Client;
use crate::clips::{RATE, Structure};
use crate::limit;
use crate::report::{Goal, Plot, Report, Row, number};
use crate::server::Setup;
use crate::stats::{median, quantile};
use crate::work::{Bench, ms, shows};

/// Frames of one pass.
const FRAMES: u32 = 120;

/// Latency of every frame but the first.
pub(crate) async fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    report.begin(
        "ahead",
        "one by one in order, slower than the machine decodes",
    )?;
    let clip = bench.clip(1080, Structure::Default)?;
    let rate = limit::sequential(&clip.source, FRAMES)?;
    // No faster than the clip plays; slower where the machine cannot keep up with that.
    let pace = (1.0 / f64::from(RATE)).max(1.5 / rate);
    let name = bench.shelf.put(clip, 1)?.remove(0);
    let mut later = Vec::new();
    let mut wrong = 0;
    let rounds = if bench.quick { 1 } else { 2 };
    for _ in 0..rounds {
        let server = Setup::default().start(&bench.shelf)?;
        let mut client = Client::open(&server.websocket(), &name).await?;
        let mut due = Instant::now();
        for (at, frame) in clip
            .source
            .frames()
            .iter()
            .take(FRAMES as usize)
            .enumerate()
        {
            sleep_until(due).await;
            let (time, image) = client.frame(*frame).await?;
            due = Instant::now().max(due + Duration::from_secs_f64(pace));
            if at > 0 {
                later.push(ms(time));
            }
            if at % 10 == 0 {
                wrong += usize::from(!shows(&image, frame.number));
            }
        }
    }
    let p50 = median(&later);
    let one = 1e3 / rate;
    let row = Row::new("server, after the first frame, p50", &clip.name, p50, "ms")
        .ratio(
            p50 / one,
            format!("limit for one frame of a pass ({} ms)", number(one)),
        )
        .goal(Goal::at_most(p50, 2.0, "ms"))
        .note(format!(
            "a frame every {} ms; p95 {} ms; {wrong} of the looked-at wrong",
            number(pace * 1e3),
            number(quantile(&later, 0.95)),
        ));
    report.row(row)?;
    let mut plot = Plot::distributions(
        format!("One by one at the pace of play, {}", clip.name),
        "ms",
    );
    plot.distribution("server", &later);
    report.plots.push(plot);
    Ok(())
}
