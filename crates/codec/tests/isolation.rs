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

/// The mark tells one test's workers from another's; no test has it in its name.
fn config(mark: &str) -> LauncherConfig {
    LauncherConfig {
        program: std::env::current_exe().unwrap(),
        arguments: ["a_worker", "--exact", "--skip", mark]
            .map(Into::into)
            .into(),
        environment: vec![("DECODE_WORKER".into(), "1".into())],
        timeout: Duration::from_secs(60),
        max_pixels: codec::DEFAULT_MAX_PIXELS,
        idle: 1,
    }
}

fn launcher(mark: &str) -> Arc<Launcher> {
    Launcher::new(config(mark)).unwrap()
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
    let decoders = Decoders::Apart(launcher("exact"));
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
    let source = [
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=416x240:rate=25:duration=1",
    ];
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

/// Processes that this one has started with this mark, and that have not ended.
fn workers(mark: &str) -> Vec<i32> {
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
        let is_worker = String::from_utf8_lossy(&command).contains(mark);
        if fields.get(1) == Some(&own.as_str()) && fields[0] != "Z" && is_worker {
            found.push(pid);
        }
    }
    found
}

/// Sends a signal, and waits until the process is ended or stopped by it.
fn signal(pid: i32, signal: rustix::process::Signal) {
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(process, signal).unwrap();
    let is_at_rest = |task: &fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().unwrap_or_default();
        state.is_empty() || state.starts_with(['Z', 'X', 'T'])
    };
    loop {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        let mut tasks = tasks.into_iter().flatten().flatten();
        if tasks.all(|task| is_at_rest(&task)) {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_worker_that_is_lost_is_replaced() {
    use rustix::process::Signal;
    let stream = fs::read(made("default_gop")).unwrap();
    let units = access_units(&stream);
    const MARK: &str = "is_lost_now_and_then";
    let launcher = Launcher::new(LauncherConfig {
        timeout: Duration::from_millis(1500),
        ..config(MARK)
    });
    let launcher = launcher.unwrap();
    let decoders = Decoders::Apart(Arc::clone(&launcher));
    let own = || workers(MARK);
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
            let mut nobody = |_| panic!("nobody decoded it");
            let sent = decoder.send(units[4], 4, &mut nobody);
            let error = sent.and_then(|()| decoder.finish(&mut nobody)).unwrap_err();
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
    const MARK: &str = "used_again_and_again";
    let decoders = Decoders::Apart(launcher(MARK));
    let clips = ["default_gop", "bits_10"].map(|recipe| fs::read(made(recipe)).unwrap());
    let shared = || -> u64 {
        let rss = workers(MARK).into_iter().map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find(|l| l.starts_with("RssShmem:")).unwrap();
            line.split_whitespace()
                .nth(1)
                .unwrap()
                .parse::<u64>()
                .unwrap()
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
    let decoders = Decoders::Apart(launcher("refuses"));
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
        ..config("small")
    });
    let decoders = Decoders::Apart(small.unwrap());
    let mut decoder = decoders.open(Threading::Single).unwrap();
    let error = decode(&mut decoder, &units).unwrap_err();
    assert!(matches!(error, CodecError::Decode { .. }), "{error:?}");
}

#[test]
fn a_program_that_is_no_worker_is_found_out() {
    for (program, says) in [("/bin/true", "ended"), ("/nowhere/at/all", "No such file")] {
        let error = Launcher::new(LauncherConfig {
            program: program.into(),
            ..config("none")
        });
        let error = error.unwrap_err().to_string();
        assert!(error.contains(says), "{program}: {error}");
    }
}
