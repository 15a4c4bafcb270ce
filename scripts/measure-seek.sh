#!/usr/bin/env bash
# Measures what the profiles of `repo-cli convert --seek` cost: access units per frame against file
# size. Options are those of measure-seek.py beside it; see docs/seek-friendly.md.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

command -v python3 >/dev/null || die "python3 is missing (3.9 or newer)"
command -v ffmpeg >/dev/null || die "ffmpeg is missing: make deps"

case " $* " in
*" --report "* | *" --help "* | *" -h "*) exec python3 scripts/measure-seek.py "$@" ;;
esac

cargo build --quiet --release --locked -p media --example closures
work=$target/measure-seek
mkdir -p "$work"
exec python3 scripts/measure-seek.py --closures "$target/release/examples/closures" \
    --work "$work" --csv "$work/measure.csv" "$@"
