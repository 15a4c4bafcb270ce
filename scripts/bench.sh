#!/usr/bin/env bash
# Builds what is measured, then measures it. Options go to the program: bench.sh --quick --only cold
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export BUCKET_STREAMER_FOOTAGE_CACHE=${BUCKET_STREAMER_FOOTAGE_CACHE:-$cache/footage}
export GARAGE_BIN=${GARAGE_BIN:-$tools/bin/garage}
cargo build --quiet --release --locked --bins -p bucket-streamer -p repo-cli -p bench
exec "$target/release/bench" --peers "$tools/bench-peers" "$@"
