//! The one place where what went wrong becomes a status and a document (RFC 9457).

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use engine::{FrameError, OpenError};
use media::VideoIndex;
use protocol::{FrameErrorCode, VideoErrorCode};
use serde::Serialize;
use storage::StorageError;
use utoipa::ToSchema;

use crate::address::Unknown;
use crate::answer;
use crate::exchange::{Refusal, RequestId};

/// How long a client that was refused for want of room is to wait, in seconds.
const RETRY_SECONDS: u32 = 1;

/// Why a request was not served, as `application/problem+json`.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Problem {
    /// `urn:bucket-streamer:problem:` and the code.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: Box<str>,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// A stable code: one of the WebSocket protocol, or `bad_request`, `not_acceptable`,
    /// `method_not_allowed`, `forbidden_origin`.
    code: &'static str,
    /// A sentence for people.
    detail: String,
    /// The request's id, as in the header `x-request-id` and in the server's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    request_id: Option<Box<str>>,
    /// Where a frame was asked for that the video does not have: which it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<FrameRange>)]
    range: Option<Box<FrameRange>>,
    /// Seconds after which it may go well; told in a header, for some statuses.
    #[serde(skip)]
    #[schema(ignore)]
    retry_after: u32,
    /// What `WWW-Authenticate` says.
    #[serde(skip)]
    #[schema(ignore)]
    challenge: Option<&'static str>,
}

/// Which frames a video has.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub(crate) struct FrameRange {
    /// Frames of the video; they are numbered from 0.
    frame_count: u32,
    /// The last one's number; `null` where there is none.
    last_frame: Option<u32>,
    /// Seconds that it lasts; times from 0 up to before this show a frame.
    duration: f64,
}

impl FrameRange {
    pub(super) fn of(index: &VideoIndex) -> Self {
        Self {
            frame_count: index.frame_count(),
            last_frame: index.frame_count().checked_sub(1),
            duration: seconds(index.duration(), index),
        }
    }
}

/// Ticks as seconds.
pub(super) fn seconds(ticks: i64, index: &VideoIndex) -> f64 {
    ticks as f64 / f64::from(index.timescale().max(1))
}

