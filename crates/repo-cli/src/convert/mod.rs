//! `repo-cli convert`: any video that FFmpeg reads becomes seek-friendly H.265 in MP4.
//!
//! [`args`] checks what was typed, [`batch`] finds the videos of a folder, [`video`] brings one
//! video from source to result: [`probe`] looks at it, [`ffmpeg_args`] and [`seek_profile`] work
//! out how it is encoded, [`ffmpeg_run`] runs the encoder.

pub(crate) mod args;
mod batch;
mod colour;
mod ffmpeg_args;
mod ffmpeg_run;
mod interrupt;
mod meter;
mod pixel;
mod presentation;
mod probe;
mod progress;
mod rate;
mod seek_profile;
mod tool;
mod video;

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use args::{RawConvert, Settings};
use batch::{Found, Outcome};
use interrupt::{Interrupted, Interrupts};
use tool::Dialect;
pub(crate) use video::video_url;
use video::{Converted, Job, default_output};

/// Runs the subcommand.
pub(crate) fn run(raw: RawConvert) -> anyhow::Result<ExitCode> {
    let settings = raw.settings()?;
    let input = &raw.input;
    let meta = fs::metadata(input).with_context(|| format!("cannot open {}", input.display()))?;
    let work = if meta.is_dir() {
        Work::Folder(folder_work(&raw, &settings)?)
    } else {
        ensure!(
            meta.is_file(),
            "{} is neither a file nor a folder",
            input.display()
        );
        Work::File(file_job(&raw)?)
    };
    let dialect = Dialect::ask()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        let mut interrupts = Interrupts::catch()?;
        match work {
            Work::File(job) => file(&job, &settings, dialect, &mut interrupts).await,
            Work::Folder(jobs) => folder(jobs, &settings, dialect, &mut interrupts).await,
        }
    });
    match done {
        Err(e) => match e.downcast_ref::<Interrupted>() {
            Some(stopped) => {
                writeln!(std::io::stderr(), "stopped; nothing half-written was left")?;
                Ok(ExitCode::from(stopped.exit_code()))
            }
            None => Err(e),
        },
        Ok(code) => Ok(code),
    }
}

enum Work {
    File(Job),
    Folder(FolderWork),
}

/// The videos of a folder, each with what stands in its way.
struct FolderWork {
    jobs: Vec<(Job, Option<anyhow::Error>)>,
}

fn file_job(raw: &RawConvert) -> anyhow::Result<Job> {
    let input = raw.input.clone();
    let default = default_output(&input);
    let name = Path::new(default.file_name().context("the input has no file name")?).to_owned();
    let output = match &raw.output {
        None => default,
        Some(folder) if folder.is_dir() => folder.join(&name),
        Some(file) => file.clone(),
    };
    let name = Path::new(output.file_name().context("--output names no file")?);
    let video_url = video_url(raw.storage_url.as_deref(), &output, name)?;
    Ok(Job {
        video_url,
        input,
        output,
    })
}

fn folder_work(raw: &RawConvert, settings: &Settings) -> anyhow::Result<FolderWork> {
    let output = raw.output.as_ref().unwrap_or(&raw.input);
    ensure!(
        !output.is_file(),
        "--input is a folder, so --output has to be one: {} is a file",
        output.display()
    );
    if let Some(url) = &settings.storage_url {
        ensure!(
            url.ends_with('/'),
            "in folder mode --storage-url has to end in /, since each file's path is appended"
        );
    }
    let found = batch::find(&raw.input, raw.recursive)?;
    ensure!(!found.is_empty(), "no videos in {}", raw.input.display());
    let collisions: HashMap<PathBuf, PathBuf> = batch::collisions(&found);
    let jobs = found
        .into_iter()
        .map(|Found { input, below }| {
            let output = output.join(&below);
            let video_url = video_url(settings.storage_url.as_deref(), &output, &below)?;
            let obstacle = collisions.get(&input).map(|first| {
                anyhow::anyhow!("{} gives a result of the same name", first.display())
            });
            Ok((
                Job {
                    input,
                    output,
                    video_url,
                },
                obstacle,
            ))
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(FolderWork { jobs })
}

async fn file(
    job: &Job,
    settings: &Settings,
    dialect: Dialect,
    interrupts: &mut Interrupts,
) -> anyhow::Result<ExitCode> {
    let done = video::convert(job, settings, dialect, interrupts).await;
    let converted = done.map_err(|e| match e.downcast::<Interrupted>() {
        Ok(stopped) => stopped.into(),
        Err(e) => e.context(format!("cannot convert {}", job.input.display())),
    })?;
    for note in &converted.notes {
        writeln!(std::io::stderr(), "{note}")?;
    }
    write!(std::io::stdout(), "{}", summary(job, settings, &converted))?;
    Ok(ExitCode::SUCCESS)
}

fn summary(job: &Job, settings: &Settings, converted: &Converted) -> String {
    let mut text = format!(
        "{}: {} frames, {}\n",
        job.output.display(),
        converted.frames,
        batch::human_size(converted.bytes)
    );
    if settings.extract_offsets {
        for place in video::sidecars(&job.output) {
            text.push_str(&format!("{}\n", place.display()));
        }
    }
    if let Some(c) = converted.closure {
        text.push_str(&format!(
            "A frame costs {:.1} access units on average, {} at most\n",
            c.mean, c.max
        ));
    }
    text
}

async fn folder(
    work: FolderWork,
    settings: &Settings,
    dialect: Dialect,
    interrupts: &mut Interrupts,
) -> anyhow::Result<ExitCode> {
    let mut outcomes = Vec::new();
    let mut stopped = None;
    for (job, obstacle) in work.jobs {
        let outcome = if let Some(reason) = obstacle {
            Outcome::Failed(reason)
        } else if job.output.exists() && !settings.force {
            Outcome::Skipped
        } else {
            match video::convert(&job, settings, dialect, interrupts).await {
                Ok(converted) => Outcome::Converted(converted),
                Err(e) => match e.downcast::<Interrupted>() {
                    Ok(signal) => {
                        stopped = Some(signal);
                        break;
                    }
                    Err(e) => Outcome::Failed(e),
                },
            }
        };
        outcomes.push((job.input, outcome));
    }
    write!(std::io::stdout(), "{}", batch::table(&outcomes))?;
    if let Some(signal) = stopped {
        return Err(signal.into());
    }
    let failed = outcomes
        .iter()
        .any(|(_, o)| matches!(o, Outcome::Failed(_)));
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
