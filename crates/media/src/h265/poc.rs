//! Picture order count (H.265 8.3.1).

use super::nal::NalType;

/// Carries `prevTid0Pic` from picture to picture in decode order.
#[derive(Clone, Copy, Debug, Default)]
pub struct PocState {
    prev_tid0_poc: i32,
}

impl PocState {
    /// `PicOrderCntVal` of the next picture. `starts_sequence` is `NoRaslOutputFlag` of an IRAP.
    pub fn next(
        &mut self,
        nal_type: NalType,
        temporal_id: u8,
        poc_lsb: u32,
        log2_max_poc_lsb: u8,
        starts_sequence: bool,
    ) -> i32 {
        let max_lsb = 1i32 << log2_max_poc_lsb.min(16);
        let lsb = poc_lsb as i32;
        let poc = if nal_type.is_irap() && starts_sequence {
            lsb
        } else {
            let prev_lsb = self.prev_tid0_poc & (max_lsb - 1);
            let prev_msb = self.prev_tid0_poc.wrapping_sub(prev_lsb);
            let msb = if lsb < prev_lsb && prev_lsb - lsb >= max_lsb / 2 {
                prev_msb.wrapping_add(max_lsb)
            } else if lsb > prev_lsb && lsb - prev_lsb > max_lsb / 2 {
                prev_msb.wrapping_sub(max_lsb)
            } else {
                prev_msb
            };
            msb.wrapping_add(lsb)
        };
        let never_tid0 =
            nal_type.is_rasl() || nal_type.is_radl() || nal_type.is_sub_layer_non_reference();
        if temporal_id == 0 && !never_tid0 {
            self.prev_tid0_poc = poc;
        }
        poc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lsb_wraps_in_both_directions() {
        let mut s = PocState::default();
        let trail = NalType(1);
        assert_eq!(s.next(NalType(19), 0, 0, 4, true), 0);
        assert_eq!(s.next(trail, 0, 7, 4, false), 7);
        assert_eq!(s.next(trail, 0, 13, 4, false), 13);
        assert_eq!(s.next(trail, 0, 3, 4, false), 19);
        // A non-reference picture before it does not move the anchor.
        assert_eq!(s.next(NalType(0), 0, 14, 4, false), 14);
        assert_eq!(s.next(trail, 0, 5, 4, false), 21);
    }
}
