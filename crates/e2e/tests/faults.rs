//! Every fault of a network or an S3 server, at every stage of a frame's way: the right frame
//! comes, or a clear error does, in time; the session lives on, and nothing is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Client, memory_mib, offsets};
use futures::StreamExt;
use futures::stream;
use testkit::bucket::Bucket;
use testkit::garage::Garage;
use testkit::long::{Long, MoovPlace};
use testkit::programs::Server;
use testkit::proxy::{Fault, Part, Proxy, Rule};
use testkit::{footage, jpeg};

/// What may go wrong, but for the object's being replaced.
fn faults() -> Vec<Fault> {
    let refused = |status, code| Fault::Refused { status, code };
    vec![
        Fault::Late(Duration::from_millis(300)),
        refused(503, "SlowDown"),
        refused(503, "ServiceUnavailable"),
        refused(500, "InternalError"),
        refused(403, "AccessDenied"),
        refused(404, "NoSuchKey"),
        Fault::Reset,
        Fault::ResetMidBody,
        Fault::CutShort,
        Fault::HalfBody,
        Fault::WrongRange,
        Fault::StaleTag,
        Fault::Hang,
        Fault::HangMidBody,
    ]
}

/// Whether a fault that is over when the same is asked again must not be seen at all.
fn passes(fault: &Fault) -> bool {
    match fault {
        Fault::Late(_) | Fault::Reset | Fault::ResetMidBody | Fault::CutShort => true,
        Fault::HalfBody | Fault::Hang | Fault::HangMidBody => true,
        Fault::Refused { status, .. } => *status >= 500,
        Fault::WrongRange | Fault::StaleTag | Fault::Meanwhile(_) => false,
    }
}

/// Whether what comes of a body until the fault is kept, so that even a fault that stays may be
/// got over, piece by piece.
fn comes_in_pieces(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::ResetMidBody | Fault::CutShort | Fault::HalfBody | Fault::HangMidBody
    )
}

/// `--storage-timeout` of the server whose faults stay, and when it hangs for certain, however
/// busy the machine is.
const SHORT: (&str, Duration) = ("3s", Duration::from_secs(60));
/// Of the one whose faults pass: time enough for what is tried again, also on a busy machine.
const LONG: (&str, Duration) = ("30s", Duration::from_secs(180));

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    Head,
    Tail,
    Moov,
    Gop,
}

const STAGES: [Stage; 4] = [Stage::Head, Stage::Tail, Stage::Moov, Stage::Gop];

/// The video, of which every case has a copy of its own: `moov` is neither in its first nor in
/// its last bytes.
struct Video {
    moov: Range<u64>,
    /// A frame far from the first GOP, its GOP, and the number that it shows.
    frame: (u64, u32),
    gop: Range<u64>,
}

impl Video {
    async fn put(bucket: &Bucket) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long.mp4");
        let long = Long {
            rounds: 12,
            step: None,
            written: 1,
            moov: MoovPlace::Before(1 << 20),
        };
        let video = long.write(&path).unwrap();
        assert!(video.moov.start > 256 << 10, "{:?}", video.moov);
        bucket.put_file("video", &path).await.unwrap();
        let round = (video.media.end - video.media.start) / 12;
        let start = video.media.start + 8 * round;
        let mut of_round = video.frames.iter().filter(|f| f.0 >= start);
        Self {
            moov: video.moov,
            // Some frames into its GOP.
            frame: *of_round.nth(7).unwrap(),
            gop: start..start + round,
        }
    }

    fn part(&self, stage: Stage) -> Part {
        match stage {
            Stage::Head => Part::Head,
            Stage::Tail => Part::Tail,
            Stage::Moov => Part::Touching(self.moov.clone()),
            Stage::Gop => Part::Touching(self.gop.clone()),
        }
    }
}

struct Place {
    /// With a short and with a long time for the storage.
    servers: [Server; 2],
    proxy: Proxy,
    bucket: Arc<Bucket>,
    video: Video,
}

#[derive(Clone, Debug)]
struct Case {
    fault: Fault,
    stage: Stage,
    /// The first request only, or all.
    once: bool,
    key: String,
}

/// How a case ended.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    Frame,
    /// The code of the frame's error.
    Code(String),
    /// The video could not be set: code and sentence.
    Refused(String, String),
}

impl End {
    fn short(&self) -> String {
        match self {
            Self::Frame => "frame".into(),
            Self::Code(code) => code.clone(),
            Self::Refused(code, _) => format!("SetVideo: {code}"),
        }
    }
}

