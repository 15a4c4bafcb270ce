//! Boxes and their fields: bounded reads over bytes that are all there (ISO/IEC 14496-12, 4.2).

use std::fmt;

use super::super::DemuxError;

/// A four-character code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FourCc(pub(super) [u8; 4]);

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &b in &self.0 {
            match b {
                0x20..=0x7e => write!(f, "{}", char::from(b))?,
                // The © of QuickTime's user data.
                0xa9 => f.write_str("©")?,
                _ => write!(f, "\\x{b:02x}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The longest box header: size, type and `largesize`.
pub(super) const LONGEST_HEADER: u64 = 16;

/// Size and type of a box.
///
/// ```text
/// size(32)  type(32)  [ largesize(64) if size == 1 ]
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) fourcc: FourCc,
    /// Bytes of the header itself, 8 or 16.
    pub(super) header_len: u64,
    /// Bytes of header and body; `None`: up to the end of the object (size 0).
    pub(super) total_len: Option<u64>,
}

impl Header {
    /// Reads a header. `None`: there are fewer bytes than it has. An error: the size is smaller
    /// than the header itself.
    pub(super) fn read(data: &[u8], at: u64) -> Option<Result<Self, DemuxError>> {
        let mut fields = Fields(data);
        let size = fields.u32()?;
        let fourcc = FourCc(fields.array()?);
        let (header_len, total_len) = match size {
            0 => (8, None),
            1 => (16, Some(fields.u64()?)),
            n => (8, Some(u64::from(n))),
        };
        if let Some(total) = total_len.filter(|&t| t < header_len) {
            return Some(Err(DemuxError::Damaged {
                what: format!(
                    "the box `{fourcc}` at byte {at} says that it is {total} bytes long, less \
                     than its own header"
                ),
            }));
        }
        Some(Ok(Self {
            fourcc,
            header_len,
            total_len,
        }))
    }
}

/// A box whose body is all there.
#[derive(Clone, Copy, Debug)]
pub(super) struct BoxRef<'a> {
    pub(super) fourcc: FourCc,
    /// Where the box's header lies in the object.
    pub(super) at: u64,
    /// Where its body lies in the object.
    pub(super) body_at: u64,
    pub(super) body: &'a [u8],
}

impl<'a> BoxRef<'a> {
    /// The fields of the body.
    pub(super) fn fields(&self) -> Fields<'a> {
        Fields(self.body)
    }

    /// Version and flags of a full box, and the fields after them.
    pub(super) fn full(&self) -> Result<(u8, u32, Fields<'a>), DemuxError> {
        let mut fields = self.fields();
        let word = fields.u32().ok_or_else(|| self.short())?;
        let [version, ..] = word.to_be_bytes();
        Ok((version, word & 0x00ff_ffff, fields))
    }

    /// The boxes inside the body.
    pub(super) fn children(&self) -> Children<'a> {
        self.children_after(0)
    }

    /// The boxes inside the body after its first `skip` bytes.
    pub(super) fn children_after(&self, skip: usize) -> Children<'a> {
        Children {
            parent: self.fourcc,
            at: self.body_at.saturating_add(skip as u64),
            rest: self.body.get(skip..).unwrap_or_default(),
        }
    }

    /// The first child of a type.
    pub(super) fn child(&self, fourcc: &[u8; 4]) -> Result<Option<BoxRef<'a>>, DemuxError> {
        for child in self.children() {
            let child = child?;
            if &child.fourcc.0 == fourcc {
                return Ok(Some(child));
            }
        }
        Ok(None)
    }

    /// The first child of a type, which must be there.
    pub(super) fn need(&self, fourcc: &[u8; 4]) -> Result<BoxRef<'a>, DemuxError> {
        self.child(fourcc)?.ok_or_else(|| DemuxError::Damaged {
            what: format!(
                "the box `{}` at byte {} has no `{}`",
                self.fourcc,
                self.at,
                FourCc(*fourcc)
            ),
        })
    }

    /// The error: the body ends before its fields do.
    pub(super) fn short(&self) -> DemuxError {
        self.damaged("ends before its fields do")
    }

    /// The error that this box says something that cannot be.
    pub(super) fn damaged(&self, what: impl fmt::Display) -> DemuxError {
        DemuxError::Damaged {
            what: format!("the box `{}` at byte {} {what}", self.fourcc, self.at),
        }
    }
}

