//! Bits, Exp-Golomb codes and NAL units.

/// Writes an RBSP bit by bit.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    bits: Vec<bool>,
}

impl BitWriter {
    /// `u(count)`.
    pub fn u(&mut self, count: u32, value: u64) {
        assert!(count == 64 || value < 1 << count, "{value} in {count} bits");
        for shift in (0..count).rev() {
            self.bits.push((value >> shift) & 1 == 1);
        }
    }

    pub fn flag(&mut self, value: bool) {
        self.bits.push(value);
    }

    /// `ue(v)`: zeros, then the value plus one.
    pub fn ue(&mut self, value: u32) {
        let code = u64::from(value) + 1;
        let length = 64 - code.leading_zeros();
        self.u(length - 1, 0);
        self.u(length, code);
    }

    /// `se(v)`: positive values have odd codes.
    pub fn se(&mut self, value: i32) {
        let v = i64::from(value);
        self.ue(if v > 0 { 2 * v - 1 } else { -2 * v } as u32);
    }

    /// `rbsp_trailing_bits()`, and the whole as bytes.
    pub fn rbsp(mut self) -> Vec<u8> {
        self.bits.push(true);
        while !self.bits.len().is_multiple_of(8) {
            self.bits.push(false);
        }
        let byte = |c: &[bool]| c.iter().fold(0u8, |b, &bit| (b << 1) | u8::from(bit));
        self.bits.chunks(8).map(byte).collect()
    }
}

/// A NAL unit: header, and payload with emulation prevention (7.3.1).
pub fn nal(nal_type: u8, layer: u8, temporal_id: u8, rbsp: &[u8]) -> Vec<u8> {
    let mut out = vec![
        (nal_type << 1) | (layer >> 5),
        (layer << 3) | (temporal_id + 1),
    ];
    let mut zeros = 0;
    for &byte in rbsp {
        if zeros == 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        out.push(byte);
        zeros = if byte == 0 { zeros + 1 } else { 0 };
    }
    // 7.4.1: a NAL unit never ends in a zero byte.
    if out.last() == Some(&0) {
        out.push(3);
    }
    out
}
