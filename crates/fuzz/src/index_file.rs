//! Index files.

use bytes::Bytes;
use media::DecodeIndex;
use media::bsidx::{self, Facts, HEADER_BYTES, Header};
use xxhash_rust::xxh3::xxh3_64;

use crate::container::index_of;
use crate::graph;

pub(crate) fn run(data: &[u8]) {
    read(data);
    // With checksums that fit, since no change would get past them.
    let mut mended = data.to_vec();
    if mended.len() < HEADER_BYTES {
        return;
    }
    let length = mended.len() as u64;
    mended[16..24].copy_from_slice(&length.to_le_bytes());
    let body = xxh3_64(&mended[HEADER_BYTES..]);
    mended[HEADER_BYTES - 16..HEADER_BYTES - 8].copy_from_slice(&body.to_le_bytes());
    let header = xxh3_64(&mended[..HEADER_BYTES - 8]);
    mended[HEADER_BYTES - 8..HEADER_BYTES].copy_from_slice(&header.to_le_bytes());
    read(&mended);
}

fn read(file: &[u8]) {
    let Ok((header, content)) = bsidx::read(file) else {
        Header::read(file).ok();
        return;
    };
    assert_eq!(header.file_length(), file.len() as u64);
    let index = &content.index;
    let samples = index.sample_count();
    for at in (0..samples).map(DecodeIndex) {
        assert!(index.sample(at).unwrap().range().end <= index.object_size());
    }
    let facts = Facts {
        size: index.object_size(),
        head: Bytes::new(),
        tail: Bytes::new(),
        etag: None,
    };
    header.check(&facts).ok();
    if let Some(heads) = &content.heads {
        assert_eq!(heads.sample_count(), samples);
        if samples <= 64 {
            graph::check(media::Planner::new(heads.graph(
                index,
                DecodeIndex(0),
                samples,
            )));
        }
    }
    // What was read can be written, and is the same.
    let again = bsidx::write(index, content.heads.as_ref(), &facts, &[]);
    let (_, same) = bsidx::read(&again).unwrap();
    assert!(same == content);
}

/// The index file of a video.
pub(crate) fn of(object: &[u8], with_heads: bool) -> Vec<u8> {
    let object = Bytes::copy_from_slice(object);
    let index = index_of(&object).unwrap();
    let heads = with_heads.then(|| graph::heads(&index, &graph::samples(&index, &object)));
    let facts = Facts {
        size: object.len() as u64,
        head: object.clone(),
        tail: object.clone(),
        etag: None,
    };
    let declared: Vec<Bytes> = index
        .declared()
        .iter()
        .filter_map(|r| facts.get(r))
        .collect();
    bsidx::write(&index, heads.as_ref(), &facts, &declared)
}
