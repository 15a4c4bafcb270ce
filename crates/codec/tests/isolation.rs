//! Decoders in processes of their own: the same pictures, whatever becomes of the processes.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod support;

use std::fs;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use codec::{
    CodecError, Decoder, Decoders, HevcDecoder, Launcher, LauncherConfig, Picture, Threading,
    decode_worker,
};
use support::{access_units, assert_equals_oracle, clip, made, raw};

/// This program is its own worker: started so, it runs this test alone, which is one then.
#[test]
fn a_worker() {
    if std::env::var_os("DECODE_WORKER").is_some() {
        decode_worker();
    }
}

fn config() -> LauncherConfig {
    LauncherConfig {
        program: std::env::current_exe().unwrap(),
        arguments: ["a_worker", "--exact", "--test-threads=1"].map(Into::into).into(),
        environment: vec![("DECODE_WORKER".into(), "1".into())],
        timeout: Duration::from_secs(60),
        max_pixels: codec::DEFAULT_MAX_PIXELS,
        idle: 1,
    }
}

fn launcher() -> Arc<Launcher> {
    Arc::new(Launcher::new(config()).unwrap())
}

fn decode(decoder: &mut Decoder, units: &[&[u8]]) -> Result<Vec<Picture>, CodecError> {
    let mut out = Vec::new();
    for (id, unit) in units.iter().enumerate() {
        decoder.send(unit, id as i64, &mut |p| out.push(p))?;
    }
    decoder.finish(&mut |p| out.push(p))?;
    Ok(out)
}

fn two() -> NonZero<usize> {
    NonZero::new(2).unwrap()
}

#[test]
fn pictures_are_those_of_ffmpeg() {
    let decoders = Decoders::Apart(launcher());
    for recipe in [
        "default_gop",
        "bits_10",
        "chroma_422_bits_10",
        "chroma_444_bits_12",
        "gray",
        "gray_bits_10",
        "odd_size_444",
        "cropped_left_and_top",
        "cropped_odd_444",
        "fields",
        "open_gop_rasl",
        "annexb_joined",
    ] {
        let path = made(recipe);
        let stream = fs::read(&path).unwrap();
        let units = access_units(&stream);
        for threading in [Threading::Single, Threading::Frames(two())] {
            let mut decoder = decoders.open(threading).unwrap();
            let apart = decode(&mut decoder, &units).unwrap();
            decoder.flush();
            let again = decode(&mut decoder, &units).unwrap();
            drop(decoder);
            let mut here = HevcDecoder::new(threading).unwrap();
            let here = support::decode_all(&mut here, &units).unwrap();
            assert_eq!(apart.len(), here.len(), "{recipe}");
            for ((apart, again), here) in apart.iter().zip(&again).zip(&here) {
                let said = |p: &Picture| {
                    let kind = (p.chroma(), p.bit_depth(), p.is_gbr(), p.picture_type());
                    (p.id(), p.width(), p.height(), p.is_damaged(), kind)
                };
                assert_eq!(said(apart), said(here), "{recipe}");
                assert!(raw(apart) == raw(here), "{recipe}: {}", here.id());
                assert!(raw(again) == raw(here), "{recipe}: {} again", here.id());
            }
        }
    }
    // And the oracle itself says so.
    let source = ["-f", "lavfi", "-i", "testsrc2=size=416x240:rate=25:duration=1"];
    let path = clip("yuv420p", &source, "yuv420p", "no-sao=1:keyint=12");
    let stream = fs::read(&path).unwrap();
    for threading in [
        Threading::Single,
        Threading::Slices(two()),
        Threading::Frames(two()),
    ] {
        let mut decoder = decoders.open(threading).unwrap();
        let pictures = decode(&mut decoder, &access_units(&stream)).unwrap();
        assert_equals_oracle(&path, &pictures);
    }
}

/// Processes that this one has started, and that have not ended.
fn workers() -> Vec<i32> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let rest = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_worker = command.windows(8).any(|w| w == b"a_worker");
        if fields.get(1) == Some(&own.as_str()) && fields[0] != "Z" && is_worker {
            found.push(pid);
        }
    }
    found
}

fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Tests that look at all workers of this process do so one at a time.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn a_worker_that_is_lost_is_replaced() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    use rustix::process::Signal;
    let stream = fs::read(made("default_gop")).unwrap();
    let units = access_units(&stream);
    let before = workers();
    let launcher = Arc::new(
        Launcher::new(LauncherConfig {
            timeout: Duration::from_millis(1500),
            ..config()
        })
        .unwrap(),
    );
    let decoders = Decoders::Apart(Arc::clone(&launcher));
    let own = || -> Vec<i32> {
        let all = workers();
        all.into_iter().filter(|p| !before.contains(p)).collect()
    };
    for threading in [Threading::Single, Threading::Frames(two())] {
        let mut decoder = decoders.open(threading).unwrap();
        let kept = decode(&mut decoder, &units[..4]).unwrap();
        let content = raw(&kept[0]);
        // It crashes; it hangs.
        for (how, says) in [(Signal::KILL, "signal 9"), (Signal::STOP, "gave no answer")] {
            let [pid] = own()[..] else {
                panic!("{:?}", own())
            };
            signal(pid, how);
            let error = decoder
                .send(units[4], 4, &mut |_| panic!("nobody decoded it"))
                .unwrap_err();
            assert!(matches!(error, CodecError::WorkerLost { .. }), "{error:?}");
            assert!(error.to_string().contains(says), "{error}");
            assert!(own().is_empty(), "it is gone");
            // The next access unit is given to a new one, which begins anew.
            let pictures = decode(&mut decoder, &units).unwrap();
            assert_eq!(pictures.len(), units.len());
            decoder.flush();
        }
        // What was decoded stays, whoever decoded it.
        assert!(raw(&kept[0]) == content);
    }
    // One that is lost while it rests is not noticed at all.
    drop(decoders.open(Threading::Single).unwrap());
    let lost = launcher.counts().1;
    for pid in own() {
        signal(pid, Signal::KILL);
    }
    let mut decoder = decoders.open(Threading::Single).unwrap();
    assert_eq!(decode(&mut decoder, &units).unwrap().len(), units.len());
    assert_eq!((lost, launcher.counts().1), (4, 5));
    drop((decoder, decoders, launcher));
    assert!(own().is_empty(), "workers end with their server");
}

/// What a worker takes of the shared memory follows what is looked at, not what was decoded.
#[test]
fn memory_is_used_again() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let before = workers();
    let decoders = Decoders::Apart(launcher());
    let clips = ["default_gop", "bits_10"].map(|recipe| fs::read(made(recipe)).unwrap());
    let shared = || -> u64 {
        let all = workers().into_iter().filter(|p| !before.contains(p));
        let rss = all.map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find(|l| l.starts_with("RssShmem:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        });
        rss.sum()
    };
    let mut decoder = decoders.open(Threading::Single).unwrap();
    let mut after = Vec::new();
    for round in 0..12 {
        let units = access_units(&clips[round % 2]);
        let pictures = decode(&mut decoder, &units).unwrap();
        assert_eq!(pictures.len(), units.len());
        drop(pictures);
        decoder.flush();
        after.push(shared());
    }
    println!("KiB of shared memory after each clip: {after:?}");
    let (early, late) = (after[2].max(after[3]), after[10].max(after[11]));
    assert!(late <= early + early / 4, "{after:?}");
}

#[test]
fn what_cannot_be_decoded_is_said_as_by_a_decoder_here() {
    let decoders = Decoders::Apart(launcher());
    let stream = fs::read(made("default_gop")).unwrap();
    let units = access_units(&stream);
    let mut decoder = decoders.open(Threading::Single).unwrap();
    let mut here = HevcDecoder::new(Threading::Single).unwrap();
    let cut = &units[0][..units[0].len() / 2];
    for bad in [&[][..], &[0, 0, 1][..], cut, units[5]] {
        let theirs = decoder.send(bad, 7, &mut drop);
        let ours = here.send(bad, 7, &mut drop);
        assert_eq!(theirs, ours);
    }
    // Neither is the worse for it.
    decoder.flush();
    assert_eq!(decode(&mut decoder, &units).unwrap().len(), units.len());
    // Nothing larger than what it was told is decoded.
    let small = Launcher::new(LauncherConfig {
        max_pixels: 1000,
        ..config()
    });
    let decoders = Decoders::Apart(Arc::new(small.unwrap()));
    let mut decoder = decoders.open(Threading::Single).unwrap();
    let error = decode(&mut decoder, &units).unwrap_err();
    assert!(matches!(error, CodecError::Decode { .. }), "{error:?}");
}

#[test]
fn a_program_that_is_no_worker_is_found_out() {
    for (program, says) in [("/bin/true", "ended"), ("/nowhere/at/all", "No such file")] {
        let error = Launcher::new(LauncherConfig {
            program: program.into(),
            ..config()
        });
        let error = error.unwrap_err().to_string();
        assert!(error.contains(says), "{program}: {error}");
    }
}
