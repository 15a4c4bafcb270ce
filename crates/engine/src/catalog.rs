//! From an object's name to its index.

use std::ops::Range;

use media::bsidx::{self, Facts};
use media::demux::{DemuxError, HEAD_BYTES, IndexBuilder, Step, TAIL_BYTES};
use media::heads::HeadsBuilder;
use media::{DecodeIndex, Sample, VideoIndex};
use storage::{Object, Opened, StorageError, Store};

use crate::error::OpenError;

/// An object and its index, as they were when it was opened.
#[derive(Clone, Debug)]
pub struct IndexedObject {
    /// The object, pinned to one version.
    pub object: Object,
    /// Its index.
    pub index: VideoIndex,
}

/// Reads the first and the last bytes of an object, which tell its version.
pub(crate) async fn look(store: &Store, name: &str) -> Result<Opened, OpenError> {
    let opened = store.open(name, HEAD_BYTES, TAIL_BYTES).await;
    opened.map_err(|e| {
        if e.kind().reads_as_not_found() {
            OpenError::NotFound {
                name: name.to_owned(),
            }
        } else {
            OpenError::Storage(e)
        }
    })
}

/// Opens an object and builds its index by ranged reads: head and tail at once, then what the
/// container asks for (for an MP4 at most `moov`).
pub async fn open(store: &Store, name: &str) -> Result<IndexedObject, OpenError> {
    index(name, look(store, name).await?).await
}

/// What was seen of an object, for telling whether an index file is of it.
pub fn facts(opened: &Opened) -> Facts {
    let version = opened.object.version().to_string();
    Facts {
        size: opened.object.size(),
        head: opened.head.clone(),
        tail: opened.tail.clone(),
        etag: version.strip_prefix("etag-").map(str::to_owned),
    }
}

/// The bytes of some ranges of an object; what lies in its ends is not read.
///
/// # Errors
/// The store's.
pub async fn read_beside(
    object: &Object,
    facts: &Facts,
    ranges: &[Range<u64>],
) -> Result<Vec<bytes::Bytes>, StorageError> {
    let missing: Vec<Range<u64>> = ranges
        .iter()
        .filter(|r| facts.get(r).is_none())
        .cloned()
        .collect();
    let mut read = object.read_ranges(&missing).await?.into_iter();
    let all = ranges.iter().map(|r| facts.get(r).or_else(|| read.next()));
    Ok(all.map(Option::unwrap_or_default).collect())
}

/// Reads both ends of an object that is open.
async fn look_again(object: &Object) -> Result<Opened, StorageError> {
    let size = object.size();
    let ends = [
        0..size.min(HEAD_BYTES),
        size.saturating_sub(TAIL_BYTES)..size,
    ];
    let mut read = object.read_ranges(&ends).await?.into_iter();
    Ok(Opened {
        object: object.clone(),
        head: read.next().unwrap_or_default(),
        tail: read.next().unwrap_or_default(),
    })
}

/// Builds the index of an object that is open from its own tables.
pub(crate) async fn index_anew(object: &Object) -> Result<VideoIndex, OpenError> {
    let opened = look_again(object).await.map_err(OpenError::Storage)?;
    Ok(index(object.name(), opened).await?.index)
}

/// The content of the index file of a video ([`media::bsidx`]). Reads all of its samples, some MiB
/// at a time.
///
/// # Errors
/// The store's.
pub async fn index_file(video: &IndexedObject) -> Result<Vec<u8>, StorageError> {
    /// Bytes and samples that are read at once.
    const BYTES: u64 = 8 << 20;
    const SAMPLES: usize = 1024;
    let IndexedObject { object, index } = video;
    let facts = facts(&look_again(object).await?);
    let declared = read_beside(object, &facts, index.declared()).await?;
    let mut heads = HeadsBuilder::new(index);
    let mut samples = (0..index.sample_count()).filter_map(|i| index.sample(DecodeIndex(i)));
    loop {
        let mut batch: Vec<Sample> = Vec::new();
        let mut bytes = 0u64;
        while bytes < BYTES
            && batch.len() < SAMPLES
            && let Some(sample) = samples.next()
        {
            bytes = bytes.saturating_add(u64::from(sample.size));
            batch.push(sample);
        }
        if batch.is_empty() {
            break;
        }
        let ranges: Vec<Range<u64>> = batch.iter().map(Sample::range).collect();
        let data = object.read_ranges(&ranges).await?;
        for (sample, data) in batch.iter().zip(data) {
            heads.push(index, sample, &data);
        }
    }
    let heads = heads.finish();
    Ok(bsidx::write(index, Some(&heads), &facts, &declared))
}

/// Builds the index of an object that was looked at.
pub(crate) async fn index(name: &str, opened: Opened) -> Result<IndexedObject, OpenError> {
    let object = opened.object;
    let size = object.size();
    let mut builder = IndexBuilder::new(size);
    let tail_at = size.saturating_sub(opened.tail.len() as u64);
    builder.push(0, opened.head);
    builder.push(tail_at, opened.tail);
    let not_video = |error| OpenError::NotVideo {
        name: name.to_owned(),
        error,
    };
    loop {
        // Parsing the tables of a long video takes a while: not on a thread of the network.
        let stepped = tokio::task::spawn_blocking(move || {
            let step = builder.step();
            (builder, step)
        });
        let (returned, step) = stepped.await.map_err(|_| {
            not_video(DemuxError::Damaged {
                what: "the index could not be built".into(),
            })
        })?;
        builder = returned;
        match step.map_err(not_video)? {
            Step::Finished(index) => {
                return Ok(IndexedObject {
                    object,
                    index: *index,
                });
            }
            Step::NeedsData(ranges) => {
                let ranges: Vec<Range<u64>> = ranges;
                let data = object
                    .read_ranges(&ranges)
                    .await
                    .map_err(OpenError::Storage)?;
                for (range, bytes) in ranges.into_iter().zip(data) {
                    builder.push(range.start, bytes);
                }
            }
        }
    }
}
