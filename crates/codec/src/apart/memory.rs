//! Memory that a server and one of its workers share.
//!
//! It has a size that neither can change (so that no access to it can fail), takes as much of the
//! machine's memory as was written to, and is gone with its last mapping. The first part is for access
//! units: the server writes there. The second is for pictures: the worker writes there.

use std::ffi::c_void;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create,
};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use rustix::process::{Resource, getrlimit};

use super::wire::Slot;

/// Who maps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Server,
    Worker,
}

/// Both parts, mapped.
#[derive(Debug)]
pub(crate) struct Shared {
    input: Mapping,
    pictures: Mapping,
}

impl Shared {
    /// The file behind new memory. Sizes are multiples of a page.
    ///
    /// # Errors
    /// The system refuses it; or would end this process for it, which it does to who makes a file
    /// larger than its limit.
    pub(super) fn create(whole: u64) -> io::Result<OwnedFd> {
        let most = getrlimit(Resource::Fsize).current;
        if most.is_some_and(|most| most < whole) {
            let why =
                "the limit of file sizes (ulimit -f) is smaller than the memory that is shared";
            return Err(io::Error::other(why));
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("bucket-streamer-pictures", flags)?;
        ftruncate(&file, whole)?;
        fcntl_add_seals(&file, seals())?;
        Ok(file)
    }

    /// Maps it: for who does not write a part, so that it cannot.
    pub(super) fn map(file: BorrowedFd, side: Side, input: u64, whole: u64) -> io::Result<Self> {
        let sealed = fcntl_get_seals(file)?.contains(seals());
        let size = rustix::fs::fstat(file)?.st_size;
        let pictures = whole.checked_sub(input).filter(|p| *p > 0);
        let (Some(pictures), true, true) = (
            pictures,
            sealed,
            u64::try_from(size).is_ok_and(|s| s == whole),
        ) else {
            return Err(io::Error::other("the shared memory is not as it was said"));
        };
        let here = side == Side::Server;
        Ok(Self {
            input: Mapping::new(file, 0, input, here)?,
            pictures: Mapping::new(file, input, pictures, !here)?,
        })
    }

    /// Where a slot begins in the first part, and its length.
    fn slot(&self, slot: Slot) -> (usize, usize) {
        let half = self.input.length / 2;
        match slot {
            Slot::First => (0, half),
            Slot::Second => (half, half),
        }
    }

    /// Puts an access unit into a slot; false if it does not fit.
    pub(super) fn put(&self, slot: Slot, access_unit: &[u8]) -> bool {
        let (start, length) = self.slot(slot);
        let fits = self.input.writable && access_unit.len() <= length;
        if fits {
            // SAFETY: inside the mapping, which is writable; the worker reads a slot only between an
            // order and its answer, and then the server does not write there.
            unsafe {
                ptr::copy_nonoverlapping(
                    access_unit.as_ptr(),
                    self.input.start.as_ptr().add(start),
                    access_unit.len(),
                );
            }
        }
        fits
    }

    /// The access unit that the server has put there, for as long as an order is worked on.
    pub(super) fn access_unit(&self, slot: Slot, bytes: u64) -> Option<&[u8]> {
        let bytes = usize::try_from(bytes).ok()?;
        let (start, length) = self.slot(slot);
        // SAFETY: inside the mapping; the server writes there only when the worker has answered.
        (bytes <= length).then(|| unsafe {
            std::slice::from_raw_parts(self.input.start.as_ptr().add(start), bytes)
        })
    }

    /// Gives back what a large access unit took.
    pub(super) fn trim(&self, slot: Slot) {
        let (start, length) = self.slot(slot);
        self.input.give_back(start, length);
    }

    /// The second part: its first byte, and how many there are. Valid as long as this value.
    pub(crate) fn pictures(&self) -> (NonNull<u8>, usize) {
        (self.pictures.start, self.pictures.length)
    }

    /// Gives the memory of a range of the second part back, which must be in no picture.
    pub(crate) fn give_back(&self, offset: usize, length: usize) {
        self.pictures.give_back(offset, length);
    }
}

fn seals() -> SealFlags {
    SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL
}

#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
    writable: bool,
}

// SAFETY: a range of addresses that belongs to this value; who reads or writes there says why they may.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: BorrowedFd, offset: u64, length: u64, writable: bool) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let access = match writable {
            true => ProtFlags::READ | ProtFlags::WRITE,
            false => ProtFlags::READ,
        };
        // SAFETY: a new range of addresses, chosen by the system.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                length,
                access,
                MapFlags::SHARED,
                file,
                offset,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            start,
            length,
            writable,
        })
    }

    /// What is read there next is zero.
    fn give_back(&self, offset: usize, length: usize) {
        let inside = offset
            .checked_add(length)
            .is_some_and(|end| end <= self.length);
        if inside && length > 0 && self.writable {
            // SAFETY: inside the mapping. That its content changes is what the caller wants.
            let given = unsafe {
                let start = self.start.as_ptr().add(offset);
                madvise(start.cast::<c_void>(), length, Advice::LinuxRemove)
            };
            // Where it cannot be given back, it is kept.
            given.ok();
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this value's own range; nobody has a pointer into it any more.
        unsafe { munmap(self.start.as_ptr().cast(), self.length).ok() };
    }
}

/// A picture's hold on the memory that it lies in: dropped, the worker may use it again.
#[derive(Debug)]
pub(crate) struct Lease {
    memory: Arc<Shared>,
    number: u32,
    released: Arc<Released>,
}

