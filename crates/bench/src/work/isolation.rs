//! What it costs that H.265 is decoded in processes of their own: two servers, one of which decodes in
//! threads, give the same frames turn by turn.

use std::time::Instant;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use testkit::programs::Server;

use crate::client::Client;
use crate::clips::{Clip, Structure};
use crate::limit::Frame;
use crate::report::{Goal, Report, Row};
use crate::server::Setup;
use crate::stats::{median, paired};
use crate::work::{Bench, any_frame, ms, shows};

/// Frames of a pass in order: a GOP.
const FRAMES: usize = 250;

const WAYS: [&str; 2] = ["thread", "process"];

/// Random frames, frames in order, and a frame whose worker has just been ended.
pub(crate) async fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    report.begin(
        "isolation",
        "decoding in processes of their own, against decoding in threads",
    )?;
    let clips: &[(usize, Structure)] = match bench.quick {
        true => &[(1080, Structure::Default)],
        false => &[
            (480, Structure::Default),
            (1080, Structure::Default),
            (1080, Structure::Converted),
        ],
    };
    for &(lines, structure) in clips {
        random(bench, report, (lines, structure)).await?;
        in_order(bench, report, (lines, structure)).await?;
    }
    after_a_crash(bench, report).await
}

fn start(bench: &Bench, way: &'static str, cold: bool) -> Result<Server> {
    let setup = if cold { Setup::COLD } else { Setup::default() };
    let setup = Setup {
        isolation: Some(way),
        ..setup
    };
    setup.start(&bench.shelf)
}

/// Both servers, over the same clip.
async fn both(bench: &Bench, name: &str, cold: bool) -> Result<[(Server, Client); 2]> {
    let mut pairs = Vec::new();
    for way in WAYS {
        let server = start(bench, way, cold)?;
        let client = Client::open(&server.websocket(), name).await?;
        pairs.push((server, client));
    }
    pairs.try_into().map_err(|_| anyhow::anyhow!("two servers"))
}

/// Random frames that nothing is known of: what a frame takes longer, and that as a share.
async fn random(
    bench: &mut Bench,
    report: &mut Report,
    (lines, structure): (usize, Structure),
) -> Result<()> {
    const WARMING: usize = 3;
    let turns = if bench.quick { 15 } else { 60 };
    let name = bench.shelf.put(bench.clip(lines, structure)?, 1)?.remove(0);
    let mut pair = both(bench, &name, true).await?;
    let mut times = [Vec::new(), Vec::new()];
    let mut wrong = 0;
    for turn in 0..turns + WARMING {
        let Bench { clips, random, .. } = &mut *bench;
        let clip = (clips.iter()).find(|c| c.lines == lines && c.structure == structure);
        let frame = any_frame(random, clip.context("the clip is gone")?)?;
        for at in [turn % 2, (turn + 1) % 2] {
            let (Some((_, client)), Some(times)) = (pair.get_mut(at), times.get_mut(at)) else {
                continue;
            };
            let (time, image) = client.frame(frame).await?;
            wrong += usize::from(!shows(&image, frame.number));
            if turn >= WARMING {
                times.push(ms(time));
            }
        }
    }
    let clip = bench.clip(lines, structure)?;
    let more = difference(&times);
    let [threads, processes] = &times;
    report.row(
        Row::new("a random frame, cold: longer by", &clip.name, more, "ms")
            .ratio(
                paired(processes, threads),
                format!("{:.1} ms in threads", median(threads)),
            )
            .note(format!("{turns} turns; wrong: {wrong}"))
            .goal(Goal::at_most(more, 0.3, "ms")),
    )
}

/// The median of what the second took longer.
fn difference([threads, processes]: &[Vec<f64>; 2]) -> f64 {
    let longer = processes.iter().zip(threads).map(|(p, t)| p - t);
    median(&longer.collect::<Vec<f64>>())
}