/// The status for a code of a frame.
fn status_of_frame(code: FrameErrorCode) -> StatusCode {
    use FrameErrorCode as Code;
    match code {
        Code::UnknownOffset | Code::UnknownFrame | Code::NoVideo => StatusCode::NOT_FOUND,
        Code::NotDecodable | Code::DecodeFailed | Code::GopTooLarge => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Code::StorageFailed => StatusCode::BAD_GATEWAY,
        Code::TooManyFrames | Code::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::VideoChanged => StatusCode::CONFLICT,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::EncodeFailed | Code::Unrecognised => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The status for a code of a video, and the code.
fn status_of_video(code: VideoErrorCode) -> (StatusCode, &'static str) {
    match code {
        VideoErrorCode::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        VideoErrorCode::NotAVideo => (StatusCode::UNPROCESSABLE_ENTITY, "not_a_video"),
        VideoErrorCode::StorageFailed => (StatusCode::BAD_GATEWAY, "storage_failed"),
        VideoErrorCode::VideoChanged => (StatusCode::CONFLICT, "video_changed"),
        VideoErrorCode::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
        VideoErrorCode::Unrecognised => (StatusCode::INTERNAL_SERVER_ERROR, "unrecognised"),
    }
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:bucket-streamer:problem:{code}").into(),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            request_id: None,
            range: None,
            retry_after: RETRY_SECONDS,
            challenge: None,
        }
    }

    /// Who asks has shown no token that is known.
    pub(super) fn unauthorized(detail: impl Into<String>, challenge: &'static str) -> Self {
        Self {
            challenge: Some(challenge),
            ..Self::of_frame(FrameErrorCode::Unauthorized, detail)
        }
    }

    /// A page asks that is let in nowhere.
    pub(super) fn forbidden_origin() -> Self {
        let detail = "Pages of this origin may not open a session: see --cors-origin";
        Self::new(StatusCode::FORBIDDEN, "forbidden_origin", detail)
    }

    /// With a code of the protocol.
    pub(super) fn of_frame(code: FrameErrorCode, detail: impl Into<String>) -> Self {
        Self::new(status_of_frame(code), code.as_str(), detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    pub(super) fn not_acceptable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", detail)
    }

    pub(super) fn method_not_allowed() -> Self {
        let detail = "Only GET and HEAD are answered here";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// The server has as much to do as it takes.
    pub(super) fn too_busy() -> Self {
        let detail = "The server has as many requests at work as it takes: ask again";
        Self::of_frame(FrameErrorCode::TooManyFrames, detail)
    }

    /// The client asks for more than it may in a second.
    pub(super) fn too_fast(wait: Duration) -> Self {
        let detail = "More is asked for than one client may in a second: ask again later";
        Self {
            retry_after: u32::try_from(wait.as_secs())
                .unwrap_or(u32::MAX)
                .saturating_add(1),
            ..Self::of_frame(FrameErrorCode::RateLimited, detail)
        }
    }

    /// The version that the URL names is not there (any more).
    pub(super) fn other_version(name: &str, now: &str) -> Self {
        let detail = format!("{name} is another version now: {now}");
        Self::of_frame(FrameErrorCode::VideoChanged, detail)
    }

    /// No frame is where one was asked for.
    pub(super) fn unknown(unknown: Unknown, index: &VideoIndex) -> Self {
        Self {
            range: Some(FrameRange::of(index).into()),
            ..Self::of_frame(unknown.code, unknown.message)
        }
    }

    /// A video that was not opened.
    pub(super) fn of_open(name: &str, error: &OpenError) -> Self {
        let (code, message) = answer::refusal(name, error);
        let (status, code) = status_of_video(code);
        Self::new(status, code, message)
    }

    /// A folder that was not listed.
    pub(super) fn of_listing(prefix: &str, error: StorageError) -> Self {
        if error.kind().reads_as_not_found() {
            return Self::not_found(format!("There is no folder {prefix}"));
        }
        Self::of_open(prefix, &OpenError::Storage(error))
    }

    /// A frame that did not come.
    pub(super) fn of_engine(error: &FrameError) -> Self {
        Self::of_frame(answer::code(error.code), error.message.clone())
    }

    /// Says which frames there are.
    pub(super) fn has_frames(&mut self, range: FrameRange) {
        self.range = Some(range.into());
    }

    pub(super) fn is_video_changed(&self) -> bool {
        self.code == FrameErrorCode::VideoChanged.as_str()
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        self.request_id = RequestId::current().map(|id| id.as_str().into());
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let text = serde_json::to_string(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, json);
        // What is wrong now may be right in a moment.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge {
            let challenge = HeaderValue::from_static(challenge);
            headers.insert(axum::http::header::WWW_AUTHENTICATE, challenge);
        }
        let later = [
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::TOO_MANY_REQUESTS,
        ];
        if later.contains(&status) {
            headers.insert(RETRY_AFTER, self.retry_after.into());
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            let allowed = HeaderValue::from_static("GET, HEAD");
            headers.insert(axum::http::header::ALLOW, allowed);
        }
        let (code, why) = (self.code, self.detail);
        response.extensions_mut().insert(Refusal { code, why });
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_of_an_error() {
        for code in FrameErrorCode::ALL {
            let problem = Problem::of_frame(code, "x");
            assert!((400..600).contains(&problem.status), "{problem:?}");
            let busy = matches!(
                code,
                FrameErrorCode::TooManyFrames
                    | FrameErrorCode::Cancelled
                    | FrameErrorCode::RateLimited
            );
            let response = problem.into_response();
            assert_eq!(response.headers().contains_key(RETRY_AFTER), busy);
        }
    }
}
