#!/usr/bin/env bash
# Formatting, clippy with warnings as errors, licences, and advisories where their database can be
# had.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cargo fmt --version >/dev/null 2>&1 || die "rustfmt is missing: rustup component add rustfmt"
cargo clippy --version >/dev/null 2>&1 || die "clippy is missing: rustup component add clippy"
bash scripts/install-tools.sh cargo-deny

say "formatting"
cargo fmt --all --check
say "clippy"
cargo clippy --quiet --locked --workspace --all-targets --release -- -D warnings
say "licences, bans, sources"
deny=("$tools/bin/cargo-deny" --log-level error --locked)
"${deny[@]}" check licenses bans sources
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
