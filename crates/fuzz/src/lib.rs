//! What is fuzzed: for each kind of bytes that strangers send, a function that hands them to the
//! code that reads them, and says what must hold whatever they are. `fuzz/` runs these under
//! libFuzzer (`make fuzz`); the tests of this crate run them on seeds and on everything that was
//! ever found. See `docs/robustness.md`.

// A panic is what a fuzzer looks for.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod container;
mod graph;
mod headers;
mod http;
mod index_file;
mod message;
mod names;
mod offsets;
mod seeds;
mod video;

/// Something that reads bytes of strangers.
pub struct Target {
    /// As `make fuzz ONLY=` and the folder of regressions call it.
    pub name: &'static str,
    /// Hands the bytes over; panics where something does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes of the longest input that is tried.
    pub longest: usize,
}

/// All of them.
pub const TARGETS: [Target; 11] = [
    Target {
        name: "isobmff",
        run: container::run,
        seeds: seeds::mp4,
        longest: 48 << 10,
    },
    Target {
        name: "annexb",
        run: container::run,
        seeds: seeds::annexb,
        longest: 48 << 10,
    },
    Target {
        name: "headers",
        run: headers::run,
        seeds: seeds::headers,
        longest: 4 << 10,
    },
    Target {
        name: "graph",
        run: graph::run,
        seeds: seeds::annexb,
        longest: 24 << 10,
    },
    Target {
        name: "index_file",
        run: index_file::run,
        seeds: seeds::index_files,
        longest: 16 << 10,
    },
    Target {
        name: "offsets",
        run: offsets::run,
        seeds: seeds::offsets,
        longest: 4 << 10,
    },
    Target {
        name: "message",
        run: message::run,
        seeds: seeds::messages,
        longest: 4 << 10,
    },
    Target {
        name: "http",
        run: http::run,
        seeds: seeds::requests,
        longest: 2 << 10,
    },
    Target {
        name: "names",
        run: names::run,
        seeds: seeds::names,
        longest: 512,
    },
    Target {
        name: "credentials",
        run: names::credentials,
        seeds: seeds::credentials,
        longest: 2 << 10,
    },
    Target {
        name: "video",
        run: video::run,
        seeds: seeds::videos,
        longest: 48 << 10,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