impl Place {
    async fn start() -> Self {
        let bucket = Arc::new(Bucket::start().unwrap());
        let video = Video::put(&bucket).await;
        let proxy = Proxy::before(bucket.endpoint()).unwrap();
        let servers = [SHORT, LONG].map(|(timeout, _)| {
            let args = ["--cache-size", "0", "--harvest", "off"];
            let args = [&args[..], &["--storage-timeout", timeout]].concat();
            bucket.serve_by(&proxy.endpoint(), &args).unwrap()
        });
        Self {
            servers,
            proxy,
            bucket,
            video,
        }
    }

    /// One session that meets the fault; then the same session when it is over.
    async fn run(&self, case: &Case) -> End {
        self.bucket.copy("video", &case.key).await.unwrap();
        let rule = Rule::new(case.fault.clone())
            .key(&case.key)
            .part(self.video.part(case.stage));
        let times = if case.once { 1 } else { u32::MAX };
        self.proxy.rule(rule.times(times));
        let stays = !case.once && !matches!(case.fault, Fault::Late(_));
        let (server, patience) = match stays {
            true => (&self.servers[0], SHORT.1),
            false => (&self.servers[1], LONG.1),
        };
        let mut client = Client::connect(server).await;
        let work = self.ask(&mut client, &case.key);
        let end = tokio::time::timeout(patience, work).await;
        let end = end.unwrap_or_else(|_| panic!("it hangs: {case:?}"));

        self.proxy.heal(&case.key);
        let (offset, number) = match case.fault {
            // It is another video by now.
            Fault::Meanwhile(_) => {
                let clip = footage::clip("closed_gop").unwrap();
                (offsets(&clip.path)[0], 0)
            }
            _ => self.video.frame,
        };
        // The same session, and the same video. A busy machine may need a second try in so short a
        // time.
        let begun = Instant::now();
        loop {
            let set = client.set_video(&case.key).await;
            let answer = match set["ok"] == true {
                true => client.frames(&[offset]).await.remove(0),
                false => Err(client.codes.pop().unwrap()),
            };
            match answer {
                Ok(image) => {
                    let shown = jpeg::frame_number(&image).unwrap();
                    assert_eq!(shown, number, "{case:?}, when it is over");
                    break;
                }
                Err(code) if code == "storage_failed" && begun.elapsed() < patience => {}
                Err(code) => panic!("{case:?}, when it is over: {code}"),
            }
        }
        end
    }

    async fn ask(&self, client: &mut Client, key: &str) -> End {
        if client.set_video(key).await["ok"] != true {
            let code = client.codes.pop().unwrap();
            return End::Refused(code, client.refusals.pop().unwrap());
        }
        let (offset, number) = self.video.frame;
        match client.frames(&[offset]).await.remove(0) {
            Ok(image) => {
                let shown = jpeg::frame_number(&image).unwrap();
                assert_eq!(shown, number, "a wrong picture: {key}");
                End::Frame
            }
            Err(code) => End::Code(code),
        }
    }

    /// What a case may come to.
    fn check(case: &Case, end: &End) -> Result<(), String> {
        let Case {
            fault, stage, once, ..
        } = case;
        let replaced = matches!(fault, Fault::Meanwhile(_));
        let known = |codes: &[&str], code: &String| codes.contains(&code.as_str());
        let good = match end {
            // A fault that stays cannot be got round; but what is late comes.
            End::Frame => *once || matches!(fault, Fault::Late(_)) || comes_in_pieces(fault),
            // Nothing of the picture is known before the video is set.
            End::Refused(code, sentence) => {
                let secret = [Garage::ACCESS_KEY, Garage::SECRET_KEY];
                let clear = sentence.len() > case.key.len() + 10
                    && !secret.iter().any(|s| sentence.contains(s));
                let codes = ["storage_failed", "video_changed", "not_found"];
                clear && *stage != Stage::Gop && known(&codes, code)
            }
            // Of another video than the one that the offset was meant for.
            End::Code(code) if code == "unknown_offset" => replaced && *stage != Stage::Gop,
            End::Code(code) => {
                *stage == Stage::Gop && known(&["storage_failed", "video_changed"], code)
            }
        };
        let must_pass = passes(fault) && (*once || matches!(fault, Fault::Late(_)));
        if good && (!must_pass || *end == End::Frame) {
            return Ok(());
        }
        Err(format!("{case:?} came to {end:?}"))
    }