impl Lease {
    pub(super) fn new(memory: Arc<Shared>, number: u32, released: Arc<Released>) -> Self {
        Self {
            memory,
            number,
            released,
        }
    }

    pub(crate) fn memory(&self) -> &Shared {
        &self.memory
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.released.lock().push(self.number);
    }
}

/// Numbers of pictures that nobody looks at any more, until the worker is told.
#[derive(Debug, Default)]
pub(super) struct Released(Mutex<Vec<u32>>);

impl Released {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At most so many of them; the others stay.
    pub(super) fn take(&self, most: usize) -> Vec<u32> {
        let mut all = self.lock();
        let from = all.len().saturating_sub(most);
        all.split_off(from)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::AsFd;

    use proptest::prelude::*;

    use super::*;
    use crate::apart::{PictureAt, PlaneAt};
    use crate::{Chroma, Picture, PictureType, Plane};

    const INPUT: u64 = 1 << 16;
    const PICTURES: u64 = 1 << 16;

    fn both() -> (Arc<Shared>, Arc<Shared>) {
        let file = Shared::create(INPUT + PICTURES).unwrap();
        let map = |side| Shared::map(file.as_fd(), side, INPUT, INPUT + PICTURES).unwrap();
        (Arc::new(map(Side::Server)), Arc::new(map(Side::Worker)))
    }

    #[test]
    fn access_units_come_over_and_no_size_is_believed() {
        let (server, worker) = both();
        let half = vec![7; INPUT as usize / 2];
        for slot in [Slot::First, Slot::Second] {
            assert!(server.put(slot, &half));
            assert!(!server.put(slot, &vec![0; half.len() + 1]));
            assert_eq!(worker.access_unit(slot, half.len() as u64).unwrap(), half);
            assert!(worker.access_unit(slot, half.len() as u64 + 1).is_none());
            assert!(worker.access_unit(slot, u64::MAX).is_none());
            server.trim(slot);
            assert_eq!(worker.access_unit(slot, 3).unwrap(), [0, 0, 0]);
        }
        // Who does not write there cannot.
        assert!(!worker.put(Slot::First, &[1]));
        // A memory of another size, or one that could be cut, is none.
        let file = Shared::create(INPUT + PICTURES).unwrap();
        let file = file.as_fd();
        assert!(Shared::map(file, Side::Server, INPUT, INPUT + PICTURES + 4096).is_err());
        assert!(Shared::map(file, Side::Server, INPUT, INPUT).is_err());
        assert!(ftruncate(file, 0).is_err());
        let open = memfd_create("open", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&open, INPUT + PICTURES).unwrap();
        assert!(Shared::map(open.as_fd(), Side::Server, INPUT, INPUT + PICTURES).is_err());
    }

    fn plane() -> impl Strategy<Value = Option<PlaneAt>> {
        let offset = prop_oneof![0..PICTURES + 100, any::<u64>()];
        let stride = prop_oneof![0..400u32, any::<u32>()];
        let at = (offset, stride).prop_map(|(offset, stride)| PlaneAt { offset, stride });
        prop_oneof![1 => Just(None), 9 => at.prop_map(Some)]
    }

    fn picture() -> impl Strategy<Value = PictureAt> {
        use Chroma::{C420, C422, C444, Mono};
        let size = || prop_oneof![0..300u32, any::<u32>()];
        let chroma = prop_oneof![Just(Mono), Just(C420), Just(C422), Just(C444)];
        let planes = [plane(), plane(), plane()];
        (size(), size(), chroma, 0..20u8, planes).prop_map(
            |(width, height, chroma, bit_depth, planes)| PictureAt {
                number: 5,
                id: 1,
                chroma,
                bit_depth,
                gbr: false,
                width,
                height,
                picture_type: PictureType::I,
                damaged: false,
                lacks_references: false,
                planes,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever a worker says: a picture lies in the memory, or there is none. Either way its
        /// number is given back.
        #[test]
        fn a_picture_lies_in_the_memory(at in picture()) {
            let (server, _) = both();
            let released = Arc::<Released>::default();
            let lease = Lease::new(Arc::clone(&server), at.number, Arc::clone(&released));
            let (start, length) = server.pictures();
            let memory = start.addr().get()..start.addr().get() + length;
            if let Some(picture) = Picture::shared(&at, lease) {
                prop_assert_eq!(picture.width(), at.width as usize);
                let planes = if at.chroma == Chroma::Mono { 1 } else { 3 };
                for i in 0..3 {
                    let inside = |first: usize, bytes: usize| {
                        memory.contains(&first) && first + bytes <= memory.end
                    };
                    match picture.plane(i) {
                        Some(Plane::U8(rows)) => {
                            let all = rows.as_strided();
                            prop_assert!(inside(all.as_ptr().addr(), all.len()));
                            prop_assert_eq!(rows.iter().count(), rows.height());
                        }
                        Some(Plane::U16(rows)) => {
                            let all = rows.as_strided();
                            prop_assert!(inside(all.as_ptr().addr(), 2 * all.len()));
                            prop_assert!(all.as_ptr().is_aligned());
                        }
                        None => prop_assert!(i >= planes),
                    }
                }
                prop_assert!(released.take(9).is_empty());
            }
            prop_assert_eq!(released.take(9), [5]);
        }
    }
}