/// Iterator over boxes that lie one after another.
#[derive(Debug)]
pub(super) struct Children<'a> {
    parent: FourCc,
    at: u64,
    rest: &'a [u8],
}

impl<'a> Iterator for Children<'a> {
    type Item = Result<BoxRef<'a>, DemuxError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Fewer bytes than a header, or a size of 0, end a list in QuickTime files.
        let header = match Header::read(self.rest, self.at)? {
            Ok(header) => header,
            Err(e) => {
                self.rest = &[];
                return Some(Err(e));
            }
        };
        let total = header.total_len?;
        let (at, left) = (self.at, self.rest.len() as u64);
        if total > left {
            self.rest = &[];
            return Some(Err(DemuxError::Damaged {
                what: format!(
                    "the box `{}` at byte {at} says that it is {total} bytes long, but its \
                     parent `{}` has only {left} bytes left",
                    header.fourcc, self.parent
                ),
            }));
        }
        let (whole, rest) = self.rest.split_at_checked(total as usize)?;
        let body = whole.get(header.header_len as usize..)?;
        self.rest = rest;
        self.at = at.saturating_add(total);
        Some(Ok(BoxRef {
            fourcc: header.fourcc,
            at,
            body_at: at.saturating_add(header.header_len),
            body,
        }))
    }
}

/// Big-endian fields, read one after another. `None`: the bytes are at their end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// 64 bits in version 1 of a box, else 32.
    pub(super) fn u64_in_version_1(&mut self, version: u8) -> Option<u64> {
        if version == 1 {
            self.u64()
        } else {
            self.u32().map(u64::from)
        }
    }

    pub(super) fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn skip(&mut self, n: usize) -> Option<()> {
        self.bytes(n).map(|_| ())
    }

    /// `count` rows of `N` bytes. `None` when they are not all there: nothing is allocated, and
    /// no row is promised that does not exist.
    pub(super) fn rows<const N: usize>(&mut self, count: u32) -> Option<&'a [[u8; N]]> {
        let bytes = self.bytes(usize::try_from(count).ok()?.checked_mul(N)?)?;
        Some(bytes.as_chunks::<N>().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_in_each_of_its_three_forms() {
        let short = Header::read(b"\0\0\0\x10free", 0).unwrap().unwrap();
        assert_eq!((short.header_len, short.total_len), (8, Some(16)));
        let large = Header::read(b"\0\0\0\x01mdat\0\0\0\x02\0\0\0\0", 0)
            .unwrap()
            .unwrap();
        assert_eq!(
            (large.header_len, large.total_len),
            (16, Some(0x2_0000_0000))
        );
        let open = Header::read(b"\0\0\0\0mdat", 0).unwrap().unwrap();
        assert_eq!((open.header_len, open.total_len), (8, None));
    }

    #[test]
    fn a_size_below_the_headers_is_an_error_and_a_partial_header_is_none() {
        assert!(Header::read(b"\0\0\0\x07free", 0).unwrap().is_err());
        assert!(
            Header::read(b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x0f", 0)
                .unwrap()
                .is_err()
        );
        assert!(Header::read(b"\0\0\0\x08fre", 0).is_none());
        assert!(Header::read(b"\0\0\0\x01mdat\0\0\0", 0).is_none());
    }

    #[test]
    fn a_child_longer_than_its_parent_is_an_error_once() {
        let data = b"\0\0\0\x08free\0\0\0\x20skip";
        let parent = BoxRef {
            fourcc: FourCc(*b"moov"),
            at: 0,
            body_at: 0,
            body: data,
        };
        let all: Vec<_> = parent.children().collect();
        assert_eq!(all.len(), 2);
        assert!(all[0].is_ok() && all[1].is_err());
    }

    #[test]
    fn rows_are_given_only_when_all_are_there() {
        assert_eq!(Fields(&[0; 12]).rows::<4>(3).unwrap().len(), 3);
        assert!(Fields(&[0; 12]).rows::<4>(4).is_none());
        assert!(Fields(&[0; 12]).rows::<8>(u32::MAX).is_none());
    }
}
