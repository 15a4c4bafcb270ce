//! What the caches cost and find: figures for docs/benchmarks.md, not tests.
//!
//! `cargo test --release -p engine --lib cache::figures -- --ignored --nocapture --test-threads 1`

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use super::{DiskCache, MemoryCache};

const MIB: u64 = 1 << 20;

fn size(_: &u64, value: &u64) -> u64 {
    *value
}

/// 20 to 400 KB, always the same for a key.
fn image(key: u64) -> u64 {
    let part = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / (1_u64 << 24) as f64;
    (20e3 * 20_f64.powf(part)) as u64
}

/// A favourite of 5000 images: the n-th is wanted about n^-0.9 as often as the first.
fn favourite(random: &mut StdRng) -> u64 {
    let part: f64 = random.random();
    (part * (5000_f64.powf(0.1) - 1.0) + 1.0).powf(10.0) as u64
}

/// Percent of hits among 300,000 wanted images; `passing` images that are never wanted again come
/// in for each of them, 2000 in a row.
fn hits(budget: u64, passing: u64) -> f64 {
    let cache = MemoryCache::new(budget, size);
    let mut random = StdRng::seed_from_u64(1);
    let (mut found, mut scanned) = (0, 1 << 40);
    for turn in 0..300_000_u64 {
        if turn % 2000 == 0 {
            for _ in 0..2000 * passing {
                cache.insert(scanned, image(scanned));
                scanned += 1;
            }
        }
        let key = favourite(&mut random);
        match cache.get(&key) {
            Some(_) => found += 1,
            None => cache.insert(key, image(key)),
        }
    }
    f64::from(found) / 3000.0
}

/// Millions a second, on two threads: gets, and gets with one insertion in ten.
fn throughput(insertions: f64) -> f64 {
    const OPERATIONS: u64 = 1_000_000;
    let cache = MemoryCache::new(256 * MIB, size);
    for key in 0..1000 {
        cache.insert(key, 100_000);
    }
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 1..3 {
            let cache = &cache;
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(thread);
                for operation in 0..OPERATIONS {
                    if random.random_bool(insertions) {
                        cache.insert(thread << 32 | operation, 100_000);
                    } else {
                        std::hint::black_box(cache.get(&random.random_range(0..1000)));
                    }
                }
            });
        }
    });
    2e-6 * OPERATIONS as f64 / start.elapsed().as_secs_f64()
}

#[test]
#[ignore = "figures"]
fn memory() {
    println!("hits, %, at 64 | 256 MiB, with 0, 1 and 9 images passing by for each wanted one");
    for passing in [0, 1, 9] {
        let [small, large] = [64, 256].map(|mib| hits(mib * MIB, passing));
        println!("| {passing} | {small:.1} | {large:.1} |");
    }
    let [gets, mixed] = [0.0, 0.1].map(throughput);
    println!("two threads, millions a second: gets {gets:.1}, one insertion in ten {mixed:.1}");
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

#[tokio::test]
#[ignore = "figures"]
async fn disk() {
    println!("| value | put and written, µs | get, µs | read of the same file alone, µs |");
    for length in [5_000, 50_000, 200_000, 2_000_000] {
        let folder = TempDir::new().unwrap();
        let cache = DiskCache::open(folder.path(), 1 << 30).unwrap();
        let value = Bytes::from(vec![7; length]);
        let (mut puts, mut gets, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        let plain = folder.path().join("plain");
        std::fs::write(&plain, &value).unwrap();
        for number in 0..200 {
            let start = Instant::now();
            cache.put(format!("image/{number}"), value.clone());
            cache.flush().await;
            puts.push(start.elapsed());
        }
        for number in 0..200 {
            let start = Instant::now();
            assert!(cache.get(&format!("image/{number}")).await.is_some());
            gets.push(start.elapsed());
            let start = Instant::now();
            std::hint::black_box(std::fs::read(&plain).unwrap());
            reads.push(start.elapsed());
        }
        let [put, get, read] = [puts, gets, reads].map(median);
        println!("| {length} | {put:.0} | {get:.0} | {read:.0} |");
    }
}

fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0)
}

#[test]
#[ignore = "figures"]
fn opening() {
    const FILES: u64 = 100_000;
    let folder = TempDir::new().unwrap();
    for number in 0..FILES {
        let mut file = File::create(folder.path().join(format!("{number:032x}"))).unwrap();
        file.write_all(&[0; 4096]).unwrap();
    }
    let before = resident_kib();
    let start = Instant::now();
    let cache = DiskCache::open(folder.path(), 1 << 40).unwrap();
    let taken = start.elapsed();
    println!(
        "{} files: opened in {taken:.2?}, {} KiB more resident",
        cache.len(),
        resident_kib() - before
    );
}
