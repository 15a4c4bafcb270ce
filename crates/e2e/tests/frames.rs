//! The right frame, seen from outside: `repo-cli offsets` lists the frames of every made clip,
//! `streaming-cli` asks the running server for them in random order, and the number burnt into
//! each JPEG says which frame it is. Over a folder, and over a bucket of a real S3 server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::bucket::Bucket;
use testkit::programs::{self, Server};
use testkit::recipe::Packaging;
use testkit::reference::{self, Options};
use testkit::{Clip, directories, footage, jpeg, watermark};

/// The numbers that a viewer sees, frame by frame.
fn expected_numbers(clip: &Clip) -> Result<Vec<u32>> {
    let simple = match clip.recipe.packaging {
        Packaging::Joined(_) | Packaging::Laid { .. } | Packaging::AnnexB(_) => false,
        Packaging::Copy { ref before, .. } => !before.iter().any(|a| a == "-ss"),
        _ => true,
    };
    if simple {
        let first = clip.recipe.first_number;
        return Ok((first..first + clip.frames).collect());
    }
    let mut numbers = Vec::new();
    reference::for_each(&clip.path, Options::default(), |_, picture| {
        let luma = &picture().planes[0];
        let number = watermark::read(&luma.samples, luma.width, luma.height, luma.width);
        numbers.push(number.context("a frame without a readable number")?);
        Ok(())
    })?;
    Ok(numbers)
}

fn offsets_file(video: &Path, folder: &Path, more: &[&str]) -> Result<std::path::PathBuf> {
    let file = folder.join("frames.json");
    let output = programs::command("repo-cli")?
        .args(["offsets", "--force"])
        .args(more)
        .arg("--output")
        .arg(&file)
        .arg(video)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(file)
}

fn check(clip: &Clip, server: &Server, seed: usize) -> Result<usize> {
    let folder = tempfile::tempdir()?;
    let frames = offsets_file(&clip.path, folder.path(), &[])?;
    let images = folder.path().join("images");
    let name = clip.path.file_name().context("a name")?;
    let batch = [1, 7, 500][seed % 3];
    let output = programs::command("streaming-cli")?
        .args([
            "--url",
            &server.websocket(),
            "--json",
            "--pattern",
            "random",
            "--video",
        ])
        .arg(name)
        .args([
            "--batch",
            &batch.to_string(),
            "--seed",
            &seed.to_string(),
            "--frames-file",
        ])
        .arg(&frames)
        .arg("--output")
        .arg(&images)
        .output()?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let numbers = expected_numbers(clip)?;
    // Frames that no decoder shows (a stream copy cut at an open GOP lists some): an error each.
    let errors = report["frames_errored"].as_u64().context("errored")? as usize;
    let received = report["frames_received"].as_u64().context("received")? as usize;
    ensure!(
        received == numbers.len(),
        "{received} of {} frames: {report}",
        numbers.len()
    );
    ensure!(output.status.success() || errors > 0, "exit code");
    // By index: the frame's place in the offsets file, which is presentation order.
    let mut seen = BTreeMap::new();
    for entry in images.read_dir()? {
        let path = entry?.path();
        let file = path
            .file_name()
            .and_then(|n| n.to_str())
            .context("a name")?;
        let index: usize = file.get(6..12).context("a name")?.parse()?;
        let number = jpeg::frame_number(&std::fs::read(&path)?)
            .with_context(|| format!("no number is readable in {file}"))?;
        seen.insert(index, number);
    }
    let seen: Vec<u32> = seen.into_values().collect();
    ensure!(
        seen == numbers,
        "frames {seen:?}, but a viewer sees {numbers:?}"
    );
    Ok(errors)
}

#[test]
fn every_frame_of_every_clip_is_the_one_that_was_asked_for() {
    let clips = footage::all().unwrap();
    let folder = directories::footage_cache();
    let server = Server::start([Path::new("--local-path"), &folder]).unwrap();
    check_all(&clips, &server);
}

#[tokio::test]
async fn every_frame_of_every_clip_in_a_bucket_is_the_one_that_was_asked_for() {
    let clips = footage::all().unwrap();
    let bucket = Bucket::start().unwrap();
    for clip in &clips {
        let name = clip.path.file_name().unwrap().to_str().unwrap();
        bucket.put_file(name, &clip.path).await.unwrap();
    }
    let server = bucket.serve(&[]).unwrap();
    check_all(&clips, &server);
}

fn check_all(clips: &[Clip], server: &Server) {
    let mut wrong = Vec::new();
    let mut refused = 0;
    for (n, clip) in clips.iter().enumerate() {
        match check(clip, server, n) {
            Ok(errors) => refused += errors,
            Err(e) => wrong.push(format!("{}: {e:#}", clip.name)),
        }
    }
    println!(
        "{} clips, {refused} frames that no decoder shows",
        clips.len()
    );
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), server.log());
    assert!(refused < 20, "{refused} frames were refused");
}

/// What the server's log says of index files.
fn warnings(server: &Server) -> Vec<String> {
    let log = server.log();
    let lines = log.lines().filter(|l| l.contains("index file"));
    lines.map(str::to_owned).collect()
}

/// The clip in another folder, with an index file beside it.
fn with_index_file(clip: &Clip, folder: &Path) -> Result<Clip> {
    let path = folder.join(clip.path.file_name().context("a name")?);
    std::fs::copy(&clip.path, &path)?;
    offsets_file(&path, folder, &["--graph"])?;
    Ok(Clip {
        path,
        ..clip.clone()
    })
}

#[test]
fn every_frame_is_the_one_that_was_asked_for_with_an_index_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let clips: Vec<Clip> = footage::all()
        .unwrap()
        .iter()
        .step_by(3)
        .map(|clip| with_index_file(clip, folder.path()).unwrap())
        .collect();
    let server = Server::start([Path::new("--local-path"), folder.path()]).unwrap();
    let mut wrong = Vec::new();
    for (n, clip) in clips.iter().enumerate() {
        if let Err(e) = check(clip, &server, n) {
            wrong.push(format!("{}: {e:#}", clip.name));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), server.log());
    assert_eq!(warnings(&server), [""; 0]);
}

#[test]
fn a_stale_or_damaged_index_file_is_told_of_once() {
    let folder = tempfile::tempdir().unwrap();
    let [damaged, stale] = ["closed_gop", "open_gop_rasl"].map(|name| {
        let clip = footage::clip(name).unwrap();
        with_index_file(&clip, folder.path()).unwrap()
    });
    let file = |clip: &Clip| {
        let mut name = clip.path.clone().into_os_string();
        name.push(".bsidx");
        std::path::PathBuf::from(name)
    };
    // That of another video.
    std::fs::copy(file(&damaged), file(&stale)).unwrap();
    let mut bytes = std::fs::read(file(&damaged)).unwrap();
    *bytes.last_mut().unwrap() ^= 0x10;
    std::fs::write(file(&damaged), bytes).unwrap();
    // Nothing is kept, so that each session opens the videos anew.
    let args = ["--cache-size", "0", "--local-path"].map(Path::new);
    let server = Server::start(args.into_iter().chain([folder.path()])).unwrap();
    for seed in 0..3 {
        check(&damaged, &server, seed).unwrap();
        check(&stale, &server, seed).unwrap();
    }
    let warnings = warnings(&server);
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(
        warnings[0].contains("damaged: its checksum is wrong"),
        "{warnings:#?}"
    );
    assert!(warnings[1].contains("stale: the size"), "{warnings:#?}");
}
