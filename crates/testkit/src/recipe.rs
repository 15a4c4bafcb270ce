//! What clips are made: one recipe per structure that a stream or a container can have.

use crate::mux;
use crate::picture::{Chroma, SampleFormat};
use crate::scene::Scene;

/// How one clip is made. Equal recipes give equal files on one ffmpeg version.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Recipe {
    /// Names the structure; unique in [`all`].
    pub name: String,
    /// What is seen.
    pub scene: Scene,
    /// The number in the first picture's mark.
    pub first_number: u32,
    /// How many pictures are encoded.
    pub frames: u32,
    /// Pictures a second.
    pub frame_rate: u32,
    /// x265's preset.
    pub preset: String,
    /// `-x265-params`, without the log level.
    pub x265: String,
    /// ffmpeg's colour options (`-colorspace` and so on), given for input and output.
    pub colour: Vec<String>,
    /// ffmpeg filter that sets time stamps, in a time base of 1/90000.
    pub timing: Option<String>,
    /// What is done with the encoded stream.
    pub packaging: Packaging,
}

/// How the encoded stream is wrapped.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Packaging {
    /// MP4 as ffmpeg writes it: `moov` last, `hev1` or `hvc1`.
    Mp4 {
        /// `hvc1` (parameter sets in `hvcC` only) or `hev1`.
        tag: &'static str,
    },
    /// A stream copy of the MP4 by ffmpeg.
    Copy {
        /// Options before the input.
        before: Vec<String>,
        /// Options after the input, the output's format among them.
        after: Vec<String>,
        /// File name extension.
        extension: &'static str,
    },
    /// The MP4 with another track matrix: mirrored left–right or not, then turned clockwise by so
    /// many quarters.
    Oriented {
        /// Mirrored before turning.
        mirrored: bool,
        /// Quarter turns clockwise.
        quarter_turns: u8,
    },
    /// `hev1` whose `hvcC` holds no parameter sets: they are in-band only.
    InBandSetsOnly,
    /// MP4 in a layout that ffmpeg does not write; several encodings follow each other, each with
    /// a sample description of its own.
    Laid {
        /// The layout.
        layout: mux::Layout,
        /// Encodings after the recipe's own.
        more: Vec<Recipe>,
    },
    /// A raw byte stream.
    AnnexB(ByteStream),
    /// Raw byte streams one after the other, each an encoding of its own.
    Joined(Vec<Recipe>),
}

/// Flavours of a raw byte stream (H.265, Annex B).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ByteStream {
    /// As ffmpeg writes it: four-byte start codes at parameter sets and pictures.
    AsWritten,
    /// Every start code has three bytes.
    ThreeByteStartCodes,
    /// Four-byte start codes and two trailing zero bytes after each NAL unit.
    TrailingZeros,
    /// Begins at the second IRAP: RASL pictures that follow it have no reference and are not
    /// shown.
    FromSecondIrap,
}

