//! What goes wrong, and for whom.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::header::CONTENT_TYPE;

use super::flow::Body;
use super::seen::Asked;

/// Something to be done at a certain moment of a request.
pub type Work = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What happens to a request in place of, or besides, being handed on.
#[derive(Clone)]
pub enum Fault {
    /// It is handed on so much later.
    Late(Duration),
    /// It is not handed on, but answered with this status and S3's document of this code.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the document says, as `SlowDown`.
        code: &'static str,
    },
    /// The connection is reset before an answer.
    Reset,
    /// The connection is reset after half of the body.
    ResetMidBody,
    /// The connection is closed after half of the body.
    CutShort,
    /// A whole answer, whose body is half of what `Content-Range` announces.
    HalfBody,
    /// `Content-Range` names bytes that lie one further on than those that come.
    WrongRange,
    /// The `ETag` is another version's.
    StaleTag,
    /// No answer comes.
    Hang,
    /// Nothing comes after half of the body.
    HangMidBody,
    /// Before it is handed on, this is done.
    Meanwhile(Work),
}

impl Fault {
    /// As a table shows it.
    pub fn name(&self) -> String {
        match self {
            Self::Late(time) => format!("{time:?} late"),
            Self::Refused { status, code } => format!("{status} {code}"),
            Self::Reset => "reset".into(),
            Self::ResetMidBody => "reset mid-body".into(),
            Self::CutShort => "closed mid-body".into(),
            Self::HalfBody => "truncated body".into(),
            Self::WrongRange => "wrong Content-Range".into(),
            Self::StaleTag => "stale ETag".into(),
            Self::Hang => "hang".into(),
            Self::HangMidBody => "hang mid-body".into(),
            Self::Meanwhile(_) => "changed meanwhile".into(),
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// Which part of an object a request is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// Whatever it is for.
    Any,
    /// A range that begins at the object's first byte.
    Head,
    /// A number of last bytes.
    Tail,
    /// A range with one of these bytes in it that does not begin at the object's first byte.
    Touching(Range<u64>),
}

impl Part {
    fn is_of(&self, asked: &Asked) -> bool {
        match (self, &asked.range) {
            (Self::Any, _) => true,
            (Self::Head, Some(range)) => range.start == 0,
            (Self::Tail, None) => asked.last.is_some(),
            (Self::Touching(part), Some(range)) => {
                range.start > 0 && range.start < part.end && part.start < range.end
            }
            _ => false,
        }
    }
}

/// Which requests meet a fault.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    key: Option<String>,
    part: Part,
    times: u32,
}

impl Rule {
    /// Every request meets it.
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            key: None,
            part: Part::Any,
            times: u32::MAX,
        }
    }

    /// Only those for this key.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Only those for this part of an object.
    #[must_use]
    pub fn part(mut self, part: Part) -> Self {
        self.part = part;
        self
    }

    /// Only the first so many of them.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Whether it is for this key alone.
    pub(super) fn is_of(&self, key: &str) -> bool {
        self.key.as_deref() == Some(key)
    }

    /// The fault, if this request is to meet it.
    pub(super) fn hit(&mut self, asked: &Asked) -> Option<Fault> {
        let fits = self.times > 0
            && self.key.as_ref().is_none_or(|key| *key == asked.key)
            && self.part.is_of(asked);
        fits.then(|| {
            self.times -= 1;
            self.fault.clone()
        })
    }
}

/// An answer as S3 servers refuse.
pub(super) fn refusal(status: u16, code: &str) -> Response<Body> {
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>as the test wants it</Message></Error>"
    );
    let body = Full::new(document.into()).map_err(|never| match never {});
    let mut answer = Response::new(BodyExt::boxed_unsync(body));
    *answer.status_mut() = status.try_into().expect("a status");
    let xml = "application/xml".try_into().expect("a header");
    answer.headers_mut().insert(CONTENT_TYPE, xml);
    answer
}
