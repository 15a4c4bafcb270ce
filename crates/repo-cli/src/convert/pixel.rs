//! Which pixel format the encoder is given: the nearest that H.265 has, nothing thrown away.

use serde::Deserialize;

/// A pixel format as `ffprobe -show_pixel_formats` describes it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct PixelFormat {
    /// FFmpeg's name.
    pub(crate) name: String,
    nb_components: u32,
    #[serde(default)]
    log2_chroma_w: u32,
    #[serde(default)]
    log2_chroma_h: u32,
    flags: Flags,
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
struct Flags {
    #[serde(default)]
    palette: u8,
    #[serde(default)]
    rgb: u8,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
struct Component {
    bit_depth: u32,
}

/// `chroma_format_idc` (H.265 table 6-1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Chroma {
    /// 4:0:0
    Gray,
    /// 4:2:0
    C420,
    /// 4:2:2
    C422,
    /// 4:4:4
    C444,
}

/// What the encoder codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CodedFormat {
    /// Chroma format.
    pub(crate) chroma: Chroma,
    /// Bits per sample: 8, 10 or 12.
    pub(crate) depth: u8,
    /// The source holds R, G and B, which have to become Y, Cb and Cr.
    pub(crate) from_rgb: bool,
}

impl PixelFormat {
    /// The nearest coded format that keeps resolution of chroma, and depth up to 12 bits.
    pub(crate) fn coded(&self) -> CodedFormat {
        let bits = self
            .components
            .iter()
            .map(|c| c.bit_depth)
            .max()
            .unwrap_or(8);
        let depth = match bits {
            0..=8 => 8,
            9 | 10 => 10,
            _ => 12,
        };
        let from_rgb = self.flags.rgb != 0 || self.flags.palette != 0;
        let chroma = match (self.log2_chroma_w, self.log2_chroma_h) {
            _ if from_rgb => Chroma::C444,
            // One component, or one and alpha.
            _ if self.nb_components <= 2 => Chroma::Gray,
            (0, _) => Chroma::C444,
            (_, 0) => Chroma::C422,
            _ => Chroma::C420,
        };
        CodedFormat {
            chroma,
            depth,
            from_rgb,
        }
    }
}

impl CodedFormat {
    /// FFmpeg's name of the planar format.
    pub(crate) fn name(self) -> String {
        let base = match self.chroma {
            Chroma::Gray => "gray",
            Chroma::C420 => "yuv420p",
            Chroma::C422 => "yuv422p",
            Chroma::C444 => "yuv444p",
        };
        if self.depth == 8 {
            base.to_owned()
        } else {
            format!("{base}{}le", self.depth)
        }
    }

    /// Whether a source of this name already is this format. FFmpeg's `yuvj…` names are the same
    /// samples with full range.
    pub(crate) fn is(self, source: &str) -> bool {
        let name = self.name();
        source == name
            || (self.depth == 8
                && source
                    .strip_prefix("yuvj")
                    .is_some_and(|rest| name.strip_prefix("yuv") == Some(rest)))
    }

    /// The format in which `hevc_nvenc` takes these samples without loss, if it does.
    pub(crate) fn nvenc_name(self) -> Option<&'static str> {
        match (self.chroma, self.depth) {
            (Chroma::C420, 8) => Some("yuv420p"),
            (Chroma::C420, 10) => Some("p010le"),
            (Chroma::C444, 8) => Some("yuv444p"),
            (Chroma::C444, 10) => Some("yuv444p16le"),
            _ => None,
        }
    }

    /// A size cut down to what the chroma planes can halve.
    pub(crate) fn valid_size(self, width: u32, height: u32) -> (u32, u32) {
        match self.chroma {
            Chroma::C420 => (width & !1, height & !1),
            Chroma::C422 => (width & !1, height),
            Chroma::Gray | Chroma::C444 => (width, height),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(name: &str, parts: u32, chroma: (u32, u32), rgb: u8, bits: u32) -> PixelFormat {
        PixelFormat {
            name: name.into(),
            nb_components: parts,
            log2_chroma_w: chroma.0,
            log2_chroma_h: chroma.1,
            flags: Flags { palette: 0, rgb },
            components: vec![Component { bit_depth: bits }; parts as usize],
        }
    }

    #[test]
    fn the_nearest_format_keeps_chroma_and_depth() {
        for (source, expected) in [
            (format("yuv420p", 3, (1, 1), 0, 8), "yuv420p"),
            (format("nv12", 3, (1, 1), 0, 8), "yuv420p"),
            (format("p010le", 3, (1, 1), 0, 10), "yuv420p10le"),
            (format("yuv420p9le", 3, (1, 1), 0, 9), "yuv420p10le"),
            (format("yuva422p12le", 4, (1, 0), 0, 12), "yuv422p12le"),
            (format("yuyv422", 3, (1, 0), 0, 8), "yuv422p"),
            (format("yuv411p", 3, (2, 0), 0, 8), "yuv422p"),
            (format("yuv440p", 3, (0, 1), 0, 8), "yuv444p"),
            (format("yuv444p16le", 3, (0, 0), 0, 16), "yuv444p12le"),
            (format("gray16le", 1, (0, 0), 0, 16), "gray12le"),
            (format("ya8", 2, (0, 0), 0, 8), "gray"),
            (format("gbrp10le", 3, (0, 0), 1, 10), "yuv444p10le"),
            (format("bgr24", 3, (0, 0), 1, 8), "yuv444p"),
        ] {
            assert_eq!(source.coded().name(), expected, "{}", source.name);
            assert_eq!(source.coded().is(&source.name), source.name == expected);
        }
    }

    #[test]
    fn full_range_names_are_the_same_samples() {
        let coded = format("yuvj420p", 3, (1, 1), 0, 8).coded();
        assert!(coded.is("yuvj420p"));
        assert!(!coded.is("yuvj422p"));
        assert!(!coded.is("nv12"));
    }

    #[test]
    fn sizes_are_cut_only_where_chroma_is_halved() {
        let size = |chroma| {
            CodedFormat {
                chroma,
                depth: 8,
                from_rgb: false,
            }
            .valid_size(101, 67)
        };
        assert_eq!(size(Chroma::C420), (100, 66));
        assert_eq!(size(Chroma::C422), (100, 67));
        assert_eq!(size(Chroma::C444), (101, 67));
        assert_eq!(size(Chroma::Gray), (101, 67));
    }
}
