//! A random frame of a video that the server has never decoded anything of, with caches and
//! harvest off: each turn asks for one frame of a copy of its own. The same frame then from the
//! limit, and from the peers, who keep one file open, but do not profit from what they have decoded
//! before.

use anyhow::Result;
use rand::rngs::StdRng;

use crate::client::Client;
use crate::clips::{Clip, Shelf, Structure};
use crate::limit::{Cores, Limit};
use crate::peers::Peer;
use crate::report::{Goal, Plot, Report, Row, number};
use crate::server::Setup;
use crate::stats::{mean, median, paired, quantile};
use crate::work::{Bench, any_frame, ms, shows};

/// What one clip gave, in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Cold {
    pub(crate) lines: usize,
    pub(crate) structure: Structure,
    pub(crate) served: Vec<f64>,
    pub(crate) limit: Vec<f64>,
    /// Name, times of the first of these frames, wrong frames.
    pub(crate) peers: Vec<(&'static str, Vec<f64>, usize)>,
    /// Access units of the closure, and from the IRAP on.
    units: Vec<(f64, f64)>,
    /// Access units that the server says it decoded, warming turns included.
    decoded: Option<f64>,
    /// Those of all closures, warming turns included.
    needed: usize,
    wrong: usize,
    /// Images that are not byte for byte those of the limit.
    differing: usize,
}

impl Cold {
    /// The times of the peer whose median is the least, and its name.
    pub(crate) fn fastest_peer(&self) -> Option<(&[f64], &'static str)> {
        let exact = self
            .peers
            .iter()
            .filter(|(_, times, wrong)| !times.is_empty() && *wrong == 0);
        let times = exact.map(|(name, times, _)| (times.as_slice(), *name));
        times.min_by(|a, b| median(a.0).total_cmp(&median(b.0)))
    }
}

/// How often, by what a frame costs.
fn turns(quick: bool, clip: &Clip) -> (usize, usize) {
    let with_peers = matches!(clip.structure, Structure::Default | Structure::Camera);
    let (ours, theirs) = match clip.lines {
        2160 => (8, 3),
        1080 => (30, 10),
        _ => (40, 12),
    };
    let theirs = if with_peers { theirs } else { 0 };
    if quick {
        (ours / 2, theirs / 2)
    } else {
        (ours, theirs)
    }
}

/// All clips with all cores, then one with one core.
pub(crate) async fn measure(bench: &mut Bench, report: &mut Report) -> Result<()> {
    report.begin(
        "cold",
        "random frames of untouched videos, caches and harvest off",
    )?;
    let mut sizes = Plot {
        title: "Access units that a random frame needs".into(),
        x: "access units",
        y: "share of frames",
        log_x: true,
        curves: Vec::new(),
    };
    for at in 0..bench.clips.len() {
        let Bench {
            clips,
            shelf,
            limit,
            peers,
            random,
            quick,
            ..
        } = bench;
        let Some(clip) = clips.get(at) else { break };
        let cold = one(clip, shelf, limit, peers, random, *quick, Cores::All).await?;
        rows(report, clip, &cold, &bench.cold)?;
        let mut times = Plot::distributions(format!("Cold random frame, {}", clip.name), "ms");
        times.distribution("server", &cold.served);
        times.distribution("limit", &cold.limit);
        for (name, peer, _) in &cold.peers {
            times.distribution(*name, peer);
        }
        report.plots.push(times);
        let closures: Vec<f64> = cold.units.iter().map(|u| u.0).collect();
        sizes.distribution(format!("{}, closure", clip.name), &closures);
        if clip.structure == Structure::Default {
            let prefixes: Vec<f64> = cold.units.iter().map(|u| u.1).collect();
            sizes.distribution(format!("{}, from the IRAP", clip.name), &prefixes);
        }
        bench.cold.push(cold);
    }
    report.plots.push(sizes);
    let Bench {
        clips,
        shelf,
        limit,
        random,
        quick,
        ..
    } = bench;
    if let Some(clip) = clips
        .iter()
        .find(|c| c.lines == 1080 && c.structure == Structure::Default)
    {
        let cold = one(clip, shelf, limit, &mut [], random, *quick, Cores::One).await?;
        report.row(against_limit(
            "a server with one worker, one core",
            clip,
            &cold,
        ))?;
    }
    Ok(())
}

