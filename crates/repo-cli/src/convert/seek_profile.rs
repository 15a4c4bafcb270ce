//! What `--seek` means: how deep one frame may depend on others, against how large the file gets.
//!
//! The server decodes for one frame only its *reference closure*: the pictures that it refers to,
//! directly or through others. A GOP here is a short chain of *anchors* (one I, then P pictures),
//! with a run of B-pictures between two neighbours. A frame's closure is about the anchors before
//! it, plus one after it, plus one or two B-pictures of a pyramid. So a GOP costs as much as it
//! has anchors, and hardly more for the length of the B-runs.

use super::rate::Rate;

/// Frame rate taken where the source does not tell one.
const ASSUMED_RATE: f64 = 25.0;

/// The longest run of B-pictures that x265 knows.
const X265_MAX_BFRAMES: u32 = 16;

/// The longest run that every NVENC generation with B-pictures for HEVC takes.
const NVENC_MAX_BFRAMES: u32 = 4;

/// `--seek`: three points on the curve of closure against size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum Seek {
    /// Cheapest frames; larger files
    Fast,
    /// A frame costs at most some 6 access units; files little larger than x265's defaults
    #[default]
    Balanced,
    /// Smallest files; frames cost more
    Small,
}

/// How x265 places B-pictures (`b-adapt`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BPlacement {
    /// `0`: always the longest run.
    Fixed,
    /// `2`: as long as pays, found by a full search.
    Adaptive,
}

/// The structure of a GOP, independent of the frame rate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct SeekProfile {
    /// Length of a GOP in seconds. GOPs are always closed.
    pub(crate) gop_seconds: f64,
    /// Anchors (I and P pictures) that a GOP should have; the B-runs are made as long as that asks.
    pub(crate) anchors: u32,
    /// How B-pictures are placed.
    pub(crate) placement: BPlacement,
    /// Whether the middle of a B-run may be referred to by its neighbours.
    pub(crate) pyramid: bool,
    /// Reference pictures per list (`ref`).
    pub(crate) references: u32,
    /// Whether a scene change starts a GOP before its time.
    pub(crate) scene_cuts: bool,
}

impl Seek {
    /// The structure behind the name.
    pub(crate) const fn profile(self) -> SeekProfile {
        match self {
            Self::Fast => SeekProfile {
                gop_seconds: 1.0,
                anchors: 3,
                placement: BPlacement::Fixed,
                pyramid: false,
                references: 1,
                scene_cuts: true,
            },
            Self::Balanced => SeekProfile {
                gop_seconds: 1.5,
                anchors: 5,
                placement: BPlacement::Fixed,
                pyramid: true,
                references: 1,
                scene_cuts: true,
            },
            Self::Small => SeekProfile {
                gop_seconds: 2.0,
                anchors: 10,
                placement: BPlacement::Adaptive,
                pyramid: true,
                references: 3,
                scene_cuts: true,
            },
        }
    }
}

/// A [`SeekProfile`] at one frame rate, in pictures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Structure {
    /// Pictures from one IDR picture to the next, at most.
    keyint: u32,
    /// Longest run of B-pictures.
    bframes: u32,
}

impl SeekProfile {
    fn structure(&self, rate: Option<Rate>, max_bframes: u32) -> Structure {
        let rate = rate.map_or(ASSUMED_RATE, Rate::as_f64);
        let pictures = |seconds: f64| ((seconds * rate).round() as u32).max(1);
        // At high frame rates the longest B-run is too short for so few anchors: the GOP is then
        // made shorter, down to one second.
        let reach = self.anchors.saturating_mul(max_bframes.saturating_add(1));
        let keyint = pictures(self.gop_seconds).min(reach.max(pictures(1.0)));
        let bframes = keyint
            .div_ceil(self.anchors.max(1))
            .saturating_sub(1)
            .clamp(1, max_bframes);
        Structure { keyint, bframes }
    }

    /// `key=value` pairs for `-x265-params`. `lookahead` is what the preset gives
    /// (`rc-lookahead`); x265 wants it longer than a B-run.
    pub(crate) fn x265_params(&self, rate: Option<Rate>, lookahead: u32) -> Vec<String> {
        let Structure { keyint, bframes } = self.structure(rate, X265_MAX_BFRAMES);
        let mut params = vec![
            format!("keyint={keyint}"),
            format!("min-keyint={}", (keyint / 10).max(1)),
            "open-gop=0".to_owned(),
            format!("bframes={bframes}"),
            format!(
                "b-adapt={}",
                match self.placement {
                    BPlacement::Fixed => 0,
                    BPlacement::Adaptive => 2,
                }
            ),
            format!("b-pyramid={}", u8::from(self.pyramid)),
            format!("ref={}", self.references),
        ];
        if !self.scene_cuts {
            params.push("scenecut=0".to_owned());
        }
        let least = bframes.saturating_add(2);
        if lookahead < least {
            params.push(format!("rc-lookahead={least}"));
        }
        params
    }

    /// Options for `hevc_nvenc` that come nearest.
    pub(crate) fn nvenc_args(&self, rate: Option<Rate>) -> Vec<String> {
        let Structure { keyint, bframes } = self.structure(rate, NVENC_MAX_BFRAMES);
        let pyramid = if self.pyramid { "middle" } else { "disabled" };
        [
            "-g",
            &keyint.to_string(),
            "-bf",
            &bframes.to_string(),
            "-b_ref_mode",
            pyramid,
            "-refs",
            &self.references.to_string(),
            "-forced-idr",
            "1",
            "-strict_gop",
            "1",
            "-no-scenecut",
            if self.scene_cuts { "0" } else { "1" },
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Option<Rate> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn gops_last_one_to_two_seconds_at_every_usual_rate() {
        for seek in [Seek::Fast, Seek::Balanced, Seek::Small] {
            for text in ["12", "24000/1001", "25", "30", "50", "60", "120", "240"] {
                let r = rate(text);
                let s = seek.profile().structure(r, X265_MAX_BFRAMES);
                let seconds = f64::from(s.keyint) / r.unwrap().as_f64();
                assert!(
                    (0.95..=2.05).contains(&seconds),
                    "{seek:?} at {text}: {seconds}"
                );
                assert!(s.bframes <= X265_MAX_BFRAMES);
            }
        }
    }

    #[test]
    fn the_default_has_few_anchors_up_to_sixty_pictures_a_second() {
        for text in ["24", "25", "30", "50", "60"] {
            let s = Seek::Balanced
                .profile()
                .structure(rate(text), X265_MAX_BFRAMES);
            assert!(s.keyint.div_ceil(s.bframes + 1) <= 6, "{text}: {s:?}");
        }
    }

    #[test]
    fn x265_gets_a_closed_gop_and_a_lookahead_longer_than_the_b_run() {
        let params = Seek::Balanced.profile().x265_params(rate("30"), 5);
        assert!(params.contains(&"open-gop=0".to_owned()));
        assert!(params.contains(&"keyint=45".to_owned()));
        assert!(params.contains(&"bframes=8".to_owned()));
        assert!(params.contains(&"rc-lookahead=10".to_owned()), "{params:?}");
        let params = Seek::Balanced.profile().x265_params(rate("30"), 20);
        assert!(
            !params.iter().any(|p| p.starts_with("rc-lookahead")),
            "{params:?}"
        );
    }

    #[test]
    fn an_unknown_rate_is_taken_as_25() {
        let p = Seek::Balanced.profile();
        assert_eq!(p.x265_params(None, 20), p.x265_params(rate("25"), 20));
    }
}
