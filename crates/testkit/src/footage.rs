//! Makes clips with ffmpeg and libx265, and keeps them.
//!
//! A clip's file name holds a hash of its whole recipe, of ffmpeg's version line and of
//! [`GENERATION`]; it is written under another name and renamed, so that a file that is there is
//! whole, whatever ran side by side or was killed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use xxhash_rust::xxh3::xxh3_64;

use crate::command::{Run, ffmpeg_version};
use crate::recipe::{ByteStream, Packaging, Recipe};
use crate::reference::{self, Options};
use crate::{annexb, boxes, directories, mux, recipe, watermark};

/// Part of every cache key: raise it when pictures or file surgery change.
const GENERATION: u32 = 4;

/// A made clip.
#[derive(Clone, Debug)]
pub struct Clip {
    /// The recipe's name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Pictures that were encoded, with the numbers `first_number..first_number + frames` in
    /// presentation order. An edit list or a cut may hide some.
    pub frames: u32,
    /// How it was made.
    pub recipe: Recipe,
}

/// Every clip of [`recipe::all`], made where it is not there yet, two at a time.
pub fn all() -> Result<Vec<Clip>> {
    make_all(&recipe::all())
}

/// The clip of one recipe of [`recipe::all`], by name.
pub fn clip(name: &str) -> Result<Clip> {
    let recipe = recipe::all().into_iter().find(|r| r.name == name);
    make(&recipe.with_context(|| format!("no recipe is called {name}"))?)
}

/// Clips in the order of their recipes.
pub fn make_all(recipes: &[Recipe]) -> Result<Vec<Clip>> {
    let next = AtomicUsize::new(0);
    let work = || -> Vec<(usize, Result<Clip>)> {
        let mut own = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(recipe) = recipes.get(at) else {
                return own;
            };
            own.push((at, make(recipe)));
        }
    };
    let mut clips = thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut clips = work();
        clips.extend(other.join().expect("the other maker"));
        clips
    });
    clips.sort_by_key(|(at, _)| *at);
    let failures: Vec<String> = clips
        .iter()
        .filter_map(|(_, clip)| clip.as_ref().err().map(|error| format!("{error:#}")))
        .collect();
    ensure!(
        failures.is_empty(),
        "clips that could not be made:\n{}",
        failures.join("\n")
    );
    clips.into_iter().map(|(_, clip)| clip).collect()
}

/// Makes one clip, or finds it made.
pub fn make(recipe: &Recipe) -> Result<Clip> {
    let path = file(recipe).with_context(|| format!("making the clip {}", recipe.name))?;
    let more: u32 = match &recipe.packaging {
        Packaging::Laid { more, .. } => more.iter().map(|part| part.frames).sum(),
        _ => 0,
    };
    Ok(Clip {
        name: recipe.name.clone(),
        path,
        frames: recipe.frames + more,
        recipe: recipe.clone(),
    })
}

fn file(recipe: &Recipe) -> Result<PathBuf> {
    let key = xxh3_64(format!("{GENERATION} {recipe:?} {}", ffmpeg_version()).as_bytes());
    let name = format!("{}-{key:016x}.{}", recipe.name, recipe.extension());
    kept(&name, |path| match &recipe.packaging {
        Packaging::Mp4 { tag } => encode(recipe, tag, path),
        other => {
            // What the encodings of several recipes share is made once.
            package(recipe, other, path)
        }
    })
}

/// The file `name` of the cache, made by `make` (which writes to the path it is given) where it
/// is not there. One maker at a time in one process; several processes may make the same file,
/// and the last rename wins with equal content.
pub fn kept(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    static MAKERS: Mutex<Option<HashMap<PathBuf, Arc<Mutex<()>>>>> = Mutex::new(None);
    let folder = directories::footage_cache();
    let path = folder.join(name);
    let maker = {
        let mut makers = MAKERS.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            makers
                .get_or_insert_default()
                .entry(path.clone())
                .or_default(),
        )
    };
    let _alone = maker.lock().unwrap_or_else(PoisonError::into_inner);
    if path.is_file() {
        return Ok(path);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Hidden, and with the extension that tells ffmpeg the format.
    let unfinished = folder.join(format!(".{}-{name}", process::id()));
    let made = make(&unfinished).and_then(|()| Ok(fs::rename(&unfinished, &path)?));
    if made.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    made.map(|()| path)
}

/// Draws the pictures and pipes them into libx265.
fn encode(recipe: &Recipe, tag: &str, output: &Path) -> Result<()> {
    let scene = &recipe.scene;
    let (format, colour) = (scene.format.ffmpeg_name(), &recipe.colour);
    let mut params = "log-level=error:frame-threads=1".to_owned();
    if !recipe.x265.is_empty() {
        params = format!("{params}:{}", recipe.x265);
    }
    let mut run = Run::ffmpeg()
        .args(["-f", "rawvideo", "-pix_fmt", &format])
        .args(["-video_size", &format!("{}x{}", scene.width, scene.height)])
        .args(["-framerate", &recipe.frame_rate.to_string()])
        .args(colour)
        .args(["-i", "pipe:0"]);
    if let Some(timing) = &recipe.timing {
        run = run
            .args(["-vf", &format!("settb=1/90000,setpts='{timing}'")])
            .args(["-fps_mode", "passthrough", "-enc_time_base", "1:90000"])
            .args(["-video_track_timescale", "90000"]);
    }
    // x265 finds no cut in so small pictures by itself; it treats a picture that is asked to be
    // intra as it treats one after a cut.
    if let Some(every) = scene.cut_every {
        run = run.args(["-force_key_frames", &format!("expr:not(mod(n,{every}))")]);
    }
    run.args([
        "-c:v",
        "libx265",
        "-preset",
        &recipe.preset,
        "-x265-params",
        &params,
    ])
    .args(["-pix_fmt", &format, "-tag:v", tag])
    .args(colour)
    .args(["-f", "mp4"])
    .arg(output)
    .fed(|pipe| {
        for n in 0..recipe.frames {
            let number = recipe.first_number + n;
            let mut picture = scene.picture(number);
            watermark::draw(&mut picture, number);
            pipe.write_all(&picture.to_bytes())?;
        }
        Ok(())
    })?;
    Ok(())
}

