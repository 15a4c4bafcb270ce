//! Every clip is made, decodes, and shows the frame numbers that its recipe promises.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Instant;

use testkit::reference::{self, Options};
use testkit::{footage, watermark};

#[test]
fn every_clip_shows_its_numbers_in_order() {
    let begun = Instant::now();
    let clips = footage::all().unwrap();
    eprintln!(
        "{} clips made or found in {:.1} s",
        clips.len(),
        begun.elapsed().as_secs_f32()
    );
    let mut failures = Vec::new();
    for clip in &clips {
        let mut numbers = Vec::new();
        let result = reference::for_each(&clip.path, Options::default(), |_, picture| {
            let luma = &picture().planes[0];
            numbers.push(watermark::read(
                &luma.samples,
                luma.width,
                luma.height,
                luma.width,
            ));
            Ok(())
        });
        if let Err(error) = result {
            failures.push(format!("{}: {error:#}", clip.name));
            continue;
        }
        let Some(numbers) = numbers.iter().copied().collect::<Option<Vec<u32>>>() else {
            failures.push(format!(
                "{}: not every number is readable: {numbers:?}",
                clip.name
            ));
            continue;
        };
        let whole = (0..clip.frames).collect::<Vec<u32>>();
        let expected = match clip.name.as_str() {
            "edit_list_cut" | "edit_list_cut_closed_gop" => {
                whole[whole.len() - numbers.len()..].to_vec()
            }
            // ffmpeg cuts packets in decode order: a CRA picture stays, a picture that is shown
            // just before it goes.
            "edit_list_cut_short" => {
                let last = numbers[0] + numbers.len() as u32;
                (numbers[0]..last - 1).chain([last]).collect()
            }
            "annexb_begins_with_cra" => whole[24..].to_vec(),
            _ => whole.clone(),
        };
        let cut = clip.name.starts_with("edit_list_cut") || clip.name == "annexb_begins_with_cra";
        if numbers != expected || cut == (numbers.len() == whole.len()) {
            failures.push(format!("{}: {numbers:?}", clip.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
