# Sourced by the scripts beside it, which run from anywhere.
# shellcheck shell=bash disable=SC2034
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# Built test tools and made footage, reused between clones.
cache=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/bucket-streamer
tools=$cache/tools

say() { printf '== %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# A toolchain that rustup has just installed is found without a new login.
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
command -v cargo >/dev/null || die "cargo is missing: install Rust 1.88 or newer with rustup"

# Programs are built where cargo is told to build.
target=${CARGO_TARGET_DIR:-target}
