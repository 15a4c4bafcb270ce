//! What is kept in case that it is wanted again: images, compressed runs, indexes.
//!
//! In memory all share one budget of bytes, with the pictures that decoders have at hand; on disk
//! (optional) images, runs and indexes do.

use std::fmt::Write;
use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};
use codec::Format as ImageFormat;
use media::bsidx::{self, Facts};
use media::{DecodeIndex, Sample, VideoIndex};

use crate::at_hand::MOST_BYTES;
use crate::cache::{DiskCache, MemoryCache};
use crate::config::EngineConfig;
use crate::error::EngineError;
use crate::run::Run;
use crate::schedule::{GopKey, ImageKey, VideoKey};
use crate::stats::DiskState;
use crate::ticket::EncodedImage;
use crate::video::{Video, key_of};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Key {
    Image(ImageKey),
    Run(GopKey),
    Video(VideoKey),
}

#[derive(Clone, Debug)]
enum Value {
    Image(EncodedImage),
    Run(Arc<Run>),
    Video(Arc<Video>),
}

/// Entries, keys and the cache's own tables take this much beside an image's bytes.
const OVERHEAD: u64 = 256;
/// What a graph and a sample's own record take, about.
const PER_SAMPLE: u64 = 512;

fn weight(key: &Key, value: &Value) -> u64 {
    let name = match key {
        Key::Image(k) => k.video.len(),
        Key::Run(k) => k.video.len(),
        Key::Video(k) => k.len(),
    };
    let content = match value {
        Value::Image(image) => image.bytes.len() as u64,
        Value::Run(run) => run.bytes() + PER_SAMPLE * run.units() as u64,
        Value::Video(video) => video.weight(),
    };
    OVERHEAD + name as u64 + content
}

#[derive(Debug)]
pub(crate) struct Caches {
    memory: MemoryCache<Key, Value>,
    disk: Option<DiskCache>,
    /// The engine's own quality, which an output without one means.
    quality: u8,
}

/// Where an image was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tier {
    Memory,
    Disk,
}

