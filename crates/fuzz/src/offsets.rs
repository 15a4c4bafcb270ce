//! The offsets file, as the benchmark client reads it.

use std::io::Write as _;

#[path = "../../streaming-cli/src/frames_file.rs"]
mod frames_file;

pub(crate) fn run(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(data).unwrap();
    match frames_file::read(file.path()) {
        Ok(read) => assert!(!read.frames.is_empty()),
        Err(error) => assert!(!format!("{error:#}").contains('\n')),
    }
}
