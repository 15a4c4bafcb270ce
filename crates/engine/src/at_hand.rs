//! Pictures that a decoder has made on its way, and that nobody wanted then.
//!
//! A decoder makes a picture once: who wants it later has to begin at an IRAP again. The next
//! pictures in the order of presentation are often such, as those that B-pictures lie between are
//! decoded before them. So the last ones are kept, as long as they are not too large.

use std::collections::{BTreeMap, BTreeSet};

use codec::Picture;
use media::DecodeIndex;

/// As many pictures as a mini-GOP decodes ahead of what is shown, with room to spare.
const MOST_PICTURES: usize = 8;
/// Five of 1920×1080, 4:2:0, 8 bits; of 3840×2160 one.
pub(crate) const MOST_BYTES: usize = 16 << 20;

/// Pictures at hand.
#[derive(Debug, Default)]
pub(crate) struct AtHand {
    /// The first picture, which previews are made of. Not among the others.
    entry: Option<(DecodeIndex, Picture)>,
    /// The last one that was wanted, unless it is too large. Not counted with the others.
    wanted: Option<(DecodeIndex, Picture)>,
    /// Those decoded last.
    recent: BTreeMap<DecodeIndex, Picture>,
    bytes: usize,
}

impl AtHand {
    /// Keeps the first picture that a decoder has made.
    pub(crate) fn keep_entry(&mut self, sample: DecodeIndex, picture: Picture) {
        self.entry = Some((sample, picture));
    }

    /// Keeps one of which an image is made.
    pub(crate) fn keep_wanted(&mut self, sample: DecodeIndex, picture: Picture) {
        if picture.byte_size() <= MOST_BYTES {
            self.wanted = Some((sample, picture));
        }
    }

    /// Keeps another one, in place of those before it.
    pub(crate) fn keep(&mut self, sample: DecodeIndex, picture: Picture) {
        self.bytes = self.bytes.saturating_add(picture.byte_size());
        if let Some(before) = self.recent.insert(sample, picture) {
            self.bytes = self.bytes.saturating_sub(before.byte_size());
        }
        while self.recent.len() > MOST_PICTURES || self.bytes > MOST_BYTES {
            let Some((_, oldest)) = self.recent.pop_first() else {
                return;
            };
            self.bytes = self.bytes.saturating_sub(oldest.byte_size());
        }
    }

    pub(crate) fn get(&self, sample: DecodeIndex) -> Option<&Picture> {
        let single = self.entry.iter().chain(&self.wanted);
        let mut single = single.filter(|(own, _)| *own == sample);
        match single.next() {
            Some((_, picture)) => Some(picture),
            None => self.recent.get(&sample),
        }
    }

    /// Which are there, in decode order.
    pub(crate) fn samples(&self) -> impl Iterator<Item = DecodeIndex> + use<> {
        let single = self.entry.iter().chain(&self.wanted);
        let single = single.map(|(sample, _)| *sample);
        let all: BTreeSet<DecodeIndex> = single.chain(self.recent.keys().copied()).collect();
        all.into_iter()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
