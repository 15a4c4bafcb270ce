//! A file of the cache: what it is called, and what is in it.
//!
//! ```text
//!  0  magic and version of this layout   8 bytes
//!  8  length of the key                  u32, little endian
//! 12  length of the value                u32, little endian
//! 16  XXH3-128 of bytes 8..16, key, value
//! 32  key, value; the end of the file
//! ```
//!
//! The name is the XXH3-128 of the key. Two keys of one name would take turns, and never be taken
//! for each other, since the file holds the key.

use std::fmt;

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

const MAGIC: [u8; 8] = *b"bscache\x01";
const HEAD: usize = 32;

/// A file's name: 128 bits, written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name([u8; 16]);

impl Name {
    pub(super) fn of(key: &str) -> Self {
        Self(xxh3_128(key.as_bytes()).to_be_bytes())
    }

    /// The name, if it is one that this cache gives.
    pub(super) fn parse(file: &str) -> Option<Self> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if file.len() != 32 || !file.bytes().all(digit) {
            return None;
        }
        let number = u128::from_str_radix(file, 16).ok()?;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The file is not what was written under this key.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Damage;

/// Bytes of the whole file.
pub(super) fn file_bytes(key: &str, value: &[u8]) -> u64 {
    [HEAD, key.len(), value.len()]
        .into_iter()
        .fold(0, |sum: u64, part| sum.saturating_add(part as u64))
}

/// All that stands before the value.
pub(super) fn head(key: &str, value: &[u8]) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD.saturating_add(key.len()));
    let lengths = lengths(key, value);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&lengths);
    head.extend_from_slice(&checksum(&lengths, key, value));
    head.extend_from_slice(key.as_bytes());
    head
}

/// The value in a file that was written under `key`.
pub(super) fn value(file: Bytes, key: &str) -> Result<Bytes, Damage> {
    let behind_head = file.get(HEAD..).ok_or(Damage)?;
    let value = behind_head.strip_prefix(key.as_bytes()).ok_or(Damage)?;
    // What was written would begin so, bit for bit, and everything is below the checksum.
    if !file.starts_with(&head(key, value)) {
        return Err(Damage);
    }
    Ok(file.slice_ref(value))
}

fn lengths(key: &str, value: &[u8]) -> [u8; 8] {
    // Both are far below 2^32: `put` takes no more.
    let key = (key.len() as u32).to_le_bytes();
    let value = (value.len() as u32).to_le_bytes();
    let mut lengths = [0; 8];
    for (to, from) in lengths.iter_mut().zip(key.into_iter().chain(value)) {
        *to = from;
    }
    lengths
}

fn checksum(lengths: &[u8; 8], key: &str, value: &[u8]) -> [u8; 16] {
    let mut hash = Xxh3::new();
    hash.update(lengths);
    hash.update(key.as_bytes());
    hash.update(value);
    hash.digest128().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(key: &str, value: &[u8]) -> Vec<u8> {
        let mut file = head(key, value);
        file.extend_from_slice(value);
        assert_eq!(file.len() as u64, file_bytes(key, value));
        file
    }

    #[test]
    fn what_is_written_is_read() {
        for (key, data) in [
            ("", &b""[..]),
            ("a", b""),
            ("", b"b"),
            ("image/1/2", b"\xff\xd8\xff"),
        ] {
            assert_eq!(value(file(key, data).into(), key).unwrap(), data);
        }
    }

    #[test]
    fn no_bit_and_no_length_can_change_unseen() {
        let whole = file("key", b"some value");
        for length in 0..whole.len() {
            let cut = Bytes::copy_from_slice(&whole[..length]);
            assert_eq!(value(cut, "key"), Err(Damage), "{length}");
        }
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(value(changed.into(), "key"), Err(Damage), "{bit}");
        }
        let longer = [&whole[..], b"\0"].concat();
        assert_eq!(value(longer.into(), "key"), Err(Damage));
    }

    #[test]
    fn another_keys_file_is_none_of_ours() {
        let whole = Bytes::from(file("key", b"some value"));
        for key in ["kez", "ke", "keys", "", "keysome"] {
            assert_eq!(value(whole.clone(), key), Err(Damage), "{key}");
        }
    }

    #[test]
    fn names_are_read_as_they_are_written_and_no_others() {
        let name = Name::of("image/1/2/q80");
        assert_eq!(Name::parse(&name.to_string()).unwrap().0, name.0);
        let small = Name([0; 16]);
        assert_eq!(Name::parse(&small.to_string()).unwrap().0, small.0);
        let digits = name.to_string();
        for other in [
            String::new(),
            "lock".into(),
            digits.to_uppercase(),
            format!("{digits}0"),
            digits[1..].into(),
            format!("+{}", &digits[1..]),
            format!("/{}", &digits[1..]),
        ] {
            assert!(Name::parse(&other).is_none(), "{other}");
        }
    }
}
