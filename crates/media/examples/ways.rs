//! What it costs to look through a GOP with one decoder that goes on: access units for each step
//! forward from a random frame, how often it must begin anew, and how long the planner thinks.
//!
//! `cargo run --release -p media --example ways -- FILE...`

#![allow(clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::time::Instant;

use bytes::Bytes;
use media::demux::{HEAD_BYTES, IndexBuilder, Step, TAIL_BYTES};
use media::graph::ReferenceGraph;
use media::{DecodeIndex, Planner, Standing, VideoIndex, survey};

/// Frames that are looked at one after the other, from each start.
const STEPS: usize = 24;

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in std::env::args().skip(1) {
        if let Err(error) = report(&path) {
            eprintln!("{path}: {error}");
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn report(path: &str) -> Result<(), Box<dyn std::error::Error>> {
    let file = File::open(path)?;
    let index = read_index(&file)?;
    // The longest GOP, with the one before it.
    let windows = survey::windows(&index);
    let length = |w: &&survey::Window| w.end.0.saturating_sub(w.gop.0);
    let window = windows.iter().max_by_key(length).ok_or("no samples")?;
    let samples = window.samples(&index);
    let data: Result<Vec<Bytes>, io::Error> = samples
        .iter()
        .map(|sample| read(&file, sample.range().start, sample.range().end))
        .collect();
    let data = data?;
    let started = Instant::now();
    let run = samples.iter().zip(&data).map(|(s, d)| (*s, d.as_ref()));
    let graph = ReferenceGraph::of_samples(&index, run);
    let of_graph = started.elapsed();
    let started = Instant::now();
    let planner = Planner::new(graph);
    let of_planner = started.elapsed();

    let mut frames: Vec<DecodeIndex> = samples
        .iter()
        .map(|s| s.index)
        .filter(|s| *s >= window.gop && planner.standing(*s) == Standing::Exact)
        .collect();
    frames.sort_by_key(|s| index.composition_time(*s));
    let started = Instant::now();
    let all = planner.way(&[], &frames);
    let of_all = started.elapsed();
    let from = all.next.get(..all.next.len() / 2).unwrap_or_default();
    let started = Instant::now();
    let rest = planner.way(from, &frames);
    let of_rest = started.elapsed();
    println!(
        "{path}\n  GOP of {} pictures: graph {of_graph:.0?}, planner {of_planner:.0?}, way to {} \
         frames {of_all:.0?}, to {} from the middle {of_rest:.0?}",
        frames.len(),
        all.reached.len(),
        rest.reached.len(),
    );
    for (name, forward) in [("forward", true), ("backward", false)] {
        let walk = walks(&planner, &frames, forward);
        println!(
            "  {name:<8}  first {:6.2} access units, then {:6.2} a frame; begun anew {:.2} times",
            walk.first, walk.then, walk.anew
        );
    }
    Ok(())
}

#[derive(Default)]
struct Walks {
    first: f64,
    then: f64,
    anew: f64,
}

/// From every frame on, by single frames; what came out on the way is kept.
fn walks(planner: &Planner, frames: &[DecodeIndex], forward: bool) -> Walks {
    let mut sum = Walks::default();
    let (mut count, mut steps) = (0.0, 0.0);
    for start in 0..frames.len() {
        let mut given: Vec<DecodeIndex> = Vec::new();
        let mut kept = BTreeSet::new();
        for step in 0..=STEPS {
            let at = if forward {
                start.checked_add(step)
            } else {
                start.checked_sub(step)
            };
            let Some(&target) = at.and_then(|at| frames.get(at)) else {
                break;
            };
            let mut decoded = 0;
            if !kept.contains(&target) {
                let mut way = planner.way(&given, &[target]);
                if way.reached.is_empty() {
                    sum.anew += 1.0;
                    given.clear();
                    way = planner.way(&given, &[target]);
                }
                decoded = way.next.len();
                kept.extend(way.next.iter().copied());
                given.extend(way.next);
            }
            if step == 0 {
                sum.first += decoded as f64;
                count += 1.0;
            } else {
                sum.then += decoded as f64;
                steps += 1.0;
            }
        }
    }
    Walks {
        first: sum.first / f64::max(count, 1.0),
        then: sum.then / f64::max(steps, 1.0),
        anew: sum.anew / f64::max(count, 1.0),
    }
}

fn read(file: &File, start: u64, end: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, start)?;
    Ok(Bytes::from(bytes))
}

fn read_index(file: &File) -> Result<VideoIndex, Box<dyn std::error::Error>> {
    let size = file.metadata()?.len();
    let mut builder = IndexBuilder::new(size);
    let tail = size.saturating_sub(TAIL_BYTES);
    builder.push(0, read(file, 0, HEAD_BYTES.min(size))?);
    builder.push(tail, read(file, tail, size)?);
    loop {
        match builder.step()? {
            Step::Finished(index) => return Ok(*index),
            Step::NeedsData(ranges) => {
                for range in ranges {
                    builder.push(range.start, read(file, range.start, range.end)?);
                }
            }
        }
    }
}
