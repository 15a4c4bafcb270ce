//! Frames out of a bucket: a real S3 server on this machine, once as near as it is, and once behind
//! a proxy that hands each request on 40 ms later, as far buckets answer.

use std::time::{Duration, Instant};

use anyhow::Result;
use testkit::bucket::Bucket;
use testkit::programs::Server;
use testkit::proxy::{self, Proxy};

use crate::client::Client;
use crate::clips::{Clip, Structure};
use crate::limit::Frame;
use crate::report::{Goal, Report, Row, number};
use crate::server::Setup;
use crate::stats::{median, paired};
use crate::work::{Bench, any_frame, ms, shows};

/// How much later a request is handed on.
const LATENCY: Duration = Duration::from_millis(40);

/// Frames that are played.
const FRAMES: usize = 250;

/// A bucket, near and far.
struct Place {
    bucket: Bucket,
    proxy: Proxy,
}

impl Place {
    fn start() -> Result<Self> {
        let bucket = Bucket::start()?;
        let proxy = Proxy::before(bucket.endpoint())?;
        proxy.latency(LATENCY);
        Ok(Self { bucket, proxy })
    }

    fn near(&self, setup: &Setup) -> Result<Server> {
        setup.start_of(&self.bucket, self.bucket.endpoint())
    }

    fn far(&self, setup: &Setup) -> Result<Server> {
        setup.start_of(&self.bucket, &self.proxy.endpoint())
    }
}

/// Cold frames, then play.
pub(crate) async fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    report.begin("s3", "frames out of a bucket, near and 40 ms away")?;
    let place = match Place::start() {
        Ok(place) => place,
        Err(why) => {
            let what = "NOT MEASURED: there is no S3 server (`make tools` builds it)";
            return report.row(Row::failed(what, format!("{why:#}")));
        }
    };
    let mut kinds = vec![Structure::Default, Structure::Converted];
    if !bench.quick {
        kinds.push(Structure::Camera);
    }
    for structure in kinds {
        cold(bench, report, &place, structure).await?;
    }
    play(bench, report, &place).await
}

/// One side of a comparison: a server, its client, and the times of its frames.
struct Side {
    server: Server,
    client: Option<Client>,
    times: Vec<f64>,
    wrong: usize,
}

impl Side {
    fn new(server: Server) -> Self {
        Self {
            server,
            client: None,
            times: Vec::new(),
            wrong: 0,
        }
    }

    /// One frame of a video that this server has not seen yet.
    async fn frame(&mut self, video: &str, frame: Frame, counts: bool) -> Result<()> {
        match &mut self.client {
            Some(client) => client.set_video(video).await?,
            None => self.client = Some(Client::open(&self.server.websocket(), video).await?),
        }
        let Some(client) = &mut self.client else {
            return Ok(());
        };
        let (time, image) = client.frame(frame).await?;
        if counts {
            self.times.push(ms(time));
            self.wrong += usize::from(!shows(&image, frame.number));
        }
        Ok(())
    }
}