async fn one(
    clip: &Clip,
    shelf: &Shelf,
    limit: &mut Limit,
    peers: &mut [Peer],
    random: &mut StdRng,
    quick: bool,
    cores: Cores,
) -> Result<Cold> {
    /// Turns in which decoders are opened, which are not counted.
    const WARMING: usize = 2;
    let (turns, peer_turns) = turns(quick, clip);
    let names = shelf.put(clip, turns + WARMING)?;
    let setup = Setup {
        one_worker: cores == Cores::One,
        ..Setup::COLD
    };
    let server = setup.start(shelf)?;
    let mut cold = Cold {
        lines: clip.lines,
        structure: clip.structure,
        served: Vec::new(),
        limit: Vec::new(),
        peers: Vec::new(),
        units: Vec::new(),
        decoded: None,
        needed: 0,
        wrong: 0,
        differing: 0,
    };
    if peer_turns > 0 {
        for peer in peers.iter_mut() {
            peer.open(clip)?;
            cold.peers.push((peer.name, Vec::new(), 0));
        }
    }
    let mut client: Option<Client> = None;
    for (turn, name) in names.iter().enumerate() {
        let counts = turn >= WARMING;
        match &mut client {
            Some(client) => client.set_video(name).await?,
            None => client = Some(Client::open(&server.websocket(), name).await?),
        }
        let Some(client) = &mut client else { continue };
        let frame = any_frame(random, clip)?;
        let closure = clip.source.closure(frame.number)?;
        let first = (turn % 2 == 1).then(|| limit.frame(&clip.source, &closure, cores));
        let (served, image) = client.frame(frame).await?;
        let (least, reference) = match first {
            Some(measured) => measured?,
            None => limit.frame(&clip.source, &closure, cores)?,
        };
        cold.needed += closure.len();
        if counts {
            cold.served.push(ms(served));
            cold.limit.push(ms(least));
            cold.units
                .push((closure.len() as f64, closure.from_irap as f64));
            cold.wrong += usize::from(!shows(&image, frame.number));
            cold.differing += usize::from(image != reference);
        }
        if turn >= peer_turns + WARMING {
            continue;
        }
        for (peer, (_, times, wrong)) in peers.iter_mut().zip(&mut cold.peers) {
            let (time, image) = peer.frame(frame)?;
            if counts {
                times.push(ms(time));
                *wrong += usize::from(!shows(&image, frame.number));
            }
        }
    }
    if let Some(client) = &mut client {
        cold.decoded = client.figure("access_units_decoded").await?;
    }
    Ok(cold)
}

fn against_limit(work: &str, clip: &Clip, cold: &Cold) -> Row {
    let ratio = paired(&cold.served, &cold.limit);
    let column =
        |pick: fn(&(f64, f64)) -> f64| mean(&cold.units.iter().map(pick).collect::<Vec<_>>());
    let decoded = cold.decoded.map_or_else(String::new, |decoded| {
        format!("; the server decoded {decoded} for {} needed", cold.needed)
    });
    let note = format!(
        "{} frames, {} wrong, {} not byte for byte the limit's; p95 {} ms; {} of {} access units{decoded}",
        cold.served.len(),
        cold.wrong,
        cold.differing,
        number(quantile(&cold.served, 0.95)),
        number(column(|u| u.0)),
        number(column(|u| u.1)),
    );
    Row::new(work, &clip.name, median(&cold.served), "ms")
        .ratio(ratio, format!("limit ({} ms)", number(median(&cold.limit))))
        .goal(Goal::at_most(ratio, 1.05, "× limit"))
        .note(note)
}

fn rows(report: &mut Report, clip: &Clip, cold: &Cold, earlier: &[Cold]) -> Result<()> {
    report.row(against_limit("server", clip, cold))?;
    let ours = median(&cold.served);
    for (name, times, wrong) in &cold.peers {
        let note = format!("{} frames, {wrong} wrong", times.len());
        // On the frames that both gave.
        let row = Row::new(*name, &clip.name, median(times), "ms")
            .ratio(paired(times, &cold.served), "server".to_owned());
        report.row(row.note(note))?;
    }
    if let (Some((theirs, name)), Structure::Default) = (cold.fastest_peer(), clip.structure) {
        let gain = paired(theirs, &cold.served);
        let of = format!("faster than {name} ({} ms)", number(median(theirs)));
        let row = Row::new("server, against the fastest peer", &clip.name, ours, "ms")
            .ratio(gain, of)
            .goal(Goal::at_least(gain, 1.5, "× fastest peer"));
        report.row(row)?;
    }
    let same = |c: &&Cold| c.lines == cold.lines && c.structure == Structure::Default;
    if let Structure::Converted = clip.structure
        && let Some((theirs, name)) = earlier.iter().find(same).and_then(Cold::fastest_peer)
    {
        // Other frames of another file: there are no pairs.
        let theirs = median(theirs);
        let gain = theirs / ours;
        let of = format!(
            "faster than {name} on the default clip ({} ms)",
            number(theirs)
        );
        let row = Row::new("server, against the fastest peer", &clip.name, ours, "ms")
            .ratio(gain, of)
            .goal(Goal::at_least(gain, 20.0, "× that peer"));
        report.row(row)?;
    }
    Ok(())
}
