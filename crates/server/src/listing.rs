//! The answer to `GetIndex`: where the frames lie, in pieces.

use std::ops::Range;
use std::sync::Arc;

use engine::Video;
use media::{PresentationIndex, VideoIndex};
use protocol::{IndexPiece, ServerMessage};

use crate::outbox::{Gone, Outbox};

/// Frames in one message.
const PIECE: u64 = 65_536;
/// What takes longer to put together than a network thread should be held up.
const QUICK: u64 = 2048;

/// Sends the index of `count` frames from `from` on: at least one piece.
pub(crate) async fn send(
    video: Arc<Video>,
    from: u64,
    count: Option<u64>,
    outbox: &Outbox,
) -> Result<(), Gone> {
    let frames = u64::from(video.index().frame_count());
    let end = from.saturating_add(count.unwrap_or(u64::MAX)).min(frames);
    for run in pieces(from, end) {
        let text = if run.end - run.start <= QUICK {
            text(video.index(), run)
        } else {
            let video = Arc::clone(&video);
            let made = tokio::task::spawn_blocking(move || text(video.index(), run)).await;
            // Fails only when the runtime ends, and the session with it.
            made.map_err(|_| Gone)?
        };
        outbox.send_text(text).await?;
    }
    Ok(())
}

/// From one number to before the other, in runs that fit into a message: one at least.
fn pieces(from: u64, end: u64) -> impl Iterator<Item = Range<u64>> {
    let run = move |start: u64| start..start.saturating_add(PIECE).min(end).max(start);
    std::iter::successors(Some(run(from)), move |before| {
        (before.end < end).then(|| run(before.end))
    })
}

fn text(index: &VideoIndex, run: Range<u64>) -> String {
    ServerMessage::Index(piece(index, run)).to_json()
}

fn piece(index: &VideoIndex, run: Range<u64>) -> IndexPiece {
    let mut piece = IndexPiece {
        from: run.start,
        frame_count: index.frame_count().into(),
        timescale: index.timescale(),
        ..IndexPiece::default()
    };
    for frame in run {
        let frame = u32::try_from(frame).ok().map(PresentationIndex);
        let sample = frame
            .and_then(|frame| index.decode_index(frame))
            .and_then(|sample| index.sample(sample));
        let time = frame.and_then(|frame| index.presentation_time(frame));
        // All that lie within the count are there.
        let (Some(sample), Some(time)) = (sample, time) else {
            break;
        };
        piece.offset.push(sample.offset);
        piece.size.push(sample.size);
        piece.pts.push(time);
        piece.keyframe.push(sample.sync.into());
    }
    piece
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_each_other_to_the_end() {
        let all = |from, end| {
            let pieces = pieces(from, end).map(|run| (run.start, run.end));
            pieces.collect::<Vec<_>>()
        };
        assert_eq!(all(0, 3), [(0, 3)]);
        assert_eq!(all(0, PIECE), [(0, PIECE)]);
        assert_eq!(all(5, PIECE + 5), [(5, PIECE + 5)]);
        let (two, end) = (2 * PIECE, 2 * PIECE + 1);
        assert_eq!(all(0, end), [(0, PIECE), (PIECE, two), (two, end)]);
        // Nothing is asked for, or nothing is there: one piece says so.
        assert_eq!(all(7, 7), [(7, 7)]);
        assert_eq!(all(9, 7), [(9, 9)]);
        assert_eq!(all(u64::MAX, 7), [(u64::MAX, u64::MAX)]);
    }
}
