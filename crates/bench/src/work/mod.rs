//! The measurements.

mod ahead;
mod burst;
mod cold;
mod crowd;
mod door;
mod http;
mod isolation;
mod many;
mod memory;
mod s3;
mod scrub;
mod sequential;
mod viewer;
mod warm;

use std::path::Path;

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::clips::{self, Clip, Shelf, Structure};
use crate::limit::{Frame, Limit};
use crate::peers::{self, Missing, Peer};
use crate::report::{Report, Row};

/// What measurements share.
pub(crate) struct Bench {
    pub(crate) quick: bool,
    pub(crate) clips: Vec<Clip>,
    pub(crate) shelf: Shelf,
    pub(crate) limit: Limit,
    pub(crate) peers: Vec<Peer>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) memory_minutes: f64,
    /// Milliseconds that cold random frames took, by who made them and on which clip, for what is
    /// compared with them later.
    pub(crate) cold: Vec<cold::Cold>,
    pub(crate) random: StdRng,
}

/// One measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Section {
    /// Random frames of videos that were never touched
    Cold,
    /// All frames in order
    Sequential,
    /// Frames one by one at the pace of play
    Ahead,
    /// Frames that are in the cache
    Warm,
    /// A person with a timeline
    Scrub,
    /// 60 requests in 300 ms
    Burst,
    /// 1 to 64 clients
    Clients,
    /// The server's memory
    Memory,
    /// Frames out of a bucket
    S3,
    /// Frames by URL
    Http,
    /// Drags in the page, in a browser
    Viewer,
    /// Decoding in processes of its own, against threads
    Isolation,
    /// Frames beside a thousand connections that mean no good
    Door,
}

impl Section {
    /// In the order in which they run.
    pub(crate) const ALL: [Self; 13] = [
        Self::Cold,
        Self::Sequential,
        Self::Ahead,
        Self::Warm,
        Self::Scrub,
        Self::Burst,
        Self::Clients,
        Self::Memory,
        Self::S3,
        Self::Http,
        Self::Viewer,
        Self::Isolation,
        Self::Door,
    ];

    /// Runs it. What fails is a row of the report and stops nothing else.
    pub(crate) async fn run(self, bench: &mut Bench, report: &mut Report) -> Result<()> {
        let done = match self {
            Self::Cold => cold::measure(bench, report).await,
            Self::Sequential => sequential::measure(bench, report).await,
            Self::Ahead => ahead::measure(bench, report).await,
            Self::Warm => warm::measure(bench, report).await,
            Self::Scrub => scrub::measure(bench, report).await,
            Self::Burst => burst::measure(bench, report).await,
            Self::Clients => crowd::measure(bench, report).await,
            Self::Memory => memory::measure(bench, report).await,
            Self::S3 => s3::measure(bench, report).await,
            Self::Http => http::measure(bench, report).await,
            Self::Viewer => viewer::measure(bench, report).await,
            Self::Isolation => isolation::measure(bench, report).await,
            Self::Door => door::measure(bench, report).await,
        };
        match done {
            Ok(()) => Ok(()),
            Err(error) => report.row(Row::failed("this measurement failed", format!("{error:#}"))),
        }
    }
}

impl Bench {
    /// Makes clips, opens decoders, starts peers.
    pub(crate) fn new(
        quick: bool,
        out: &Path,
        environment: &Path,
        memory_minutes: Option<f64>,
    ) -> Result<Self> {
        let wanted = if quick {
            &clips::SHORT[..]
        } else {
            &clips::FULL
        };
        let made = wanted.iter().map(|(lines, structure)| {
            eprintln!("clip: {lines}p, {structure:?}");
            clips::make(*lines, *structure).with_context(|| format!("{lines}p, {structure:?}"))
        });
        let clips = made.collect::<Result<Vec<_>>>()?;
        let (peers, missing) = peers::start(environment);
        Ok(Self {
            quick,
            clips,
            shelf: Shelf::new(out.join("videos"))?,
            limit: Limit::new()?,
            peers,
            missing,
            memory_minutes: memory_minutes.unwrap_or(if quick { 0.5 } else { 2.0 }),
            cold: Vec::new(),
            random: StdRng::seed_from_u64(7),
        })
    }

    /// The peers' versions, and which are not there.
    pub(crate) fn tell_peers(&self, report: &mut Report) {
        for peer in &self.peers {
            let pair = (format!("peer {}", peer.name), peer.version.clone());
            report.environment.push(pair);
        }
        for peer in &self.missing {
            let name = format!("peer {}", peer.name);
            let why = format!("not installed (`make bench-peers`): {}", peer.why);
            report.environment.push((name, why));
        }
    }

    /// The clip of this kind.
    pub(crate) fn clip(&self, lines: usize, structure: Structure) -> Result<&Clip> {
        let found = |c: &&Clip| c.lines == lines && c.structure == structure;
        let clip = self.clips.iter().find(found);
        clip.with_context(|| format!("the run has no clip {lines}p, {structure:?}"))
    }
}

/// A random frame of a clip.
pub(crate) fn any_frame(random: &mut StdRng, clip: &Clip) -> Result<Frame> {
    let frames = clip.source.frames();
    let at = random.random_range(0..frames.len().max(1));
    frames.get(at).copied().context("a clip without frames")
}

/// Whether the image shows this frame: its number is burnt into the picture.
pub(crate) fn shows(image: &[u8], number: u32) -> bool {
    testkit::jpeg::frame_number(image).ok() == Some(number)
}

/// In milliseconds.
pub(crate) fn ms(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
