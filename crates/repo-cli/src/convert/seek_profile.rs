//! What `--seek` means: how deep one frame may depend on others, against how large the file gets.
//!
//! The server decodes for one frame only its *reference closure*: the pictures that it refers to,
//! directly or through others. A GOP here is an IDR picture and a short chain of P pictures, with
//! a long run of B-pictures before each. A frame's closure is the chain up to the P picture after
//! it, itself, and with a pyramid the middle of its run. So a GOP costs what its chain costs, and
//! hardly more for the length of the runs.
//!
//! Measured with `scripts/measure-seek.sh` (x265 3.5, preset medium, CRF 22 to 34, 720 lines;
//! docs/seek-friendly.md has all of it): mean closure, and file size against x265's own defaults
//! at equal PSNR, over twelve clips. One clip, a fast rotating texture, is the worst by far.
//!
//! | | closure | size, mean | without the rotation | size, median |
//! |---|---|---|---|---|
//! | x265's defaults | 53.0 | | | |
//! | `small` | 23.8 | +1 % | +1 % | 0 % |
//! | `balanced` | 5.6 | +26 % | +17 % | +15 % |
//! | `fast` | 3.8 | +60 % | +47 % | +49 % |

use super::rate::Rate;

/// Frame rate taken where the source does not tell one.
const ASSUMED_RATE: f64 = 25.0;

/// The longest run of B-pictures that x265 knows.
const X265_MAX_BFRAMES: u32 = 16;

/// The longest run that every NVENC generation with B-pictures for HEVC takes.
const NVENC_MAX_BFRAMES: u32 = 4;

/// With so short runs a GOP of few P pictures would be too short to be of use: it lasts at least
/// so many seconds, whatever its closures.
const NVENC_LEAST_SECONDS: f64 = 1.0;

/// `--seek`: three points on the curve of closure against size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum Seek {
    /// Cheapest frames (4 access units in the mean); files larger by half or more
    Fast,
    /// A frame costs less than 6 access units in the mean; files somewhat larger
    #[default]
    Balanced,
    /// Files about as small as x265 makes them; a frame costs some 20 access units
    Small,
}

/// The runs of B-pictures between two anchors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Runs {
    /// Always as long as lets a GOP have this many P pictures (`b-adapt` 0).
    Even {
        /// P pictures of a GOP, after its IDR picture.
        anchors: u32,
    },
    /// As long as pays, found by a full search (`b-adapt` 2).
    Adaptive {
        /// The longest.
        longest: u32,
    },
}

/// The structure of a GOP, independent of the frame rate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct SeekProfile {
    /// The longest GOP in seconds. GOPs are always closed.
    pub(crate) gop_seconds: f64,
    /// How B-pictures are placed.
    pub(crate) runs: Runs,
    /// Whether the middle of a run may be referred to by its neighbours.
    pub(crate) pyramid: bool,
    /// Reference pictures (`ref`). With a pyramid a P picture that may have more than one takes
    /// the middle of a run too, and the chain becomes twice as long.
    pub(crate) references: u32,
    /// Pictures that the encoder looks ahead (`rc-lookahead`), at least.
    pub(crate) lookahead: u32,
}

