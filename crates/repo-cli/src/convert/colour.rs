//! Colour tags and static HDR metadata, from ffprobe's words to what encoders take.

use serde::Deserialize;

/// What a source says of its colours, as code points of ITU-T H.273; `None` where it says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ColourTags {
    /// `colour_primaries`.
    pub(crate) primaries: Option<u8>,
    /// `transfer_characteristics`.
    pub(crate) transfer: Option<u8>,
    /// `matrix_coefficients`.
    pub(crate) matrix: Option<u8>,
    /// `video_full_range_flag`.
    pub(crate) full_range: Option<bool>,
    /// `chroma_sample_loc_type` (H.265 figure E.1), 0 to 5.
    pub(crate) chroma_location: Option<u8>,
}

/// FFmpeg's names (both of ffprobe's spellings where versions differ) of H.273 table 2.
const PRIMARIES: &[(&str, u8)] = &[
    ("bt709", 1),
    ("bt470m", 4),
    ("bt470bg", 5),
    ("smpte170m", 6),
    ("smpte240m", 7),
    ("film", 8),
    ("bt2020", 9),
    ("smpte428", 10),
    ("smpte431", 11),
    ("smpte432", 12),
    ("ebu3213", 22),
    ("jedec-p22", 22),
];

/// H.273 table 3.
const TRANSFERS: &[(&str, u8)] = &[
    ("bt709", 1),
    ("bt470m", 4),
    ("gamma22", 4),
    ("bt470bg", 5),
    ("gamma28", 5),
    ("smpte170m", 6),
    ("smpte240m", 7),
    ("linear", 8),
    ("log100", 9),
    ("log316", 10),
    ("iec61966-2-4", 11),
    ("bt1361e", 12),
    ("iec61966-2-1", 13),
    ("bt2020-10", 14),
    ("bt2020-12", 15),
    ("smpte2084", 16),
    ("smpte428", 17),
    ("arib-std-b67", 18),
];

/// H.273 table 4.
const MATRICES: &[(&str, u8)] = &[
    ("gbr", 0),
    ("bt709", 1),
    ("fcc", 4),
    ("bt470bg", 5),
    ("smpte170m", 6),
    ("smpte240m", 7),
    ("ycgco", 8),
    ("bt2020nc", 9),
    ("bt2020c", 10),
    ("smpte2085", 11),
    ("chroma-derived-nc", 12),
    ("chroma-derived-c", 13),
    ("ictcp", 14),
];

/// `chroma_sample_loc_type`.
const CHROMA_LOCATIONS: &[(&str, u8)] = &[
    ("left", 0),
    ("center", 1),
    ("topleft", 2),
    ("top", 3),
    ("bottomleft", 4),
    ("bottom", 5),
];

/// The words of ffprobe, of a stream or of a frame.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
pub(crate) struct ColourWords {
    color_range: Option<String>,
    color_space: Option<String>,
    color_transfer: Option<String>,
    color_primaries: Option<String>,
    chroma_location: Option<String>,
}

impl ColourWords {
    /// The words as code points; unknown words say nothing.
    pub(crate) fn tags(&self) -> ColourTags {
        let code = |table: &[(&str, u8)], word: &Option<String>| {
            let word = word.as_deref()?;
            table
                .iter()
                .find(|(name, _)| *name == word)
                .map(|&(_, code)| code)
        };
        ColourTags {
            primaries: code(PRIMARIES, &self.color_primaries),
            transfer: code(TRANSFERS, &self.color_transfer),
            matrix: code(MATRICES, &self.color_space),
            full_range: match self.color_range.as_deref() {
                Some("pc" | "full" | "jpeg") => Some(true),
                Some("tv" | "limited" | "mpeg") => Some(false),
                _ => None,
            },
            chroma_location: code(CHROMA_LOCATIONS, &self.chroma_location),
        }
    }
}

impl ColourTags {
    /// Fills what `self` does not say from `other`.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            primaries: self.primaries.or(other.primaries),
            transfer: self.transfer.or(other.transfer),
            matrix: self.matrix.or(other.matrix),
            full_range: self.full_range.or(other.full_range),
            chroma_location: self.chroma_location.or(other.chroma_location),
        }
    }

    /// The tags after RGB has become BT.709 Y'CbCr of limited range.
    pub(crate) fn after_rgb_conversion(self) -> Self {
        Self {
            matrix: Some(1),
            full_range: Some(false),
            chroma_location: None,
            ..self
        }
    }

    /// Output options of ffmpeg. Code points go as numbers, which every version reads alike.
    pub(crate) fn ffmpeg_args(&self) -> Vec<String> {
        // AVColorRange: 1 is limited, 2 is full.
        let range = self.full_range.map(|full| if full { 2 } else { 1 });
        [
            ("-color_primaries", self.primaries),
            ("-color_trc", self.transfer),
            ("-colorspace", self.matrix),
            ("-color_range", range),
        ]
        .into_iter()
        .filter_map(|(option, value)| Some([option.to_owned(), value?.to_string()]))
        .flatten()
        .collect()
    }
}

/// Static HDR metadata: what the mastering display could show, and how bright the content gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct HdrMetadata {
    /// Mastering display colour volume (H.265 D.3.28).
    pub(crate) mastering: Option<Mastering>,
    /// MaxCLL and MaxFALL in cd/m² (H.265 D.3.35).
    pub(crate) light_level: Option<(u32, u32)>,
}