async fn cold(
    bench: &mut Bench,
    report: &mut Report,
    place: &Place,
    structure: Structure,
) -> Result<()> {
    /// Turns in which decoders and connections are opened, which are not counted.
    const WARMING: usize = 2;
    let turns = if bench.quick { 10 } else { 24 };
    let Bench {
        clips,
        shelf,
        random,
        ..
    } = bench;
    let Some(clip) = clips
        .iter()
        .find(|c| c.lines == 1080 && c.structure == structure)
    else {
        return Ok(());
    };
    let names = shelf.put(clip, turns + WARMING)?;
    fill(place, clip, &names).await?;
    let mut local = Side::new(Setup::COLD.start(shelf)?);
    let mut near = Side::new(place.near(&Setup::COLD)?);
    let mut far = Side::new(place.far(&Setup::COLD)?);
    let (mut requests, mut ratio, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for (turn, name) in names.iter().enumerate() {
        let counts = turn >= WARMING;
        let frame = any_frame(random, clip)?;
        // Neighbours in time, each as often before the other as after it.
        if turn % 2 == 0 {
            local.frame(name, frame, counts).await?;
            near.frame(name, frame, counts).await?;
        } else {
            near.frame(name, frame, counts).await?;
            local.frame(name, frame, counts).await?;
        }
        let mark = place.proxy.mark();
        far.frame(name, frame, counts).await?;
        if counts {
            let seen = place.proxy.since(mark);
            requests.push(seen.len() as f64);
            let size = clip.path.metadata()?.len();
            ratio.push(proxy::bytes(&seen) as f64 / size as f64);
            // What the store itself takes for the frame's bytes, whoever asks for them.
            if let Some(range) = seen.last().and_then(|s| s.asked.range.clone()) {
                let begin = Instant::now();
                place.bucket.get(name, range).await?;
                plain.push(ms(begin.elapsed()));
            }
        }
    }
    let of = |side: &Side| format!("local disk ({} ms)", number(median(&side.times)));
    let near_share = paired(&near.times, &local.times);
    let wrong = |side: &Side| format!("{} frames, {} wrong", side.times.len(), side.wrong);
    let row = Row::new(
        "cold random frame, near",
        &clip.name,
        median(&near.times),
        "ms",
    );
    report.row(
        row.ratio(near_share, of(&local))
            .goal(Goal::at_most(near_share, 1.15, "× local disk"))
            .note(format!(
                "{}; the store alone takes {} ms to give such a frame's bytes",
                wrong(&near),
                number(median(&plain))
            )),
    )?;
    let beyond: Vec<f64> = far
        .times
        .iter()
        .zip(&local.times)
        .map(|(far, local)| far - 1.05 * local)
        .collect();
    let beyond = median(&beyond);
    let row = Row::new(
        "cold random frame, 40 ms away",
        &clip.name,
        median(&far.times),
        "ms",
    );
    let note = format!(
        "{}; {} ms beyond 1.05 × local; opening and frame: {} requests, {} % of the object",
        wrong(&far),
        number(beyond),
        number(median(&requests)),
        number(100.0 * median(&ratio)),
    );
    report.row(
        row.ratio(paired(&far.times, &local.times), of(&local))
            .goal(Goal::at_most(beyond, ms(LATENCY), "ms + 1.05 × local"))
            .note(note),
    )
}

/// The clip under these keys.
async fn fill(place: &Place, clip: &Clip, names: &[String]) -> Result<()> {
    let Some((first, rest)) = names.split_first() else {
        return Ok(());
    };
    place.bucket.put_file(first, &clip.path).await?;
    for name in rest {
        place.bucket.copy(first, name).await?;
    }
    Ok(())
}

async fn play(bench: &Bench, report: &mut Report, place: &Place) -> Result<()> {
    let clip = bench.clip(1080, Structure::Default)?;
    fill(place, clip, &["play".to_owned()]).await?;
    let frames = clip.source.frames();
    let frames = frames.get(..FRAMES).unwrap_or(frames);
    let (mut rates, mut wrong) = (Vec::new(), 0);
    let rounds = if bench.quick { 2 } else { 3 };
    for _ in 0..rounds {
        let server = place.far(&Setup::default())?;
        let mut client = Client::open(&server.websocket(), "play").await?;
        let mut kept = Vec::new();
        let begin = Instant::now();
        for some in frames.chunks(10) {
            kept.extend(client.batch(some).await?);
        }
        rates.push(frames.len() as f64 / begin.elapsed().as_secs_f64());
        let looked = kept.iter().step_by(10);
        wrong += looked
            .filter(|(n, image)| u32::try_from(*n).map_or(true, |n| !shows(image, n)))
            .count();
    }
    let rate = median(&rates);
    report.row(
        Row::new(
            "played, 10 frames a message, 40 ms away",
            &clip.name,
            rate,
            "frames/s",
        )
        .goal(Goal::at_least(rate, 30.0, "frames/s"))
        .note(format!(
            "rounds: {rounds}; of the looked-at wrong: {wrong}; at most {} requests at once",
            place.proxy.most_at_once()
        )),
    )
}