/// All frames of a GOP in order: ten a message for throughput, one a message for what each takes.
async fn in_order(
    bench: &mut Bench,
    report: &mut Report,
    (lines, structure): (usize, Structure),
) -> Result<()> {
    let rounds = if bench.quick { 2 } else { 6 };
    let clip = bench.clip(lines, structure)?;
    let names = bench.shelf.put(clip, 2)?;
    let frames: Vec<Frame> = clip.source.frames().iter().take(FRAMES).copied().collect();
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for at in [round % 2, (round + 1) % 2] {
            let (Some(way), Some(rates)) = (WAYS.get(at), rates.get_mut(at)) else {
                continue;
            };
            rates.push(rate(bench, way, &names, &frames).await?);
        }
    }
    let [threads, processes] = &rates;
    let share = paired(processes, threads);
    report.row(
        Row::new(
            "in order, ten a message",
            &clip.name,
            median(processes),
            "frames/s",
        )
        .ratio(share, format!("{:.0} frames/s in threads", median(threads)))
        .note(format!("{rounds} rounds"))
        .goal(Goal::at_least(share, 0.97, "× threads")),
    )?;

    let name = names.first().context("no copy")?;
    let mut pair = both(bench, name, true).await?;
    let mut times = [Vec::new(), Vec::new()];
    for (turn, frame) in frames.iter().enumerate() {
        for at in [turn % 2, (turn + 1) % 2] {
            let (Some((_, client)), Some(times)) = (pair.get_mut(at), times.get_mut(at)) else {
                continue;
            };
            let (time, _) = client.frame(*frame).await?;
            times.push(ms(time));
        }
    }
    let more = difference(&times);
    let [threads, processes] = &times;
    report.row(
        Row::new(
            "the next frame, one a message: longer by",
            &clip.name,
            more,
            "ms",
        )
        .ratio(
            paired(processes, threads),
            format!("{:.2} ms in threads", median(threads)),
        )
        .goal(Goal::at_most(more, 0.3, "ms")),
    )
}

/// Frames a second; not counted is what is done once: decoders are opened over another copy.
async fn rate(bench: &Bench, way: &'static str, names: &[String], frames: &[Frame]) -> Result<f64> {
    let [name, other] = names else {
        anyhow::bail!("two copies are needed");
    };
    let server = start(bench, way, false)?;
    let mut client = Client::open(&server.websocket(), other).await?;
    for some in frames.chunks(10).take(3) {
        client.batch(some).await?;
    }
    client.set_video(name).await?;
    let begin = Instant::now();
    for some in frames.chunks(10) {
        client.batch(some).await?;
    }
    Ok(frames.len() as f64 / begin.elapsed().as_secs_f64())
}

/// An IRAP of a video that is new to the server, right after its workers were killed, against the same
/// otherwise.
async fn after_a_crash(bench: &mut Bench, report: &mut Report) -> Result<()> {
    let turns = if bench.quick { 5 } else { 20 };
    let clip: &Clip = bench.clip(1080, Structure::Default)?;
    let names = bench.shelf.put(clip, 3 * (turns + 1))?;
    let first = *clip
        .source
        .frames()
        .first()
        .context("a clip without frames")?;
    let server = start(bench, "process", true)?;
    let mut client: Option<Client> = None;
    let mut times = [Vec::new(), Vec::new()];
    for (turn, pair) in names.chunks(3).enumerate() {
        let [before, one, other] = pair else { continue };
        let client = match &mut client {
            Some(client) => client,
            none => none.insert(Client::open(&server.websocket(), before).await?),
        };
        // So that all workers are there that there are to be.
        client.set_video(before).await?;
        client.frame(first).await?;
        client.set_video(one).await?;
        let (plain, _) = client.frame(first).await?;
        client.set_video(other).await?;
        for worker in workers(server.id())? {
            kill_process(worker, Signal::KILL)?;
        }
        let (after, image) = client.frame(first).await?;
        anyhow::ensure!(shows(&image, first.number), "it was another frame");
        if turn > 0 {
            let [otherwise, crashed] = &mut times;
            otherwise.push(ms(plain));
            crashed.push(ms(after));
        }
    }
    let more = difference(&times);
    report.row(
        Row::new(
            "an IRAP, its worker just killed: longer by",
            &clip.name,
            more,
            "ms",
        )
        .note(format!(
            "{turns} turns, {:.0} ms otherwise",
            median(&times[0])
        ))
        .goal(Goal::at_most(more, 100.0, "ms")),
    )
}

/// The processes that a server has decode for it.
fn workers(server: u32) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{server}/task"))? {
        let children = std::fs::read_to_string(task?.path().join("children"))?;
        let ids = children.split_whitespace().filter_map(|id| id.parse().ok());
        found.extend(ids.filter_map(Pid::from_raw));
    }
    Ok(found)
}