impl Recipe {
    /// 72 pictures of 320×180 at 24 a second, x265's defaults, plain MP4.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            scene: Scene::default(),
            first_number: 0,
            frames: 72,
            frame_rate: 24,
            preset: "medium".to_owned(),
            x265: String::new(),
            colour: Vec::new(),
            timing: None,
            packaging: Packaging::Mp4 { tag: "hvc1" },
        }
    }

    /// With these `-x265-params`.
    #[must_use]
    pub fn x265(mut self, params: &str) -> Self {
        self.x265 = params.to_owned();
        self
    }

    /// With this x265 preset.
    #[must_use]
    pub fn preset(mut self, preset: &str) -> Self {
        self.preset = preset.to_owned();
        self
    }

    /// Of this size.
    #[must_use]
    pub fn size(mut self, width: usize, height: usize) -> Self {
        (self.scene.width, self.scene.height) = (width, height);
        self
    }

    /// Of so many pictures.
    #[must_use]
    pub fn frames(mut self, frames: u32) -> Self {
        self.frames = frames;
        self
    }

    /// In this format.
    #[must_use]
    pub fn format(mut self, chroma: Chroma, depth: u32) -> Self {
        self.scene.format = SampleFormat { chroma, depth };
        self
    }

    /// Tagged with these names of ffmpeg: primaries, transfer, matrix.
    #[must_use]
    pub fn colour(mut self, primaries: &str, transfer: &str, matrix: &str) -> Self {
        let tags = [("-color_primaries", primaries), ("-color_trc", transfer)];
        for (option, value) in tags.into_iter().chain([("-colorspace", matrix)]) {
            self.colour.extend([option.to_owned(), value.to_owned()]);
        }
        self
    }

    /// Full range, and tagged so.
    #[must_use]
    pub fn full_range(mut self) -> Self {
        self.scene.full_range = true;
        self.colour
            .extend(["-color_range".to_owned(), "pc".to_owned()]);
        self
    }

    /// Another scene after every so many pictures.
    #[must_use]
    pub fn cuts(mut self, every: u32) -> Self {
        self.scene.cut_every = Some(every);
        self
    }

    /// Wrapped so.
    #[must_use]
    pub fn packaged(mut self, packaging: Packaging) -> Self {
        self.packaging = packaging;
        self
    }

    fn copied(self, before: &str, after: &str, extension: &'static str) -> Self {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let (before, after) = (words(before), words(after));
        self.packaged(Packaging::Copy {
            before,
            after,
            extension,
        })
    }

    /// The encoding alone, which recipes with other packaging share: the same recipe as plain MP4.
    pub(crate) fn encoding(&self) -> Self {
        let tag = match self.packaging {
            Packaging::Mp4 { tag } => tag,
            _ if self.x265.contains("repeat-headers") => "hev1",
            _ => "hvc1",
        };
        Self {
            name: "encoding".to_owned(),
            packaging: Packaging::Mp4 { tag },
            ..self.clone()
        }
    }

    /// File name extension.
    pub(crate) fn extension(&self) -> &'static str {
        match self.packaging {
            Packaging::Copy { extension, .. } => extension,
            Packaging::AnnexB(_) | Packaging::Joined(_) => "h265",
            _ => "mp4",
        }
    }
}

/// Every structure: what the encoder can do, then what containers can do.
pub fn all() -> Vec<Recipe> {
    let mut recipes = streams();
    recipes.extend(formats());
    recipes.extend(colours());
    recipes.extend(containers());
    recipes.extend(raw());
    recipes
}

/// GOP and picture structures.
fn streams() -> Vec<Recipe> {
    vec![
        // One long GOP, B-frames under a pyramid: what most files in the world look like.
        Recipe::new("default_gop").frames(120).x265("keyint=250"),
        // CRA pictures, RASL pictures before them.
        Recipe::new("open_gop_rasl").x265("keyint=24:min-keyint=24:open-gop=1:bframes=4"),
        Recipe::new("closed_gop").x265("keyint=24:min-keyint=24:open-gop=0:bframes=3"),
        // IDR_W_RADL with decodable leading pictures.
        Recipe::new("closed_gop_radl")
            .x265("keyint=24:min-keyint=24:open-gop=0:bframes=4:radl=2:scenecut=0"),
        Recipe::new("low_delay_p").x265("bframes=0:ref=3:keyint=250"),
        Recipe::new("low_delay_p_one_reference").x265("bframes=0:ref=1:keyint=250"),
        Recipe::new("b_frames_8").x265("bframes=8:b-adapt=0:keyint=250:ref=4"),
        Recipe::new("b_frames_one_reference")
            .x265("bframes=4:ref=1:keyint=250")
            .cuts(29),
        Recipe::new("b_without_pyramid").x265("b-pyramid=0:bframes=4:b-adapt=0:keyint=60"),
        Recipe::new("all_intra").x265("keyint=1").frames(24),
        Recipe::new("long_gop")
            .x265("keyint=-1:bframes=3")
            .frames(120),
        Recipe::new("scene_cuts")
            .x265("keyint=250:min-keyint=5")
            .cuts(17),
        // Intra pictures nearer to a keyframe than min-keyint are no IRAP pictures.
        Recipe::new("intra_pictures_without_irap")
            .x265("keyint=60:min-keyint=30")
            .cuts(9),
        Recipe::new("scene_cuts_open_gop")
            .x265("keyint=48:min-keyint=2:open-gop=1")
            .cuts(13),
        Recipe {
            scene: Scene {
                fade_over: Some(36),
                ..Scene::default()
            },
            ..Recipe::new("weighted")
        }
        .x265("weightp=1:weightb=1:keyint=250"),
        Recipe::new("slices").x265("slices=4:keyint=48"),
        Recipe::new("wavefronts").x265("wpp=1:ctu=16:min-cu-size=8:keyint=48"),
        // Without sample adaptive offset, rows of it are decoded side by side.
        Recipe::new("wavefronts_without_sao").x265("wpp=1:ctu=16:min-cu-size=8:no-sao=1:keyint=48"),
        Recipe::new("no_wavefronts").x265("wpp=0:keyint=48"),
        Recipe::new("intra_refresh")
            .x265("intra-refresh=1:keyint=24:bframes=2")
            .frames(96),
        Recipe::new("temporal_layers").x265("temporal-layers=1:bframes=4:b-adapt=0:keyint=48"),
        Recipe::new("fields").x265("interlace=tff:keyint=48"),
        Recipe::new("access_unit_delimiters").x265("aud=1:hrd=1:vbv-maxrate=900:vbv-bufsize=900"),
        Recipe::new("lossless")
            .x265("lossless=1:keyint=24")
            .frames(24),
        Recipe::new("tools_off")
            .preset("ultrafast")
            .x265("no-sao=1:no-deblock=1:no-signhide=1:no-strong-intra-smoothing=1:amp=0:rect=0"),
        Recipe::new("tools_on")
            .preset("slow")
            .x265("tskip=1:cu-lossless=1:constrained-intra=1"),
    ]
}