    /// The object is replaced just before a request for it goes on.
    fn replaced(&self, key: &str) -> Fault {
        let (bucket, key) = (Arc::clone(&self.bucket), key.to_owned());
        let path = footage::clip("closed_gop").unwrap().path;
        Fault::Meanwhile(Arc::new(move || {
            let (bucket, key, path) = (Arc::clone(&bucket), key.clone(), path.clone());
            let work = async move { bucket.put_file(&key, &path).await.unwrap() };
            Box::pin(work) as Pin<Box<dyn Future<Output = ()> + Send>>
        }))
    }

    fn cases(&self, round: usize) -> Vec<Case> {
        let mut cases = Vec::new();
        for stage in STAGES {
            for once in [true, false] {
                for (n, fault) in faults().into_iter().enumerate() {
                    cases.push(Case {
                        fault,
                        stage,
                        once,
                        key: format!("{stage:?}-{once}-{n}-{round}"),
                    });
                }
            }
            // It is another one from then on, so once is for good.
            let key = format!("{stage:?}-replaced-{round}");
            cases.push(Case {
                fault: self.replaced(&key),
                stage,
                once: true,
                key,
            });
        }
        cases
    }
}

/// Descriptors and threads of a server.
fn holds(server: &Server) -> (usize, usize) {
    let count = |what: &str| {
        let folder = format!("/proc/{}/{what}", server.id());
        Path::new(&folder).read_dir().unwrap().count()
    };
    (count("fd"), count("task"))
}

#[tokio::test]
async fn every_fault_at_every_stage_is_survived() {
    let place = Place::start().await;
    // A first session brings everything to its size.
    for server in &place.servers {
        let mut client = Client::connect(server).await;
        assert_eq!(place.ask(&mut client, "video").await, End::Frame);
    }
    let mut wrong = Vec::new();
    let mut table: BTreeMap<(String, Stage, bool), BTreeSet<String>> = BTreeMap::new();
    let mut sizes = Vec::new();
    for round in 0..2 {
        let begun = Instant::now();
        let mark = place.proxy.mark();
        let cases = place.cases(round);
        let ends = stream::iter(&cases).map(async |case| (case, place.run(case).await));
        let ends: Vec<_> = ends.buffer_unordered(16).collect().await;
        for (case, end) in &ends {
            wrong.extend(Place::check(case, end).err());
            let key = (case.fault.name(), case.stage, case.once);
            table.entry(key).or_default().insert(end.short());
        }
        let seen = place.proxy.since(mark);
        let met = seen.iter().filter(|s| s.fault.is_some()).count();
        println!(
            "round {round}: {} cases in {:.1?}; {} requests, {met} of them met a fault, at most \
             {} at once, {} connections so far",
            cases.len(),
            begun.elapsed(),
            seen.len(),
            place.proxy.most_at_once(),
            place.proxy.connections()
        );
        for case in &cases {
            let met = seen
                .iter()
                .any(|s| s.asked.key == case.key && s.fault.is_some());
            if !met {
                wrong.push(format!("{case:?} was never met"));
            }
        }
        // Everybody has gone: no request is left over, and what is kept is kept for the next one.
        let begun = Instant::now();
        while place.proxy.pending() > 0 {
            assert!(
                begun.elapsed() < LONG.1,
                "{} pending",
                place.proxy.pending()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for server in &place.servers {
            assert!(common::health(server).starts_with("HTTP/1.1 200"));
            sizes.push((holds(server), memory_mib(server, "VmRSS")));
        }
    }
    println!("{:24} {:5} {:28} {:28}", "fault", "stage", "once", "always");
    let faults: BTreeSet<&String> = table.keys().map(|k| &k.0).collect();
    for fault in faults {
        for stage in STAGES {
            let ends = |once| {
                let ends = table.get(&(fault.clone(), stage, once));
                let ends = ends.map(|e| e.iter().cloned().collect::<Vec<_>>().join(", "));
                ends.unwrap_or_default()
            };
            let stage = format!("{stage:?}").to_lowercase();
            println!("{fault:24} {stage:5} {:28} {:28}", ends(true), ends(false));
        }
    }
    println!("(descriptors, threads), MiB of both servers after each round: {sizes:.1?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for server in [0, 1] {
        let ((files, threads), memory) = sizes[server];
        let ((files_after, threads_after), memory_after) = sizes[server + 2];
        // Connections to the store are kept, up to as many as may be used at once.
        assert!(files < 200 && files_after < files + 64, "{sizes:?}");
        assert!(threads < 100 && threads_after < 100, "{sizes:?}");
        assert!(memory_after < memory + 32.0, "{sizes:?}");
    }
}
