//! The clips: what is measured on, made once.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use testkit::{SampleFormat, command, directories, footage, programs};

use crate::limit::Source;
use crate::pictures::Painter;

/// How a clip is coded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Structure {
    /// x265's default structure: GOPs of 250 pictures, B-pictures under a pyramid. At a quality
    /// (CRF 22) that keeps some of the grain, as cameras do: about 0.14 bits a pixel.
    Default,
    /// As cameras code: GOPs of 30, no B-pictures, one reference.
    Camera,
    /// The default clip, put through `repo-cli convert` as it comes.
    Converted,
    /// x265's default structure at 10 bit.
    TenBit,
}

/// One clip, ready to be served and decoded.
#[derive(Debug)]
pub(crate) struct Clip {
    /// As the report calls it.
    pub(crate) name: String,
    /// Rows of the pictures.
    pub(crate) lines: usize,
    /// How it is coded.
    pub(crate) structure: Structure,
    /// The file.
    pub(crate) path: PathBuf,
    /// Its samples.
    pub(crate) source: Source,
}

/// Which clips to make.
pub(crate) const SHORT: [(usize, Structure); 3] = [
    (480, Structure::Default),
    (1080, Structure::Default),
    (1080, Structure::Converted),
];

/// Which clips to make for a full run.
pub(crate) const FULL: [(usize, Structure); 13] = [
    (480, Structure::Default),
    (480, Structure::Camera),
    (480, Structure::Converted),
    (720, Structure::Default),
    (720, Structure::Camera),
    (720, Structure::Converted),
    (720, Structure::TenBit),
    (1080, Structure::Default),
    (1080, Structure::Camera),
    (1080, Structure::Converted),
    (1080, Structure::TenBit),
    (2160, Structure::Default),
    (2160, Structure::Converted),
];

/// Makes (or finds) a clip.
pub(crate) fn make(lines: usize, structure: Structure) -> Result<Clip> {
    let path = match structure {
        Structure::Converted => converted(lines)?,
        coded => encoded(lines, coded)?,
    };
    let what = match structure {
        Structure::Default => "x265 default",
        Structure::Camera => "camera-like",
        Structure::Converted => "repo-cli convert",
        Structure::TenBit => "10 bit",
    };
    let source = Source::open(&path)?;
    let name = format!("{lines}p, {what}");
    Ok(Clip {
        name,
        lines,
        structure,
        path,
        source,
    })
}

/// Raised when pictures or options change: part of the name of what is kept.
const GENERATION: u32 = 2;

/// Pictures of a clip: two GOPs of the default structure where people scrub, else one.
fn pictures(lines: usize) -> u32 {
    if lines == 1080 { 500 } else { 250 }
}

/// Pictures a second.
pub(crate) const RATE: u32 = 25;

fn encoded(lines: usize, structure: Structure) -> Result<PathBuf> {
    let (coding, x265, depth) = match structure {
        Structure::Camera => ("camera", "keyint=30:bframes=0:ref=1:crf=22", 8),
        Structure::TenBit => ("10bit", "keyint=250:crf=22", 10),
        Structure::Default | Structure::Converted => ("default", "keyint=250:crf=22", 8),
    };
    let width = match lines {
        480 => 854,
        lines => lines * 16 / 9,
    };
    let format = SampleFormat {
        depth,
        ..SampleFormat::YUV420
    };
    let mut key = DefaultHasher::new();
    (GENERATION, pictures(lines), x265, command::ffmpeg_version()).hash(&mut key);
    let name = format!("bench_{lines}p_{coding}-{:016x}.mp4", key.finish());
    footage::kept(&name, |path| {
        let painter = Painter::new(format, width, lines);
        let raw = format.ffmpeg_name();
        command::Run::ffmpeg()
            .args(["-f", "rawvideo", "-pix_fmt", &raw])
            .args(["-video_size", &format!("{width}x{lines}")])
            .args(["-framerate", &RATE.to_string(), "-i", "pipe:0"])
            .args(["-c:v", "libx265", "-preset", "fast", "-x265-params"])
            .args([&format!("log-level=error:{x265}"), "-pix_fmt", &raw])
            .args(["-tag:v", "hvc1", "-f", "mp4"])
            .arg(path)
            .fed(|pipe| {
                for n in 0..pictures(lines) {
                    pipe.write_all(&painter.picture(n))?;
                }
                Ok(())
            })?;
        Ok(())
    })
}

/// The default clip through the converter. Made anew whenever the converter's source changes.
fn converted(lines: usize) -> Result<PathBuf> {
    let source = encoded(lines, Structure::Default)?;
    let mut key = DefaultHasher::new();
    source.file_name().hash(&mut key);
    let folder = directories::workspace().join("crates/repo-cli/src/convert");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .with_context(|| format!("the converter's source, {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    for file in files {
        fs::read(&file)?.hash(&mut key);
    }
    let name = format!("bench_{lines}p_converted-{:016x}.mp4", key.finish());
    footage::kept(&name, |path| {
        let output = programs::command("repo-cli")?
            .args(["convert", "--force", "--input"])
            .arg(&source)
            .arg("--output")
            .arg(path)
            .stdin(Stdio::null())
            .output()?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "repo-cli convert: {words}");
        Ok(())
    })
}

/// A folder for servers in which one clip is many videos: each name is a file of its own, so that
/// nothing that a server keeps of one of them helps another.
#[derive(Debug)]
pub(crate) struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// An empty one at this place; what a killed run left there is removed.
    pub(crate) fn new(folder: PathBuf) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// The servers' root.
    pub(crate) fn root(&self) -> &Path {
        &self.folder
    }

    /// The names of `count` copies of the clip, put in where they are missing.
    pub(crate) fn put(&self, clip: &Clip, count: usize) -> Result<Vec<String>> {
        let coding = match clip.structure {
            Structure::Default => "default",
            Structure::Camera => "camera",
            Structure::Converted => "converted",
            Structure::TenBit => "10bit",
        };
        (0..count)
            .map(|n| {
                let name = format!("{}p-{coding}-{n}.mp4", clip.lines);
                let path = self.folder.join(&name);
                if !path.exists() {
                    fs::copy(&clip.path, &path)?;
                }
                Ok(name)
            })
            .collect()
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        // Copies only; the next run removes what is left.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
