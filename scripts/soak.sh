#!/usr/bin/env bash
# Ten minutes (SOAK_MINUTES) of what `make test` does for half a minute: see docs/robustness.md.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export GARAGE_BIN=${GARAGE_BIN:-$tools/bin/garage}
export BUCKET_STREAMER_FOOTAGE_CACHE=${BUCKET_STREAMER_FOOTAGE_CACHE:-$cache/footage}
export SOAK_MINUTES=${SOAK_MINUTES:-10}

say "building the programs"
cargo build --quiet --release --locked --workspace --bins
say "$SOAK_MINUTES minutes"
exec cargo test --quiet --release --locked -p e2e --test chaos -- --nocapture