/// Sampling, depth, size.
fn formats() -> Vec<Recipe> {
    let short = |name: &str| Recipe::new(name).frames(48).x265("keyint=30");
    let cropped = |recipe: Recipe, window: &str| {
        recipe.copied("", &format!("-bsf:v hevc_metadata={window}"), "mp4")
    };
    vec![
        short("bits_10").format(Chroma::C420, 10),
        short("bits_12").format(Chroma::C420, 12),
        short("chroma_422").format(Chroma::C422, 8),
        short("chroma_422_bits_10").format(Chroma::C422, 10),
        short("chroma_444").format(Chroma::C444, 8),
        short("chroma_444_bits_12").format(Chroma::C444, 12),
        short("gray").format(Chroma::Gray, 8),
        short("gray_bits_10").format(Chroma::Gray, 10),
        // Odd luma sizes exist only where the chroma units of the conformance window are 1.
        short("odd_size_444").format(Chroma::C444, 8).size(319, 179),
        short("odd_size_gray")
            .format(Chroma::Gray, 8)
            .size(319, 179),
        short("even_size").size(318, 178),
        // x265 crops right and bottom only.
        cropped(
            short("cropped_left_and_top"),
            "crop_left=6:crop_right=10:crop_top=2:crop_bottom=12",
        ),
        cropped(
            short("cropped_odd_444").format(Chroma::C444, 8),
            "crop_left=3:crop_right=2:crop_top=1:crop_bottom=4",
        ),
        short("display_window").x265("keyint=30:display-window=2,4,6,8"),
        short("pixel_aspect").x265("keyint=30:sar=4\\:3"),
        short("smallest").size(128, 96),
    ]
}

/// Colour tags and ranges. The samples' meaning follows from the tags; the scene is the same.
fn colours() -> Vec<Recipe> {
    let short = |name: &str| Recipe::new(name).frames(24);
    let deep = |name: &str| short(name).format(Chroma::C420, 10);
    vec![
        short("bt601_limited").colour("smpte170m", "smpte170m", "smpte170m"),
        short("bt601_full")
            .colour("smpte170m", "smpte170m", "smpte170m")
            .full_range(),
        short("bt470bg_limited").colour("bt470bg", "gamma28", "bt470bg"),
        short("bt709_limited").colour("bt709", "bt709", "bt709"),
        short("bt709_full")
            .colour("bt709", "bt709", "bt709")
            .full_range(),
        deep("bt709_full_bits_10")
            .colour("bt709", "bt709", "bt709")
            .full_range(),
        deep("bt2020_limited").colour("bt2020", "bt2020-10", "bt2020nc"),
        deep("bt2020_full")
            .colour("bt2020", "bt2020-10", "bt2020nc")
            .full_range(),
        deep("pq").colour("bt2020", "smpte2084", "bt2020nc"),
        deep("hlg").colour("bt2020", "arib-std-b67", "bt2020nc"),
        short("untagged_720_lines").size(1280, 720).frames(12),
        // Only the container's colr says it.
        short("colour_in_container")
            .colour("bt709", "bt709", "bt709")
            .copied(
                "",
                "-bsf:v hevc_metadata=colour_primaries=2:transfer_characteristics=2\
             :matrix_coefficients=2",
                "mp4",
            ),
    ]
}

