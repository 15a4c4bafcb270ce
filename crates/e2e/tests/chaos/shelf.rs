//! Videos that are replaced by others, and which of them may be seen at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use testkit::bucket::Bucket;
use testkit::recipe::{ByteStream, Packaging};
use testkit::{Recipe, footage};

/// Frames of each clip.
pub(crate) const FRAMES: usize = 72;
/// The number that a picture shows is its clip's times this, and its own.
const APART: u32 = 1000;
const VIDEOS: usize = 8;

/// A bucket with some videos.
pub(crate) struct Shelf {
    bucket: Bucket,
    clips: Vec<Bytes>,
    videos: Vec<Video>,
}

/// An object, which is one clip after the other.
pub(crate) struct Video {
    key: String,
    state: Mutex<State>,
    /// One replaces it at a time.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The clip of each time that it was put, in order.
    puts: Vec<usize>,
    /// Which of these is there for certain.
    there: usize,
    /// For each who is opening it, the oldest that may be found. Who opens what somebody else is
    /// opening shares what is found.
    opening: Vec<usize>,
}

fn recipes() -> Vec<Recipe> {
    let params = [
        "keyint=24:min-keyint=24:open-gop=0:bframes=3",
        "keyint=24:min-keyint=24:open-gop=1:bframes=4",
        "keyint=72:bframes=4:b-adapt=0",
        "keyint=12:bframes=2:ref=2",
    ];
    let mut all = Vec::new();
    for n in 0..12 {
        let mut recipe = Recipe::new(&format!("chaos_{n}"));
        recipe.first_number = n as u32 * APART;
        // Another place for each frame in each.
        recipe.x265 = format!("{}:crf={}", params[n % 4], 24 + n);
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        recipe.packaging = match n % 3 {
            0 => Packaging::Mp4 { tag: "hvc1" },
            1 => Packaging::Copy {
                before: Vec::new(),
                after: words("-movflags +frag_keyframe+empty_moov"),
                extension: "mp4",
            },
            _ => Packaging::AnnexB(ByteStream::AsWritten),
        };
        all.push(recipe.frames(FRAMES as u32));
    }
    all
}

impl Shelf {
    pub(crate) async fn fill() -> Self {
        let bucket = Bucket::start().unwrap();
        let clips = footage::make_all(&recipes()).unwrap();
        let clips: Vec<Bytes> = clips
            .iter()
            .map(|clip| std::fs::read(&clip.path).unwrap().into())
            .collect();
        let mut videos = Vec::new();
        for (n, clip) in clips.iter().enumerate().take(VIDEOS) {
            let key = format!("flight/{n}.mp4");
            bucket.put(&key, clip.clone()).await.unwrap();
            let state = State {
                puts: vec![n],
                ..State::default()
            };
            videos.push(Video {
                key,
                state: Mutex::new(state),
                turn: tokio::sync::Mutex::default(),
            });
        }
        Self {
            bucket,
            clips,
            videos,
        }
    }

    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    pub(crate) fn videos(&self) -> &[Video] {
        &self.videos
    }

    /// Puts another clip in a video's place.
    pub(crate) async fn replace(&self, video: &Video, chance: u64) {
        let _turn = video.turn.lock().await;
        let clip = {
            let mut state = video.state();
            let other = 1 + chance as usize % (self.clips.len() - 1);
            let clip = (state.puts[state.there] + other) % self.clips.len();
            state.puts.push(clip);
            clip
        };
        let content = self.clips[clip].clone();
        self.bucket.put(&video.key, content).await.unwrap();
        let mut state = video.state();
        state.there = state.puts.len() - 1;
    }
}

impl Video {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The clip that it is when nobody replaces it any more.
    pub(crate) async fn settled(&self) -> u32 {
        let _turn = self.turn.lock().await;
        let state = self.state();
        state.puts[state.there] as u32
    }

    /// Somebody begins to open it.
    pub(crate) fn opening(&self) -> Opening<'_> {
        let mut state = self.state();
        let oldest = state.opening.iter().copied().min();
        let from = oldest.map_or(state.there, |oldest| oldest.min(state.there));
        state.opening.push(from);
        Opening { video: self, from }
    }
}

/// As long as somebody is opening a video.
pub(crate) struct Opening<'v> {
    video: &'v Video,
    from: usize,
}

impl Opening<'_> {
    /// It is open: what it may be.
    pub(crate) fn done(self) -> Shown {
        Shown {
            key: self.video.key.clone(),
            may_be: self.video.state().puts[self.from..].to_vec(),
            is: None,
        }
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut state = self.video.state();
        if let Some(own) = state.opening.iter().position(|from| *from == self.from) {
            state.opening.swap_remove(own);
        }
    }
}

/// What pictures of a video that was opened may show.
pub(crate) struct Shown {
    key: String,
    may_be: Vec<usize>,
    is: Option<u32>,
}

impl Shown {
    /// Holds a picture against the frame that it is said to be.
    pub(crate) fn check(&mut self, image: &[u8], frame: u64) {
        let number = testkit::jpeg::frame_number(image);
        let number = number.unwrap_or_else(|e| panic!("{}, frame {frame}: {e}", self.key));
        let (clip, shown) = (number / APART, number % APART);
        let (key, is) = (&self.key, *self.is.get_or_insert(clip));
        assert_eq!(u64::from(shown), frame, "{key}: another frame");
        assert_eq!(clip, is, "{key}, frame {frame}: of another version");
        let known = self.may_be.contains(&(clip as usize));
        assert!(
            known,
            "{key}: {clip} was not there then, but {:?}",
            self.may_be
        );
    }

    /// The clip that pictures have shown.
    pub(crate) fn version(&self) -> Option<u32> {
        self.is
    }
}
