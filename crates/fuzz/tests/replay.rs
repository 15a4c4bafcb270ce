//! Every target takes its seeds, and everything that fuzzing ever found.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use fuzz::{TARGETS, Target};

/// Shows which input it was, where one fails.
fn hand_over(target: &Target, input: &[u8], what: &str) {
    struct Told<'a>(&'a str, &'a str);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{} fails on {}", self.0, self.1);
            }
        }
    }
    let told = Told(target.name, what);
    (target.run)(input);
    drop(told);
}

#[test]
fn seeds_are_taken() {
    for target in &TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        for (n, seed) in seeds.iter().enumerate() {
            hand_over(target, seed, &format!("seed {n}"));
        }
    }
}

/// Harm that needs no search: cut off anywhere, a byte or a length that is another.
#[test]
fn seeds_that_come_to_harm_are_taken() {
    for target in &TARGETS {
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        let mut below = |end: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 11) as usize % end.max(1)
        };
        for (n, seed) in (target.seeds)().iter().enumerate() {
            for turn in 0..6 {
                let mut harmed = seed.clone();
                if turn % 3 == 0 {
                    harmed.truncate(below(seed.len()));
                }
                for _ in 0..turn {
                    let at = below(harmed.len());
                    let value = [0, 1, 0x7f, 0xff, below(256) as u8][below(5)];
                    if let Some(byte) = harmed.get_mut(at) {
                        *byte = value;
                    }
                }
                hand_over(target, &harmed, &format!("seed {n}, harmed {turn}"));
            }
        }
    }
}

#[test]
fn what_was_found_is_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let target = fuzz::target(name).unwrap_or_else(|| panic!("{name} is no target"));
        for file in fs::read_dir(&path).unwrap() {
            let file = file.unwrap().path();
            let input = fs::read(&file).unwrap();
            hand_over(target, &input, &file.display().to_string());
        }
    }
}
