//! Saves pictures beside the run: the disk does not stand in the way of the measurement.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Pictures that may wait for the disk.
const WAITING: usize = 64;

/// One picture to save.
#[derive(Debug)]
pub(crate) struct Picture {
    /// Position in presentation order.
    pub(crate) index: usize,
    /// Position of its sample in the video.
    pub(crate) offset: u64,
    /// The JPEG.
    pub(crate) data: tokio_tungstenite::tungstenite::Bytes,
}

/// Starts the thread that saves into a folder, which is made where it is missing. It ends when
/// every sender is gone, and tells the first failure.
pub(crate) fn start(
    folder: &Path,
) -> anyhow::Result<(mpsc::Sender<Picture>, JoinHandle<anyhow::Result<()>>)> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let (sender, mut receiver) = mpsc::channel::<Picture>(WAITING);
    let folder = folder.to_owned();
    let task = tokio::task::spawn_blocking(move || {
        while let Some(picture) = receiver.blocking_recv() {
            let path = path(&folder, picture.index, picture.offset);
            std::fs::write(&path, &picture.data)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    });
    Ok((sender, task))
}

fn path(folder: &Path, index: usize, offset: u64) -> PathBuf {
    folder.join(format!("frame_{index:06}_{offset}.jpg"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_in_presentation_order() {
        assert_eq!(
            path(Path::new("d"), 7, 45230),
            Path::new("d/frame_000007_45230.jpg")
        );
        assert_eq!(
            path(Path::new("d"), 1_234_567, 0),
            Path::new("d/frame_1234567_0.jpg")
        );
    }
}
