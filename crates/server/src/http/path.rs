//! From a URL's path to the name of a video and what is wanted of it.
//!
//! What is wanted is the last part of the path as it was sent, before anything is percent-decoded;
//! everything before it is the name. So a name may be written with its slashes
//! (`/v1/videos/flights/a.mp4/frame.jpg`), or as one part as `encodeURIComponent` makes it
//! (`/v1/videos/flights%2Fa.mp4/frame.jpg`), which is never mistaken for anything else, whatever
//! the name is: `s3%3A%2F%2Flab%2Fa.mp4`, or an object called `x/index`.

use engine::ImageFormat;
use percent_encoding::percent_decode_str;
use utoipa::ToSchema;

use super::problem::Problem;

/// What all of these paths begin with.
pub(super) const VIDEOS: &str = "/v1/videos/";

/// What is wanted of a video.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    Info,
    Index,
    /// In a format, or in one that `Accept` names.
    Frame(Option<ImageFormat>),
    Storyboard(Sheet),
    Clip,
    Gop,
}

/// Forms of a storyboard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Sheet {
    /// The sheet.
    Jpg,
    /// What is where, as WebVTT.
    Vtt,
    /// What is where, as JSON.
    Json,
}

impl Wanted {
    fn of(part: &str) -> Option<Self> {
        Some(match part {
            "index" => Self::Index,
            "frame" => Self::Frame(None),
            "frame.jpg" | "frame.jpeg" => Self::Frame(Some(ImageFormat::Jpeg)),
            "frame.webp" => Self::Frame(Some(ImageFormat::Webp)),
            "frame.avif" => Self::Frame(Some(ImageFormat::Avif)),
            "frame.png" => Self::Frame(Some(ImageFormat::Png)),
            "storyboard.jpg" => Self::Storyboard(Sheet::Jpg),
            "storyboard.vtt" => Self::Storyboard(Sheet::Vtt),
            "storyboard.json" => Self::Storyboard(Sheet::Json),
            "clip" => Self::Clip,
            "gop" => Self::Gop,
            _ => return None,
        })
    }
}

/// What is wanted by a path.
pub(super) fn wanted(path: &str) -> Wanted {
    divide(path).1
}

/// The name as it was sent, and what is wanted.
fn divide(path: &str) -> (&str, Wanted) {
    let rest = path.strip_prefix(VIDEOS).unwrap_or_default();
    match rest.rsplit_once('/') {
        Some((name, last)) if !name.is_empty() => match Wanted::of(last) {
            Some(wanted) => (name, wanted),
            None => (rest, Wanted::Info),
        },
        _ => (rest, Wanted::Info),
    }
}

/// Takes a path apart.
///
/// # Errors
/// What is not UTF-8 after decoding names nothing.
pub(super) fn parse(path: &str) -> Result<(String, Wanted), Problem> {
    let (name, wanted) = divide(path);
    let decoded = percent_decode_str(name).decode_utf8();
    let name = decoded.map_err(|_| Problem::not_found("the name of the video is not UTF-8"))?;
    Ok((name.into_owned(), wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_says_what_is_wanted_and_the_rest_is_the_name() {
        let check = |path: &str, name: &str, wanted| {
            let parsed = parse(&format!("/v1/videos/{path}")).unwrap();
            assert_eq!(parsed, (name.to_owned(), wanted), "{path}");
        };
        let jpeg = Wanted::Frame(Some(ImageFormat::Jpeg));
        check("a.mp4", "a.mp4", Wanted::Info);
        check("x/y/a.mp4", "x/y/a.mp4", Wanted::Info);
        check("x%2Fy%2Fa.mp4", "x/y/a.mp4", Wanted::Info);
        check("x/y/a.mp4/frame.jpg", "x/y/a.mp4", jpeg);
        check("x/frame.jpg/a.mp4/frame.jpg", "x/frame.jpg/a.mp4", jpeg);
        check("x/frame.jpg/a.mp4", "x/frame.jpg/a.mp4", Wanted::Info);
        check("x/frame.jpg/frame.jpg", "x/frame.jpg", jpeg);
        check("x/frame.jpg", "x", jpeg);
        check("x%2Fframe.jpg", "x/frame.jpg", Wanted::Info);
        check("frame.jpg", "frame.jpg", Wanted::Info);
        check("a/frame%2Ejpg", "a/frame.jpg", Wanted::Info);
        check("s3%3A%2F%2Flab%2Fa.mp4/frame.jpg", "s3://lab/a.mp4", jpeg);
        check("s3://lab/a.mp4/index", "s3://lab/a.mp4", Wanted::Index);
        check(
            "%D0%B2%20%25%3F%23.mp4/frame",
            "в %?#.mp4",
            Wanted::Frame(None),
        );
        check("a%252Fb.mp4", "a%2Fb.mp4", Wanted::Info);
        check("a+b.mp4/frame.jpg", "a+b.mp4", jpeg);
        check("a.mp4/", "a.mp4/", Wanted::Info);
        check("", "", Wanted::Info);
        let json = Wanted::Storyboard(Sheet::Json);
        check("a/storyboard.json", "a", json);
        assert!(parse("/v1/videos/%FF.mp4").is_err());
    }
}
