//! One target under libFuzzer: that of the variable FUZZ_TARGET. With FUZZ_SEEDS, writes the target's
//! seeds to that folder instead; with FUZZ_LIST, tells the targets. `make fuzz` runs it.

#![no_main]

use std::sync::OnceLock;
use std::{env, fs, process};

use fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn begin() {
    if env::var_os("FUZZ_LIST").is_some() {
        for target in &TARGETS {
            println!("{} {}", target.name, target.longest);
        }
        process::exit(0);
    }
    let name = env::var("FUZZ_TARGET").unwrap_or_default();
    let Some(target) = fuzz::target(&name) else {
        eprintln!("FUZZ_TARGET={name} names no target");
        process::exit(2);
    };
    if let Some(folder) = env::var_os("FUZZ_SEEDS") {
        for (n, seed) in (target.seeds)().iter().enumerate() {
            let file = std::path::Path::new(&folder).join(format!("seed-{n:02}"));
            fs::write(&file, seed).expect("a folder for seeds");
        }
        process::exit(0);
    }
    TARGET.set(target).ok();
}

fuzz_target!(
    init: begin(),
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(data);
        }
    }
);
