//! Many clients that each ask for random frames, one after the other, for some time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::client::{Client, Options};
use crate::limit::Frame;

/// What the clients got.
#[derive(Debug)]
pub(crate) struct Load {
    /// Frames per second, all together.
    pub(crate) rate: f64,
    /// Frames of each client.
    pub(crate) each: Vec<usize>,
    /// Milliseconds from asking to having each frame.
    pub(crate) latencies: Vec<f64>,
}

impl Load {
    /// What the client with the fewest frames got, as a share of the mean.
    pub(crate) fn least_share(&self) -> f64 {
        let sum: usize = self.each.iter().sum();
        let least = self.each.iter().min().copied().unwrap_or(0);
        least as f64 * self.each.len() as f64 / sum as f64
    }
}

/// Lets one client for each list of videos ask for `batch` random frames a message of one of them
/// until the time is over. What is due then still is taken, and does not count.
pub(crate) async fn load(
    url: &str,
    videos: &[&[String]],
    frames: &[Frame],
    batch: usize,
    options: Options,
    time: Duration,
) -> Result<Load> {
    let opening = videos.iter().map(|own| async move {
        let first = own.first().context("a client without videos")?;
        Ok::<_, anyhow::Error>((Client::open(url, first).await?, *own))
    });
    let clients = try_join_all(opening).await?;
    let end = Instant::now() + time;
    let running = (0u64..).zip(clients).map(|(seed, (client, own))| {
        let random = StdRng::seed_from_u64(seed);
        one(client, own, frames, batch, options, end, random)
    });
    let latencies = try_join_all(running).await?;
    let each: Vec<usize> = latencies.iter().map(Vec::len).collect();
    Ok(Load {
        rate: each.iter().sum::<usize>() as f64 / time.as_secs_f64(),
        each,
        latencies: latencies.concat(),
    })
}

async fn one(
    mut client: Client,
    videos: &[String],
    frames: &[Frame],
    batch: usize,
    options: Options,
    end: Instant,
    mut random: StdRng,
) -> Result<Vec<f64>> {
    let mut latencies = Vec::new();
    while Instant::now() < end {
        if videos.len() > 1 {
            let next = videos.choose(&mut random).context("no videos")?;
            client.set_video(next).await?;
        }
        let some: Vec<Frame> = (0..batch)
            .filter_map(|_| frames.choose(&mut random).copied())
            .collect();
        // Tags need not be told apart here.
        let tag = random.random_range(0..1 << 20);
        let tagged = some.iter().map(|frame| (*frame, tag));
        let sent = client.ask_tagged(tagged, &options).await?;
        for _ in &some {
            let answer = client.answer().await?;
            answer.image.map_err(anyhow::Error::msg)?;
            if answer.at < end {
                latencies.push((answer.at - sent).as_secs_f64() * 1e3);
            }
        }
    }
    Ok(latencies)
}
