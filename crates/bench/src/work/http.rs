//! A frame by URL that the server has in its cache, under `wrk`. The limit is a bare axum route that
//! returns the same bytes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use axum::Router;
use axum::routing::get;
use bytes::Bytes;

use crate::clips::Structure;
use crate::report::{Goal, Report, Row, number};
use crate::server::Setup;
use crate::stats::median;
use crate::work::Bench;

/// Connections of `wrk`, on two threads.
const CONNECTIONS: usize = 32;
/// Widths of the pictures: a thumbnail, a preview, the whole.
const WIDTHS: [u32; 3] = [160, 640, 1920];

/// Requests per second, side by side.
pub(crate) async fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    report.begin(
        "http",
        "a frame by URL that was asked for before, under wrk",
    )?;
    let clip = bench.clip(1080, Structure::Default)?;
    let name = bench.shelf.put(clip, 1)?.remove(0);
    let setup = Setup {
        cache_mib: 512,
        ..Setup::default()
    };
    let server = setup.start(&bench.shelf)?;
    let (rounds, seconds) = if bench.quick { (3, 2) } else { (5, 4) };
    for width in WIDTHS {
        let path = format!("/v1/videos/{name}/frame.jpg?frame=7&width={width}");
        let image = fetch(server.address(), &path)?;
        let size = image.len() as f64;
        let (bare, stop) = start_bare(image)?;
        let (own, least) = (server.http(&path), format!("http://{bare}/frame.jpg"));
        let (mut served, mut limit, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 0..rounds {
            let (a, b) = if turn % 2 == 0 {
                (wrk(&own, seconds)?, wrk(&least, seconds)?)
            } else {
                let b = wrk(&least, seconds)?;
                (wrk(&own, seconds)?, b)
            };
            served.push(a);
            limit.push(b);
            ratios.push(a / b);
        }
        drop(stop);
        let (rate, ratio) = (median(&served), median(&ratios));
        let row = Row::new(
            format!("cached frame by URL, {width} wide"),
            &clip.name,
            rate,
            "requests/s",
        )
        .ratio(
            ratio,
            format!("a bare axum route ({} requests/s)", number(median(&limit))),
        )
        .goal(Goal::at_least(ratio, 0.8, "of the bare route"))
        .note(format!(
            "{} KB; wrk -t2 -c{CONNECTIONS}, which shares the cores with the server",
            number(size / 1e3)
        ));
        report.row(row)?;
    }
    Ok(())
}

/// The body of an answer that must go well.
fn fetch(address: &str, path: &str) -> Result<Bytes> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n");
    let end = end.context("no answer")?;
    let head = String::from_utf8_lossy(answer.get(..end).unwrap_or_default()).into_owned();
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    Ok(Bytes::from(answer).slice(end + 4..))
}

/// A server of one route, on threads of its own, until what is returned with its address is dropped.
fn start_bare(image: Bytes) -> Result<(SocketAddr, tokio::sync::oneshot::Sender<()>)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("bare")
        .build()?;
    std::thread::Builder::new()
        .name("bare".into())
        .spawn(move || {
            let serving = async move {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let route = get(move || {
                    let image = image.clone();
                    async move { ([(axum::http::header::CONTENT_TYPE, "image/jpeg")], image) }
                });
                let router = Router::new().route("/frame.jpg", route);
                tokio::select! {
                    ended = axum::serve(listener, router).into_future() => ended,
                    _ = stopped => Ok(()),
                }
            };
            runtime.block_on(serving)
        })?;
    Ok((address, stop))
}

/// Requests per second, none of which failed.
fn wrk(url: &str, seconds: u32) -> Result<f64> {
    let output = Command::new("wrk")
        .args(["-t2", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s")])
        .arg(url)
        .output()
        .context("wrk is not installed: run `bash scripts/install-deps.sh bench`")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!("some requests failed: {text}");
    }
    let line = text.lines().find_map(|l| l.strip_prefix("Requests/sec:"));
    Ok(line.with_context(|| text.clone())?.trim().parse()?)
}
