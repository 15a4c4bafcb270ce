#!/usr/bin/env bash
# Fuzzes with libFuzzer, each target for T seconds (60), one after the other. Variables: T; ONLY
# (targets, by commas). Needs no nightly Rust: counters of coverage are an ordinary pass of LLVM.
#
# What is found lies in target/fuzz/artifacts/TARGET. Put it into crates/fuzz/regressions/TARGET: the
# tests run it from then on.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

seconds=${T:-60}
export GARAGE_BIN=${GARAGE_BIN:-$tools/bin/garage}
export BUCKET_STREAMER_FOOTAGE_CACHE=${BUCKET_STREAMER_FOOTAGE_CACHE:-$cache/footage}
host=$(rustc -vV | sed -n 's/^host: //p')
out=$target/fuzz
mkdir -p "$out"

say "building (the first time takes some minutes)"
flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares)
# With --target, build scripts and macros have no counters.
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OPT_LEVEL=2
RUSTFLAGS="${flags[*]}" cargo build --quiet --release --locked --manifest-path fuzz/Cargo.toml \
    --target "$host" --target-dir "$out/build"
driver=$out/build/$host/release/fuzz-driver

failed=()
while read -r name longest; do
    if [ -n "${ONLY:-}" ] && [[ ",$ONLY," != *",$name,"* ]]; then continue; fi
    corpus=$out/corpus/$name seeds=$out/seeds/$name artifacts=$out/artifacts/$name
    mkdir -p "$corpus" "$seeds" "$artifacts"
    export FUZZ_TARGET=$name
    FUZZ_SEEDS=$seeds "$driver" 2>"$out/$name.log" || die "no seeds of $name: $(cat "$out/$name.log")"
    known=crates/fuzz/regressions/$name
    mkdir -p "$out/none"
    [ -d "$known" ] || known=$out/none
    say "$name, $seconds s"
    # RSS: the seeds of videos and the engine are some; what grows beyond has a leak.
    "$driver" "$corpus" "$seeds" "$known" -artifact_prefix="$artifacts/" -max_len="$longest" \
        -max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 -print_final_stats=1 \
        -reload=0 >"$out/$name.log" 2>&1 || failed+=("$name")
    grep -E '^(Done|stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb|new_units_added))|SUMMARY|panicked at' \
        "$out/$name.log" || true
done < <(FUZZ_LIST=1 "$driver")

if [ ${#failed[@]} -gt 0 ]; then
    die "found something in: ${failed[*]} ($out/TARGET.log, $out/artifacts/TARGET)"
fi
say "nothing found"
