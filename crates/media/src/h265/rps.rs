//! Short-term reference picture sets (H.265 7.3.7 and 7.4.8).

use super::bits::{BitReader, HeaderError};

/// `sps_max_dec_pic_buffering_minus1` is at most 15 (A.4.2), and so is the number of entries of
/// each half of a set.
const MOST_ENTRIES: u32 = 16;

/// One entry of a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RpsEntry {
    /// POC relative to the current picture.
    pub delta_poc: i32,
    /// `used_by_curr_pic`: the current picture may refer to it; otherwise it is only kept.
    pub used: bool,
}

/// One `st_ref_pic_set()`, decoded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShortTermRps {
    /// Before the current picture in output order, nearest first (`DeltaPocS0`).
    pub negative: Vec<RpsEntry>,
    /// After it, nearest first (`DeltaPocS1`).
    pub positive: Vec<RpsEntry>,
}

impl ShortTermRps {
    fn len(&self) -> usize {
        self.negative.len() + self.positive.len()
    }

    /// Reads `st_ref_pic_set(idx)`, where `earlier` holds the sets of the SPS that were read before
    /// it (all of them when it stands in a slice header), and `in_slice` says where it stands.
    pub fn parse(
        r: &mut BitReader<'_>,
        earlier: &[Self],
        in_slice: bool,
    ) -> Result<Self, HeaderError> {
        let predicted = !earlier.is_empty() && r.flag("inter_ref_pic_set_prediction_flag")?;
        if predicted {
            Self::parse_predicted(r, earlier, in_slice)
        } else {
            Self::parse_plain(r)
        }
    }

    fn parse_plain(r: &mut BitReader<'_>) -> Result<Self, HeaderError> {
        let negative_count = r.ue("num_negative_pics", MOST_ENTRIES)?;
        let positive_count = r.ue("num_positive_pics", MOST_ENTRIES)?;
        let mut set = Self::default();
        let mut delta_poc = 0i32;
        for _ in 0..negative_count {
            delta_poc -= r.ue("delta_poc_s0_minus1", 0x7fff)? as i32 + 1;
            let used = r.flag("used_by_curr_pic_s0_flag")?;
            set.negative.push(RpsEntry { delta_poc, used });
        }
        delta_poc = 0;
        for _ in 0..positive_count {
            delta_poc += r.ue("delta_poc_s1_minus1", 0x7fff)? as i32 + 1;
            let used = r.flag("used_by_curr_pic_s1_flag")?;
            set.positive.push(RpsEntry { delta_poc, used });
        }
        Ok(set)
    }

    fn parse_predicted(
        r: &mut BitReader<'_>,
        earlier: &[Self],
        in_slice: bool,
    ) -> Result<Self, HeaderError> {
        let back = if in_slice {
            r.ue("delta_idx_minus1", earlier.len().saturating_sub(1) as u32)? as usize + 1
        } else {
            1
        };
        let reference = earlier
            .len()
            .checked_sub(back)
            .and_then(|i| earlier.get(i))
            .ok_or(HeaderError::Invalid {
                element: "delta_idx_minus1",
                what: "no such set",
            })?;
        let negative_delta = r.flag("delta_rps_sign")?;
        let magnitude = r.ue("abs_delta_rps_minus1", 0x7fff)? as i32 + 1;
        let delta_rps = if negative_delta {
            -magnitude
        } else {
            magnitude
        };

        // (used_by_curr_pic_flag, use_delta_flag) of the reference's entries, S0 then S1, and of
        // the reference picture set's own picture last.
        let mut flags = Vec::with_capacity(reference.len() + 1);
        for _ in 0..=reference.len() {
            let used = r.flag("used_by_curr_pic_flag")?;
            let use_delta = used || r.flag("use_delta_flag")?;
            flags.push((used, use_delta));
        }
        // Equations 7-61 and 7-62: the candidates in the order in which they are appended.
        let s0 = reference.negative.iter();
        let s1 = reference.positive.iter();
        let (s0_flags, rest) = flags
            .split_at_checked(reference.negative.len())
            .unwrap_or((&flags, &[]));
        let (s1_flags, own) = rest
            .split_at_checked(reference.positive.len())
            .unwrap_or((rest, &[]));
        let shifted = |e: &RpsEntry, &(used, keep): &(bool, bool)| {
            keep.then_some(RpsEntry {
                delta_poc: e.delta_poc + delta_rps,
                used,
            })
        };
        let s0: Vec<_> = s0.zip(s0_flags).map(|(e, f)| shifted(e, f)).collect();
        let s1: Vec<_> = s1.zip(s1_flags).map(|(e, f)| shifted(e, f)).collect();
        let own = own.first().and_then(|&(used, keep)| {
            keep.then_some(RpsEntry {
                delta_poc: delta_rps,
                used,
            })
        });

        let below = |e: &RpsEntry| e.delta_poc < 0;
        let above = |e: &RpsEntry| e.delta_poc > 0;
        let negative: Vec<RpsEntry> = s1
            .iter()
            .rev()
            .copied()
            .chain([own])
            .chain(s0.iter().copied())
            .flatten()
            .filter(below)
            .collect();
        let positive: Vec<RpsEntry> = s0
            .iter()
            .rev()
            .copied()
            .chain([own])
            .chain(s1.iter().copied())
            .flatten()
            .filter(above)
            .collect();
        if negative.len().max(positive.len()) > MOST_ENTRIES as usize {
            return Err(HeaderError::Invalid {
                element: "st_ref_pic_set",
                what: "more than 16 entries",
            });
        }
        Ok(Self { negative, positive })
    }
}
