//! Frames that the server has in its cache. The limit here is a WebSocket server that does nothing
//! but send images of the same size.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, Options};
use crate::clips::{Clip, Structure};
use crate::limit::{Frame, QUALITY};
use crate::report::{Goal, Plot, Report, Row, number};
use crate::server::Setup;
use crate::stats::{median, quantile};
use crate::work::many::load;
use crate::work::{Bench, ms};

/// What images are to weigh, in bytes.
const WANTED: f64 = 200e3;
/// Frames that are kept warm.
const FRAMES: usize = 60;
/// Clients of the throughput test, and frames in each of their messages.
const CLIENTS: usize = 8;
const BATCH: usize = 10;

/// Latency for one client, throughput for some.
pub(crate) async fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    report.begin("warm", "random frames that were asked for before")?;
    let clip = bench.clip(1080, Structure::Default)?;
    let (rounds, time) = if bench.quick { (200, 2) } else { (500, 4) };
    let time = Duration::from_secs(time);
    let step = clip.source.frames().len().div_ceil(FRAMES);
    let frames: Vec<Frame> = clip.source.frames().iter().step_by(step).copied().collect();
    let setup = Setup {
        cache_mib: 512,
        ..Setup::default()
    };
    let name = bench.shelf.put(clip, 1)?.remove(0);
    let server = setup.start(&bench.shelf)?;
    let mut client = Client::open(&server.websocket(), &name).await?;
    let options = heavy_enough(&mut client, &frames).await?;
    let mut size = 0.0;
    for &frame in &frames {
        size += client.frame_as(frame, &options).await?.1.len() as f64 / frames.len() as f64;
    }
    let bare = start_bare(size as usize)?;
    let mut other = Client::open(&format!("ws://{bare}/ws"), &name).await?;
    let (mut served, mut least) = (Vec::new(), Vec::new());
    let order = frames.iter().cycle().step_by(7).take(rounds);
    for (turn, &frame) in order.enumerate() {
        if turn % 2 == 0 {
            served.push(ms(client.frame_as(frame, &options).await?.0));
            least.push(ms(other.frame(frame).await?.0));
        } else {
            least.push(ms(other.frame(frame).await?.0));
            served.push(ms(client.frame_as(frame, &options).await?.0));
        }
    }
    drop((client, other));
    latency_rows(report, clip, &served, &least, size)?;
    let own = [name];
    let videos = vec![own.as_slice(); CLIENTS];
    let sending = load(
        &format!("ws://{bare}/ws"),
        &videos,
        &frames,
        BATCH,
        options,
        time,
    )
    .await?;
    let serving = load(&server.websocket(), &videos, &frames, BATCH, options, time).await?;
    let row = Row::new(
        format!("{CLIENTS} clients"),
        &clip.name,
        serving.rate,
        "frames/s",
    )
    .ratio(
        serving.rate / sending.rate,
        format!(
            "a bare WebSocket server ({} frames/s)",
            number(sending.rate)
        ),
    )
    .goal(Goal::at_least(serving.rate, 3000.0, "frames/s"))
    .note(format!(
        "{BATCH} frames a message; the clients share the cores with the server"
    ));
    report.row(row)
}

/// The lowest quality, from the usual one on, whose images weigh what is wanted.
async fn heavy_enough(client: &mut Client, frames: &[Frame]) -> Result<Options> {
    let first = *frames.first().context("a clip without frames")?;
    let mut options = Options::default();
    for quality in QUALITY..100 {
        options.quality = Some(quality);
        let (_, image) = client.frame_as(first, &options).await?;
        if image.len() as f64 >= WANTED {
            break;
        }
    }
    Ok(options)
}

fn latency_rows(
    report: &mut Report,
    clip: &Clip,
    served: &[f64],
    least: &[f64],
    size: f64,
) -> Result<()> {
    let p50 = median(served);
    let row = Row::new("cached frame, one client, p50", &clip.name, p50, "ms")
        .ratio(
            p50 / median(least),
            format!("a bare WebSocket server ({} ms)", number(median(least))),
        )
        .goal(Goal::at_most(p50, 0.5, "ms"))
        .note(format!(
            "{} frames of {} KB; p95 {} ms, p99 {} ms",
            served.len(),
            number(size / 1e3),
            number(quantile(served, 0.95)),
            number(quantile(served, 0.99)),
        ));
    report.row(row)?;
    let mut plot = Plot::distributions(format!("Cached frame, {}", clip.name), "ms");
    plot.distribution("server", served);
    plot.distribution("bare WebSocket server", least);
    report.plots.push(plot);
    Ok(())
}

/// Starts a server, on a thread of its own, that answers each requested frame with the same bytes.
fn start_bare(size: usize) -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("bare".into())
        .spawn(move || {
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener)?;
                let image = Bytes::from(vec![0x5a; size]);
                // Until this process ends.
                loop {
                    let (stream, _) = listener.accept().await?;
                    stream.set_nodelay(true)?;
                    tokio::spawn(bare(stream, image.clone()));
                }
                #[allow(unreachable_code)]
                std::io::Result::Ok(())
            })
        })?;
    Ok(address)
}

async fn bare(stream: TcpStream, image: Bytes) -> Result<()> {
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else {
            continue;
        };
        let value: Value = serde_json::from_str(&text)?;
        let Some(frames) = value.get("frames").and_then(Value::as_array) else {
            let set = json!({ "type": "VideoSet", "ok": true });
            socket.send(Message::text(set.to_string())).await?;
            continue;
        };
        for frame in frames {
            let told = json!({ "type": "Frame", "index": frame["index"], "size": image.len() });
            socket.feed(Message::text(told.to_string())).await?;
            socket.feed(Message::binary(image.clone())).await?;
        }
        socket.flush().await?;
    }
    Ok(())
}
