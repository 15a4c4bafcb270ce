//! The way of an answer's body.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use hyper::body::{Frame, Incoming};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};

use super::Passing;
use super::fault::Fault;

/// What the program is sent.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// So long is waited between the first half of a body and what happens then, that the half is on
/// its way. Nothing depends on its having come.
const BETWEEN: Duration = Duration::from_millis(20);

/// What is still to be sent.
struct Flow {
    from: Incoming,
    /// Bytes until the end that was ordered; without: all.
    left: u64,
    end: End,
    passing: Passing,
    reset: Arc<AtomicBool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// With the body's own.
    Own,
    /// Here, as if all had come.
    Early,
    Closed,
    Reset,
    Hang,
}

/// The server's answer, with the fault done to it.
pub(super) fn answer(
    answer: Response<Incoming>,
    fault: Option<Fault>,
    passing: Passing,
    reset: Arc<AtomicBool>,
) -> Response<Body> {
    let (mut head, from) = answer.into_parts();
    // Of this hop only.
    for name in [CONNECTION, TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    let length = number(&head.headers, &CONTENT_LENGTH).unwrap_or(u64::MAX);
    let half = length.div_ceil(2);
    let (left, end) = match fault {
        Some(Fault::ResetMidBody) => (half, End::Reset),
        Some(Fault::CutShort) => (half, End::Closed),
        Some(Fault::HangMidBody) => (half, End::Hang),
        Some(Fault::HalfBody) => {
            set(&mut head.headers, CONTENT_LENGTH, &half.to_string());
            (half, End::Early)
        }
        Some(Fault::WrongRange) => {
            if let Some(range) = text(&head.headers, &CONTENT_RANGE).and_then(one_further_on) {
                set(&mut head.headers, CONTENT_RANGE, &range);
            }
            (u64::MAX, End::Own)
        }
        Some(Fault::StaleTag) => {
            if head.headers.contains_key(ETAG) {
                set(&mut head.headers, ETAG, "\"0123456789abcdef\"");
            }
            (u64::MAX, End::Own)
        }
        _ => (u64::MAX, End::Own),
    };
    let flow = Flow {
        from,
        left,
        end,
        passing,
        reset,
    };
    let body = StreamBody::new(stream::unfold(flow, Flow::next));
    Response::from_parts(head, BodyExt::boxed_unsync(body))
}

impl Flow {
    async fn next(mut self) -> Option<(io::Result<Frame<Bytes>>, Self)> {
        if self.left == 0 {
            match self.end {
                End::Own | End::Early => return None,
                End::Hang => return pending().await,
                End::Reset => self.reset.store(true, Ordering::Relaxed),
                End::Closed => {}
            }
            tokio::time::sleep(BETWEEN).await;
            return Some((Err(io::Error::other("cut by the test")), self));
        }
        let mut frame = match self.from.frame().await? {
            Ok(frame) => frame,
            Err(error) => return Some((Err(io::Error::other(error)), self)),
        };
        if let Some(data) = frame.data_mut() {
            let room = usize::try_from(self.left).unwrap_or(usize::MAX);
            data.truncate(room);
            let sent = data.len() as u64;
            self.left -= sent;
            self.passing.note(|seen| seen.bytes += sent);
        }
        Some((Ok(frame), self))
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    headers.insert(name, HeaderValue::from_str(value).expect("a header"));
}

/// `bytes FIRST-LAST/SIZE` for the bytes that lie one further on, within a size that allows it.
fn one_further_on(range: &str) -> Option<String> {
    let (first, rest) = range.strip_prefix("bytes ")?.split_once('-')?;
    let (last, size) = rest.split_once('/')?;
    let next = |n: &str| n.parse::<u64>().ok()?.checked_add(1);
    let (first, last) = (next(first)?, next(last)?);
    let size = size.parse::<u64>().ok()?.max(last + 1);
    Some(format!("bytes {first}-{last}/{size}"))
}

#[cfg(test)]
mod tests {
    use super::one_further_on;

    #[test]
    fn a_wrong_range_is_still_a_range() {
        let cases = [
            ("bytes 0-3/10", "bytes 1-4/10"),
            ("bytes 6-9/10", "bytes 7-10/11"),
        ];
        for (right, wrong) in cases {
            assert_eq!(one_further_on(right).as_deref(), Some(wrong));
        }
        assert_eq!(one_further_on("bytes */10"), None);
    }
}
