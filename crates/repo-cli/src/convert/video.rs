//! One video: from its file to a finished result, or to nothing.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use engine::catalog;
use media::index::Layout;
use media::{DecodeIndex, VideoIndex};

use super::args::{EncodeSettings, Pictures, Settings};
use super::ffmpeg_args::{EncodePlan, Encoder, copy_args};
use super::interrupt::Interrupts;
use super::meter::Meter;
use super::probe::{Source, probe};
use super::tool::{self, Dialect};
use super::{ffmpeg_run, presentation};
use crate::closure::{ClosureReport, closure_report};
use crate::offsets::{index_path, sidecar_path, sidecar_text};
use crate::placement::{self, Pending};
use crate::source;

/// A source and where its result goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Job {
    /// The source.
    pub(crate) input: PathBuf,
    /// The result.
    pub(crate) output: PathBuf,
    /// The address that the offsets file names.
    pub(crate) video_url: String,
}

/// What became of a video.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Converted {
    /// Pictures in presentation order.
    pub(crate) frames: u32,
    /// Size of the result.
    pub(crate) bytes: u64,
    /// What a random frame of it costs.
    pub(crate) closure: Option<ClosureReport>,
    /// What the user should know besides.
    pub(crate) notes: Vec<String>,
}

/// Refuses what would overwrite something that it must not.
pub(crate) fn check_places(job: &Job, settings: &Settings) -> anyhow::Result<()> {
    let (input, output) = (&job.input, &job.output);
    if same_file(input, output) {
        bail!(
            "the result would overwrite its source {}: name another --output",
            input.display()
        );
    }
    ensure!(!output.is_dir(), "{} is a folder", output.display());
    let mut places = vec![output.clone()];
    if settings.extract_offsets {
        places.extend(sidecars(output));
    }
    for place in places {
        if place.exists() && !settings.force {
            return Err(placement::exists_already(&place));
        }
    }
    Ok(())
}

