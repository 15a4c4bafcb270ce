#!/usr/bin/env bash
# Everything that can fail: builds programs and tests, then runs every test against the programs.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export GARAGE_BIN=${GARAGE_BIN:-$tools/bin/garage}
export BUCKET_STREAMER_FOOTAGE_CACHE=${BUCKET_STREAMER_FOOTAGE_CACHE:-$cache/footage}
export PROMETHEUS_BIN=${PROMETHEUS_BIN:-$tools/bin/prometheus}
export PROMTOOL_BIN=${PROMTOOL_BIN:-$tools/bin/promtool}

# 19 MB; without it, what it checks is checked against the server's own words alone.
bash scripts/install-tools.sh prometheus || say "skipped: no Prometheus for the tests"
# In one go: on their own, programs are built with fewer features of what they depend on (those that
# only tests want), and half of that would be built twice.
say "building programs and tests"
cargo test --quiet --release --locked --workspace --no-run "$@"
say "running the tests"
# No --quiet here: the names of the tests that ran belong into the log.
cargo test --release --locked --workspace --no-fail-fast "$@"
