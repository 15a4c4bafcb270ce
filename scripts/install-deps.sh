#!/usr/bin/env bash
# Installs the system packages that are missing: install-deps.sh [tests] [bench] [fuzz], what these need,
# too. Says nothing, and changes nothing, where all are there. Debian and Ubuntu: as root or with
# sudo. Elsewhere: names the packages.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Each check asks for the thing itself, not for a package: another distribution, a newer version
# or a local build is as good.
missing=()
reasons=()
lacks() {
    reasons+=("$1")
    shift
    missing+=("$@")
}
has() { command -v "$1" >/dev/null 2>&1; }
any_file() {
    local file
    for file; do [ -e "$file" ] && return 0; done
    return 1
}

check() {
    missing=()
    reasons=()
    has cc || lacks "a C compiler and linker" gcc libc6-dev
    any_file /usr/include/stdio.h /usr/include/*/stdio.h \
        /Library/Developer/CommandLineTools/SDKs/*/usr/include/stdio.h \
        /Applications/Xcode.app || lacks "the C library's headers" libc6-dev
    has pkg-config || lacks "pkg-config" pkg-config
    if ! has pkg-config || ! pkg-config --atleast-version=59 libavcodec \
        || ! pkg-config --atleast-version=57 libavutil; then
        lacks "libavcodec and libavutil of FFmpeg 5.1 or newer" libavcodec-dev libavutil-dev
    fi
    local encoders
    encoders=$(ffmpeg -hide_banner -loglevel quiet -encoders 2>/dev/null || true)
    if [[ $encoders != *libx265* ]] || ! has ffprobe; then
        lacks "ffmpeg and ffprobe with libx265" ffmpeg
    fi
    # bindgen reads the FFmpeg headers with libclang and clang's own headers.
    # libclang-cpp, another library with almost its name, is no help.
    if [ -z "${LIBCLANG_PATH:-}" ]; then
        any_file /usr/lib/llvm-*/lib/libclang{,-[0-9]*}.so* /usr/lib/*/libclang{,-[0-9]*}.so* \
            /usr/lib64/libclang{,-[0-9]*}.so* /usr/lib64/llvm*/lib/libclang{,-[0-9]*}.so* \
            /usr/lib/libclang.so* /usr/local/lib/libclang.so* \
            /opt/homebrew/opt/llvm/lib/libclang.dylib \
            /usr/local/opt/llvm/lib/libclang.dylib \
            /Library/Developer/CommandLineTools/usr/lib/libclang.dylib \
            /Applications/Xcode.app || lacks "libclang" libclang-dev
        any_file /usr/lib/llvm-*/lib/clang/*/include/stddef.h \
            /usr/lib{,64}/clang/*/include/stddef.h /usr/local/lib/clang/*/include/stddef.h \
            /opt/homebrew/opt/llvm/lib/clang/*/include/stddef.h \
            /usr/local/opt/llvm/lib/clang/*/include/stddef.h \
            /Library/Developer/CommandLineTools/usr/lib/clang/*/include/stddef.h \
            /Applications/Xcode.app || lacks "clang's headers" libclang-dev
    fi
    # libjpeg-turbo is built from source.
    has cmake || lacks "cmake" cmake
    has make || lacks "make" make
    case $(uname -m) in
        x86_64 | amd64 | i?86) has nasm || lacks "nasm" nasm ;;
    esac
    has git || lacks "git" git
    # Cargo fetches crates over TLS.
    any_file /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt \
        /etc/ssl/cert.pem /etc/ssl/ca-bundle.pem "${SSL_CERT_FILE:-/nonexistent}" ||
        lacks "certificate authorities" ca-certificates
    local need
    for need; do
        case $need in
            tests)
                # Caches to put before the server.
                has_daemon nginx || lacks "nginx" nginx-light
                has_daemon varnishd || lacks "Varnish" varnish
                # Another time of day for one program.
                [ "$(uname -s)" != Linux ] || any_file /usr/lib/*/faketime/libfaketimeMT.so.1 \
                    /usr/lib{,64}/faketime/libfaketimeMT.so.1 || lacks "libfaketime" faketime
                has_browser || lacks "Chromium" "$browser"
                ;;
            bench)
                has wrk || lacks "wrk" wrk
                has_browser || lacks "Chromium" "$browser"
                ;;
            # libFuzzer is built from source.
            fuzz) has c++ || lacks "a C++ compiler" g++ ;;
            *) die "no such needs: $need" ;;
        esac
    done
}
# The viewer is tested and measured in a real browser. Ubuntu has it as a snap, under another name.
has_browser() {
    [ -n "${CHROMIUM:-}" ] || has chromium || has chromium-browser || has google-chrome ||
        has google-chrome-stable || any_file "/Applications/Google Chrome.app"
}
browser=chromium
if grep -qs '^ID=ubuntu' /etc/os-release; then browser=chromium-browser; fi
has_daemon() { has "$1" || any_file "/usr/sbin/$1" "/usr/local/sbin/$1"; }

check "$@"
[ ${#missing[@]} -eq 0 ] && exit 0

say "missing: $(printf '%s; ' "${reasons[@]}")"

if [ "$(uname -s)" = Darwin ]; then
    cat >&2 <<'TEXT'
Install them with Homebrew and run this again:
    xcode-select --install
    brew install ffmpeg pkg-config cmake nasm
    brew install nginx varnish wrk    # tests and benchmarks
    brew install --cask google-chrome    # the same
TEXT
    exit 1
elif has apt-get; then
    mapfile -t packages < <(printf '%s\n' "${missing[@]}" | sort -u)
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        has sudo || die "root is needed: run 'apt-get install ${packages[*]}' as root, then this again"
        as_root=(sudo)
    fi
    say "installing with apt-get: ${packages[*]}"
    apt_get() {
        # As arguments of env, since sudo does not pass the environment on. With this runlevel, no
        # daemon is started because its package comes (invoke-rc.d).
        ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get -q -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 "$@"
    }
    install() { apt_get install -y --no-install-recommends "${packages[@]}"; }
    # Lists may be absent (a fresh system), or too old for what the mirror holds.
    if any_file /var/lib/apt/lists/*_Packages* && install; then
        :
    else
        apt_get update
        install
    fi
elif has dnf; then
    cat >&2 <<'TEXT'
Install them with dnf and run this again. Fedora's own ffmpeg-free has no H.265: ffmpeg and
ffmpeg-devel come from RPM Fusion (https://rpmfusion.org/Configuration).
    sudo dnf install gcc make git cmake nasm pkgconf-pkg-config clang-devel
    sudo dnf install --allowerasing ffmpeg ffmpeg-devel
    sudo dnf install nginx varnish libfaketime wrk chromium    # tests and benchmarks
TEXT
    exit 1
else
    cat >&2 <<'TEXT'
Install them with your package manager and run this again: a C compiler, make, cmake, nasm (x86),
pkg-config, libclang, and FFmpeg 5.1 or newer with libx265, its programs and development files; for
the tests, nginx, Varnish, libfaketime and Chromium.
TEXT
    exit 1
fi

check "$@"
[ ${#missing[@]} -eq 0 ] ||
    die "still missing after the installation: $(printf '%s; ' "${reasons[@]}")this system's packages are too old (Debian 12, Ubuntu 23.04 or newer is needed)"
say "all system packages are there"
