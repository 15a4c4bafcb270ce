#!/usr/bin/env bash
# Everything that can fail: builds the programs, then runs every test against them.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export GARAGE_BIN=${GARAGE_BIN:-$tools/bin/garage}
export BUCKET_STREAMER_FOOTAGE_CACHE=${BUCKET_STREAMER_FOOTAGE_CACHE:-$cache/footage}
export PROMETHEUS_BIN=${PROMETHEUS_BIN:-$tools/bin/prometheus}
export PROMTOOL_BIN=${PROMTOOL_BIN:-$tools/bin/promtool}
quiet=()
[ -t 1 ] || quiet=(--quiet)

# 19 MB; without it, what it checks is checked against the server's own words alone.
bash scripts/install-tools.sh prometheus || say "skipped: no Prometheus for the tests"
say "building the programs"
cargo build --release --locked --workspace --bins ${quiet[@]+"${quiet[@]}"}
say "running the tests"
# No --quiet here: the names of the tests that ran belong into the log.
cargo test --release --locked --workspace --no-fail-fast "$@"