/// Mastering display colour volume in the units of the SEI message: chromaticities in 0.00002,
/// luminances in 0.0001 cd/m².
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mastering {
    green: (u32, u32),
    blue: (u32, u32),
    red: (u32, u32),
    white: (u32, u32),
    max_luminance: u32,
    min_luminance: u32,
}

/// One entry of ffprobe's `side_data_list`; only the kinds that are read here have these keys.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
pub(crate) struct SideData {
    red_x: Option<String>,
    red_y: Option<String>,
    green_x: Option<String>,
    green_y: Option<String>,
    blue_x: Option<String>,
    blue_y: Option<String>,
    white_point_x: Option<String>,
    white_point_y: Option<String>,
    min_luminance: Option<String>,
    max_luminance: Option<String>,
    max_content: Option<u32>,
    max_average: Option<u32>,
}

impl SideData {
    fn mastering(&self) -> Option<Mastering> {
        let point = |x: &Option<String>, y: &Option<String>| {
            Some((scaled(x, 50_000.0)?, scaled(y, 50_000.0)?))
        };
        Some(Mastering {
            green: point(&self.green_x, &self.green_y)?,
            blue: point(&self.blue_x, &self.blue_y)?,
            red: point(&self.red_x, &self.red_y)?,
            white: point(&self.white_point_x, &self.white_point_y)?,
            max_luminance: scaled(&self.max_luminance, 10_000.0)?,
            min_luminance: scaled(&self.min_luminance, 10_000.0)?,
        })
    }
}

/// A ratio as `7500/50000`, in steps of `1/per_unit`.
fn scaled(ratio: &Option<String>, per_unit: f64) -> Option<u32> {
    let (numerator, denominator) = ratio.as_deref()?.split_once('/')?;
    let (n, d): (f64, f64) = (numerator.parse().ok()?, denominator.parse().ok()?);
    let value = (n / d * per_unit).round();
    (value.is_finite() && (0.0..=f64::from(u32::MAX)).contains(&value)).then_some(value as u32)
}

impl HdrMetadata {
    /// From the side data of the first picture and of the stream; the first that says it wins.
    pub(crate) fn from_side_data<'a>(all: impl IntoIterator<Item = &'a SideData>) -> Self {
        let mut hdr = Self::default();
        for entry in all {
            hdr.mastering = hdr.mastering.or_else(|| entry.mastering());
            hdr.light_level = hdr
                .light_level
                .or_else(|| entry.max_content.zip(entry.max_average));
        }
        hdr
    }

    /// `key=value` pairs for `-x265-params`.
    pub(crate) fn x265_params(&self) -> Vec<String> {
        let mut params = Vec::new();
        if let Some(m) = &self.mastering {
            let point = |(x, y): (u32, u32)| format!("({x},{y})");
            params.push(format!(
                "master-display=G{}B{}R{}WP{}L({},{})",
                point(m.green),
                point(m.blue),
                point(m.red),
                point(m.white),
                m.max_luminance,
                m.min_luminance
            ));
        }
        if let Some((content, average)) = self.light_level {
            params.push(format!("max-cll={content},{average}"));
        }
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_code_points() {
        let words: ColourWords = serde_json::from_str(
            r#"{"color_range":"tv","color_space":"bt2020nc","color_transfer":"smpte2084",
                "color_primaries":"bt2020","chroma_location":"topleft","width":3}"#,
        )
        .unwrap();
        let tags = words.tags();
        assert_eq!(
            (tags.primaries, tags.transfer, tags.matrix),
            (Some(9), Some(16), Some(9))
        );
        assert_eq!(
            (tags.full_range, tags.chroma_location),
            (Some(false), Some(2))
        );
        assert_eq!(
            tags.ffmpeg_args().join(" "),
            "-color_primaries 9 -color_trc 16 -colorspace 9 -color_range 1"
        );
    }

    #[test]
    fn what_is_not_said_is_not_passed_on() {
        let words: ColourWords =
            serde_json::from_str(r#"{"color_range":"unknown","color_space":"reserved"}"#).unwrap();
        assert_eq!(words.tags(), ColourTags::default());
        assert_eq!(words.tags().ffmpeg_args(), [""; 0]);
    }

    #[test]
    fn hdr_metadata_is_given_to_x265_in_the_units_of_the_sei_message() {
        let data: Vec<SideData> = serde_json::from_str(
            r#"[{"side_data_type":"other"},
                {"red_x":"7500/50000","red_y":"3000/50000","green_x":"34/100","green_y":"16000/50000",
                 "blue_x":"13250/50000","blue_y":"34500/50000","white_point_x":"15635/50000",
                 "white_point_y":"16450/50000","min_luminance":"50/10000","max_luminance":"1000/1"},
                {"max_content":1000,"max_average":200}]"#,
        )
        .unwrap();
        assert_eq!(
            HdrMetadata::from_side_data(&data).x265_params(),
            [
                "master-display=G(17000,16000)B(13250,34500)R(7500,3000)WP(15635,16450)L(10000000,50)",
                "max-cll=1000,200",
            ]
        );
    }

    #[test]
    fn half_told_or_impossible_metadata_is_left_out() {
        let data: Vec<SideData> = serde_json::from_str(
            r#"[{"red_x":"7500/50000"},{"max_content":1},
                {"red_x":"1/0","red_y":"1/2","green_x":"1/2","green_y":"1/2","blue_x":"1/2",
                 "blue_y":"1/2","white_point_x":"1/2","white_point_y":"1/2",
                 "min_luminance":"1/2","max_luminance":"1/2"}]"#,
        )
        .unwrap();
        assert_eq!(HdrMetadata::from_side_data(&data), HdrMetadata::default());
    }
}
