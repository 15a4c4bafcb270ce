//! Which format a client takes, by its `Accept` (RFC 9110, 12.5.1).

use engine::ImageFormat;

/// What an image is called, in the order in which equals are chosen: small ones that are quick to
/// make before slow ones.
const FORMATS: [(ImageFormat, &str); 4] = [
    (ImageFormat::Webp, "image/webp"),
    (ImageFormat::Jpeg, "image/jpeg"),
    (ImageFormat::Avif, "image/avif"),
    (ImageFormat::Png, "image/png"),
];

/// The content type of a format.
pub(super) fn content_type(format: ImageFormat) -> &'static str {
    let own = FORMATS.iter().find(|(f, _)| *f == format);
    own.map_or("application/octet-stream", |(_, name)| name)
}

/// The format that is liked best; JPEG where everything is as good. One that is named comes before
/// one that only a wildcard covers.
pub(super) fn choose(
    accept: Option<&str>,
    is_available: impl Fn(ImageFormat) -> bool,
) -> Option<ImageFormat> {
    let Some(accept) = accept else {
        return Some(ImageFormat::Jpeg);
    };
    let ranges: Vec<(String, u32)> = accept.split(',').filter_map(range).collect();
    // How much it is liked, and whether it is named.
    let liking = |name: &str| {
        let of = |range: &str| ranges.iter().find(|(r, _)| r == range).map(|(_, q)| *q);
        let named = of(name).map(|q| (q, true));
        let covered = || of("image/*").or_else(|| of("*/*")).map(|q| (q, false));
        named.or_else(covered).filter(|(q, _)| *q > 0)
    };
    let jpeg_first = [(ImageFormat::Jpeg, "image/jpeg")];
    let wildcards_only = !FORMATS.iter().any(|(_, n)| liking(n).is_some_and(|l| l.1));
    let candidates = jpeg_first.iter().filter(|_| wildcards_only).chain(&FORMATS);
    let mut best: Option<(ImageFormat, (u32, bool))> = None;
    for (format, name) in candidates.filter(|(f, _)| is_available(*f)) {
        if let Some(liked) = liking(name)
            && best.is_none_or(|(_, known)| liked > known)
        {
            best = Some((*format, liked));
        }
    }
    best.map(|(format, _)| format)
}

/// A media range and its weight in thousandths.
fn range(text: &str) -> Option<(String, u32)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next()?.to_ascii_lowercase();
    let weight = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")));
    let weight = match weight {
        None => 1.0,
        Some(q) => q.parse::<f64>().ok().filter(|q| (0.0..=1.0).contains(q))?,
    };
    Some((name, (weight * 1000.0).round() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_that_is_liked_best_is_chosen() {
        let check = |accept, expected: Option<&str>| {
            let chosen = choose(accept, |_| true).map(content_type);
            assert_eq!(
                chosen,
                expected.map(|e| match e {
                    "jpeg" => "image/jpeg",
                    "webp" => "image/webp",
                    "avif" => "image/avif",
                    _ => "image/png",
                }),
                "{accept:?}"
            );
        };
        check(None, Some("jpeg"));
        check(Some("*/*"), Some("jpeg"));
        check(Some("image/*"), Some("jpeg"));
        check(Some("text/html, */*;q=0.1"), Some("jpeg"));
        // Chromium, Firefox, Safari.
        let chromium = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8";
        check(Some(chromium), Some("webp"));
        check(Some("image/webp,image/png,*/*;q=0.5"), Some("webp"));
        check(Some("image/png;q=0.9, image/avif"), Some("avif"));
        check(Some("IMAGE/PNG"), Some("png"));
        check(Some("image/webp;q=0, image/*"), Some("jpeg"));
        check(Some("image/webp;q=0.2, image/*;q=0.9"), Some("jpeg"));
        check(Some("text/html"), None);
        check(Some("image/jpeg;q=0"), None);
        check(Some("image/jpeg;q=x"), None);
        let without = choose(Some("image/avif, image/jpeg;q=0.5"), |f| {
            f != ImageFormat::Avif
        });
        assert_eq!(without, Some(ImageFormat::Jpeg));
    }
}
