//! An engine whose videos are decoded in processes of their own: what becomes of the processes is no
//! matter to anybody but those who wait for the very frames.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Place, ask, ends, frames, next, request, slow_clip, until};
use engine::{DecodeWorker, Engine, EngineConfig, FrameErrorCode, Isolation};
use rustix::process::{Pid, Signal, kill_process};
use testkit::{Recipe, footage, jpeg};

/// This program is its own decoding process: started so, it runs this test alone.
#[test]
fn a_worker() {
    if std::env::var_os("DECODE_WORKER").is_some() {
        engine::decode_worker();
    }
}

fn in_processes(config: &mut EngineConfig, mark: &str) {
    config.isolation = Isolation::Process(DecodeWorker {
        program: std::env::current_exe().unwrap(),
        // The mark tells one test's processes from another's; no test has it in its name.
        arguments: ["a_worker", "--exact", "--skip", mark]
            .map(Into::into)
            .into(),
        environment: vec![("DECODE_WORKER".into(), "1".into())],
        required: true,
    });
}

/// Processes that decode for this one.
fn workers(mark: &str) -> Vec<Pid> {
    let own = format!("{} ", std::process::id());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let read = |name| fs::read(entry.path().join(name)).unwrap_or_default();
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let rest = stat.rsplit(") ").next().unwrap_or_default();
        let is_child = rest.get(2..).is_some_and(|r| r.starts_with(&own));
        let is_marked = String::from_utf8_lossy(&read("cmdline")).contains(mark);
        if is_child && is_marked && !rest.starts_with('Z') {
            found.extend(Pid::from_raw(id));
        }
    }
    found
}

/// Ends every worker as soon as it is given something, until it is told to stop.
struct Hunter {
    hunting: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Hunter {
    fn start(mark: &'static str, engine: &Engine) -> Self {
        let hunting = Arc::new(AtomicBool::new(true));
        let (on, engine) = (Arc::clone(&hunting), engine.clone());
        let thread = std::thread::spawn(move || {
            let mut seen = 0;
            while on.load(Ordering::Relaxed) {
                let given = engine.counters().access_units_decoded;
                if given != seen {
                    seen = given;
                    for worker in workers(mark) {
                        kill_process(worker, Signal::KILL).ok();
                    }
                }
                std::thread::yield_now();
            }
        });
        Self {
            hunting,
            thread: Some(thread),
        }
    }
}

impl Drop for Hunter {
    fn drop(&mut self) {
        self.hunting.store(false, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_costs_no_frame() {
    const MARK: &str = "killed_once";
    let place = Place::with(&["default_gop"]);
    place.write("slow", &slow_clip());
    let engine = place.engine(|config| in_processes(config, MARK)).await;
    let video = engine.open("slow").await.unwrap();
    let all = frames(&video);
    let wanted = [all[110], all[60], all[115], all[30], all[119], all[0]];
    for &sample in &wanted {
        let mut ticket = request(&engine, &video, &[sample]);
        let before = engine.counters().access_units_decoded;
        until(|| engine.counters().access_units_decoded > before || sample == all[0]).await;
        for worker in workers(MARK) {
            kill_process(worker, Signal::KILL).ok();
        }
        let outcome = next(&mut ticket).await.unwrap();
        let image = outcome.result.unwrap().bytes;
        let number = all.iter().position(|s| *s == sample).unwrap();
        assert_eq!(jpeg::frame_number(&image).unwrap() as usize, number);
    }
    let counters = engine.counters();
    assert!(counters.workers_lost > 0, "{counters:?}");
    assert_eq!(counters.suspects, 0);
    drop((engine, video));
    until(|| workers(MARK).is_empty()).await;
}

/// What a video would be whose access units crash the decoder: each process that decodes it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_video_that_ends_its_workers_again_and_again_is_let_be() {
    const MARK: &str = "killed_always";
    let place = Place::with(&["bits_10"]);
    let recipe = Recipe::new("slow_gops")
        .size(1280, 720)
        .frames(120)
        .preset("ultrafast")
        .x265("keyint=20:min-keyint=20:scenecut=0:bframes=0");
    place.write(
        "slow",
        &fs::read(footage::make(&recipe).unwrap().path).unwrap(),
    );
    let engine = place.engine(|config| in_processes(config, MARK)).await;
    let (bad, good) = (
        engine.open("slow").await.unwrap(),
        engine.open("bits_10").await.unwrap(),
    );
    let of_bad = frames(&bad);
    let hunter = Hunter::start(MARK, &engine);
    let mut messages = Vec::new();
    // One of the last of each GOP in turn, so that there is much to be ended in. Now and then one comes
    // through: others are asked for then.
    for round in 0.. {
        if engine.counters().suspects > 0 {
            break;
        }
        assert!(round < 300, "{messages:?}");
        let sample = of_bad[round % 6 * 20 + 19 - round / 6 % 12];
        let outcome = ends(ask(&engine, &bad, &[sample])).await.remove(0);
        if let Err(error) = outcome.result {
            assert_eq!(error.code, FrameErrorCode::DecodeFailed, "{error}");
            messages.push(error.message);
        }
    }
    drop(hunter);
    // It is let be, and says so; others are served.
    let outcome = ends(ask(&engine, &bad, &of_bad[..1])).await.remove(0);
    let error = outcome.result.unwrap_err();
    assert!(error.message.contains("it is not decoded"), "{error}");
    let of_good = frames(&good);
    for (number, outcome) in ends(ask(&engine, &good, &of_good)).await.iter().enumerate() {
        let image = &outcome.result.as_ref().unwrap().bytes;
        assert_eq!(jpeg::frame_number(image).unwrap() as usize, number);
    }
}

#[tokio::test]
async fn without_a_program_there_are_threads_or_no_engine() {
    let place = Place::with(&["default_gop"]);
    let config = |required| EngineConfig {
        isolation: Isolation::Process(DecodeWorker {
            program: "/nowhere/decode".into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            required,
        }),
        ..EngineConfig::default()
    };
    let store = || storage::Store::local(&place.path(".")).unwrap();
    let refused = Engine::new(store(), config(true)).await.unwrap_err();
    assert!(refused.to_string().contains("No such file"), "{refused}");
    let engine = Engine::new(store(), config(false)).await.unwrap();
    let video = engine.open("default_gop").await.unwrap();
    let outcome = ask(&engine, &video, &frames(&video)[..1]).await.remove(0);
    assert!(outcome.result.is_ok());
}

/// Limits of what one frame may cost.
#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_costs_too_much_is_refused() {
    let place = Place::new();
    place.write("slow", &slow_clip());
    let engine = place.engine(|c| c.max_access_units = Some(50)).await;
    let video = engine.open("slow").await.unwrap();
    let all = frames(&video);
    // No B-frames, one reference each: a frame depends on all before it.
    let near = ask(&engine, &video, &all[49..50]).await.remove(0);
    assert!(near.result.is_ok());
    let far = ask(&engine, &video, &all[50..51]).await.remove(0);
    let error = far.result.unwrap_err();
    assert_eq!(error.code, FrameErrorCode::GopTooLarge);
    assert!(error.message.contains("51 access units"), "{error}");

    let engine = place
        .engine(|c| c.decode_time = Duration::from_millis(1))
        .await;
    let video = engine.open("slow").await.unwrap();
    let far = ask(&engine, &video, &all[119..]).await.remove(0);
    let error = far.result.unwrap_err();
    assert_eq!(error.code, FrameErrorCode::DecodeFailed);
    assert!(error.message.contains("longer than the 0.001 s"), "{error}");
}
