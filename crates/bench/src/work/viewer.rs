//! The viewer in a Chromium beside the server on the same cores: bytes until the first picture, and
//! drags along the timeline, timed in the page itself from the mouse's event to the drawn picture.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::json;
use testkit::browser::{Browser, Page};
use testkit::jpeg;
use tokio::time::{Instant, sleep, sleep_until};

use crate::clips::Structure;
use crate::report::{Goal, Plot, Report, Row, number};
use crate::server::Setup;
use crate::stats::{median, quantile};
use crate::work::Bench;

/// Moves of one drag.
const MOVES: u32 = 60;

/// Collects moves of the mouse and exact pictures, each with its time.
const LISTEN: &str = "window.moves = []; window.pictures = []; \
    document.getElementById('timeline').addEventListener('pointerrawupdate', \
        e => { if (e.buttons) moves.push(e.timeStamp) }); \
    document.addEventListener('viewer:picture', ({ detail: d }) => { \
        if (d.exact && d.asked !== undefined) pictures.push([d.asked, d.drawn]) })";

const SETTLED: &str = "document.getElementById('picture').dataset.exact === 'true' && \
    document.getElementById('picture').dataset.frame === document.getElementById('frame').value";

/// What the page saw of a drag, in milliseconds of its clock.
#[derive(Default, Deserialize)]
struct Seen {
    moves: Vec<f64>,
    /// When a picture was asked for, and when it was drawn; in the order of the drawing.
    pictures: Vec<(f64, f64)>,
}

impl Seen {
    /// Of the pictures that were drawn: from their move.
    fn own(&self) -> Vec<f64> {
        self.pictures
            .iter()
            .map(|(asked, drawn)| drawn - asked)
            .collect()
    }

    /// Of all moves: until their own picture or a later one was drawn. Nothing is left out because
    /// a newer move took its place.
    fn own_or_later(&self) -> Vec<f64> {
        let until = |moved: f64| {
            let later = self.pictures.iter().filter(|(asked, _)| *asked >= moved);
            later.map(|(_, drawn)| drawn - moved).min_by(f64::total_cmp)
        };
        self.moves
            .iter()
            .filter_map(|moved| until(*moved))
            .collect()
    }
}

/// Drags from one frame to another in so many seconds; returns when the last is shown.
async fn drag(page: &Page, count: u32, from: u32, to: u32, seconds: f64) -> Result<Seen> {
    page.value("moves.length = pictures.length = 0").await?;
    let (left, top, width, height) = page.place("#timeline").await?;
    let y = top + height / 3.0;
    let x = |frame: f64| left + (frame + 0.5) / f64::from(count) * width;
    let (from, to) = (f64::from(from), f64::from(to));
    page.mouse("mouseMoved", x(from), y, false).await?;
    page.mouse("mousePressed", x(from), y, true).await?;
    let begin = Instant::now();
    for step in 1..=MOVES {
        let part = f64::from(step) / f64::from(MOVES);
        sleep_until(begin + Duration::from_secs_f64(part * seconds)).await;
        let frame = from + (to - from) * part;
        page.mouse("mouseMoved", x(frame.round()), y, true).await?;
    }
    page.until(SETTLED).await?;
    page.mouse("mouseReleased", x(to), y, false).await?;
    Ok(serde_json::from_value(
        page.value("({ moves, pictures })").await?,
    )?)
}

/// Opens a video in a page; returns when its first picture is drawn.
async fn open(page: &Page, root: &str, video: &str) -> Result<()> {
    page.go(&format!("{root}#video={video}&frame=0")).await?;
    page.until(SETTLED).await
}

/// The first view, then drags: a frame a move, then five, then these again.
pub(crate) async fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    report.begin("viewer", "a page in Chromium, beside the server")?;
    let Bench { clips, shelf, .. } = bench;
    let wanted = |c: &&crate::clips::Clip| c.lines == 1080 && c.structure == Structure::Converted;
    let clip = clips
        .iter()
        .find(wanted)
        .context("no seek-friendly 1080p clip")?;
    let names = shelf.put(clip, 2)?;
    let [first, other] = &names[..] else {
        anyhow::bail!("two copies of the clip")
    };
    let server = Setup::default().start(shelf)?;
    let root = server.http("/");
    let browser = Browser::start().await?;

    let page = browser.page(1280, 800).await?;
    page.count_bytes().await?;
    open(&page, &root, other).await?;
    let kilobytes = page.transferred() as f64 / 1e3;
    let row = Row::new("bytes until the first picture", &clip.name, kilobytes, "kB")
        .goal(Goal::at_most(kilobytes, 200.0, "kB"))
        .note("the page, its modules, the first answers and the picture");
    report.row(row)?;
    page.call("Page.close", json!({})).await?;

    let page = browser.page(1280, 800).await?;
    open(&page, &root, first).await?;
    page.value(LISTEN).await?;
    // A person looks before touching.
    sleep(Duration::from_secs(3)).await;
    let count = u32::try_from(clip.source.frames().len())?;
    let mut plot = Plot::distributions(format!("Viewer, {}", clip.name), "ms");
    // Where the wide drag comes, nobody has been.
    let [near, far] = [count / 8, count * 2 / 3];
    for (name, from, to, seconds) in [
        ("a frame a move, first time", near, near + MOVES, 2.0),
        ("five frames a move, first time", far - 5 * MOVES, far, 3.0),
        ("a frame a move, again", near, near + MOVES, 1.0),
        ("five frames a move, again", far - 5 * MOVES, far, 1.0),
    ] {
        let seen = drag(&page, count, from, to, seconds).await?;
        let shown = jpeg::frame_number(&page.canvas("#picture").await?)?;
        anyhow::ensure!(shown == to, "frame {shown} at the end, not {to}");
        let (own, all) = (seen.own(), seen.own_or_later());
        let p95 = quantile(&all, 0.95);
        let row = Row::new(
            format!("drag, {name}: move to exact picture drawn, p95"),
            &clip.name,
            p95,
            "ms",
        )
        .goal(Goal::at_most(p95, 60.0, "ms"))
        .note(format!(
            "{} moves in {} s, median {} ms; {} drawn exact: p95 {} ms",
            all.len(),
            number(seconds),
            number(median(&all)),
            own.len(),
            number(quantile(&own, 0.95))
        ));
        report.row(row)?;
        plot.distribution(name.to_owned(), &all);
    }
    report.plots.push(plot);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_that_was_passed_over_waits_for_a_later_ones_picture() {
        let seen = Seen {
            moves: vec![0.0, 10.0, 20.0, 30.0],
            pictures: vec![(0.0, 12.0), (20.0, 45.0)],
        };
        assert_eq!(seen.own(), [12.0, 25.0]);
        // The last one's has not come.
        assert_eq!(seen.own_or_later(), [12.0, 35.0, 25.0]);
    }
}
