//! How many access units one frame of a video costs: the mean, median and greatest reference
//! closure over all its frames, against decoding everything from the sync sample before.
//!
//! `cargo run --release -p media --example closures -- [--csv] FILE...`

#![allow(clippy::print_stdout)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

use bytes::Bytes;
use media::demux::{HEAD_BYTES, IndexBuilder, Step, TAIL_BYTES};
use media::{VideoIndex, survey};

fn main() -> ExitCode {
    let mut csv = false;
    let mut paths = Vec::new();
    for argument in std::env::args().skip(1) {
        if argument == "--csv" {
            csv = true;
        } else {
            paths.push(argument);
        }
    }
    if paths.is_empty() {
        eprintln!("usage: closures [--csv] FILE...");
        return ExitCode::from(2);
    }
    if csv {
        println!(
            "file,samples,gops,unknown,active_mean,active_median,active_max,rps_mean,rps_median,\
             rps_max,prefix_mean"
        );
    }
    let mut code = ExitCode::SUCCESS;
    for path in paths {
        match Costs::of(&path) {
            Ok(costs) if csv => println!("{path},{}", costs.csv()),
            Ok(costs) => println!("{path}\n{}", costs.text()),
            Err(error) => {
                eprintln!("{path}: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// What each frame of a file costs, in access units.
#[derive(Default)]
struct Costs {
    samples: u32,
    gops: usize,
    /// Samples whose closure is not known or that a decoder does not show.
    unknown: u32,
    active: Vec<usize>,
    rps: Vec<usize>,
    /// From the sync sample where a plain player would start, to the frame itself.
    prefix: Vec<usize>,
}

impl Costs {
    fn of(path: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let file = File::open(path)?;
        let index = read_index(&file)?;
        let mut costs = Self {
            samples: index.sample_count(),
            ..Self::default()
        };
        for window in survey::windows(&index) {
            costs.gops = costs.gops.saturating_add(1);
            let samples = window.samples(&index);
            let data: Result<Vec<Bytes>, io::Error> = samples
                .iter()
                .map(|sample| read(&file, sample.range().start, sample.range().end))
                .collect();
            for report in survey::report(&index, &window, data?.iter().map(AsRef::as_ref)) {
                let (Some(active), Some(rps)) = (report.closure, report.rps_closure) else {
                    costs.unknown = costs.unknown.saturating_add(1);
                    continue;
                };
                costs.active.push(active as usize);
                costs.rps.push(rps as usize);
                costs.prefix.push(report.prefix as usize);
            }
        }
        for list in [&mut costs.active, &mut costs.rps, &mut costs.prefix] {
            list.sort_unstable();
        }
        Ok(costs)
    }

    fn csv(&self) -> String {
        let (a, r) = (&self.active, &self.rps);
        format!(
            "{},{},{},{:.2},{},{},{:.2},{},{},{:.2}",
            self.samples,
            self.gops,
            self.unknown,
            mean(a),
            median(a),
            greatest(a),
            mean(r),
            median(r),
            greatest(r),
            mean(&self.prefix)
        )
    }

    fn text(&self) -> String {
        let line = |name: &str, list: &[usize]| {
            format!(
                "  {name:<26} mean {:6.2}  median {:4}  max {:4}",
                mean(list),
                median(list),
                greatest(list)
            )
        };
        format!(
            "  {} samples, {} GOPs, {} without a known closure\n{}\n{}\n{}",
            self.samples,
            self.gops,
            self.unknown,
            line("closure, active lists", &self.active),
            line("closure, whole RPS", &self.rps),
            line("everything from the sync", &self.prefix),
        )
    }
}

fn mean(list: &[usize]) -> f64 {
    list.iter().sum::<usize>() as f64 / list.len().max(1) as f64
}

/// Of an ascending list.
fn median(list: &[usize]) -> usize {
    list.get(list.len() / 2).copied().unwrap_or(0)
}

/// Of an ascending list.
fn greatest(list: &[usize]) -> usize {
    list.last().copied().unwrap_or(0)
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
