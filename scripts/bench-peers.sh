#!/usr/bin/env bash
# Installs the libraries that `make bench` compares with into a Python environment of their own, in
# the user's cache folder. Some gigabytes: the package index has torch with its CUDA libraries only
# (PIP_EXTRA_INDEX_URL may name an index with smaller builds). One that cannot be had is named, and
# the benchmark shows it as not installed.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

command -v python3 >/dev/null || die "python3 is missing (3.10 or newer)"
peers=$tools/bench-peers
list=scripts/bench-peers/requirements.txt
if cmp --silent "$list" "$peers/installed.txt"; then
    say "already installed: $peers"
    exit
fi
mkdir -p "$tools"
python3 -m venv "$peers" ||
    die "python3 cannot make a virtual environment (Debian, Ubuntu: apt-get install python3-venv)"
failed=
while IFS= read -r requirement; do
    case $requirement in '#'* | '') continue ;; esac
    say "installing $requirement"
    "$peers/bin/pip" install --quiet --disable-pip-version-check "$requirement" || failed+=" $requirement"
done <"$list"
if [ -n "$failed" ]; then
    die "not installed:$failed (the benchmark runs without them)"
fi
cp "$list" "$peers/installed.txt"
say "installed: $peers"
