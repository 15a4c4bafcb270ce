//! 60 requests in 300 ms, as an impatient drag sends them; what counts is the last.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::{Instant, sleep_until};

use crate::client::{Client, Options};
use crate::clips::Structure;
use crate::limit::Frame;
use crate::report::{Goal, Report, Row, number};
use crate::server::Setup;
use crate::stats::{median, paired};
use crate::work::{Bench, any_frame, ms};

const REQUESTS: usize = 60;
const SPACING: Duration = Duration::from_millis(5);

/// The last of a burst against itself alone, each of an untouched video.
pub(crate) async fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    report.begin("burst", "60 requests in 300 ms, none of them replaced")?;
    let rounds = if bench.quick { 4 } else { 10 };
    let clip = bench.clip(1080, Structure::Default)?;
    let names = bench.shelf.put(clip, 2 * rounds)?;
    let server = Setup::default().start(&bench.shelf)?;
    let mut random = bench.random.clone();
    let (mut last, mut alone) = (Vec::new(), Vec::new());
    for pair in names.chunks_exact(2) {
        let [for_burst, for_one] = pair else { continue };
        let frames = (0..REQUESTS)
            .map(|_| any_frame(&mut random, clip))
            .collect::<Result<Vec<_>>>()?;
        let target = *frames.last().context("no frames")?;
        let mut client = Client::open(&server.websocket(), for_one).await?;
        alone.push(ms(client.frame(target).await?.0));
        drop(client);
        last.push(burst(&server.websocket(), for_burst, &frames).await?);
    }
    let ratio = paired(&last, &alone);
    let row = Row::new("the last of 60", &clip.name, median(&last), "ms")
        .ratio(
            ratio,
            format!("its latency alone ({} ms)", number(median(&alone))),
        )
        .goal(Goal::at_most(ratio, 1.5, "× alone"))
        .note(format!("{rounds} rounds"));
    report.row(row)
}

/// Milliseconds from asking for the last frame to having it.
async fn burst(url: &str, video: &str, frames: &[Frame]) -> Result<f64> {
    let mut client = Client::open(url, video).await?;
    let begin = Instant::now();
    let (mut asked, mut answered) = (0usize, 0usize);
    let mut sent = std::time::Instant::now();
    let mut latency = None;
    while answered < frames.len() {
        let due = begin + SPACING * u32::try_from(asked)?;
        tokio::select! {
            biased;
            () = sleep_until(due), if asked < frames.len() => {
                let frame = *frames.get(asked).context("beyond the burst")?;
                let tagged = [(frame, i64::try_from(asked)?)];
                sent = client.ask_tagged(tagged, &Options::default()).await?;
                asked += 1;
            }
            answer = client.answer() => {
                let answer = answer?;
                answered += 1;
                if usize::try_from(answer.index)? + 1 == frames.len() {
                    answer.image.map_err(anyhow::Error::msg)?;
                    latency = Some(ms(answer.at - sent));
                }
            }
        }
    }
    latency.context("the last was not answered")
}