/// Containers, around one encoding with two or three GOPs.
fn containers() -> Vec<Recipe> {
    let base = |name: &str| Recipe::new(name).x265("keyint=30:min-keyint=30:bframes=4");
    let repeated =
        |name: &str| Recipe::new(name).x265("keyint=30:min-keyint=30:bframes=4:repeat-headers=1");
    let laid = |name: &str, layout| {
        base(name).packaged(Packaging::Laid {
            layout,
            more: vec![],
        })
    };
    let plain = mux::Layout::default();
    let mut recipes = vec![
        base("moov_last"),
        laid(
            "nal_length_2",
            mux::Layout {
                nal_length_bytes: 2,
                ..plain
            },
        ),
        // Every slice segment below 256 bytes.
        Recipe::new("nal_length_1")
            .x265("keyint=24:qp=45:slices=6:ctu=16:aq-mode=0")
            .size(128, 96)
            .packaged(Packaging::Laid {
                layout: mux::Layout {
                    nal_length_bytes: 1,
                    ..plain
                },
                more: vec![],
            }),
        laid(
            "offsets_64_bit",
            mux::Layout {
                co64: true,
                largesize: true,
                ..plain
            },
        ),
        laid(
            "offsets_64_bit_moov_first",
            mux::Layout {
                co64: true,
                largesize: true,
                moov_first: true,
                ..plain
            },
        ),
        laid(
            "signed_composition_offsets",
            mux::Layout {
                signed_composition_offsets: true,
                moov_first: true,
                ..plain
            },
        ),
        laid(
            "chunks_reversed",
            mux::Layout {
                chunks_reversed: true,
                ..plain
            },
        ),
        laid(
            "one_sample_per_chunk",
            mux::Layout {
                samples_per_chunk: 1,
                ..plain
            },
        ),
        laid(
            "one_chunk",
            mux::Layout {
                samples_per_chunk: usize::MAX,
                ..plain
            },
        ),
        laid(
            "metadata_track_first",
            mux::Layout {
                metadata_track_first: true,
                moov_first: true,
                ..plain
            },
        ),
        base("two_sample_descriptions")
            .frames(72)
            .packaged(Packaging::Laid {
                layout: plain,
                more: vec![
                    Recipe {
                        first_number: 72,
                        ..Recipe::new("second")
                    }
                    .x265("keyint=48:ref=2:bframes=2:ctu=32:wpp=0:weightp=0:open-gop=0"),
                ],
            }),
        base("moov_first").copied("", "-movflags +faststart", "mp4"),
        base("hev1").packaged(Packaging::Mp4 { tag: "hev1" }),
        repeated("hev1_repeated_sets").packaged(Packaging::Mp4 { tag: "hev1" }),
        repeated("hev1_in_band_sets_only").packaged(Packaging::InBandSetsOnly),
        base("mp4_named_h265").copied("", "-f mp4", "h265"),
        base("quicktime_timecode_track").copied("", "-tag:v hvc1 -timecode 00:00:00:00", "mov"),
        base("edit_list_cut").copied("-ss 1.6", "", "mp4"),
        base("edit_list_cut_short").copied("-ss 1.6 -t 0.8", "", "mp4"),
        Recipe::new("edit_list_cut_closed_gop")
            .x265("keyint=30:min-keyint=30:bframes=4:open-gop=0")
            .copied("-ss 1.6", "", "mp4"),
        base("edit_list_delay").copied("-itsoffset 0.5", "", "mp4"),
        base("no_edit_list").copied("", "-use_editlist 0", "mp4"),
        // ctts version 1.
        base("negative_composition_offsets").copied("", "-movflags +negative_cts_offsets", "mp4"),
        base("audio_first").copied(
            "-f lavfi -i sine=frequency=440:sample_rate=8000:duration=3",
            "-map 0:a -map 1:v -c:a aac -b:a 16k -shortest",
            "mp4",
        ),
        base("audio_first_fragmented").copied(
            "-f lavfi -i sine=frequency=440:sample_rate=8000:duration=3",
            "-map 0:a -map 1:v -c:a aac -b:a 16k -shortest -movflags +frag_keyframe+empty_moov",
            "mp4",
        ),
        Recipe {
            timing: Some("floor(N*3750+1500*mod(N,3)+N*N*7)".to_owned()),
            ..base("variable_frame_rate")
        },
        Recipe {
            timing: Some("floor(N*3750+1500*mod(N,3)+N*N*7)".to_owned()),
            ..base("variable_frame_rate_fragmented")
        }
        .copied("", "-movflags +frag_keyframe+empty_moov", "mp4"),
    ];
    let fragmented = [
        // The first GOP's samples are in moov, the others in moof.
        ("fragmented_after_moov", "frag_keyframe"),
        ("fragmented", "frag_keyframe+empty_moov"),
        (
            "fragmented_default_base",
            "frag_keyframe+empty_moov+default_base_moof",
        ),
        (
            "fragmented_every_frame",
            "frag_every_frame+empty_moov+omit_tfhd_offset",
        ),
        ("fragmented_dash_sidx", "dash+delay_moov+global_sidx"),
        ("fragmented_cmaf", "cmaf"),
        (
            "fragmented_no_mfra",
            "frag_keyframe+empty_moov+negative_cts_offsets+skip_trailer",
        ),
    ];
    recipes.extend(
        fragmented.map(|(name, flags)| base(name).copied("", &format!("-movflags {flags}"), "mp4")),
    );
    for mirrored in [false, true] {
        for quarter_turns in 0..4u8 {
            let name = format!(
                "{}_{}",
                if mirrored {
                    "mirrored_then_turned"
                } else {
                    "turned"
                },
                u32::from(quarter_turns) * 90
            );
            if mirrored || quarter_turns > 0 {
                let oriented = Packaging::Oriented {
                    mirrored,
                    quarter_turns,
                };
                recipes.push(base(&name).packaged(oriented));
            }
        }
    }
    recipes
}

