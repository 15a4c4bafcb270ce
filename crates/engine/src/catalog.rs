//! From an object's name to its index.

use std::ops::Range;

use media::VideoIndex;
use media::demux::{DemuxError, HEAD_BYTES, IndexBuilder, Step, TAIL_BYTES};
use storage::{Object, Opened, Store};

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
