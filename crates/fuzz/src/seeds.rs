//! Inputs to begin with: small made videos of each structure, and examples of each text.

use std::fs;

use testkit::mux::Layout;
use testkit::recipe::{ByteStream, Packaging};
use testkit::{Recipe, directories, footage};

use crate::index_file;

/// Small real files are seeds, too, where there are some.
const LARGEST: u64 = 24 << 10;

fn small(name: &str) -> Recipe {
    Recipe::new(name)
        .size(128, 96)
        .frames(12)
        .x265("keyint=5:min-keyint=1:scenecut=0:open-gop=1:bframes=2:b-adapt=0:qp=40")
}

/// With its parameter sets in the stream.
fn in_band(recipe: Recipe) -> Recipe {
    let params = format!("{}:repeat-headers=1", recipe.x265);
    recipe.x265(&params)
}

fn files(recipes: &[Recipe]) -> Vec<Vec<u8>> {
    let clips = footage::make_all(recipes).unwrap();
    clips.iter().map(|c| fs::read(&c.path).unwrap()).collect()
}

fn real(wanted: fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let files = directories::camera_files().unwrap_or_default();
    let small = files
        .iter()
        .filter(|path| path.metadata().is_ok_and(|m| m.len() <= LARGEST));
    small
        .filter_map(|path| fs::read(path).ok())
        .filter(|file| wanted(file))
        .collect()
}

fn copied(name: &str, before: &str, after: &str) -> Recipe {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    small(name).packaged(Packaging::Copy {
        before: words(before),
        after: words(after),
        extension: "mp4",
    })
}

fn mp4_recipes() -> Vec<Recipe> {
    let laid = |name, layout| {
        small(name).packaged(Packaging::Laid {
            layout,
            more: vec![],
        })
    };
    let plain = Layout::default();
    vec![
        small("fuzz_mp4"),
        copied("fuzz_fragments", "", "-movflags +frag_keyframe+empty_moov"),
        copied("fuzz_sidx", "", "-movflags +frag_keyframe+dash+global_sidx"),
        copied("fuzz_moov_first", "", "-movflags +faststart"),
        copied("fuzz_edits", "-ss 0.2", ""),
        in_band(small("fuzz_in_band")).packaged(Packaging::InBandSetsOnly),
        laid(
            "fuzz_wide",
            Layout {
                co64: true,
                largesize: true,
                nal_length_bytes: 2,
                ..plain
            },
        ),
        laid(
            "fuzz_reversed",
            Layout {
                chunks_reversed: true,
                ..plain
            },
        ),
    ]
}

fn annexb_recipes() -> Vec<Recipe> {
    let raw = |recipe: Recipe| {
        let packaging = Packaging::AnnexB(ByteStream::AsWritten);
        in_band(recipe).packaged(packaging)
    };
    let with = |name, x265| raw(small(name).x265(x265));
    vec![
        raw(small("fuzz_annexb")),
        with("fuzz_pyramid", "keyint=-1:bframes=4:b-adapt=0:qp=40"),
        with(
            "fuzz_closed",
            "keyint=5:min-keyint=1:scenecut=0:open-gop=0:radl=2:bframes=3:qp=40",
        ),
        with(
            "fuzz_slices",
            "slices=3:ctu=16:min-cu-size=8:no-sao=1:qp=40",
        ),
        with("fuzz_layers", "temporal-layers=1:bframes=4:b-adapt=0:qp=40"),
        with("fuzz_weighted", "weightp=1:weightb=1:ref=4:bframes=2:qp=40"),
        with(
            "fuzz_fields",
            "interlace=tff:aud=1:hrd=1:vbv-maxrate=900:vbv-bufsize=900",
        ),
        with("fuzz_repeated", "keyint=3:bframes=0:ref=3:qp=40"),
    ]
}

pub(crate) fn mp4() -> Vec<Vec<u8>> {
    let mut all = files(&mp4_recipes());
    all.extend(real(|file| file.get(4..8) == Some(b"ftyp")));
    all
}

pub(crate) fn annexb() -> Vec<Vec<u8>> {
    let mut all = files(&annexb_recipes());
    all.extend(real(|file| {
        file.starts_with(&[0, 0]) && file.get(4..8) != Some(b"ftyp")
    }));
    all
}

pub(crate) fn videos() -> Vec<Vec<u8>> {
    let mut all = files(&mp4_recipes()[..4]);
    // One of each first: what seeds of requests are about.
    let raw = files(&annexb_recipes());
    all.splice(1..1, raw);
    all
}