/// Where the files stand that tell of a video: its offsets, and its index.
pub(crate) fn sidecars(video: &Path) -> [PathBuf; 2] {
    [sidecar_path(video), index_path(video)]
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// Converts one video. Whatever happens, no half-written file is left.
pub(crate) async fn convert(
    job: &Job,
    settings: &Settings,
    dialect: Dialect,
    interrupts: &mut Interrupts,
) -> anyhow::Result<Converted> {
    check_places(job, settings)?;
    let source = probe(&job.input)?;
    interrupts.check().await?;
    let pending = Pending::new(&job.output, settings.force)?;
    let mut notes = Vec::new();
    match settings.pictures {
        Pictures::Copy => copy(job, &source, pending.path(), interrupts).await?,
        Pictures::Encode(encode_settings) => {
            let target = (pending.path(), dialect);
            encode(
                job,
                &source,
                encode_settings,
                target,
                &mut notes,
                interrupts,
            )
            .await?;
        }
    }
    interrupts.check().await?;
    let result = source::open(pending.path(), None)
        .await
        .context("the result cannot be read")?;
    let index = &result.index;
    let mut written = Vec::new();
    let mut stale = Vec::new();
    if settings.extract_offsets {
        let text = sidecar_text(job.video_url.clone(), index)?;
        let file = catalog::index_file(&result).await?;
        let [text_path, file_path] = sidecars(&job.output);
        for (path, content) in [(text_path, text.into_bytes()), (file_path, file)] {
            let place = Pending::new(&path, settings.force)?;
            fs::write(place.path(), content)?;
            written.push(place);
        }
    } else {
        stale.extend(sidecars(&job.output).into_iter().filter(|s| s.exists()));
    }
    let bytes = fs::metadata(pending.path())?.len();
    interrupts.check().await?;
    pending.finish()?;
    for place in written {
        place.finish()?;
    }
    for sidecar in stale {
        // Offsets of the video that was overwritten name nothing in the new one.
        fs::remove_file(&sidecar)
            .with_context(|| format!("cannot remove the outdated {}", sidecar.display()))?;
        notes.push(format!("removed the outdated {}", sidecar.display()));
    }
    let closure = closure_report(&result).await;
    Ok(Converted {
        frames: index.frame_count(),
        bytes,
        closure,
        notes,
    })
}

async fn copy(
    job: &Job,
    source: &Source,
    target: &Path,
    interrupts: &mut Interrupts,
) -> anyhow::Result<()> {
    let args = copy_args(source, &job.input, target)?;
    run(&args, source, &job.input, interrupts).await?;
    if source.is_raw_hevc() {
        let opened = source::open(&job.input, None).await?;
        let ranks = presentation_ranks(&opened.index)?;
        presentation::set_order(target, &ranks).context("cannot give the copy its times")?;
    }
    Ok(())
}

/// The place in presentation order of each picture of a raw stream, in decode order.
fn presentation_ranks(index: &VideoIndex) -> anyhow::Result<Vec<u32>> {
    ensure!(
        index.layout() == Layout::AnnexB,
        "it is not the raw stream that FFmpeg takes it for"
    );
    (0..index.sample_count())
        .map(|i| {
            let rank = index.presentation_index(DecodeIndex(i));
            rank.map(|r| r.0)
                .with_context(|| format!("picture {i} of the stream is never shown"))
        })
        .collect()
}

async fn encode(
    job: &Job,
    source: &Source,
    settings: EncodeSettings,
    (target, dialect): (&Path, Dialect),
    notes: &mut Vec<String>,
    interrupts: &mut Interrupts,
) -> anyhow::Result<()> {
    let plan = EncodePlan::new(source, settings)?;
    let mut encoder = Encoder::X265;
    if settings.gpu {
        match try_nvenc(&plan) {
            Ok(()) => encoder = Encoder::Nvenc,
            Err(why) => notes.push(format!("--gpu: used libx265 instead: {why:#}")),
        }
    }
    let args = plan.args(encoder, dialect, &job.input, target);
    run(&args, source, &job.input, interrupts).await
}

/// Encodes one picture on the GPU: the only sure way to know that it works.
fn try_nvenc(plan: &EncodePlan<'_>) -> anyhow::Result<()> {
    let out = tool::output("ffmpeg", &plan.nvenc_trial_args()?)?;
    ensure!(
        out.status.success(),
        "hevc_nvenc does not work here: {}",
        tool::reason(&out.stderr)
    );
    Ok(())
}

async fn run(
    args: &[OsString],
    source: &Source,
    name: &Path,
    interrupts: &mut Interrupts,
) -> anyhow::Result<()> {
    let meter = Meter::start(name, source.duration);
    let done = ffmpeg_run::run(args, interrupts, |p| meter.set(p)).await;
    meter.end();
    done
}

/// The result's path where none was given: the input's with the extension `.h265`.
pub(crate) fn default_output(input: &Path) -> PathBuf {
    input.with_extension("h265")
}

/// The address of a result: what the user gave, one that ends in `/` with the result's place
/// below it appended, or `fs://` and the absolute path.
pub(crate) fn video_url(
    storage_url: Option<&str>,
    output: &Path,
    below: &Path,
) -> anyhow::Result<String> {
    match storage_url {
        Some(url) if url.ends_with('/') => {
            let below = below
                .to_str()
                .with_context(|| format!("{below:?} is no Unicode text"))?;
            Ok(format!("{url}{below}"))
        }
        Some(url) => Ok(url.to_owned()),
        None => {
            let path = placement::absolute(output)?;
            let path = path
                .to_str()
                .with_context(|| format!("{path:?} is no Unicode text"))?;
            Ok(format!("fs://{path}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_called_h265() {
        assert_eq!(default_output(Path::new("a/b.mp4")), Path::new("a/b.h265"));
        assert_eq!(default_output(Path::new("a.b/c")), Path::new("a.b/c.h265"));
        assert_eq!(
            default_output(Path::new("x.tar.mov")),
            Path::new("x.tar.h265")
        );
    }

    #[test]
    fn a_given_address_is_taken_as_it_is() {
        let url =
            |given| video_url(given, Path::new("/data/t.h265"), Path::new("sub/t.h265")).unwrap();
        assert_eq!(url(None), "fs:///data/t.h265");
        assert_eq!(url(Some("s3://b/other.h265")), "s3://b/other.h265");
        assert_eq!(url(Some("s3://b/videos/")), "s3://b/videos/sub/t.h265");
    }
}
