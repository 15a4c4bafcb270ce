//! An opened video.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use media::demux::DemuxError;
use media::h265::{ParameterSets, Sps};
use media::heads::Heads;
use media::{ColourDescription, VideoIndex};
use storage::{Object, ObjectVersion};

use crate::beside::{self, Refused, Sidecar};
use crate::catalog::IndexedObject;
use crate::error::{FrameError, OpenError};
use crate::schedule::VideoKey;

/// A video that was opened: one version of one object, and its index.
#[derive(Debug)]
pub struct Video {
    key: VideoKey,
    name: String,
    object: Object,
    index: VideoIndex,
    info: VideoInfo,
    /// Reads have shown that the object is another version now.
    changed: AtomicBool,
    /// The index comes from a file that lies beside the video.
    sidecar: Option<Sidecar>,
}

/// What a client is told of a video.
#[derive(Clone, PartialEq, Debug)]
pub struct VideoInfo {
    /// Width of a served picture: after cropping and turning.
    pub width: u32,
    /// Height of a served picture: after cropping and turning.
    pub height: u32,
    /// Bits per luma sample.
    pub bit_depth: u8,
    /// `chroma_format_idc`: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format_idc: u8,
    /// Codec string of ISO/IEC 14496-15, e.g. `hvc1.1.6.L93.B0`.
    pub codec: String,
    /// Name of the profile.
    pub profile: &'static str,
    /// Colour description: the stream's VUI, completed from the container.
    pub colour: ColourDescription,
    /// Sample aspect ratio, horizontal and vertical; as coded, not turned.
    pub pixel_aspect: Option<(u32, u32)>,
    /// Mean frames per second; 0 where the video has no duration.
    pub fps: f64,
    /// Duration in milliseconds.
    pub duration_ms: f64,
}

impl Video {
    pub(crate) fn new(
        name: &str,
        opened: IndexedObject,
        sidecar: Option<Sidecar>,
    ) -> Result<Self, OpenError> {
        let IndexedObject { object, index } = opened;
        let sets = ParameterSets::from_nals(index.parameter_sets());
        let Some(sps) = sets.first_sps() else {
            return Err(OpenError::NotVideo {
                name: name.to_owned(),
                error: DemuxError::Damaged {
                    what: "no readable sequence parameter set (SPS) in hvcC or in the stream"
                        .into(),
                },
            });
        };
        let info = VideoInfo::new(&index, sps);
        let key = key_of(&object);
        Ok(Self {
            // What an index file says is kept apart from what the container says.
            key: match &sidecar {
                Some(sidecar) => format!("{key}#{:016x}", sidecar.fingerprint()).into(),
                None => key,
            },
            name: name.to_owned(),
            object,
            index,
            info,
            changed: AtomicBool::new(false),
            sidecar,
        })
    }

    /// Tells this version of this object from every other.
    pub fn identity(&self) -> &str {
        &self.key
    }

    /// The name it was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object, pinned to one version.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// Its index.
    pub fn index(&self) -> &VideoIndex {
        &self.index
    }

    /// What a client is told.
    pub fn info(&self) -> &VideoInfo {
        &self.info
    }
}

impl Video {
    /// Whether the object is no longer the version that was opened. Once that is known, nothing
    /// more is served of it: who wants the new version opens it again.
    pub fn is_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    pub(crate) fn set_changed(&self) {
        self.changed.store(true, Ordering::Release);
    }

    /// Tells it from every other version of every other object.
    pub(crate) fn key(&self) -> &VideoKey {
        &self.key
    }

    /// About what it takes in memory, in bytes.
    pub fn weight(&self) -> u64 {
        let heads = self.sidecar.as_ref().map_or(0, Sidecar::heap_bytes);
        4096 + (self.index.heap_bytes() + heads) as u64
    }

    /// What its samples depend on, where an index file says so and is believed.
    pub(crate) fn heads(&self) -> Option<&Heads> {
        self.sidecar.as_ref()?.heads()
    }

    /// The index file is wrong of a sample.
    pub(crate) fn doubt(&self, refused: &Refused) {
        if let Some(sidecar) = &self.sidecar {
            sidecar.doubt(refused, &self.object);
        }
    }

    /// Whether the index can still be gone by, where its file was doubted.
    ///
    /// # Errors
    /// It cannot.
    pub(crate) async fn settle(&self) -> Result<(), FrameError> {
        match &self.sidecar {
            Some(sidecar) => sidecar.settle(&self.object, &self.index).await,
            None => Ok(()),
        }
    }

    /// Why nothing more is answered of it: it is known to be replaced, or its index to be wrong.
    pub fn refusal(&self) -> Option<FrameError> {
        if self.is_changed() {
            return Some(FrameError::video_changed(&self.name));
        }
        let refuted = self.sidecar.as_ref().is_some_and(Sidecar::is_refuted);
        refuted.then(beside::refuted)
    }

    /// Whether the index was read from a file beside the video.
    pub fn has_sidecar(&self) -> bool {
        self.sidecar.is_some()
    }
}

/// What caches know an object's version by.
pub(crate) fn key_of(object: &Object) -> VideoKey {
    identity(object.name(), object.version()).into()
}

/// The same for an object that is not open.
pub(crate) fn identity(name: &str, version: &ObjectVersion) -> String {
    format!("{name}@{version}")
}

impl VideoInfo {
    fn new(index: &VideoIndex, sps: &Arc<Sps>) -> Self {
        let description = index.descriptions().first();
        let (mut width, mut height) = (sps.width(), sps.height());
        if index.orientation().swaps_axes() {
            (width, height) = (height, width);
        }
        let fourcc = description.and_then(|d| d.fourcc).unwrap_or(*b"hev1");
        let timescale = f64::from(index.timescale().max(1));
        let duration_ms = index.duration() as f64 * 1000.0 / timescale;
        let fps = if duration_ms > 0.0 {
            f64::from(index.frame_count()) * 1000.0 / duration_ms
        } else {
            0.0
        };
        Self {
            width,
            height,
            bit_depth: sps.bit_depth_luma,
            chroma_format_idc: sps.chroma_format_idc,
            codec: sps.profile.codec_string(&String::from_utf8_lossy(&fourcc)),
            profile: sps.profile.name(),
            colour: sps
                .vui
                .colour
                .or(description.map(|d| d.colour).unwrap_or_default()),
            pixel_aspect: description
                .and_then(|d| d.pixel_aspect)
                .or(sps.vui.sample_aspect),
            fps,
            duration_ms,
        }
    }
}
