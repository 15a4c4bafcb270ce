//! The index of a video on the local disk, by positioned reads.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use media::VideoIndex;
use media::demux::{HEAD_BYTES, IndexBuilder, Step, TAIL_BYTES};

/// Opens a local file and builds its index. Only what the index needs is read.
pub(crate) fn open(path: &Path) -> anyhow::Result<VideoIndex> {
    let name = path.display();
    let mut file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    let meta = file
        .metadata()
        .with_context(|| format!("cannot read {name}"))?;
    anyhow::ensure!(meta.is_file(), "{name} is not a file");
    index(&mut file, meta.len()).with_context(|| format!("cannot index {name}"))
}

fn index(file: &mut File, size: u64) -> anyhow::Result<VideoIndex> {
    let mut builder = IndexBuilder::new(size);
    let head = 0..size.min(HEAD_BYTES);
    let tail = size.saturating_sub(TAIL_BYTES).max(head.end)..size;
    for range in [head, tail].into_iter().filter(|r| !r.is_empty()) {
        builder.push(range.start, read(file, &range)?);
    }
    loop {
        match builder.step()? {
            Step::Finished(index) => return Ok(*index),
            Step::NeedsData(ranges) => {
                for range in ranges {
                    builder.push(range.start, read(file, &range)?);
                }
            }
        }
    }
}

/// Reads exactly a range; the builder only asks for ranges within the file.
fn read(file: &mut File, range: &Range<u64>) -> anyhow::Result<Bytes> {
    file.seek(SeekFrom::Start(range.start))?;
    let length = range.end.saturating_sub(range.start);
    let mut data = Vec::new();
    file.take(length).read_to_end(&mut data)?;
    anyhow::ensure!(
        data.len() as u64 == length,
        "the file became shorter while it was read"
    );
    Ok(Bytes::from(data))
}