impl Seek {
    /// The structure behind the name.
    pub(crate) const fn profile(self) -> SeekProfile {
        match self {
            Self::Fast => SeekProfile {
                gop_seconds: 2.0,
                runs: Runs::Even { anchors: 3 },
                pyramid: false,
                references: 3,
                lookahead: 40,
            },
            Self::Balanced => SeekProfile {
                gop_seconds: 3.5,
                runs: Runs::Even { anchors: 5 },
                pyramid: true,
                references: 1,
                lookahead: 40,
            },
            Self::Small => SeekProfile {
                gop_seconds: 5.0,
                runs: Runs::Adaptive { longest: 8 },
                pyramid: true,
                references: 3,
                lookahead: 40,
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
    /// At high frame rates the longest run is too short for so few P pictures: the GOP is then
    /// made shorter, down to `least_seconds`.
    fn structure(&self, rate: Option<Rate>, max_bframes: u32, least_seconds: f64) -> Structure {
        let rate = rate.map_or(ASSUMED_RATE, Rate::as_f64);
        let pictures = |seconds: f64| ((seconds * rate).round() as u32).max(1);
        let keyint = pictures(self.gop_seconds);
        match self.runs {
            Runs::Even { anchors } => {
                let anchors = anchors.max(1);
                let reach = anchors
                    .saturating_mul(max_bframes.saturating_add(1))
                    .saturating_add(1);
                let keyint = keyint.min(reach.max(pictures(least_seconds)));
                let bframes = keyint
                    .saturating_sub(1)
                    .div_ceil(anchors)
                    .saturating_sub(1)
                    .clamp(1, max_bframes);
                Structure { keyint, bframes }
            }
            Runs::Adaptive { longest } => Structure {
                keyint,
                bframes: longest.clamp(1, max_bframes),
            },
        }
    }

    /// `key=value` pairs for `-x265-params`. `preset_lookahead` is what the preset gives
    /// (`rc-lookahead`); it is never made less.
    pub(crate) fn x265_params(&self, rate: Option<Rate>, preset_lookahead: u32) -> Vec<String> {
        let Structure { keyint, bframes } = self.structure(rate, X265_MAX_BFRAMES, 0.0);
        let b_adapt = match self.runs {
            Runs::Even { .. } => 0,
            Runs::Adaptive { .. } => 2,
        };
        vec![
            format!("keyint={keyint}"),
            format!("min-keyint={}", (keyint / 10).max(1)),
            "open-gop=0".to_owned(),
            format!("bframes={bframes}"),
            format!("b-adapt={b_adapt}"),
            format!("b-pyramid={}", u8::from(self.pyramid)),
            format!("ref={}", self.references),
            format!("rc-lookahead={}", self.lookahead.max(preset_lookahead)),
        ]
    }

    /// Options for `hevc_nvenc` that come nearest. Their closures and sizes are not measured.
    pub(crate) fn nvenc_args(&self, rate: Option<Rate>) -> Vec<String> {
        let Structure { keyint, bframes } =
            self.structure(rate, NVENC_MAX_BFRAMES, NVENC_LEAST_SECONDS);
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

    /// The mean closure of a whole GOP with even runs.
    fn mean_closure(profile: SeekProfile, rate: Option<Rate>) -> f64 {
        let s = profile.structure(rate, X265_MAX_BFRAMES, 0.0);
        let closure = |place: u32| {
            // P pictures up to the one at or after this place.
            let chain = place.div_ceil(s.bframes + 1);
            let is_anchor = place.is_multiple_of(s.bframes + 1) || place == s.keyint - 1;
            match (is_anchor, profile.pyramid) {
                (true, _) => chain + 1,
                (false, false) => chain + 2,
                // The middle itself costs less: this is an upper bound.
                (false, true) => chain + 3,
            }
        };
        (0..s.keyint).map(|p| f64::from(closure(p))).sum::<f64>() / f64::from(s.keyint)
    }

    #[test]
    fn the_mean_closure_stays_small_at_every_rate() {
        for fps in 1..=240 {
            let r = rate(&fps.to_string());
            let balanced = mean_closure(Seek::Balanced.profile(), r);
            assert!(balanced <= 6.0, "{fps}: {balanced}");
            let fast = mean_closure(Seek::Fast.profile(), r);
            assert!(fast <= 4.1, "{fps}: {fast}");
        }
    }

    #[test]
    fn x265_gets_what_was_measured() {
        let line = |seek: Seek, fps: &str| seek.profile().x265_params(rate(fps), 20).join(":");
        for (seek, fps, expected) in [
            (
                Seek::Fast,
                "24",
                "keyint=48:min-keyint=4:open-gop=0:bframes=15:b-adapt=0:b-pyramid=0:ref=3",
            ),
            (
                Seek::Balanced,
                "24",
                "keyint=84:min-keyint=8:open-gop=0:bframes=16:b-adapt=0:b-pyramid=1:ref=1",
            ),
            (
                Seek::Balanced,
                "30",
                "keyint=86:min-keyint=8:open-gop=0:bframes=16:b-adapt=0:b-pyramid=1:ref=1",
            ),
            (
                Seek::Balanced,
                "60",
                "keyint=86:min-keyint=8:open-gop=0:bframes=16:b-adapt=0:b-pyramid=1:ref=1",
            ),
            (
                Seek::Small,
                "30",
                "keyint=150:min-keyint=15:open-gop=0:bframes=8:b-adapt=2:b-pyramid=1:ref=3",
            ),
        ] {
            assert_eq!(line(seek, fps), format!("{expected}:rc-lookahead=40"));
        }
    }

    /// The script measures these profiles, under these names.
    #[test]
    fn the_measuring_script_names_the_same_structures() {
        let script = include_str!("../../../../scripts/measure-seek.py");
        for (name, seek) in [
            ("fast", Seek::Fast),
            ("balanced", Seek::Balanced),
            ("small", Seek::Small),
        ] {
            let p = seek.profile();
            let runs = match p.runs {
                Runs::Even { anchors } => format!("anchors={anchors} b_adapt=0"),
                Runs::Adaptive { longest } => format!("bframes={longest} b_adapt=2"),
            };
            let line = format!(
                "\n{name} gop={} {runs} b_pyramid={} ref={} rc_lookahead={}\n",
                p.gop_seconds,
                u8::from(p.pyramid),
                p.references,
                p.lookahead
            );
            assert!(script.contains(&line), "{line}");
        }
    }

    #[test]
    fn a_preset_that_looks_further_ahead_keeps_doing_so() {
        let params = Seek::Balanced.profile().x265_params(rate("30"), 60);
        assert!(params.contains(&"rc-lookahead=60".to_owned()), "{params:?}");
    }

    #[test]
    fn a_very_low_rate_still_makes_a_structure() {
        let s = Seek::Balanced
            .profile()
            .structure(rate("1/60"), X265_MAX_BFRAMES, 0.0);
        assert_eq!((s.keyint, s.bframes), (1, 1));
    }

    #[test]
    fn an_unknown_rate_is_taken_as_25() {
        let p = Seek::Balanced.profile();
        assert_eq!(p.x265_params(None, 20), p.x265_params(rate("25"), 20));
    }

    #[test]
    fn nvenc_gops_are_closed_and_last_a_second_at_least() {
        for (fps, gop) in [("24", "26"), ("30", "30"), ("60", "60")] {
            let args = Seek::Balanced.profile().nvenc_args(rate(fps)).join(" ");
            assert!(
                args.starts_with(&format!("-g {gop} -bf 4 -b_ref_mode middle -refs 1 ")),
                "{args}"
            );
            assert!(args.ends_with("-forced-idr 1 -strict_gop 1"), "{args}");
        }
    }
}