impl Caches {
    pub(crate) fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        let disk = match &config.disk_cache {
            Some(disk) => Some(DiskCache::open(&disk.folder, disk.bytes)?),
            None => None,
        };
        // Pictures that decoders keep at hand are of the same budget; most of it stays for what
        // serves everybody.
        let at_hand = (MOST_BYTES as u64).saturating_mul(config.workers as u64);
        let at_hand = at_hand.min(config.cache_bytes / 4);
        Ok(Self {
            memory: MemoryCache::new(config.cache_bytes - at_hand, weight),
            disk,
            quality: config.jpeg_quality,
        })
    }

    /// Whether there is a cache in memory.
    pub(crate) fn is_on(&self) -> bool {
        self.memory.budget() > 0
    }

    pub(crate) fn has_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// Budget of the cache in memory, in bytes.
    pub(crate) fn budget(&self) -> u64 {
        self.memory.budget()
    }

    /// Bytes kept in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// How the cache on disk stands.
    pub(crate) fn disk_state(&self) -> Option<DiskState> {
        let disk = self.disk.as_ref()?;
        Some(DiskState {
            bytes: disk.bytes(),
            budget: disk.budget(),
            files: disk.len() as u64,
            counters: disk.counters(),
            writable: disk.is_writable(),
        })
    }

    /// Images that say the same in other words are one.
    pub(crate) fn plain(&self, mut key: ImageKey) -> ImageKey {
        let output = &mut key.output;
        let quality = match output.format {
            ImageFormat::Png => 100,
            _ => output.quality.unwrap_or(self.quality),
        };
        output.quality = Some(quality);
        output.cover &= output.width.is_some() && output.height.is_some();
        key
    }

    /// An image, from memory.
    pub(crate) fn image(&self, key: &ImageKey) -> Option<EncodedImage> {
        match self.memory.get(&Key::Image(key.clone()))? {
            Value::Image(image) => Some(image),
            _ => None,
        }
    }

    /// An image, from memory or from disk.
    pub(crate) async fn find_image(&self, key: &ImageKey) -> Option<(EncodedImage, Tier)> {
        if let Some(image) = self.image(key) {
            return Some((image, Tier::Memory));
        }
        let bytes = self.disk.as_ref()?.get(&image_name(key)).await?;
        let image = EncodedImage { bytes };
        self.memory
            .insert(Key::Image(key.clone()), Value::Image(image.clone()));
        Some((image, Tier::Disk))
    }

    pub(crate) fn keep_image(&self, key: &ImageKey, image: &EncodedImage) {
        if let Some(disk) = &self.disk {
            disk.put(image_name(key), image.bytes.clone());
        }
        self.memory
            .insert(Key::Image(key.clone()), Value::Image(image.clone()));
    }

    /// A run, from memory.
    pub(crate) fn run(&self, key: &GopKey) -> Option<Arc<Run>> {
        match self.memory.get(&Key::Run(key.clone()))? {
            Value::Run(run) => Some(run),
            _ => None,
        }
    }

    /// A run, from disk.
    pub(crate) async fn run_on_disk(&self, key: &GopKey, video: &Video) -> Option<Arc<Run>> {
        let mut bytes = self.disk.as_ref()?.get(&run_name(key)).await?;
        // Which samples there are, and then these; the index says how long each is. What does not
        // divide so is none of ours.
        let count = bytes.try_get_u32_le().ok()?;
        let mut samples = Vec::new();
        for _ in 0..count {
            let sample = video
                .index()
                .sample(DecodeIndex(bytes.try_get_u32_le().ok()?))?;
            let last: Option<&Sample> = samples.last();
            if sample.index.0 < key.start || last.is_some_and(|l| l.index >= sample.index) {
                return None;
            }
            samples.push(sample);
        }
        let mut data = Vec::new();
        for sample in &samples {
            let size = sample.size as usize;
            if size > bytes.len() {
                return None;
            }
            data.push(bytes.split_to(size));
        }
        if !bytes.is_empty() {
            return None;
        }
        let run = Arc::new(Run::new(samples, data));
        run.is_kept_on_disk();
        self.keep_in_memory(key, &run);
        Some(run)
    }

    /// Keeps a run; `whole`: nothing will be put behind it.
    pub(crate) fn keep_run(&self, key: &GopKey, run: &Arc<Run>, whole: bool) {
        // What is not taken there is not put together, either: it may be large.
        if let Some(disk) = &self.disk
            && disk.takes(run.bytes())
            && run.goes_to_disk(whole)
        {
            let mut all = BytesMut::with_capacity(usize::try_from(run.bytes()).unwrap_or(0));
            all.put_u32_le(run.samples().len() as u32);
            for sample in run.samples() {
                all.put_u32_le(sample.index.0);
            }
            for sample in run.data() {
                all.extend_from_slice(sample);
            }
            disk.put(run_name(key), all.freeze());
        }
        self.keep_in_memory(key, run);
    }

    fn keep_in_memory(&self, key: &GopKey, run: &Arc<Run>) {
        self.memory
            .insert(Key::Run(key.clone()), Value::Run(Arc::clone(run)));
    }

    pub(crate) fn video(&self, key: &VideoKey) -> Option<Arc<Video>> {
        match self.memory.get(&Key::Video(Arc::clone(key)))? {
            Value::Video(video) => Some(video),
            _ => None,
        }
    }

    /// Its object may be another one by now, even under the same version.
    pub(crate) fn forget_video(&self, video: &Video) {
        self.memory.remove(&Key::Video(key_of(video.object())));
    }

    /// Keeps a video under its object's key.
    pub(crate) fn keep_video(&self, object: VideoKey, video: &Arc<Video>) {
        self.memory
            .insert(Key::Video(object), Value::Video(Arc::clone(video)));
    }

    /// The index of an object, from disk.
    pub(crate) async fn index_on_disk(&self, key: &VideoKey, facts: &Facts) -> Option<VideoIndex> {
        let bytes = self.disk.as_ref()?.get(&index_name(key)).await?;
        // The tables of a long video take a while: not on a thread of the network.
        let read = tokio::task::spawn_blocking(move || bsidx::read(&bytes)).await;
        let (header, content) = read.ok()?.ok()?;
        // The key holds the version; this costs nothing.
        header.check(facts).ok()?;
        Some(content.index)
    }

    /// Keeps the index that an object's container gave, on disk.
    pub(crate) fn keep_index(&self, key: &VideoKey, index: &VideoIndex, facts: &Facts) {
        if let Some(disk) = &self.disk {
            let file = bsidx::write(index, None, facts, &[]);
            disk.put(index_name(key), file.into());
        }
    }
}

fn index_name(key: &VideoKey) -> String {
    format!("index/{key}")
}

fn image_name(key: &ImageKey) -> String {
    let side = |side: Option<u32>| side.unwrap_or(0);
    let output = key.output;
    let mut name = format!("image/{}/", key.video);
    // Writing into a string does not fail.
    write!(
        name,
        "{}/{}x{}q{}{}{}{}",
        key.sample,
        side(output.width),
        side(output.height),
        output.quality.unwrap_or(0),
        match output.format {
            ImageFormat::Jpeg => "",
            ImageFormat::Webp => "webp",
            ImageFormat::Avif => "avif",
            ImageFormat::Png => "png",
        },
        if output.cover { "c" } else { "" },
        if output.as_coded { "r" } else { "" },
    )
    .ok();
    name
}

fn run_name(key: &GopKey) -> String {
    format!("samples/{}/{}", key.video, key.start)
}