/// The beginning of each slice, and the parameter sets whole.
pub(crate) fn headers() -> Vec<Vec<u8>> {
    let cut = |stream: &Vec<u8>| {
        let mut out = Vec::new();
        let units = media::h265::nal::units(stream, media::index::Framing::StartCodes);
        for unit in units.flatten() {
            out.extend([0, 0, 0, 1]);
            let is_slice = unit[0] >> 1 < 32;
            out.extend(
                &unit[..if is_slice {
                    unit.len().min(24)
                } else {
                    unit.len()
                }],
            );
        }
        out
    };
    annexb().iter().map(cut).collect()
}

pub(crate) fn index_files() -> Vec<Vec<u8>> {
    let [mp4, annexb] = [mp4_recipes(), annexb_recipes()];
    let videos = files(&[&mp4[..3], &annexb[..2]].concat());
    let of = |video: &Vec<u8>| [true, false].map(|heads| index_file::of(video, heads));
    videos.iter().flat_map(of).collect()
}

pub(crate) fn offsets() -> Vec<Vec<u8>> {
    let texts = [
        "{\"video_url\":\"s3://b/a.mp4\",\"frames\":[{\"offset\":48,\"irap_offset\":0},{\"offset\":9}]}",
        "{\"frames\":[]}",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// The examples of docs/protocol.md.
pub(crate) fn messages() -> Vec<Vec<u8>> {
    let document = include_str!("../../../docs/protocol.md");
    let examples = document.lines().filter(|line| line.starts_with('{'));
    examples.map(|line| line.as_bytes().to_vec()).collect()
}

pub(crate) fn requests() -> Vec<Vec<u8>> {
    let texts = [
        "GET /v1/videos/a.mp4",
        "GET /v1/videos/a.mp4/frame.jpg?frame=3&width=64&height=48&fit=cover&quality=70",
        "GET /v1/videos/a.mp4/frame?time=0.2&rotate=off&mode=keyframe\nAccept: image/webp;q=0.8, */*",
        "GET /v1/videos/b.h265/frame.png?offset=48&irap_offset=0\nIf-None-Match: \"x\", W/\"y\"",
        "HEAD /v1/videos/b.h265/frame.avif?frame=0&v=1\nRange: bytes=0-9",
        "GET /v1/videos/a.mp4/index?format=json\nAccept-Encoding: gzip",
        "GET /v1/videos/a.mp4/index?format=bsidx",
        "GET /v1/videos/a.mp4/storyboard.jpg?columns=2&rows=2&width=32&interval=0.1",
        "GET /v1/videos/a.mp4/storyboard.vtt?columns=3&rows=1",
        "GET /v1/videos/a.mp4/storyboard.json",
        "GET /v1/videos/a.mp4/clip?from=0&to=0.3&fps=30",
        "GET /v1/videos/a.mp4/gop?frame=4",
        "GET /v1/videos?prefix=a&limit=3&cursor=b",
        "GET /v1/videos/s3%3A%2F%2Flab%2Fa.mp4/frame.jpg?frame=0",
        "GET /v1/videos/..%2F..%2Fetc%2Fpasswd",
        "GET /v1/videos/bad.mp4/frame.jpg?frame=0",
        "POST /v1/openapi.json\nOrigin: http://x",
        "GET /v1/openapi.json",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(crate) fn names() -> Vec<Vec<u8>> {
    let texts = [
        "a.mp4",
        "sub/b.mp4",
        "sub/deep/c.mp4",
        "./a.mp4",
        "sub/../a.mp4",
        "../secret.mp4",
        "sub/../../secret.mp4",
        "/secret.mp4",
        "fs:///a.mp4",
        "s3://b/k",
        "out.mp4",
        "up/secret.mp4",
        "top/etc/passwd",
        "same/b.mp4",
        "loop/x",
        "%2e",
        "%2e%2e/secret.mp4",
        "a.mp4/",
        "sub//b.mp4",
        "..\\secret.mp4",
        "\u{0}",
        "sub",
        "",
        "../rooted/secret.mp4",
        "sub/..mp4",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(crate) fn credentials() -> Vec<Vec<u8>> {
    let texts = [
        "lab\n[default]\naws_access_key_id = A\naws_secret_access_key=S=\n[profile lab]\nregion=x\n",
        "default\n# no\n[ default ]\n;x=y\naws_session_token = \n[lab\n]\n=\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
