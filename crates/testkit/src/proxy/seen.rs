//! What passed.

use std::collections::BTreeSet;
use std::ops::Range;

use hyper::Request;
use hyper::header::{HeaderValue, RANGE};

/// What a request asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// `GET`, `HEAD` …
    pub method: String,
    /// The object's key as it is written in the path, without the bucket.
    pub key: String,
    /// The bytes, where both ends are said.
    pub range: Option<Range<u64>>,
    /// How many of the last bytes, where that is said.
    pub last: Option<u64>,
}

impl Asked {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let path = request.uri().path().trim_start_matches('/');
        let key = path.split_once('/').map_or("", |(_, key)| key);
        let range = request.headers().get(RANGE).map(HeaderValue::to_str);
        let range = range.and_then(Result::ok).unwrap_or_default();
        let (range, last) = ranges(range);
        Self {
            method: request.method().to_string(),
            key: key.to_owned(),
            range,
            last,
        }
    }
}

/// What `bytes=FIRST-LAST` or `bytes=-LAST` says.
fn ranges(header: &str) -> (Option<Range<u64>>, Option<u64>) {
    let Some((first, last)) = header
        .strip_prefix("bytes=")
        .and_then(|r| r.split_once('-'))
    else {
        return (None, None);
    };
    match (first.parse(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => (Some(first..last + 1), None),
        (Err(_), Ok(last)) => (None, Some(last)),
        _ => (None, None),
    }
}

/// A request, and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// What it asked for.
    pub asked: Asked,
    /// With which wave it went on, from 1; 0 where none were gathered.
    pub wave: u32,
    /// The fault that it met.
    pub fault: Option<String>,
    /// The status that it was answered with.
    pub status: Option<u16>,
    /// Bytes of the answer's body that were sent on.
    pub bytes: u64,
}

impl Seen {
    pub(super) fn new(asked: Asked, wave: u32, fault: Option<String>) -> Self {
        Self {
            asked,
            wave,
            fault,
            status: None,
            bytes: 0,
        }
    }
}

/// Bytes of all answers' bodies.
pub fn bytes<'a>(seen: impl IntoIterator<Item = &'a Seen>) -> u64 {
    seen.into_iter().map(|s| s.bytes).sum()
}

/// How many waves these requests came in: round trips.
pub fn waves<'a>(seen: impl IntoIterator<Item = &'a Seen>) -> usize {
    let waves: BTreeSet<u32> = seen.into_iter().map(|s| s.wave).collect();
    waves.len()
}

/// The requests, one a line.
pub fn table(seen: &[Seen]) -> String {
    let line = |s: &Seen| {
        let part = match (&s.asked.range, s.asked.last) {
            (Some(range), _) => format!("{}..{}", range.start, range.end),
            (None, Some(last)) => format!("last {last}"),
            (None, None) => "all".into(),
        };
        let fault = s.fault.as_deref().unwrap_or("");
        let status = s.status.map_or("none".into(), |s| s.to_string());
        format!(
            "  wave {:2}  {:4} {} {part}: {status}, {} bytes {fault}\n",
            s.wave, s.asked.method, s.asked.key, s.bytes
        )
    };
    seen.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn ranges_are_read() {
        assert_eq!(ranges("bytes=0-9"), (Some(0..10), None));
        assert_eq!(ranges("bytes=-9"), (None, Some(9)));
        assert_eq!(ranges("bytes=9-"), (None, None));
        assert_eq!(ranges(""), (None, None));
    }
}