/// Raw byte streams.
fn raw() -> Vec<Recipe> {
    let closed = |name: &str| Recipe::new(name).x265("keyint=30:min-keyint=30:bframes=4");
    let open = |name: &str| Recipe::new(name).x265("keyint=24:min-keyint=24:open-gop=1:bframes=4");
    let raw = |recipe: Recipe, flavour| recipe.packaged(Packaging::AnnexB(flavour));
    let second = Recipe {
        first_number: 72,
        ..Recipe::new("second")
    };
    let mut repeated = closed("annexb_repeated_sets");
    repeated.x265.push_str(":repeat-headers=1:aud=1");
    vec![
        raw(closed("annexb"), ByteStream::AsWritten),
        raw(open("annexb_open_gop"), ByteStream::AsWritten),
        raw(
            closed("annexb_three_byte_start_codes"),
            ByteStream::ThreeByteStartCodes,
        ),
        raw(closed("annexb_trailing_zeros"), ByteStream::TrailingZeros),
        raw(open("annexb_begins_with_cra"), ByteStream::FromSecondIrap),
        raw(repeated, ByteStream::AsWritten),
        raw(
            Recipe::new("annexb_slices").x265("slices=4:keyint=48"),
            ByteStream::AsWritten,
        ),
        // The same parameter set ids with other contents from the second stream on.
        closed("annexb_joined")
            .frames(144)
            .packaged(Packaging::Joined(vec![
                closed("first"),
                second.x265("keyint=48:ref=2:bframes=2:ctu=32:wpp=0:weightp=0"),
            ])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().into_iter().map(|r| r.name).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
