//! What `--seek` promises, on converted clips: how many access units one frame costs. Structure is
//! checked, no time and no size (docs/seek-friendly.md has those).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use media::closure::{Depth, closure};
use media::demux::{HEAD_BYTES, IndexBuilder, Step, TAIL_BYTES};
use media::graph::ReferenceGraph;
use media::h265::ParameterSets;
use media::{DecodeIndex, VideoIndex};

/// What a converted clip looks like.
struct Converted {
    samples: u32,
    /// Pictures of the longest GOP.
    longest_gop: u32,
    mean: f64,
    max: usize,
}

/// A clip of moving stripes and detail, made once.
fn clip(folder: &Path, fps: u32, seconds: u32) -> PathBuf {
    let path = folder.join(format!("source-{fps}.mkv"));
    let source = format!("testsrc2=s=256x144:r={fps}:d={seconds},noise=alls=6:allf=t:all_seed=1");
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", &source])
        .args(["-pix_fmt", "yuv420p", "-c:v", "ffv1"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    path
}

fn convert(source: &Path, options: &[&str]) -> Converted {
    let output = source.with_extension(format!("{}.h265", options.join("").replace('-', "")));
    let out = Command::new(env!("CARGO_BIN_EXE_repo-cli"))
        .args(["convert", "--force", "--preset", "superfast", "--input"])
        .arg(source)
        .arg("--output")
        .arg(&output)
        .args(options)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    look_at(&output)
}

fn index(data: &Bytes) -> VideoIndex {
    let size = data.len();
    let tail = size - size.min(TAIL_BYTES as usize);
    let mut builder = IndexBuilder::new(size as u64);
    builder.push(0, data.slice(..size.min(HEAD_BYTES as usize)));
    builder.push(tail as u64, data.slice(tail..));
    loop {
        match builder.step().unwrap() {
            Step::Finished(index) => return *index,
            Step::NeedsData(ranges) => {
                for r in ranges {
                    builder.push(r.start, data.slice(r.start as usize..r.end as usize));
                }
            }
        }
    }
}

/// Each GOP by itself: a frame whose closure reached out of its GOP would have none.
fn look_at(path: &Path) -> Converted {
    let data = Bytes::from(fs::read(path).unwrap());
    let index = index(&data);
    let mut starts: Vec<u32> = index.sync_samples().map(|s| s.0).collect();
    assert_eq!(starts[0], 0);
    starts.push(index.sample_count());
    let mut costs = Vec::new();
    for gop in starts.windows(2) {
        let first = DecodeIndex(gop[0]);
        let sets = ParameterSets::from_nals(&index.parameter_sets_before(first));
        let mut graph = ReferenceGraph::new(first, sets, first.0 == 0);
        for at in gop[0]..gop[1] {
            let sample = index.sample(DecodeIndex(at)).unwrap();
            let framing = index.descriptions()[usize::from(sample.description)].framing;
            let range = sample.range();
            let bytes = &data[range.start as usize..range.end as usize];
            graph.push(bytes, framing, &[]);
        }
        for at in gop[0]..gop[1] {
            let units = closure(&graph, DecodeIndex(at), Depth::Active);
            costs.push(units.expect("decodable from its own GOP").len());
        }
    }
    Converted {
        samples: index.sample_count(),
        longest_gop: starts.windows(2).map(|g| g[1] - g[0]).max().unwrap(),
        mean: costs.iter().sum::<usize>() as f64 / costs.len() as f64,
        max: *costs.iter().max().unwrap(),
    }
}

fn folder(name: &str) -> PathBuf {
    let path = testkit::directories::workspace()
        .join("target/footage-seek")
        .join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn a_frame_costs_less_than_six_access_units_unless_asked_otherwise() {
    for fps in [24, 30, 60] {
        let source = clip(&folder("balanced"), fps, 432 / fps);
        let c = convert(&source, &[]);
        let seen = format!("{fps}: mean {}, max {}", c.mean, c.max);
        assert_eq!(c.samples, fps * (432 / fps));
        assert!(c.mean > 2.0 && c.mean <= 6.0, "{seen}");
        assert!(c.max <= 9, "{seen}");
        assert!(c.longest_gop <= 86, "{seen}: {}", c.longest_gop);
    }
}

#[test]
fn the_profiles_lie_along_the_curve() {
    let source = clip(&folder("curve"), 30, 12);
    let fast = convert(&source, &["--seek", "fast"]);
    let balanced = convert(&source, &["--seek", "balanced"]);
    let small = convert(&source, &["--seek", "small"]);
    assert!(fast.mean <= 4.1 && fast.max <= 6, "{}", fast.mean);
    assert!(fast.mean + 1.0 < balanced.mean, "{}", balanced.mean);
    assert!(balanced.mean + 1.0 < small.mean, "{}", small.mean);
    assert!(small.longest_gop <= 150, "{}", small.longest_gop);
    assert_eq!(balanced.mean, convert(&source, &[]).mean);
}
