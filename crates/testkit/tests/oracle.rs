//! The oracle agrees with itself: each frame names one packet, and the frame that a packet's
//! position names shows the number that belongs there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use testkit::reference::{self, Options};
use testkit::{directories, footage};

#[test]
fn every_frame_names_a_packet_of_its_own() {
    let mut failures = Vec::new();
    for clip in footage::all().unwrap() {
        let options = Options {
            ignore_edit_list: true,
            limit: None,
        };
        let packets = reference::packets(&clip.path, options).unwrap();
        let frames = reference::decode(&clip.path, options).unwrap();
        let positions: BTreeSet<u64> = packets.iter().map(|p| p.position).collect();
        let named: BTreeSet<u64> = frames.iter().filter_map(|f| f.position).collect();
        let hidden = packets.len() - frames.len();
        // RASL pictures of a first CRA are not shown; everything else is.
        let expected_hidden = match clip.name.as_str() {
            "annexb_begins_with_cra" | "edit_list_cut" | "edit_list_cut_short" => {
                hidden.clamp(1, 4)
            }
            _ => 0,
        };
        let distinct: BTreeSet<u128> = frames.iter().map(|f| f.hash).collect();
        if named.len() != frames.len()
            || !named.is_subset(&positions)
            || hidden != expected_hidden
            || distinct.len() != frames.len()
        {
            failures.push(format!(
                "{}: {} packets at {} positions, {} frames with {} positions and {} hashes",
                clip.name,
                packets.len(),
                positions.len(),
                frames.len(),
                named.len(),
                distinct.len()
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn hidden_pictures_are_flagged_in_the_packet_table() {
    let clip = footage::clip("edit_list_cut").unwrap();
    let all = reference::packets(&clip.path, Options::default()).unwrap();
    let shown = reference::decode(&clip.path, Options::default()).unwrap();
    let hidden: BTreeSet<u64> = all
        .iter()
        .filter(|p| p.discard)
        .map(|p| p.position)
        .collect();
    assert_eq!(all.len() - hidden.len(), shown.len());
    assert!(!hidden.is_empty());
    assert!(shown.iter().all(|f| !hidden.contains(&f.position.unwrap())));
}

#[test]
fn a_limit_gives_the_first_pictures() {
    let clip = footage::clip("closed_gop").unwrap();
    let whole = reference::decode(&clip.path, Options::default()).unwrap();
    let limited = Options {
        limit: Some(5),
        ..Options::default()
    };
    assert_eq!(reference::decode(&clip.path, limited).unwrap(), whole[..5]);
}

#[test]
fn camera_files_have_an_oracle() {
    let Some(files) = directories::camera_files() else {
        return;
    };
    let mut refused = Vec::new();
    for path in &files {
        let limited = Options {
            limit: Some(2),
            ..Options::default()
        };
        match reference::decode(path, limited) {
            Ok(frames) => assert!(!frames.is_empty(), "{}", path.display()),
            Err(error) => {
                let first = format!("{error:#}")
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                refused.push(format!("{}: {first}", path.display()));
            }
        }
    }
    eprintln!(
        "no oracle for {} of {}:\n{}",
        refused.len(),
        files.len(),
        refused.join("\n")
    );
    assert!(
        refused.len() < files.len() / 4,
        "ffmpeg decodes most of them"
    );
}