fn package(recipe: &Recipe, packaging: &Packaging, output: &Path) -> Result<()> {
    if let Packaging::Joined(parts) = packaging {
        let streams: Result<Vec<_>> = parts.iter().map(byte_stream).collect();
        return Ok(fs::write(output, streams?.concat())?);
    }
    let encoding = file(&recipe.encoding())?;
    match packaging {
        Packaging::Copy { before, after, .. } => {
            let run = Run::ffmpeg().args(before).arg("-i").arg(&encoding);
            run.args(["-c:v", "copy"])
                .args(after)
                .arg(output)
                .output()?;
        }
        Packaging::Oriented {
            mirrored,
            quarter_turns,
        } => {
            let mut bytes = fs::read(&encoding)?;
            boxes::set_orientation(&mut bytes, *mirrored, *quarter_turns);
            fs::write(output, bytes)?;
        }
        Packaging::InBandSetsOnly => {
            let mut bytes = fs::read(&encoding)?;
            boxes::remove_parameter_sets(&mut bytes);
            fs::write(output, bytes)?;
        }
        Packaging::Laid { layout, more } => {
            let (mut units, mut descriptions) = (Vec::new(), Vec::new());
            for (k, part) in [recipe].into_iter().chain(more).enumerate() {
                let bytes = fs::read(file(&part.encoding())?)?;
                append(&mut units, &access_units(part, &bytes, k)?);
                let hvcc = boxes::find(&bytes, "moov/trak/mdia/minf/stbl/stsd/hvc1/hvcC");
                descriptions.push(bytes[hvcc.context("no hvcC box")?].to_vec());
            }
            let size = (recipe.scene.width as u16, recipe.scene.height as u16);
            fs::write(
                output,
                mux::mp4(*layout, TIMESCALE, size, &descriptions, &units),
            )?;
        }
        Packaging::AnnexB(flavour) => {
            let stream = byte_stream(recipe)?;
            let units = annexb::nal_units(&stream);
            ensure!(!units.is_empty(), "no NAL unit");
            let changed = match flavour {
                ByteStream::AsWritten => stream,
                ByteStream::ThreeByteStartCodes => annexb::join(units, &[0, 0, 1], &[]),
                ByteStream::TrailingZeros => annexb::join(units, &[0, 0, 0, 1], &[0, 0]),
                ByteStream::FromSecondIrap => annexb::from_second_irap(&stream),
            };
            fs::write(output, changed)?;
        }
        Packaging::Mp4 { .. } | Packaging::Joined(_) => {}
    }
    Ok(())
}

/// Ticks a second of the encodings.
const TIMESCALE: u32 = 12288;

/// The access units of an encoding with 4-byte NAL lengths, at the times that it gives them.
fn access_units(recipe: &Recipe, bytes: &[u8], description: usize) -> Result<Vec<mux::Unit>> {
    let path = file(&recipe.encoding())?;
    let packets = reference::packets(
        &path,
        Options {
            ignore_edit_list: true,
            limit: None,
        },
    )?;
    let unit = |packet: &reference::Packet| {
        let sample = &bytes[packet.position as usize..][..packet.size as usize];
        let mut nal_units = Vec::new();
        let mut rest = sample;
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (unit, next) = after.split_at(u32::from_be_bytes(*length) as usize);
            nal_units.push(unit.to_vec());
            rest = next;
        }
        let (pts, dts) = (packet.pts.context("no pts")?, packet.dts.context("no dts")?);
        Ok(mux::Unit {
            nal_units,
            dts,
            pts,
            sync: packet.key,
            description,
        })
    };
    packets.iter().map(unit).collect()
}

/// Appends units so that the first of them is shown after the last one that is there.
fn append(units: &mut Vec<mux::Unit>, more: &[mux::Unit]) {
    let step = more.get(1).map_or(1, |second| second.dts - more[0].dts);
    let end = units.iter().map(|unit| unit.pts + step).max();
    let start = more.iter().map(|unit| unit.pts).min();
    // Decode times must go on rising, too.
    let shift = end.zip(start).map_or(0, |(end, start)| end - start);
    let floor = units.last().map_or(i64::MIN, |last| last.dts + 1);
    units.extend(more.iter().enumerate().map(|(k, unit)| mux::Unit {
        dts: (unit.dts + shift).max(floor + k as i64),
        pts: unit.pts + shift,
        ..unit.clone()
    }));
}

/// The encoding of a recipe as ffmpeg writes raw streams.
fn byte_stream(recipe: &Recipe) -> Result<Vec<u8>> {
    let encoding = file(&recipe.encoding())?;
    Run::ffmpeg()
        .arg("-i")
        .arg(encoding)
        .args(["-c:v", "copy", "-f", "hevc", "pipe:1"])
        .output()
}
